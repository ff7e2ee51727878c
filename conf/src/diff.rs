//! CORE: what differs between two platforms, key by key; `plan` prints it, and says which changes need an order across nodes.
//!
//! The comparison is over the resolved platforms, so a moved line, a renamed check or a default that is written out is no change. List
//! items are told apart by what names them (an address, a path, the hosts of a site), so that one new server is one line.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::Platform;
use crate::decode::tiers_of;
use crate::problem::Tier;
use crate::unit::{Bytes, Interval};

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Added, removed or changed.
    pub kind: ChangeKind,
    /// The key's path as in the file, such as `virtual_service.web.real_servers[10.0.0.11].weight`.
    pub key: String,
    /// The value before, as in the file; `None` if it was added.
    pub from: Option<String>,
    /// The value after; `None` if it is removed.
    pub to: Option<String>,
    /// Whose daemon carries it out.
    pub tiers: BTreeSet<Tier>,
    /// Why and in which order the nodes must be changed, if it matters.
    pub order: Option<&'static str>,
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another value.
    Changed,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "~ {}: {from} -> {to}", self.key),
            (None, Some(to)) => write!(f, "+ {} = {to}", self.key),
            (Some(from), None) => write!(f, "- {} = {from}", self.key),
            (None, None) => write!(f, "~ {}", self.key),
        }
    }
}

/// Every difference, in the order of the keys.
pub fn diff(old: &Platform, new: &Platform) -> Vec<Change> {
    let mut changes = Vec::new();
    let (old, new) = (serde_json::to_value(old), serde_json::to_value(new));
    if let (Ok(old), Ok(new)) = (old, new) {
        compare("", "", &old, &new, &mut changes);
    }
    changes
}

/// Changes that must not happen on all nodes at any time: the end of the key path, and what to do.
const ORDERED: &[(&str, &[&str], &str)] = &[
    (
        "vip",
        &["vrrp.id"],
        "router id: two ids are two virtual routers, and both sides would be master. Stop vrrpd on the backups, change the master, then change and start the backups.",
    ),
    (
        "vip",
        &["addresses"],
        "VIP list: reload the backups first and the master last, within one minute; until then the adverts name different addresses, and keepalived as a peer drops them.",
    ),
    (
        "vip",
        &["directors", "vrrp.priorities"],
        "election: reload the node whose priority falls last, or the VIP moves twice.",
    ),
    (
        "vip",
        &["vrrp.checksum"],
        "checksum form: reload the backups first; a peer that accepts one form only (keepalived, FRR) must be changed in the same minute.",
    ),
    (
        "vip",
        &["network"],
        "VIP network: the adverts move to another network. Stop vrrpd on the backups, change the master, then change and start the backups.",
    ),
    (
        "connection_sync",
        &[
            "id",
            "group",
            "port",
            "network",
            "maxlen",
            "connection_sync",
        ],
        "connection synchronisation: until both directors have the new value, new connections are not synchronised. Reload the backup, then the master, and do not move the VIP in between.",
    ),
    (
        "virtual_service",
        &["scheduler.name", "scheduler.port", "scheduler.fallback"],
        "scheduler: reload all directors within seconds; while they differ, a takeover sends clients to other real servers.",
    ),
    (
        "virtual_service",
        &["forward", "tunnel.type", "tunnel.port"],
        "way to the real servers: reload `director real-server` on them first, so that they take packets by the new way, then the directors; take what the old way needs away last.",
    ),
    (
        "virtual_service",
        &["match"],
        "services by mark or address: reload all directors within seconds; connections that begin while they differ are not synchronised.",
    ),
];

/// The file's names for the platform's tables.
const TABLES: &[(&str, &str)] = &[
    ("networks", "network"),
    ("nodes", "node"),
    ("groups", "group"),
    ("vips", "vip"),
    ("sync_groups", "sync_group"),
    ("virtual_services", "virtual_service"),
    ("listeners", "listener"),
    ("upstreams", "upstream"),
    ("limits", "limit"),
    ("sites", "site"),
    ("secrets", "secret"),
];

const DURATIONS: &[&str] = &[
    "interval",
    "timeout",
    "retry_delay",
    "min_validity",
    "advert_interval",
    "after",
    "startup_delay",
    "boot_delay",
    "verdict_hold",
    "garp_delay",
    "garp_refresh",
    "remove_after",
    "drain_timeout",
    "keepalive_timeout",
    "window",
    "slow_start",
    "max_age",
    "eject",
    "within",
    "connect",
    "send",
    "read",
    "total",
    "drain_delay",
    "header_timeout",
    "body_timeout",
    "reconcile_interval",
    "reboot_wait",
    "takeover_window",
];
const SIZES: &[&str] = &[
    "header_size",
    "target_size",
    "max_body",
    "buffer_request",
    "min_size",
];
const SHARES: &[&str] = &["jitter", "quorum", "floor", "max_ejected"];

