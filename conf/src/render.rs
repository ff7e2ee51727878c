//! CORE: problems as a compiler shows them: the line, a mark, what to do; at 80 columns.

use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use crate::problem::{Problem, Report, Severity};

const WIDTH: usize = 80;
/// A related place at most so many lines away is shown in the same excerpt.
const NEAR: u32 = 30;

/// What is marked: the bytes of the file and the words beside them.
struct Mark<'r> {
    kind: AnnotationKind,
    span: Range<usize>,
    label: Option<&'r str>,
}

impl Report {
    /// Every problem with its excerpt, then one line with the counts.
    pub fn render(&self, color: bool) -> String {
        self.render_all(&self.problems, color)
    }

    /// The same for a selection, such as the errors of one tier.
    pub fn render_all<'p>(
        &self,
        problems: impl IntoIterator<Item = &'p Problem>,
        color: bool,
    ) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let renderer = renderer.term_width(WIDTH);
        let mut out = String::new();
        let (mut errors, mut warnings) = (0, 0);
        for problem in problems {
            match problem.severity {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
            out.push_str(&renderer.render(&[self.group(problem)]));
            out.push_str("\n\n");
        }
        let counts = format!(
            "{}, {}\n",
            counted(errors, "error"),
            counted(warnings, "warning")
        );
        out.push_str(&counts);
        out
    }

    fn group<'r>(&'r self, problem: &'r Problem) -> Group<'r> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut here = vec![Mark {
            kind: AnnotationKind::Primary,
            span: problem.span.clone(),
            label: problem.label.as_deref(),
        }];
        let mut elsewhere = Vec::new();
        for related in &problem.related {
            let mark = Mark {
                kind: AnnotationKind::Context,
                span: related.span.clone(),
                label: Some(&related.message),
            };
            if related.file == problem.file && related.line.abs_diff(problem.line) <= NEAR {
                here.push(mark);
            } else {
                elsewhere.push((related.file.as_str(), mark));
            }
        }
        let title = level.primary_title(&problem.message).id(problem.code);
        let mut group = Group::with_title(title).elements(self.snippet(&problem.file, here));
        for (file, mark) in elsewhere {
            group = group.elements(self.snippet(file, vec![mark]));
        }
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// An excerpt with its marks. Only the lines between them are handed on: the renderer looks at all that it is given, and a large
    /// file with thousands of problems would be shown to it as often.
    fn snippet<'r>(
        &'r self,
        file: &'r str,
        marks: Vec<Mark<'r>>,
    ) -> Option<Snippet<'r, Annotation<'r>>> {
        let source = self.sources.named(file)?;
        let text = &*source.text;
        let first = marks.iter().map(|mark| mark.span.start).min()?;
        let last = marks.iter().map(|mark| mark.span.end).max()?;
        let start = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[last..]
            .find('\n')
            .map_or(text.len(), |newline| last + newline);
        let line = source.line(u32::try_from(start).unwrap_or(u32::MAX));
        let snippet = Snippet::source(&text[start..end])
            .line_start(usize::try_from(line).unwrap_or(1))
            .path(file);
        let annotations = marks.into_iter().map(|mark| {
            let span = mark.span.start - start..mark.span.end - start;
            mark.kind.span(span).label(mark.label)
        });
        Some(snippet.annotations(annotations))
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
