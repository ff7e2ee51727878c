//! CORE: text to a tree, with every syntax error once; and who is concerned by it.
//!
//! The parser recovers from an error, but an unclosed list or string swallows what follows, and that must neither bury the cause under
//! a dozen consequences nor take a table away from another tier. So each error is traced to its line, its statement or its table; that
//! is blanked out, and the rest is parsed again. A key whose statement was blanked is known to be broken. What cannot be traced
//! concerns every tier.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeTable;

use crate::codes;
use crate::decode::tiers_of;
use crate::problems::{Problems, Tiers};
use crate::source::Span;
use crate::value::{Entry, Kind, Table, Value, from_toml};

/// After so many errors the file is something else.
const MOST_ERRORS: usize = 50;

/// A part of the text that was taken out.
struct Blanked {
    region: Range<usize>,
    /// The header of its table.
    header: Option<usize>,
}

/// Parses one file.
pub(super) fn parse(file: u32, text: &str, problems: &mut Problems) -> Table {
    let mut rest = text.to_owned();
    let mut blanked: Vec<Blanked> = Vec::new();
    let mut reported = 0;
    loop {
        let (table, errors) = DeTable::parse_recoverable(&rest);
        let first = errors
            .into_iter()
            .map(|error| (error.span().unwrap_or(0..0), error.message().to_owned()))
            .min_by_key(|(span, _)| span.start);
        let Some((span, message)) = first else {
            let mut tree = from_toml(table.get_ref(), file);
            for part in &blanked {
                mark_broken(&mut tree, text, part, file);
            }
            return tree;
        };
        let outline = Outline::of(&rest);
        let region = (reported < MOST_ERRORS)
            .then(|| outline.culprit(&rest, span.start, message.contains("duplicate")))
            .flatten();
        let header = region
            .as_ref()
            .and_then(|region| outline.header_before(region.start));
        let tiers = match &region {
            Some(region) => concerned(text, region, header),
            None => Tiers::ALL,
        };
        let cause = Cause {
            span,
            region: region.as_ref(),
            message: &message,
        };
        report(file, text, &cause, tiers, problems);
        reported += 1;
        let Some(region) = region else {
            return from_toml(table.get_ref(), file);
        };
        rest = without(&rest, &region);
        blanked.push(Blanked { region, header });
    }
}

/// Where tables and statements begin, told by the look of the lines alone, so that an open bracket does not hide them.
struct Outline {
    lines: Vec<usize>,
    /// Starts of `[table]` lines, broken ones too.
    headers: Vec<usize>,
    /// Starts of `key = …` lines.
    statements: Vec<usize>,
    end: usize,
}

