//! CORE: the accumulating decoder: a tree of values in, the file as written ([`crate::raw`]) and every problem of shape out.
//!
//! It goes on after each problem, because an operator wants all of them at once; a value that cannot be read is `None` and its
//! element is marked as broken. The `table!` and `words!` macros write decoder, schema and list of keys from one declaration,
//! so the three cannot disagree.

mod scalar;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::codes::{self, Code};
use crate::problems::{Draft, Problems, Tiers, suggestion};
use crate::source::Span;
use crate::value::{Kind, Table, Value};

pub(crate) use scalar::{
    AddressPort, Cidr, MacAddress, Peers, PortRange, Text, Texts, WholeNumber,
};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What the decoder knows while it walks down: the key path, whom a problem here concerns, the problems so far.
pub(crate) struct Decoder<'a> {
    pub(crate) problems: &'a mut Problems,
    /// Whom a problem in each named check concerns: those who use it.
    check_users: BTreeMap<String, Tiers>,
    path: String,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(problems: &'a mut Problems, check_users: BTreeMap<String, Tiers>) -> Self {
        Self {
            problems,
            check_users,
            path: String::new(),
        }
    }

    pub(crate) fn report(
        &mut self,
        code: Code,
        span: Span,
        message: impl Into<String>,
    ) -> &mut Draft {
        let tiers = tiers_of(&self.path, &self.check_users);
        self.problems
            .report(code, tiers, span, self.path.clone(), message)
    }

    /// Runs `step` one key further down.
    pub(crate) fn within<T>(&mut self, key: &str, step: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(key);
        let result = step(self);
        self.path.truncate(len);
        result
    }

    fn within_item<T>(&mut self, index: usize, step: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let result = step(self);
        self.path.truncate(len);
        result
    }

    pub(crate) fn wrong_type<T>(&mut self, value: &Value, wanted: &str) -> Option<T> {
        let message = format!(
            "`{}` must be {wanted}, not {}",
            self.path,
            value.described()
        );
        self.report(codes::WRONG_TYPE, value.span, message)
            .label(format!("expected {}", short(wanted)));
        None
    }

    /// The path of the value that is being decoded.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn table<'v>(&mut self, value: &'v Value) -> Option<&'v Table> {
        match &value.kind {
            Kind::Table(table) => Some(table),
            _ => self.wrong_type(value, "a table"),
        }
    }

    /// One key of a table.
    pub(crate) fn field<T: Decode>(&mut self, table: &Table, key: &str) -> Option<At<T>> {
        let entry = table.get(key)?;
        if matches!(entry.value.kind, Kind::Broken) {
            self.problems.note_broken();
            return None;
        }
        let span = entry.value.span;
        let value = self.within(key, |decoder| T::decode(&entry.value, decoder))?;
        Some(At { value, span })
    }

    /// A key that must be there.
    pub(crate) fn required<T: Decode>(
        &mut self,
        table: &Table,
        span: Span,
        key: &str,
    ) -> Option<At<T>> {
        if !table.contains_key(key) {
            let message = if self.path.is_empty() {
                format!("the file lacks the key `{key}`")
            } else {
                format!("`{}` lacks the key `{key}`", self.path)
            };
            self.report(codes::MISSING_KEY, span, message)
                .label(format!("`{key}` is required here"));
            return None;
        }
        self.field(table, key)
    }

    /// Reports every key that is not among `known`.
    pub(crate) fn unknown_keys(&mut self, table: &Table, known: &[&str]) {
        for (key, entry) in table
            .iter()
            .filter(|(key, _)| !known.contains(&key.as_str()))
        {
            let message = if self.path.is_empty() {
                format!("there is no key `{key}`")
            } else {
                format!("`{}` has no key `{key}`", self.path)
            };
            let help = suggestion(key, "keys here", known.iter().copied());
            self.within(key, |decoder| {
                decoder
                    .report(codes::UNKNOWN_KEY, entry.key, message)
                    .label("unknown key")
                    .help(help);
            });
        }
    }
}

/// Something that can be read from the file.
pub(crate) trait Decode: Sized + JsonSchema {
    /// Reads it; `None` after a problem was reported.
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self>;

    /// Adds every key path below `prefix` that the decoder knows: `.` before a key, `.*` for any name, `[]` for an item.
    fn key_paths(_prefix: &str, _paths: &mut BTreeSet<String>) {}
}

