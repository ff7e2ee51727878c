//! CORE: what belongs to a server name: the exact one, else the closest wildcard, else the one for all others.

use std::collections::BTreeMap;

use conf::platform::HostPattern;

/// Values by host patterns.
#[derive(Debug)]
pub(crate) struct Names<T> {
    exact: BTreeMap<String, T>,
    /// By what follows `*.`.
    wildcard: BTreeMap<String, T>,
    other: Option<T>,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names {
            exact: BTreeMap::new(),
            wildcard: BTreeMap::new(),
            other: None,
        }
    }
}

impl<T> Names<T> {
    /// The first one that is added for a pattern stays.
    pub(crate) fn add(&mut self, pattern: &HostPattern, value: T) {
        match pattern {
            HostPattern::Exact(host) => {
                self.exact.entry(host.clone()).or_insert(value);
            }
            HostPattern::Wildcard(host) => {
                self.wildcard.entry(host.clone()).or_insert(value);
            }
            HostPattern::Default => {
                self.other.get_or_insert(value);
            }
        }
    }

    /// For a name as the client wrote it; `None`: it named none.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<&T> {
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let named = name.as_deref().and_then(|name| {
            let exact = self.exact.get(name);
            exact.or_else(|| {
                let mut rest = name;
                while let Some((_, parent)) = rest.split_once('.') {
                    if let Some(found) = self.wildcard.get(parent) {
                        return Some(found);
                    }
                    rest = parent;
                }
                None
            })
        });
        named.or(self.other.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_pattern_wins() {
        let mut names = Names::default();
        for (pattern, value) in [
            (HostPattern::Exact("shop.example".into()), 1),
            (HostPattern::Wildcard("shop.example".into()), 2),
            (HostPattern::Wildcard("api.shop.example".into()), 3),
            (HostPattern::Exact("shop.example".into()), 9),
        ] {
            names.add(&pattern, value);
        }
        let rows = [
            (Some("shop.example"), Some(1)),
            (Some("SHOP.example."), Some(1)),
            (Some("www.shop.example"), Some(2)),
            (Some("a.b.shop.example"), Some(2)),
            (Some("v1.api.shop.example"), Some(3)),
            (Some("example"), None),
            (Some("other.example"), None),
            (Some(""), None),
            (None, None),
        ];
        for (name, expected) in rows {
            assert_eq!(names.find(name).copied(), expected, "{name:?}");
        }
        names.add(&HostPattern::Default, 4);
        assert_eq!(names.find(Some("other.example")), Some(&4));
        assert_eq!(names.find(None), Some(&4));
    }
}
