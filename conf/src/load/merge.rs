//! CORE: one tree out of several files, and the environment's `[override]` on top of it.

use crate::codes;
use crate::decode::tiers_of;
use crate::problems::{Problems, suggestion};
use crate::source::{Sources, Span};
use crate::value::{Entry, Kind, Table, Value};

/// Tables of named elements: the same name in two files is an error there, and an override must name what exists.
const NAMED: &[&str] = &[
    "network",
    "node",
    "group",
    "vip",
    "sync_group",
    "virtual_service",
    "listener",
    "upstream",
    "secret",
    "check",
];

/// Adds the tree of one more file.
pub(super) fn into(root: &mut Table, file: Table, sources: &Sources, problems: &mut Problems) {
    for (key, entry) in file {
        let Some(existing) = root.get_mut(&key) else {
            root.insert(key, entry);
            continue;
        };
        match (&mut existing.value.kind, entry.value.kind) {
            (Kind::Table(ours), Kind::Table(theirs)) => {
                let named = NAMED.contains(&key.as_str());
                join(ours, theirs, &key, named, sources, problems);
            }
            (Kind::Array(ours), Kind::Array(theirs)) if key == "site" => ours.extend(theirs),
            _ => twice(false, &key, entry.key, existing.key, sources, problems),
        }
    }
}

fn join(
    ours: &mut Table,
    theirs: Table,
    path: &str,
    named: bool,
    sources: &Sources,
    problems: &mut Problems,
) {
    for (key, entry) in theirs {
        let path = format!("{path}.{key}");
        let Some(existing) = ours.get_mut(&key) else {
            ours.insert(key, entry);
            continue;
        };
        match (&mut existing.value.kind, entry.value.kind) {
            (Kind::Table(ours), Kind::Table(theirs)) if !named => {
                join(ours, theirs, &path, false, sources, problems)
            }
            _ => twice(named, &path, entry.key, existing.key, sources, problems),
        }
    }
}

fn twice(
    named: bool,
    path: &str,
    here: Span,
    there: Span,
    sources: &Sources,
    problems: &mut Problems,
) {
    let place = sources.place(there);
    let (code, message) = if named {
        (
            codes::DUPLICATE_NAME,
            format!("`{path}` is declared twice, the first time in {place}"),
        )
    } else {
        (
            codes::DUPLICATE_SETTING,
            format!("`{path}` is given twice, the first time in {place}"),
        )
    };
    problems
        .report(
            code,
            tiers_of(path, &Default::default()),
            here,
            path,
            message,
        )
        .label("the second time")
        .also(there, "the first time")
        .help("keep one of the two; an environment changes single values with `[override]`");
}

/// Lays one `[override]` table over the merged tree: tables are merged, everything else is replaced whole.
pub(super) fn apply_override(root: &mut Table, entry: Entry, problems: &mut Problems) {
    let described = entry.value.described();
    let Kind::Table(table) = entry.value.kind else {
        let message = format!("`override` must be a table, not {described}");
        problems.report(
            codes::WRONG_TYPE,
            crate::problems::Tiers::ALL,
            entry.value.span,
            "override",
            message,
        );
        return;
    };
    for (key, entry) in table {
        match entry.value.kind {
            Kind::Table(elements) if NAMED.contains(&key.as_str()) => {
                override_named(root, &key, elements, problems)
            }
            _ => lay(root, key, entry),
        }
    }
}

fn override_named(root: &mut Table, kind: &str, elements: Table, problems: &mut Problems) {
    let mut none = Table::new();
    let declared = match root.get_mut(kind).map(|entry| &mut entry.value.kind) {
        Some(Kind::Table(table)) => table,
        _ => &mut none,
    };
    for (name, entry) in elements {
        if declared.contains_key(&name) {
            lay(declared, name, entry);
            continue;
        }
        let path = format!("{kind}.{name}");
        let help = suggestion(&name, "names", declared.keys().map(String::as_str));
        problems
            .report(
                codes::OVERRIDE_NOTHING,
                tiers_of(&path, &Default::default()),
                entry.key,
                format!("override.{path}"),
                format!("`[override]` changes `{path}`, which is not declared anywhere"),
            )
            .label("nothing to override")
            .help(help);
    }
}

fn lay(table: &mut Table, key: String, over: Entry) {
    match table.get_mut(&key) {
        Some(Entry {
            value:
                Value {
                    kind: Kind::Table(below),
                    ..
                },
            ..
        }) if matches!(over.value.kind, Kind::Table(_)) => {
            if let Kind::Table(above) = over.value.kind {
                for (key, entry) in above {
                    lay(below, key, entry);
                }
            }
        }
        _ => {
            table.insert(key, over);
        }
    }
}
