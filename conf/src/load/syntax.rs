//! CORE: text to a tree, with every syntax error; and who is concerned by one.
//!
//! A syntax error in one table must not keep the other tiers from reloading, but a mistake such as an unclosed string can swallow
//! the tables that follow. So the text is parsed once more with the broken table blanked out: only if that is free of errors is the
//! problem limited to that table's tier, and the other tiers are then read from the second parse.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeTable;

use crate::codes;
use crate::decode::tiers_of;
use crate::problems::{Problems, Tiers};
use crate::source::Span;
use crate::value::{Table, from_toml};

/// Parses one file.
pub(super) fn parse(file: u32, text: &str, problems: &mut Problems) -> Table {
    let (table, errors) = DeTable::parse_recoverable(text);
    let recovered = from_toml(table.get_ref(), file);
    if errors.is_empty() {
        return recovered;
    }
    let ranges: Vec<Range<usize>> = errors
        .iter()
        .map(|error| error.span().unwrap_or(0..0))
        .collect();
    let (tiers, table) = match limited(file, text, &ranges) {
        Some((tiers, clean)) => (tiers, choose(recovered, clean, tiers)),
        None => (Tiers::ALL, recovered),
    };
    for (error, range) in errors.iter().zip(ranges) {
        let (message, help) = explain(error.message());
        let draft = problems.report(codes::SYNTAX, tiers, Span::new(file, range), "", message);
        if let Some(help) = help {
            draft.help(help);
        }
    }
    table
}

/// The tiers of the broken tables and the tree without them, if the rest is sound.
fn limited(file: u32, text: &str, errors: &[Range<usize>]) -> Option<(Tiers, Table)> {
    let mut blanked = text.to_owned();
    let mut tiers = Tiers::NONE;
    for error in errors {
        let region = table_around(text, error.start)?;
        let path = header_path(&text[region.clone()], error.start - region.start)?;
        tiers = tiers.and(tiers_of(&path, &BTreeMap::new()));
        let blank: String = text[region.clone()]
            .chars()
            .flat_map(|c| std::iter::repeat_n(if c == '\n' { '\n' } else { ' ' }, c.len_utf8()))
            .collect();
        blanked.replace_range(region, &blank);
    }
    let (table, errors) = DeTable::parse_recoverable(&blanked);
    (errors.is_empty() && tiers != Tiers::ALL).then(|| (tiers, from_toml(table.get_ref(), file)))
}

/// From the header line before `at` to the next line that begins with `[`; `None` before the first table.
fn table_around(text: &str, at: usize) -> Option<Range<usize>> {
    let line_starts =
        std::iter::once(0).chain(text.match_indices('\n').map(|(newline, _)| newline + 1));
    let mut start = None;
    for line in line_starts {
        if !text[line..]
            .trim_start_matches([' ', '\t'])
            .starts_with('[')
        {
            continue;
        }
        if line > at {
            return start.map(|start| start..line);
        }
        start = Some(line);
    }
    start.map(|start| start..text.len())
}

/// The table's key path; `None` if the error is in the header itself, so that nobody knows what was meant.
fn header_path(region: &str, error: usize) -> Option<String> {
    let line = region.lines().next()?;
    if error <= line.len() {
        return None;
    }
    let inner = line.trim().trim_start_matches('[');
    let path = inner.split(']').next()?.trim();
    path.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .then(|| path.to_owned())
}

/// Tables of the broken tiers from the recovered parse (for their other mistakes), all others from the clean one.
fn choose(recovered: Table, mut clean: Table, tiers: Tiers) -> Table {
    for (key, entry) in recovered {
        if tiers_of(&key, &BTreeMap::new()).within(tiers) {
            clean.insert(key, entry);
        }
    }
    clean
}

/// The parser's message as a sentence, and what usually lies behind it.
fn explain(message: &str) -> (String, Option<&'static str>) {
    let help = match message {
        m if m.contains("duplicate key") => {
            Some("a key or table is written once in a file: put both parts together")
        }
        m if m.contains("unclosed") || m.contains("invalid basic string") => {
            Some("close the string with `\"` on the same line")
        }
        m if m.contains("string values must be quoted") => Some("put the value into double quotes"),
        m if m.contains("array") => {
            Some("separate the items by commas and close the list with `]`")
        }
        _ => None,
    };
    (format!("this is not valid TOML: {message}"), help)
}
