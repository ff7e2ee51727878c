//! CORE: which responses of a route are compressed, and how.

use serde::Serialize;

use crate::unit::Bytes;

/// `compress` of a route, its site or `[edge]`: the nearest one counts, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compression {
    /// Media types in lower case; `text/*` stands for all of a kind.
    pub types: Vec<String>,
    /// Smaller bodies are not worth it, where their length is known. Default 1 KiB.
    pub min_size: Bytes,
    /// Codings, the preferred one first.
    pub algorithms: Vec<Coding>,
    /// 1 (fast) to 9 (small); `None`: 5 for gzip, 4 for br, 3 for zstd.
    pub level: Option<u8>,
}

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Br,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// All of them, the preferred one first.
    pub const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    /// As Accept-Encoding and Content-Encoding name it.
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
        }
    }
}