fn compare(path: &str, leaf: &str, old: &Value, new: &Value, changes: &mut Vec<Change>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Value::Null, new) => push(ChangeKind::Added, path, leaf, None, Some(new), changes),
        (old, Value::Null) => push(ChangeKind::Removed, path, leaf, Some(old), None, changes),
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let table = TABLES
                    .iter()
                    .find(|(plural, _)| path.is_empty() && plural == key);
                let word = table.map_or(key.as_str(), |(_, word)| word);
                let path = if path.is_empty() {
                    word.to_owned()
                } else {
                    format!("{path}.{word}")
                };
                let null = Value::Null;
                compare(
                    &path,
                    key,
                    old.get(key).unwrap_or(&null),
                    new.get(key).unwrap_or(&null),
                    changes,
                );
            }
        }
        (Value::Array(olds), Value::Array(news)) => {
            let (Some(old_items), Some(new_items)) = (identified(olds), identified(news)) else {
                push(
                    ChangeKind::Changed,
                    path,
                    leaf,
                    Some(old),
                    Some(new),
                    changes,
                );
                return;
            };
            let before = changes.len();
            let names: BTreeSet<&String> = old_items.keys().chain(new_items.keys()).collect();
            for name in names {
                let null = Value::Null;
                let (old, new) = (old_items.get(name).copied(), new_items.get(name).copied());
                compare(
                    &format!("{path}[{name}]"),
                    leaf,
                    old.unwrap_or(&null),
                    new.unwrap_or(&null),
                    changes,
                );
            }
            if changes.len() == before {
                // The same items in another order: it decides the sequence of round robin and which expression is tried first.
                push(
                    ChangeKind::Changed,
                    path,
                    leaf,
                    Some(old),
                    Some(new),
                    changes,
                );
            }
        }
        (old, new) => push(
            ChangeKind::Changed,
            path,
            leaf,
            Some(old),
            Some(new),
            changes,
        ),
    }
}

/// The items by what names them; `None` if they are plain values, have no name, or two have the same.
fn identified(items: &[Value]) -> Option<BTreeMap<String, &Value>> {
    let mut named = BTreeMap::new();
    for item in items {
        let item_name = match item {
            // Routes and rules of a VIP.
            Value::Object(fields) if fields.contains_key("table") => {
                let keys = ["priority", "to", "table", "metric"];
                let given = keys.iter().filter_map(|key| fields.get(*key));
                let given = given.filter(|value| !value.is_null());
                let given: Vec<String> = given.map(|value| shown("table", value)).collect();
                given.join(" ")
            }
            Value::Object(fields) => match (
                fields.get("hosts"),
                fields.get("path"),
                fields.get("address"),
            ) {
                (Some(hosts), ..) => shown("hosts", hosts),
                (_, Some(path), _) => {
                    let asked = ["methods", "match_headers", "match_query", "match_cookies"];
                    let asked = asked.into_iter().filter_map(|key| {
                        let value = fields.get(key)?;
                        Some(format!(" {key} {}", listed(value)))
                    });
                    shown("path", path) + &asked.collect::<String>()
                }
                (.., Some(address)) => {
                    let port = fields.get("port").filter(|port| !port.is_null());
                    let address = shown("address", address);
                    port.map_or(address.clone(), |port| format!("{address}:{port}"))
                }
                _ => return None,
            },
            _ => return None,
        };
        if named.insert(item_name.replace('"', ""), item).is_some() {
            return None;
        }
    }
    Some(named)
}

/// What a route asks, short enough for its name: `GET POST`, `x-canary=1`.
fn listed(value: &Value) -> String {
    let words: Vec<String> = match value {
        Value::Array(items) => items.iter().map(|item| shown("", item)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            fields
                .map(|(name, value)| format!("{name}={}", shown("", value)))
                .collect()
        }
        other => vec![shown("", other)],
    };
    words.join(" ")
}

fn push(
    kind: ChangeKind,
    path: &str,
    leaf: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    changes: &mut Vec<Change>,
) {
    let first = path.split('.').next().unwrap_or(path);
    let end = |end: &&&str| {
        path == **end || path.ends_with(&format!(".{end}")) || path.contains(&format!(".{end}["))
    };
    let whole_element =
        path.split('.').count() == 2 && kind != ChangeKind::Changed && first == "vip";
    let order = ORDERED
        .iter()
        .filter(|(table, ..)| *table == first && !whole_element)
        .find(|(_, ends, _)| ends.iter().any(|candidate| end(&candidate)))
        .map(|(.., sentence)| *sentence);
    changes.push(Change {
        kind,
        key: path.to_owned(),
        from: old.map(|value| shown(leaf, value)),
        to: new.map(|value| shown(leaf, value)),
        tiers: tiers_of(path, &BTreeMap::new()).set(),
        order,
    });
}

/// A value as the file would have it.
fn shown(leaf: &str, value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_u64() {
            Some(number) if DURATIONS.contains(&leaf) => {
                format!("\"{}\"", Interval::from_micros(number))
            }
            Some(number) if SIZES.contains(&leaf) => format!("\"{}\"", Bytes::new(number)),
            Some(number) if SHARES.contains(&leaf) => format!("\"{number}%\""),
            _ => number.to_string(),
        },
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(leaf, item)).collect();
            format!("[{}]", items.join(", "))
        }
        // `{ ip = "…" }` and the like: the variant's name says nothing to an operator.
        Value::Object(fields) if fields.len() == 1 && !matches!(leaf, "on") => {
            let (key, value) = fields.iter().next().unzip();
            shown(
                key.map_or("", String::as_str),
                value.unwrap_or(&Value::Null),
            )
        }
        Value::Object(fields) => {
            let present = fields.iter().filter(|(_, value)| !value.is_null());
            let fields: Vec<String> = present
                .map(|(key, value)| format!("{key} = {}", shown(key, value)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        other => other.to_string(),
    }
}
