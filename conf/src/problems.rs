//! CORE: collecting problems while the files are read, decoded and resolved; nothing stops at the first one.

use std::collections::BTreeSet;

use crate::codes::Code;
use crate::problem::{Problem, Related, Severity, Tier};
use crate::source::{Sources, Span};

/// Whom a problem concerns, as a small set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tiers(u8);

impl Tiers {
    pub(crate) const NONE: Tiers = Tiers(0);
    pub(crate) const FAILOVER: Tiers = Tiers(1);
    pub(crate) const LAYER4: Tiers = Tiers(2);
    pub(crate) const LAYER7: Tiers = Tiers(4);
    pub(crate) const VIP: Tiers = Tiers(1 | 2);
    pub(crate) const BALANCING: Tiers = Tiers(2 | 4);
    pub(crate) const ALL: Tiers = Tiers(7);

    pub(crate) const fn and(self, other: Tiers) -> Tiers {
        Tiers(self.0 | other.0)
    }

    pub(crate) fn set(self) -> BTreeSet<Tier> {
        [(1, Tier::Failover), (2, Tier::Layer4), (4, Tier::Layer7)]
            .into_iter()
            .filter(|(bit, _)| self.0 & bit != 0)
            .map(|(_, tier)| tier)
            .collect()
    }
}

/// A problem before its place is worked out.
#[derive(Debug)]
pub(crate) struct Draft {
    code: Code,
    tiers: Tiers,
    span: Span,
    key: String,
    message: String,
    label: Option<String>,
    help: Option<String>,
    related: Vec<(Span, String)>,
}

impl Draft {
    /// What is written beside the caret.
    pub(crate) fn label(&mut self, text: impl Into<String>) -> &mut Self {
        self.label = Some(text.into());
        self
    }

    /// What to do.
    pub(crate) fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help = Some(text.into());
        self
    }

    /// Another place that belongs to it.
    pub(crate) fn also(&mut self, span: Span, text: impl Into<String>) -> &mut Self {
        self.related.push((span, text.into()));
        self
    }
}

/// Every problem so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    drafts: Vec<Draft>,
    errors: usize,
}

impl Problems {
    pub(crate) fn report(
        &mut self,
        code: Code,
        tiers: Tiers,
        span: Span,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Draft {
        if code.severity() == Severity::Error {
            self.errors += 1;
        }
        let at = self.drafts.len();
        self.drafts.push(Draft {
            code,
            tiers,
            span,
            key: key.into(),
            message: on_one_line(&message.into()),
            label: None,
            help: None,
            related: Vec::new(),
        });
        &mut self.drafts[at]
    }

    /// Counts an error that was reported before its element was looked at.
    pub(crate) fn note_broken(&mut self) {
        self.errors += 1;
    }

    /// How many errors so far: an element is broken if the number grew while it was looked at.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    /// In the order of the files, one per place, code and sentence.
    pub(crate) fn finish(mut self, sources: &Sources) -> Vec<Problem> {
        self.drafts
            .sort_by_key(|draft| (draft.span.file, draft.span.start, draft.code));
        self.drafts
            .dedup_by(|a, b| a.code == b.code && a.span == b.span && a.message == b.message);
        self.drafts
            .into_iter()
            .map(|draft| finish(draft, sources))
            .collect()
    }
}

fn finish(draft: Draft, sources: &Sources) -> Problem {
    let (file, line, column, span) = locate(draft.span, sources);
    Problem {
        code: draft.code.id(),
        severity: draft.code.severity(),
        key: draft.key,
        file,
        line,
        column,
        message: draft.message,
        label: draft.label,
        help: draft.help,
        related: draft
            .related
            .into_iter()
            .map(|(span, message)| {
                let (file, line, column, span) = locate(span, sources);
                Related {
                    file,
                    line,
                    column,
                    message,
                    span,
                }
            })
            .collect(),
        tiers: draft.tiers.set(),
        span,
    }
}

fn locate(span: Span, sources: &Sources) -> (String, u32, u32, std::ops::Range<usize>) {
    match sources.file(span.file) {
        Some(file) => {
            let (line, column) = file.line_column(span.start);
            (
                file.name.to_string(),
                line,
                column,
                file.first_line(span.start, span.end),
            )
        }
        None => (String::new(), 0, 0, 0..0),
    }
}

/// A value from the file may hold line breaks, or be as long as the file.
fn on_one_line(message: &str) -> String {
    const LONGEST: usize = 240;
    let line = message.chars().flat_map(|c| {
        let escaped = c.is_control().then(|| c.escape_default());
        let plain = (!c.is_control()).then_some(c);
        escaped.into_iter().flatten().chain(plain)
    });
    let mut line: String = line.collect();
    if let Some((at, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(at);
        line.push('…');
    }
    line
}

/// "`a`, `b` and `c`".
pub(crate) fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// The known word that was probably meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            let shorter = candidate.chars().count().min(word.chars().count());
            *distance <= (shorter / 4).max(1)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// The help line for an unknown name: what was probably meant, or what there is.
pub(crate) fn suggestion<'a>(
    word: &str,
    what: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    const SHOWN: usize = 16;
    if let Some(near) = nearest(word, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let names: Vec<&str> = known.into_iter().collect();
    match names.len() {
        0 => format!("the file declares no {what}"),
        count if count > SHOWN => {
            let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`"));
            format!(
                "{what}: {} and {} more",
                shown.collect::<Vec<_>>().join(", "),
                count - SHOWN
            )
        }
        _ => format!("{what}: {}", quoted(names)),
    }
}