impl<T: Decode> Decode for At<T> {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        T::decode(value, decoder).map(|decoded| At {
            value: decoded,
            span: value.span,
        })
    }

    fn key_paths(prefix: &str, paths: &mut BTreeSet<String>) {
        T::key_paths(prefix, paths);
    }
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Items that cannot be read are left out, after their problem was reported.
impl<T: Decode> Decode for Vec<T> {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Kind::Array(items) = &value.kind else {
            return decoder.wrong_type(value, "a list `[ … ]`");
        };
        let decoded: Vec<T> = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| {
                decoder.within_item(index, |decoder| T::decode(item, decoder))
            })
            .collect();
        // A list whose items are all wrong is not an empty list: that would be one more complaint about the same mistake.
        (items.is_empty() || !decoded.is_empty()).then_some(decoded)
    }

    fn key_paths(prefix: &str, paths: &mut BTreeSet<String>) {
        T::key_paths(&format!("{prefix}[]"), paths);
    }
}

/// Named elements: a name is letters, digits, `_`, `-` and `.`, so that it can stand in paths, logs and metrics.
#[derive(Debug, Clone)]
pub(crate) struct Named<T>(pub(crate) BTreeMap<String, Element<T>>);

/// One named element.
#[derive(Debug, Clone)]
pub(crate) struct Element<T> {
    pub(crate) raw: T,
    /// Where its name stands.
    pub(crate) name: Span,
    /// It has an error of shape, so it is left out of the platform; its name is known all the same.
    pub(crate) broken: bool,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Decode + Default> Decode for Named<T> {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        let table = decoder.table(value)?;
        let mut elements = BTreeMap::new();
        for (name, entry) in table {
            let errors = decoder.problems.errors();
            let raw = decoder.within(name, |decoder| {
                check_name(name, entry.key, decoder);
                T::decode(&entry.value, decoder)
            });
            let element = Element {
                raw: raw.unwrap_or_default(),
                name: entry.key,
                broken: decoder.problems.errors() > errors,
            };
            elements.insert(name.clone(), element);
        }
        Some(Self(elements))
    }

    fn key_paths(prefix: &str, paths: &mut BTreeSet<String>) {
        T::key_paths(&format!("{prefix}.*"), paths);
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <BTreeMap<String, T>>::json_schema(generator)
    }
}

/// Elements without a name, in the file's order.
#[derive(Debug, Clone)]
pub(crate) struct Items<T>(pub(crate) Vec<Element<T>>);

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Decode + Default> Decode for Items<T> {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Kind::Array(items) = &value.kind else {
            return decoder.wrong_type(value, "a list, written `[[…]]`");
        };
        let mut elements = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let errors = decoder.problems.errors();
            let raw = decoder.within_item(index, |decoder| T::decode(item, decoder));
            elements.push(Element {
                raw: raw.unwrap_or_default(),
                name: item.span,
                broken: decoder.problems.errors() > errors,
            });
        }
        Some(Self(elements))
    }

    fn key_paths(prefix: &str, paths: &mut BTreeSet<String>) {
        T::key_paths(&format!("{prefix}[]"), paths);
    }
}

impl<T: JsonSchema> JsonSchema for Items<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Items{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <Vec<T>>::json_schema(generator)
    }
}

/// Values by free key, such as header fields.
impl<T: Decode> Decode for BTreeMap<String, At<T>> {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        let table = decoder.table(value)?;
        Some(
            table
                .iter()
                .filter_map(|(key, entry)| {
                    let item =
                        decoder.within(key, |decoder| At::<T>::decode(&entry.value, decoder))?;
                    Some((key.clone(), item))
                })
                .collect(),
        )
    }
}

/// "a duration such as …" without its examples, for beside the caret.
fn short(wanted: &str) -> &str {
    wanted.split(" such as ").next().unwrap_or(wanted)
}

/// Whom a problem at a key path concerns. Topology concerns everybody; a typo in a site only edge.
pub(crate) fn tiers_of(path: &str, check_users: &BTreeMap<String, Tiers>) -> Tiers {
    let path = path.strip_prefix("override.").unwrap_or(path);
    let mut parts = path.split(['.', '[']);
    let (first, second) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    match (first, second) {
        ("site" | "listener" | "upstream" | "secret", _) => Tiers::LAYER7,
        ("edge", "readiness" | "") => Tiers::BALANCING,
        ("edge", _) | ("defaults", "timeouts" | "retry") => Tiers::LAYER7,
        ("vip", _) => Tiers::VIP,
        ("virtual_service" | "connection_sync" | "director", _) => Tiers::LAYER4,
        ("vrrpd" | "sync_group", _) | ("defaults", "vrrp") => Tiers::FAILOVER,
        ("check", name) => check_users.get(name).copied().unwrap_or(Tiers::ALL),
        _ => Tiers::ALL,
    }
}

const LONGEST_NAME: usize = 64;

fn check_name(name: &str, span: Span, decoder: &mut Decoder<'_>) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        let message = format!("`{name}` cannot be used as a name");
        decoder.report(codes::BAD_NAME, span, message).help(format!(
            "a name is 1 to {LONGEST_NAME} letters, digits, `_`, `-` or `.`"
        ));
    }
}

