//! CORE: a file as a tree of values, each with its span; what include, override and the decoder work on.
//!
//! The `toml` crate's own tree borrows from one text. Ours can be merged over files, because a span says which file it means.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use crate::source::Span;

#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    String(String),
    /// `None` if it does not fit.
    Integer(Option<i64>),
    Float,
    Boolean(bool),
    Datetime,
    Array(Vec<Value>),
    Table(Table),
    /// Its text could not be parsed, which was reported.
    Broken,
}

/// Keys in lexicographic order; the spans tell the file's order.
pub(crate) type Table = BTreeMap<String, Entry>;

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Span,
    pub(crate) value: Value,
}

impl Value {
    /// "a string", for messages.
    pub(crate) fn described(&self) -> &'static str {
        match self.kind {
            Kind::String(_) => "a string",
            Kind::Integer(_) => "a whole number",
            Kind::Float => "a number with a fraction",
            Kind::Boolean(_) => "true or false",
            Kind::Datetime => "a date",
            Kind::Array(_) => "a list",
            Kind::Table(_) => "a table",
            Kind::Broken => "broken",
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Our tree of a parsed table.
pub(crate) fn from_toml(table: &DeTable<'_>, file: u32) -> Table {
    table
        .iter()
        .map(|(key, value)| {
            let entry = Entry {
                key: Span::new(file, key.span()),
                value: value_from_toml(value.get_ref(), Span::new(file, value.span()), file),
            };
            (key.get_ref().to_string(), entry)
        })
        .collect()
}

fn value_from_toml(value: &DeValue<'_>, span: Span, file: u32) -> Value {
    let kind = match value {
        DeValue::String(text) => Kind::String(text.to_string()),
        DeValue::Integer(number) => {
            Kind::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(_) => Kind::Float,
        DeValue::Boolean(flag) => Kind::Boolean(*flag),
        DeValue::Datetime(_) => Kind::Datetime,
        DeValue::Array(items) => Kind::Array(
            items
                .iter()
                .map(|item| value_from_toml(item.get_ref(), Span::new(file, item.span()), file))
                .collect(),
        ),
        DeValue::Table(table) => Kind::Table(from_toml(table, file)),
    };
    Value { span, kind }
}