impl Outline {
    fn of(text: &str) -> Self {
        let mut outline = Self {
            lines: Vec::new(),
            headers: Vec::new(),
            statements: Vec::new(),
            end: text.len(),
        };
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            outline.lines.push(at);
            if looks_like_header(line) {
                outline.headers.push(at);
            } else if looks_like_statement(line) {
                outline.statements.push(at);
            }
            at += line.len();
        }
        outline
    }

    /// The smallest part of the text without which the error at `at` is gone and everything before it is sound.
    fn culprit(&self, text: &str, at: usize, twice: bool) -> Option<Range<usize>> {
        let line_start = last_at_most(&self.lines, at)?;
        let line = line_start
            ..self
                .lines
                .iter()
                .copied()
                .find(|start| *start > line_start)
                .unwrap_or(self.end);
        let begins_something =
            self.headers.contains(&line_start) || self.statements.contains(&line_start);
        let at_start = text[line_start..at.min(text.len())].trim().is_empty();
        let previous = self.part_before(line_start);
        let candidates = if !twice && (at >= self.end || (begins_something && at_start)) {
            // A new table or key is unexpected only if what stands before it is still open.
            [
                previous,
                Some(line.clone()),
                self.statement(at),
                self.table(at),
            ]
        } else {
            [
                Some(line.clone()),
                self.statement(at),
                previous,
                self.table(at),
            ]
        };
        candidates
            .into_iter()
            .flatten()
            .filter(|region| !text[region.clone()].trim().is_empty())
            .find(|region| {
                let (_, errors) = DeTable::parse_recoverable(&without(text, region));
                let next = errors
                    .iter()
                    .filter_map(|error| Some(error.span()?.start))
                    .min();
                next.is_none_or(|next| next > at.max(region.end.saturating_sub(1)))
            })
            .map(|region| self.whole_header(region))
    }

    /// Without its header a table's keys would fall to the table before it.
    fn whole_header(&self, region: Range<usize>) -> Range<usize> {
        match self.headers.contains(&region.start) {
            true => self.table(region.start).unwrap_or(region),
            false => region,
        }
    }

    fn starts(&self) -> impl Iterator<Item = usize> {
        self.headers.iter().chain(&self.statements).copied()
    }

    /// The statement that holds `at`.
    fn statement(&self, at: usize) -> Option<Range<usize>> {
        let start = last_at_most(&self.statements, at)?;
        Some(
            start
                ..self
                    .starts()
                    .filter(|next| *next > start)
                    .min()
                    .unwrap_or(self.end),
        )
    }

    /// The statement or header that ends where `line` begins.
    fn part_before(&self, line: usize) -> Option<Range<usize>> {
        let start = self.starts().filter(|start| *start < line).max()?;
        Some(start..line)
    }

    /// The table that holds `at`, from its header to the next one.
    fn table(&self, at: usize) -> Option<Range<usize>> {
        let start = self.header_before(at)?;
        Some(
            start
                ..self
                    .headers
                    .iter()
                    .copied()
                    .find(|next| *next > start)
                    .unwrap_or(self.end),
        )
    }

    fn header_before(&self, at: usize) -> Option<usize> {
        last_at_most(&self.headers, at)
    }
}

fn last_at_most(starts: &[usize], at: usize) -> Option<usize> {
    starts.iter().copied().rfind(|start| *start <= at)
}

/// `[name` or `[[name`: inside a list a bare word would not be valid anyway.
fn looks_like_header(line: &str) -> bool {
    let line = line.trim_start();
    let inner = line.trim_start_matches('[').trim_start();
    inner.len() < line.len()
        && inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !["true", "false", "inf", "nan"]
            .iter()
            .any(|word| inner.starts_with(word))
}

/// `key = …`; a key inside an inline table follows a brace or a comma and does not begin a line.
fn looks_like_statement(line: &str) -> bool {
    let Some((key, _)) = line.split_once('=') else {
        return false;
    };
    let key = key.trim();
    !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | ' '))
}

/// The text with a part of it replaced by spaces, so that all other offsets stay.
fn without(text: &str, region: &Range<usize>) -> String {
    let blank: String = text[region.clone()]
        .bytes()
        .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
        .collect();
    format!("{}{blank}{}", &text[..region.start], &text[region.end..])
}

/// Whom a broken part concerns: the tier of its table, or everybody if the header itself is broken.
fn concerned(text: &str, region: &Range<usize>, header: Option<usize>) -> Tiers {
    let Some(header) = header.filter(|header| *header != region.start) else {
        let key = text[region.clone()]
            .split(['=', '.'])
            .next()
            .unwrap_or("")
            .trim();
        let plain = !key.contains('[') && !key.is_empty() && header.is_none();
        return if plain {
            tiers_of(key, &BTreeMap::new())
        } else {
            Tiers::ALL
        };
    };
    match header_path(text, header) {
        Some(path) => tiers_of(&path, &BTreeMap::new()),
        None => Tiers::ALL,
    }
}

fn header_path(text: &str, header: usize) -> Option<String> {
    let line = text[header..].lines().next()?.trim();
    let (path, _) = line.trim_start_matches('[').split_once(']')?;
    Some(path.trim().to_owned())
}

