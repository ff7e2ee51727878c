//! CORE: files to one tree: syntax, `include`, merging, `[override]`. Reads only through [`Files`], so tests need no disk.

mod merge;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::codes;
use crate::decode::{Decode, Decoder};
use crate::problem::Report;
use crate::problems::{Problems, Tiers};
use crate::raw::Root;
use crate::resolve::resolve;
use crate::source::{Sources, Span};
use crate::value::{Entry, Kind, Table, Value};

/// Where files come from.
pub trait Files {
    /// The text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// The names in a folder, for an `include` with `*`.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
}

/// The disk.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(folder)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

/// Reads a platform file and what it includes: the platform as far as it could be built, and every problem.
pub fn load(path: &Path) -> Report {
    load_from(path, &Disk)
}

/// The same, with files from elsewhere.
pub fn load_from(path: &Path, files: &dyn Files) -> Report {
    let mut loader = Loader {
        files,
        sources: Sources::default(),
        problems: Problems::default(),
        seen: BTreeSet::new(),
        root: Table::new(),
        overrides: Vec::new(),
    };
    loader.file(path, None);
    let Loader {
        sources,
        mut problems,
        mut root,
        overrides,
        ..
    } = loader;
    for entry in overrides {
        merge::apply_override(&mut root, entry, &mut problems);
    }
    // Nothing could be read at all: its reason is enough, "lacks the key `schema`" would only add noise.
    let unreadable = root.is_empty() && problems.errors() > 0;
    let users = check_users(&root);
    let value = Value {
        span: Span::default(),
        kind: Kind::Table(root),
    };
    let raw = if unreadable {
        Root::default()
    } else {
        Root::decode(&value, &mut Decoder::new(&mut problems, users.clone())).unwrap_or_default()
    };
    let platform = resolve(&raw, users, &sources, &mut problems);
    Report {
        platform,
        problems: problems.finish(&sources),
        sources,
    }
}

/// The same with a function that reads; `include` patterns with `*` cannot be followed then.
pub fn load_with(path: &Path, read: &dyn Fn(&Path) -> io::Result<String>) -> Report {
    struct Reader<'a>(&'a dyn Fn(&Path) -> io::Result<String>);
    impl Files for Reader<'_> {
        fn read(&self, path: &Path) -> io::Result<String> {
            (self.0)(path)
        }

        fn list(&self, _: &Path) -> io::Result<Vec<String>> {
            Err(io::Error::from(io::ErrorKind::Unsupported))
        }
    }
    load_from(path, &Reader(read))
}

struct Loader<'a> {
    files: &'a dyn Files,
    sources: Sources,
    problems: Problems,
    seen: BTreeSet<PathBuf>,
    root: Table,
    overrides: Vec<Entry>,
}

