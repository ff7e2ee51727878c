//! SHELL: files with secrets, read whole: nobody but their owner may change them, and others may not read them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;

/// No secret of ours is longer.
const LONGEST: u64 = 4096;
/// Nobody else may read a secret, and only its owner may change it.
const FORBIDDEN: u32 = 0o027;

/// A secret that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("secret {name}: {file} cannot be read: {cause}")]
    Read {
        /// The secret's name.
        name: String,
        /// Its file.
        file: String,
        /// Why not.
        cause: io::Error,
    },
    /// Others may read or change the file.
    #[error(
        "secret {name}: {file} has mode {mode:o}: take the rights of others away (chmod 640 or less)"
    )]
    Mode {
        /// The secret's name.
        name: String,
        /// Its file.
        file: String,
        /// Its mode.
        mode: u32,
    },
    /// The content is no such secret.
    #[error("secret {name}: {file} {what}")]
    Content {
        /// The secret's name.
        name: String,
        /// Its file.
        file: String,
        /// What is wrong.
        what: String,
    },
}

/// Reads the secret `name` of the platform file. The end of its last line is no part of it.
pub fn read(name: &str, file: &str) -> Result<Vec<u8>, SecretError> {
    let fail = |cause| SecretError::Read {
        name: name.to_owned(),
        file: file.to_owned(),
        cause,
    };
    let opened = File::open(file).map_err(fail)?;
    let mode = opened.metadata().map_err(fail)?.mode() & 0o7777;
    if mode & FORBIDDEN != 0 {
        return Err(SecretError::Mode {
            name: name.to_owned(),
            file: file.to_owned(),
            mode,
        });
    }
    let mut content = Vec::new();
    opened
        .take(LONGEST)
        .read_to_end(&mut content)
        .map_err(fail)?;
    while content
        .last()
        .is_some_and(|last| matches!(last, b'\n' | b'\r'))
    {
        content.pop();
    }
    Ok(content)
}

/// The bytes that hexadecimal digits stand for, which survive every editor.
pub fn hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    bytes.collect()
}
