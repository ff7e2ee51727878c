//! CORE: problems as a compiler shows them: the line, a mark, what to do; at 80 columns.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::problem::{Problem, Related, Report, Severity};

const WIDTH: usize = 80;

impl Report {
    /// Every problem with its excerpt, then one line with the counts.
    pub fn render(&self, color: bool) -> String {
        self.render_all(self.problems.iter(), color)
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
        }
        .term_width(WIDTH);
        let mut out = String::new();
        let (mut errors, mut warnings) = (0, 0);
        for problem in problems {
            match problem.severity {
                Severity::Error => errors += 1,
                Severity::Warning => warnings += 1,
            }
            out.push_str(&renderer.render(&self.groups(problem)));
            out.push_str("\n\n");
        }
        out.push_str(&format!(
            "{}, {}\n",
            counted(errors, "error"),
            counted(warnings, "warning")
        ));
        out
    }

    fn groups<'r>(&'r self, problem: &'r Problem) -> Vec<Group<'r>> {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&problem.message).id(problem.code);
        let mut group = match self.sources.named(&problem.file) {
            Some(file) => {
                let mark = AnnotationKind::Primary
                    .span(problem.span.clone())
                    .label(problem.label.as_deref());
                let mut snippet = Snippet::source(&*file.text)
                    .path(&problem.file)
                    .annotation(mark);
                let (here, elsewhere): (Vec<&Related>, Vec<&Related>) = problem
                    .related
                    .iter()
                    .partition(|related| related.file == problem.file);
                for related in here {
                    let mark = AnnotationKind::Context.span(related.span.clone());
                    snippet = snippet.annotation(mark.label(related.message.as_str()));
                }
                let mut group = title.element(snippet);
                for related in elsewhere {
                    if let Some(file) = self.sources.named(&related.file) {
                        let mark = AnnotationKind::Context.span(related.span.clone());
                        let mark = mark.label(related.message.as_str());
                        group = group.element(
                            Snippet::source(&*file.text)
                                .path(&related.file)
                                .annotation(mark),
                        );
                    }
                }
                group
            }
            None => Group::with_title(title),
        };
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        vec![group]
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
