//! CORE: a body goes in piece by piece and comes out encoded, every piece at once: what a server sends early (events, the head of a page) is with
//! the client early. An encoder holds about 0.3 MiB (gzip), 2 MiB (br) or 1 MiB (zstd) until the body has ended.

use std::fmt;
use std::io::{self, Write as _};

use conf::platform::Coding;
use flate2::write::GzEncoder;

/// Window of br and zstd, as a power of two: beyond 512 KiB text gains little, and the memory is held once per response under way.
const WINDOW: u32 = 19;
const BROTLI_BUFFER: usize = 4096;

/// A body under way.
pub(crate) struct Encoder {
    coding: Coding,
    inner: Inner,
}

enum Inner {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Ended,
}

impl Encoder {
    /// Begins a body.
    pub(crate) fn new(coding: Coding, level: Option<u8>) -> io::Result<Encoder> {
        let level = |default: u8| u32::from(level.unwrap_or(default));
        let inner = match coding {
            Coding::Gzip => Inner::Gzip(Box::new(GzEncoder::new(
                Vec::new(),
                flate2::Compression::new(level(5)),
            ))),
            Coding::Br => Inner::Brotli(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER,
                level(4),
                WINDOW,
            ))),
            Coding::Zstd => {
                let level = i32::try_from(level(3)).unwrap_or(3);
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.window_log(WINDOW)?;
                Inner::Zstd(encoder)
            }
        };
        Ok(Encoder { coding, inner })
    }

    /// Its coding.
    pub(crate) fn coding(&self) -> Coding {
        self.coding
    }

    /// Encodes a piece, and with `end` what ends the body. After the end nothing comes any more.
    pub(crate) fn encode(&mut self, input: &[u8], end: bool) -> io::Result<Vec<u8>> {
        match &mut self.inner {
            Inner::Gzip(encoder) => {
                encoder.write_all(input)?;
                if end {
                    encoder.try_finish()?;
                } else {
                    encoder.flush()?;
                }
                let output = std::mem::take(encoder.get_mut());
                if end {
                    self.inner = Inner::Ended;
                }
                Ok(output)
            }
            Inner::Zstd(encoder) => {
                encoder.write_all(input)?;
                if end {
                    encoder.do_finish()?;
                } else {
                    encoder.flush()?;
                }
                let output = std::mem::take(encoder.get_mut());
                if end {
                    self.inner = Inner::Ended;
                }
                Ok(output)
            }
            Inner::Brotli(encoder) => {
                encoder.write_all(input)?;
                if !end {
                    encoder.flush()?;
                    return Ok(std::mem::take(encoder.get_mut()));
                }
                match std::mem::replace(&mut self.inner, Inner::Ended) {
                    Inner::Brotli(encoder) => Ok(encoder.into_inner()),
                    _ => Ok(Vec::new()),
                }
            }
            Inner::Ended => Ok(Vec::new()),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encoder").field(&self.coding).finish()
    }
}