impl Loader<'_> {
    /// Reads one file and, depth first, what it includes. `from` is where it was named.
    fn file(&mut self, path: &Path, from: Option<Span>) {
        let name = path.display().to_string();
        if !self.seen.insert(path.to_path_buf()) {
            let span = from.unwrap_or_default();
            self.problems
                .report(
                    codes::INCLUDE_TWICE,
                    Tiers::ALL,
                    span,
                    "include",
                    format!("`{name}` is included a second time"),
                )
                .help("every file is read once: take one of the two includes out");
            return;
        }
        let text = match self.files.read(path) {
            Ok(text) => text,
            Err(error) => return self.unreadable(&name, &error, from),
        };
        let file = self.sources.add(&name, &text);
        let mut table = syntax::parse(file, &text, &mut self.problems);
        let includes = table.remove("include");
        self.overrides.extend(table.remove("override"));
        merge::into(&mut self.root, table, &self.sources, &mut self.problems);
        if let Some(includes) = includes {
            self.includes(path, &includes.value);
        }
    }

    fn unreadable(&mut self, name: &str, error: &io::Error, from: Option<Span>) {
        let span = from.unwrap_or_else(|| Span::new(self.sources.add(name, ""), 0..0));
        let help = match error.kind() {
            io::ErrorKind::NotFound => {
                "check the path: an include is relative to the file that names it"
            }
            io::ErrorKind::PermissionDenied => {
                "the daemons do not run as root: their users must be able to read the file"
            }
            io::ErrorKind::InvalidData => "the file must be UTF-8 text",
            _ => "check the file and its folder",
        };
        self.problems
            .report(
                codes::UNREADABLE,
                Tiers::ALL,
                span,
                "include",
                format!("cannot read `{name}`: {error}"),
            )
            .help(help);
    }

    fn includes(&mut self, path: &Path, value: &Value) {
        let folder = path.parent().unwrap_or(Path::new(""));
        let Kind::Array(items) = &value.kind else {
            let message = format!(
                "`include` must be a list `[ … ]`, not {}",
                value.described()
            );
            self.problems
                .report(
                    codes::WRONG_TYPE,
                    Tiers::ALL,
                    value.span,
                    "include",
                    message,
                )
                .help("write `include = [\"sites/*.toml\"]`");
            return;
        };
        for item in items {
            match item.as_str() {
                Some(pattern) => self.include(folder, pattern, item.span),
                None => {
                    let message = format!(
                        "a path in `include` must be a string, not {}",
                        item.described()
                    );
                    self.problems.report(
                        codes::WRONG_TYPE,
                        Tiers::ALL,
                        item.span,
                        "include",
                        message,
                    );
                }
            }
        }
    }

    fn include(&mut self, folder: &Path, pattern: &str, span: Span) {
        let path = folder.join(pattern);
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let parent = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let (Some(name), false) = (name, parent.to_string_lossy().contains('*')) else {
            self.problems
                .report(
                    codes::BAD_INCLUDE,
                    Tiers::ALL,
                    span,
                    "include",
                    format!("`{pattern}` is not a path or a pattern that `include` can follow"),
                )
                .help("`*` may stand only in the last component, as in \"sites/*.toml\"");
            return;
        };
        if !name.contains('*') {
            return self.file(&path, Some(span));
        }
        match self.files.list(&parent) {
            Ok(mut names) => {
                names.sort();
                for found in names.iter().filter(|found| matches(&name, found)) {
                    self.file(&parent.join(found), Some(span));
                }
            }
            Err(error) => self.unreadable(&parent.display().to_string(), &error, Some(span)),
        }
    }
}

/// Whether `name` matches a pattern with `*`; names that begin with a dot (editors' leftovers) never do.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') {
        return false;
    }
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or("")) else {
        return false;
    };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.is_empty()
}

/// Who refers to each named check: a problem in it concerns only those.
fn check_users(root: &Table) -> BTreeMap<String, Tiers> {
    let mut users = BTreeMap::new();
    for (key, tiers) in [
        ("virtual_service", Tiers::LAYER4),
        ("vip", Tiers::FAILOVER),
        ("upstream", Tiers::LAYER7),
    ] {
        if let Some(entry) = root.get(key) {
            collect_checks(&entry.value, tiers, &mut users);
        }
    }
    users
}

fn collect_checks(value: &Value, tiers: Tiers, users: &mut BTreeMap<String, Tiers>) {
    match &value.kind {
        Kind::Table(table) => {
            for (key, entry) in table {
                match entry.value.as_str() {
                    Some(name) if key == "check" => {
                        let known = users.entry(name.to_owned()).or_insert(Tiers::NONE);
                        *known = known.and(tiers);
                    }
                    _ => collect_checks(&entry.value, tiers, users),
                }
            }
        }
        Kind::Array(items) => items
            .iter()
            .for_each(|item| collect_checks(item, tiers, users)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, wanted) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".a.toml", false),
            ("*.toml", "a.toml~", false),
            ("site-*-x.toml", "site-1-x.toml", true),
            ("site-*-x.toml", "site-x.toml", false),
            ("a*a", "a", false),
            ("*", "b", true),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