/// The file's key for a field: one that is a word of Rust is written `r#match`.
pub(crate) const fn key_of(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Declares a table of the file: the struct with its spans, the decoder, the schema and the list of its keys.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident {
        required { $($(#[$rmeta:meta])* $rfield:ident : $rtype:ty,)* }
        optional { $($(#[$ometa:meta])* $ofield:ident : $otype:ty,)* }
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        pub(crate) struct $name {
            $($(#[$rmeta])* #[schemars(required)] pub(crate) $rfield: Option<$crate::decode::At<$rtype>>,)*
            $($(#[$ometa])* pub(crate) $ofield: Option<$crate::decode::At<$otype>>,)*
            /// Where the whole table stands.
            #[allow(dead_code, reason = "not every table needs its place")]
            #[schemars(skip)]
            pub(crate) span: $crate::source::Span,
        }

        impl $crate::decode::Decode for $name {
            fn decode(value: &$crate::value::Value, decoder: &mut $crate::decode::Decoder<'_>) -> Option<Self> {
                const KEYS: &[&str] = &[$($crate::decode::key_of(stringify!($rfield)),)* $($crate::decode::key_of(stringify!($ofield)),)*];
                let table = decoder.table(value)?;
                let decoded = Self {
                    $($rfield: decoder.required(table, value.span, $crate::decode::key_of(stringify!($rfield))),)*
                    $($ofield: decoder.field(table, $crate::decode::key_of(stringify!($ofield))),)*
                    span: value.span,
                };
                decoder.unknown_keys(table, KEYS);
                Some(decoded)
            }

            fn key_paths(prefix: &str, paths: &mut std::collections::BTreeSet<String>) {
                $(
                    let path = format!("{prefix}.{}", $crate::decode::key_of(stringify!($rfield)));
                    <$rtype as $crate::decode::Decode>::key_paths(&path, paths);
                    paths.insert(path);
                )*
                $(
                    let path = format!("{prefix}.{}", $crate::decode::key_of(stringify!($ofield)));
                    <$otype as $crate::decode::Decode>::key_paths(&path, paths);
                    paths.insert(path);
                )*
            }
        }
    };
}

/// Declares a set of words that a key allows.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, schemars::JsonSchema)]
        pub(crate) enum $name {
            $($(#[$vmeta])* #[schemars(rename = $word)] $variant,)+
        }

        impl $name {
            pub(crate) const WORDS: &[&str] = &[$($word,)+];

            pub(crate) fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl $crate::decode::Decode for $name {
            fn decode(value: &$crate::value::Value, decoder: &mut $crate::decode::Decoder<'_>) -> Option<Self> {
                let word = <$crate::decode::Text as $crate::decode::Decode>::decode(value, decoder)?;
                Self::from_word(&word.0).or_else(|| $crate::decode::unknown_word(value, &word.0, Self::WORDS, decoder))
            }
        }
    };
}

/// Declares a value that is either short (one word) or a table.
macro_rules! short_or_table {
    ($(#[$meta:meta])* $name:ident { $short:ident($stype:ty), $long:ident($ltype:ty) }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, schemars::JsonSchema)]
        #[schemars(untagged)]
        pub(crate) enum $name {
            /// The one-line form.
            $short($stype),
            /// With its options.
            $long(Box<$ltype>),
        }

        impl $crate::decode::Decode for $name {
            fn decode(value: &$crate::value::Value, decoder: &mut $crate::decode::Decoder<'_>) -> Option<Self> {
                match value.kind {
                    $crate::value::Kind::Table(_) => {
                        <$ltype as $crate::decode::Decode>::decode(value, decoder).map(|table| Self::$long(Box::new(table)))
                    }
                    _ => <$stype as $crate::decode::Decode>::decode(value, decoder).map(Self::$short),
                }
            }

            fn key_paths(prefix: &str, paths: &mut std::collections::BTreeSet<String>) {
                <$ltype as $crate::decode::Decode>::key_paths(prefix, paths);
            }
        }
    };
}

pub(crate) use {short_or_table, table, words};

/// Reports a word that is not among the allowed ones.
pub(crate) fn unknown_word<T>(
    value: &Value,
    word: &str,
    allowed: &[&str],
    decoder: &mut Decoder<'_>,
) -> Option<T> {
    let message = format!("`{}` cannot be `{word}`", decoder.path());
    let help = suggestion(word, "allowed", allowed.iter().copied());
    decoder
        .report(codes::UNKNOWN_WORD, value.span, message)
        .label("not one of the allowed words")
        .help(help);
    None
}
