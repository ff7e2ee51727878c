//! CORE: what a daemon finds wrong in the files that the platform names: certificates, keys, secrets.
//!
//! This crate reads none of them. The daemon's `check` does, and what it finds is shown like every other problem, at the line that names the file.

use crate::codes::{self, Code};
use crate::platform::Place;
use crate::problem::{Problem, Report, Tier};

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// It cannot be read, on the node that needs it.
    Unreadable,
    /// It cannot be read here, where it need not be.
    Elsewhere,
    /// Its content is of no use.
    Unusable,
    /// A certificate has ended, or ends soon.
    Ending,
}

impl FindingKind {
    fn code(self) -> Code {
        match self {
            FindingKind::Unreadable => codes::FILE_UNREADABLE,
            FindingKind::Elsewhere => codes::FILE_ELSEWHERE,
            FindingKind::Unusable => codes::FILE_UNUSABLE,
            FindingKind::Ending => codes::CERTIFICATE_ENDS,
        }
    }
}

/// One thing that is wrong with a file that the platform names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// Where the platform names the file.
    pub place: Place,
    /// The key's path.
    pub key: String,
    /// One sentence that names the file.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Report {
    /// The finding of a daemon as a problem of its tier; the whole line is marked.
    pub fn problem_of(&self, finding: Finding, tier: Tier) -> Problem {
        let Finding {
            kind,
            place,
            key,
            message,
            help,
        } = finding;
        let source = self.sources.named(&place.file);
        let span = source.map_or(0..0, |source| source.content_of(place.line));
        let column = source.map_or(1, |source| {
            let start = u32::try_from(span.start).unwrap_or(u32::MAX);
            source.line_column(start).1
        });
        let code = kind.code();
        Problem {
            code: code.id(),
            severity: code.severity(),
            key,
            file: place.file.to_string(),
            line: place.line,
            column,
            message,
            label: None,
            help: Some(help),
            related: Vec::new(),
            tiers: [tier].into(),
            span,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_marks_its_line() {
        let text = "schema = 1\n  name = \"t\" \n";
        let report = crate::load_with("t.toml".as_ref(), &|_| Ok(text.to_owned()));
        let finding = Finding {
            kind: FindingKind::Unusable,
            place: Place {
                file: "t.toml".into(),
                line: 2,
            },
            key: "name".to_owned(),
            message: "/x is empty".to_owned(),
            help: "fill it".to_owned(),
        };
        let problem = report.problem_of(finding.clone(), Tier::Layer7);
        assert_eq!((problem.line, problem.column), (2, 3));
        let shown = report.render_all([&problem], false);
        assert!(shown.contains("  |   ^^^^^^^^^^\n"), "{shown}");
        assert!(shown.contains("error[E0431]: /x is empty"), "{shown}");
        // A place that is in no file is shown without an excerpt.
        let nowhere = Finding {
            place: Place::default(),
            ..finding
        };
        let problem = report.problem_of(nowhere, Tier::Layer7);
        assert!(report.render_all([&problem], false).contains("/x is empty"));
    }
}