/// Puts a mark where the blanked key would be, so that nobody reports it as missing and its element counts as broken.
fn mark_broken(tree: &mut Table, text: &str, part: &Blanked, file: u32) {
    // `key = …`, or a key alone on its line.
    let statement = &text[part.region.clone()];
    let line = statement.trim_start().lines().next().unwrap_or_default();
    let key = line.split(['=', '.', '#']).next().unwrap_or_default();
    let key = key.trim().trim_matches('"').to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if key.is_empty() || !key.chars().all(plain) {
        return;
    }
    let span = Span::new(file, part.region.clone());
    let broken = Entry {
        key: span,
        value: Value {
            span,
            kind: Kind::Broken,
        },
    };
    let table = match part.header {
        None => Some(tree),
        Some(line) => {
            let indent = text[line..].len() - text[line..].trim_start().len();
            let header = line + indent;
            tree.values_mut()
                .find_map(|entry| table_at(&mut entry.value, u32::try_from(header).ok()?))
        }
    };
    if let Some(table) = table {
        table.entry(key).or_insert(broken);
    }
}

/// The table whose header stands at an offset.
fn table_at(value: &mut Value, header: u32) -> Option<&mut Table> {
    let here = value.span.start == header;
    match &mut value.kind {
        Kind::Table(table) => {
            if here {
                return Some(table);
            }
            table
                .values_mut()
                .find_map(|entry| table_at(&mut entry.value, header))
        }
        Kind::Array(items) => items.iter_mut().find_map(|item| table_at(item, header)),
        _ => None,
    }
}

/// A syntax error and the part of the text that it was traced to.
struct Cause<'c> {
    span: Range<usize>,
    region: Option<&'c Range<usize>>,
    message: &'c str,
}

fn report(file: u32, text: &str, cause: &Cause<'_>, tiers: Tiers, problems: &mut Problems) {
    let message = format!("this is not valid TOML: {}", cause.message);
    let end = text.trim_end().len();
    let (span, message, help) = match cause.region {
        // An open list shows only where the next key stands: the mark belongs to the line that left it open.
        Some(region) if !region.contains(&cause.span.start) => {
            let line = text[region.clone()].lines().next().unwrap_or_default();
            let line = line.split(" #").next().unwrap_or_default().trim_end();
            (
                region.start..region.start + line.len(),
                "what begins here is not closed".to_owned(),
                Some("close the list with `]`, the table with `}` or the string with its quotes"),
            )
        }
        Some(_) => (cause.span.clone(), message, help(cause.message)),
        // The end of the file is a line that is not there; the last one that is there shows more.
        None => (
            cause.span.start.min(end.saturating_sub(1))..cause.span.end.min(end),
            message,
            Some("a list, a table or a text in three quotes is opened further up and never closed"),
        ),
    };
    let first = cause
        .message
        .contains("duplicate")
        .then(|| first_time(text, &cause.span))
        .flatten();
    let draft = problems.report(codes::SYNTAX, tiers, Span::new(file, span), "", message);
    if let Some(help) = help {
        draft.help(help);
    }
    if let Some(first) = first {
        draft.also(Span::new(file, first), "the first time");
    }
}

/// Where a key or table that stands twice stands for the first time: the same beginning of a line, further up in its table.
fn first_time(text: &str, second: &Range<usize>) -> Option<Range<usize>> {
    let outline = Outline::of(text);
    let line = last_at_most(&outline.lines, second.start)?;
    let beginning = text.get(line..second.end)?.trim();
    let header = outline.headers.contains(&line);
    let from = match outline.header_before(line) {
        Some(table) if !header => table,
        _ => 0,
    };
    let close = if header { ']' } else { '=' };
    let lines = outline.lines.iter().copied();
    lines
        .filter(|start| (from..line).contains(start))
        .find_map(|start| {
            let start = start + text[start..].len() - text[start..].trim_start().len();
            let rest = text[start..].strip_prefix(beginning)?;
            let same = rest.trim_start().starts_with(close);
            same.then(|| start..start + beginning.len())
        })
}

/// What usually lies behind a message of the parser.
fn help(message: &str) -> Option<&'static str> {
    match message {
        m if m.contains("duplicate key") => {
            Some("a key or table is written once in a file: put both parts together")
        }
        m if m.contains("must be quoted") => Some("put the value into double quotes"),
        m if m.contains("string") => {
            Some("close the string on its line with the quote that opened it")
        }
        m if m.contains("array") => {
            Some("separate the items by commas and close the list with `]`")
        }
        m if m.contains("key with no value") => Some("write `key = value`"),
        _ => None,
    }
}
