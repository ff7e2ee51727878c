//! CORE: the file as written to the [`Platform`]: names resolved, defaults filled in, every problem collected.
//!
//! An element with an error is left out of the platform, but its name stays known, so that one mistake is reported once and not
//! again at every reference. What concerns several elements at once is judged by [`crate::rules`] afterwards.

mod access;
mod access_log;
mod balance;
mod check;
mod compression;
mod failover;
mod header;
mod hook;
mod layer4;
mod layer7;
mod moved;
mod policy;
mod protect;
mod route;
mod routing;
mod settings;
mod site;
mod tls;
mod topology;
mod track;

use std::collections::BTreeMap;

pub(crate) use layer4::{directors_of, forward_word};
pub(crate) use site::host_pattern;

use crate::codes::{self, Code};
use crate::decode::{At, Element, Named};
use crate::platform::{Check, Place};
use crate::problems::{Draft, Problems, Tiers, suggestion};
use crate::raw::Root;
use crate::source::{Sources, Span};
use crate::{Platform, rules};

/// The version of the format that this crate reads.
const SCHEMA: i64 = 1;

/// What is known while resolving.
pub(crate) struct Resolver<'a> {
    pub(crate) raw: &'a Root,
    sources: &'a Sources,
    problems: &'a mut Problems,
    check_users: BTreeMap<String, Tiers>,
    /// Named checks; `None` for one that has an error.
    checks: BTreeMap<String, Option<Check>>,
}

/// Builds the platform and judges it.
pub(crate) fn resolve(
    raw: &Root,
    check_users: BTreeMap<String, Tiers>,
    sources: &Sources,
    problems: &mut Problems,
) -> Platform {
    let mut resolver = Resolver {
        raw,
        sources,
        problems,
        check_users,
        checks: BTreeMap::new(),
    };
    resolver.schema();
    resolver.named_checks();
    let networks = resolver.networks();
    let mut platform = Platform {
        schema: 1,
        name: raw.name.as_deref().cloned().unwrap_or_default(),
        nodes: resolver.nodes(&networks),
        networks,
        groups: resolver.groups(),
        vips: BTreeMap::new(),
        sync_groups: resolver.sync_groups(),
        virtual_services: BTreeMap::new(),
        connection_sync: resolver.connection_sync(),
        listeners: resolver.listeners(),
        upstreams: resolver.upstreams(),
        limits: resolver.limits(),
        sites: Vec::new(),
        secrets: resolver.secrets(),
        edge: resolver.edge(),
        director: resolver.director(),
        vrrpd: resolver.vrrpd(),
    };
    platform.vips = resolver.vips();
    platform.virtual_services = resolver.virtual_services(&platform);
    platform.sites = resolver.sites();
    rules::judge(&platform, &mut resolver);
    platform
}

impl<'a> Resolver<'a> {
    pub(crate) fn report(
        &mut self,
        code: Code,
        tiers: Tiers,
        span: Span,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Draft {
        self.problems.report(code, tiers, span, key, message)
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        self.sources.place(span)
    }

    pub(crate) fn check_users(&self) -> &BTreeMap<String, Tiers> {
        &self.check_users
    }

    fn schema(&mut self) {
        let Some(schema) = self
            .raw
            .schema
            .as_ref()
            .filter(|schema| schema.value.0 != SCHEMA)
        else {
            return;
        };
        self.report(
            codes::SCHEMA_VERSION,
            Tiers::ALL,
            schema.span,
            "schema",
            format!("the file is written for version {} of the format; this is weir {}, which reads version {SCHEMA}", schema.value.0, env!("CARGO_PKG_VERSION")),
        )
        .help("install a version of weir that reads this format; until then the daemons keep their present configuration");
    }

    /// Builds every element of a kind; those with an error are left out.
    fn elements<T, P>(
        &mut self,
        named: Option<&'a At<Named<T>>>,
        mut build: impl FnMut(&mut Self, &str, &'a Element<T>) -> Option<P>,
    ) -> BTreeMap<String, P> {
        let mut built = BTreeMap::new();
        for (name, element) in named.into_iter().flat_map(|named| &named.value.0) {
            let errors = self.problems.errors();
            let result = build(self, name, element);
            if let (Some(result), false) =
                (result, element.broken || self.problems.errors() > errors)
            {
                built.insert(name.clone(), result);
            }
        }
        built
    }

    /// Whether a name is declared; reports it if not.
    fn known<T>(
        &mut self,
        named: Option<&At<Named<T>>>,
        code: Code,
        tiers: Tiers,
        name: &At<String>,
        key: &str,
        what: &str,
    ) -> bool {
        if named.is_some_and(|named| named.0.contains_key(&name.value)) {
            return true;
        }
        let names = named
            .into_iter()
            .flat_map(|named| named.value.0.keys())
            .map(String::as_str);
        let help = suggestion(&name.value, &format!("{what}s"), names);
        self.report(
            code,
            tiers,
            name.span,
            key,
            format!("{what} `{}` does not exist", name.value),
        )
        .label(format!("no {what} has this name"))
        .help(help);
        false
    }

    fn known_network(&mut self, name: &At<String>, tiers: Tiers, key: &str) -> bool {
        let raw = self.raw;
        self.known(
            raw.network.as_ref(),
            codes::UNKNOWN_NETWORK,
            tiers,
            name,
            key,
            "network",
        )
    }

    fn known_node(&mut self, name: &At<String>, tiers: Tiers, key: &str) -> bool {
        let raw = self.raw;
        self.known(
            raw.node.as_ref(),
            codes::UNKNOWN_NODE,
            tiers,
            name,
            key,
            "node",
        )
    }

    fn known_group(&mut self, name: &At<String>, tiers: Tiers, key: &str) -> bool {
        let raw = self.raw;
        self.known(
            raw.group.as_ref(),
            codes::UNKNOWN_GROUP,
            tiers,
            name,
            key,
            "group",
        )
    }

    /// Reports an empty list, and each entry that stands in it twice.
    fn list<T>(
        &mut self,
        items: Option<&At<Vec<At<T>>>>,
        tiers: Tiers,
        key: &str,
        show: impl Fn(&T) -> String,
    ) {
        let Some(items) = items else { return };
        if items.is_empty() {
            self.report(
                codes::EMPTY_LIST,
                tiers,
                items.span,
                key,
                format!("`{key}` is empty"),
            )
            .help("name at least one entry");
        }
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        for item in &items.value {
            let shown = show(&item.value);
            if let Some(first) = seen.get(&shown).copied() {
                self.report(
                    codes::LISTED_TWICE,
                    tiers,
                    item.span,
                    key,
                    format!("`{shown}` stands twice in `{key}`"),
                )
                .also(first, "the first time");
            } else {
                seen.insert(shown, item.span);
            }
        }
    }
}

/// The value itself, if it was given.
pub(crate) fn given<T: Copy>(value: &Option<At<T>>) -> Option<T> {
    value.as_ref().map(|value| value.value)
}

/// A list of names or values without their spans.
fn values<T: Clone>(items: Option<&At<Vec<At<T>>>>) -> Vec<T> {
    items
        .into_iter()
        .flat_map(|items| &items.value)
        .map(|item| item.value.clone())
        .collect()
}
