//! CORE: the texts that were read, and places in them.
//!
//! Every value keeps the span it was read from, so that a problem found long after parsing still points at its own line.

use std::sync::Arc;

use crate::platform::Place;

/// Which bytes of which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) file: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(file: u32, range: std::ops::Range<usize>) -> Self {
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self {
            file,
            start: clamp(range.start),
            end: clamp(range.end),
        }
    }
}

/// One file as it was read.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    pub(crate) name: Arc<str>,
    pub(crate) text: Arc<str>,
    line_starts: Vec<u32>,
}

/// All files of a platform, in the order in which they were read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    files: Vec<SourceFile>,
}

impl Sources {
    pub(crate) fn add(&mut self, name: &str, text: &str) -> u32 {
        let mut line_starts = vec![0];
        line_starts.extend(
            text.bytes()
                .enumerate()
                .filter(|(_, byte)| *byte == b'\n')
                .map(|(at, _)| u32::try_from(at + 1).unwrap_or(u32::MAX)),
        );
        self.files.push(SourceFile {
            name: name.into(),
            text: text.into(),
            line_starts,
        });
        u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn file(&self, id: u32) -> Option<&SourceFile> {
        self.files.get(usize::try_from(id).ok()?)
    }

    /// The file of that name.
    pub(crate) fn named(&self, name: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| &*file.name == name)
    }

    pub(crate) fn place(&self, span: Span) -> Place {
        self.file(span.file)
            .map_or_else(Place::default, |file| Place {
                file: Arc::clone(&file.name),
                line: file.line(span.start),
            })
    }
}

impl SourceFile {
    /// The line of an offset, from 1.
    pub(crate) fn line(&self, offset: u32) -> u32 {
        u32::try_from(self.line_starts.partition_point(|start| *start <= offset))
            .unwrap_or(u32::MAX)
    }

    /// Line and column (in characters), from 1.
    pub(crate) fn line_column(&self, offset: u32) -> (u32, u32) {
        let line = self.line(offset);
        let index = usize::try_from(line.saturating_sub(1)).unwrap_or(0);
        let start = self.line_starts.get(index).copied().unwrap_or(0) as usize;
        let end = (offset as usize).min(self.text.len());
        let column = self
            .text
            .get(start..end)
            .map_or(0, |before| before.chars().count());
        (line, u32::try_from(column + 1).unwrap_or(u32::MAX))
    }

    /// What stands on a line, counted from 1, without the white space around it.
    pub(crate) fn content_of(&self, line: u32) -> std::ops::Range<usize> {
        let index = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(start) = self.line_starts.get(index).map(|start| *start as usize) else {
            return 0..0;
        };
        let rest = self.text.get(start..).unwrap_or_default();
        let content = rest.split('\n').next().unwrap_or_default();
        let start = start + content.len() - content.trim_start().len();
        start..start + content.trim().len()
    }

    /// The range of a span, trimmed to the text, to character boundaries and to its first line.
    pub(crate) fn first_line(&self, start: u32, end: u32) -> std::ops::Range<usize> {
        let floor = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(start as usize);
        let end = floor(end as usize).max(start);
        let len = self.text[start..end]
            .find(['\n', '\r'])
            .unwrap_or(end - start);
        start..start + len
    }
}
