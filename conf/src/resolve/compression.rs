//! CORE: `compress` of routes, sites and `[edge]`.

use super::{Resolver, given};
use crate::codes;
use crate::decode::At;
use crate::platform::{Coding, Compression};
use crate::problems::Tiers;
use crate::raw::layer7 as raw;
use crate::unit::Bytes;

const DEFAULT_MIN_SIZE: Bytes = Bytes::kib(1);
/// What is text under whatever name, and not an event stream: that is the application's to ask for.
const DEFAULT_TYPES: [&str; 18] = [
    "text/html",
    "text/css",
    "text/plain",
    "text/xml",
    "text/csv",
    "text/javascript",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/problem+json",
    "application/manifest+json",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "image/svg+xml",
    "font/ttf",
];

impl Resolver<'_> {
    /// The nearest of what route, site and `[edge]` say. What is wrong in it is told by [`Resolver::check_compression`] once.
    pub(super) fn compression(
        &self,
        route: Option<&At<raw::CompressRef>>,
        site: Option<&At<raw::CompressRef>>,
    ) -> Option<Compression> {
        let edge = self.raw.edge.as_deref();
        let edge = edge.and_then(|edge| edge.compress.as_ref());
        let none = raw::Compression::default();
        let table = match &route.or(site).or(edge)?.value {
            raw::CompressRef::Switch(false) => return None,
            raw::CompressRef::Switch(true) => &none,
            raw::CompressRef::Table(table) => &**table,
        };
        let types = match &table.types {
            Some(types) => types
                .value
                .iter()
                .map(|written| written.to_ascii_lowercase())
                .collect(),
            None => DEFAULT_TYPES.map(str::to_owned).to_vec(),
        };
        let algorithms = match &table.algorithms {
            Some(list) => list
                .value
                .iter()
                .map(|word| match word.value {
                    raw::Coding::Zstd => Coding::Zstd,
                    raw::Coding::Br => Coding::Br,
                    raw::Coding::Gzip => Coding::Gzip,
                })
                .collect(),
            None => Coding::ALL.to_vec(),
        };
        Some(Compression {
            types,
            min_size: given(&table.min_size).unwrap_or(DEFAULT_MIN_SIZE),
            algorithms,
            level: given(&table.level).map(|level| level.narrow()),
        })
    }

    /// Tells what is wrong in one `compress`.
    pub(super) fn check_compression(&mut self, key: &str, raw: Option<&At<raw::CompressRef>>) {
        let Some(raw::CompressRef::Table(table)) = raw.map(|raw| &raw.value) else {
            return;
        };
        let key = format!("{key}.compress");
        self.list(
            table.types.as_ref(),
            Tiers::LAYER7,
            &format!("{key}.types"),
            |name| name.to_ascii_lowercase(),
        );
        for written in table.types.iter().flat_map(|types| &types.value) {
            if !is_media_type(written) {
                self.report(
                    codes::MEDIA_TYPE,
                    Tiers::LAYER7,
                    written.span,
                    format!("{key}.types"),
                    format!("`{}` is no media type", written.value),
                )
                .help(
                    "write \"text/html\", or \"text/*\" for all of a kind; parameters do not count",
                );
            }
        }
        self.list(
            table.algorithms.as_ref(),
            Tiers::LAYER7,
            &format!("{key}.algorithms"),
            |coding| format!("{coding:?}").to_ascii_lowercase(),
        );
    }
}

/// `type/subtype` or `type/*`, of tokens (RFC 9110 section 8.3.1).
fn is_media_type(written: &str) -> bool {
    let token = |text: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "!#$&^_.+-".contains(c))
    };
    written
        .split_once('/')
        .is_some_and(|(kind, sub)| token(kind) && (sub == "*" || token(sub)))
}
