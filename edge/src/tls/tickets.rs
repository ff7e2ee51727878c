//! SHELL: session tickets (RFC 5077, RFC 8446 section 4.6.1) that every edge with the same keys can open, and that open nothing else.
//!
//! A file of keys survives restarts and is shared by nodes: the first key seals, the others only open, so that keys are changed without a
//! deaf moment (the next one is handed out as a further line, then moved to the first). What seals is not the key itself but one derived from
//! it for each policy on client certificates: rustls resumes on suite and name alone, and a ticket from before a site asked for
//! certificates must not pass for one of a client that showed one.

use std::fmt;

use conf::Platform;
use daemon::clock;
use daemon::secret::{self, SecretError, hexadecimal};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::server::ProducesTickets;

/// Bytes of a key in the file.
const KEY: usize = 32;
/// Bytes that tell the key of a ticket.
const NAME: usize = 8;
/// How long a ticket is good, in seconds: half a day.
const LIFETIME: u32 = 12 * 60 * 60;

/// The keys of the file, or one of this process.
#[derive(Clone)]
pub(crate) struct Keys {
    keys: Vec<[u8; KEY]>,
    /// They come from a file.
    shared: bool,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.keys.len())
    }
}

/// Keys that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The kernel gives no random bytes.
    #[error("no random bytes for the keys of session tickets")]
    Random,
}

impl Keys {
    /// Those of the secret that the platform names; without one those of `previous`, so that a reload forgets no session; else new ones.
    pub(crate) fn of(platform: &Platform, previous: Option<&Keys>) -> Result<Keys, KeysError> {
        let name = platform.edge.tls.ticket_keys.as_ref();
        let secret = name.and_then(|name| platform.secrets.get(name));
        if let Some(secret) = secret {
            let content = secret::read(&secret.name, &secret.file)?;
            return Keys::parse(&content).map_err(|what| {
                KeysError::Secret(SecretError::Content {
                    name: secret.name.clone(),
                    file: secret.file.clone(),
                    what,
                })
            });
        }
        if let Some(own) = previous.filter(|previous| !previous.shared) {
            return Ok(own.clone());
        }
        let mut key = [0; KEY];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|_| KeysError::Random)?;
        Ok(Keys {
            keys: vec![key],
            shared: false,
        })
    }

    fn parse(content: &[u8]) -> Result<Keys, String> {
        let mut keys = Vec::new();
        let lines = content.split(|byte| *byte == b'\n').zip(1..);
        for (line, number) in lines {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let key = hexadecimal(line).and_then(|key| <[u8; KEY]>::try_from(key).ok());
            keys.push(key.ok_or_else(|| {
                format!(
                    "line {number} holds no key: {} hexadecimal digits (openssl rand -hex {KEY})",
                    KEY * 2
                )
            })?);
        }
        if keys.is_empty() {
            return Err(format!("holds no key (openssl rand -hex {KEY})"));
        }
        Ok(Keys { keys, shared: true })
    }

    /// What seals and opens the tickets of one policy on client certificates.
    pub(super) fn for_policy(&self, policy: &[u8]) -> Tickets {
        let derived = self.keys.iter().map(|key| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            let of = |purpose: &[u8]| hmac::sign(&key, &[purpose, policy].concat());
            let mut name = [0; NAME];
            for (to, from) in name.iter_mut().zip(of(b"weir ticket name\0").as_ref()) {
                *to = *from;
            }
            let sealing = UnboundKey::new(&AES_256_GCM, of(b"weir ticket key\0").as_ref());
            Some((name, LessSafeKey::new(sealing.ok()?)))
        });
        Tickets(derived.flatten().collect())
    }
}

/// The keys of one policy, the one that seals first.
pub(super) struct Tickets(Vec<([u8; NAME], LessSafeKey)>);

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.0.is_empty()
    }

    fn lifetime(&self) -> u32 {
        LIFETIME
    }

    /// The key's name, a random nonce, and sealed: the time and the state.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (name, key) = self.0.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = now().to_be_bytes().to_vec();
        sealed.extend_from_slice(plain);
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, Aad::from(name), &mut sealed)
            .ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (name, key) = self.0.iter().find(|(known, _)| known == name)?;
        let mut state = sealed.to_vec();
        let unique = Nonce::assume_unique_for_key(*nonce);
        let opened = key
            .open_in_place(unique, Aad::from(name), &mut state)
            .ok()?;
        let (sealed_at, state) = opened.split_first_chunk::<8>()?;
        let age = now().saturating_sub(u64::from_be_bytes(*sealed_at));
        (age <= u64::from(LIFETIME)).then(|| state.to_vec())
    }
}

/// Seconds since 1970: tickets outlive the process.
fn now() -> u64 {
    u64::try_from(clock::wall().as_second()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(lines: &[u8]) -> Keys {
        let text: Vec<String> = lines
            .iter()
            .map(|byte| format!("{byte:02x}").repeat(KEY))
            .collect();
        Keys::parse(text.join("\n").as_bytes()).unwrap()
    }

    #[test]
    fn a_ticket_is_opened_by_whoever_has_its_key_and_policy() {
        let old = keys(&[1]);
        let ticket = old.for_policy(b"").encrypt(b"state").unwrap();
        let opens = |keys: Keys, policy: &[u8]| keys.for_policy(policy).decrypt(&ticket);
        assert_eq!(opens(keys(&[1]), b""), Some(b"state".to_vec()));
        assert_eq!(
            opens(keys(&[2, 1]), b""),
            Some(b"state".to_vec()),
            "as the previous key"
        );
        assert_eq!(opens(keys(&[2]), b""), None);
        assert_eq!(opens(keys(&[1]), b"an authority"), None, "another policy");
        let mut changed = ticket.clone();
        for at in 0..changed.len() {
            changed[at] ^= 1;
            assert_eq!(old.for_policy(b"").decrypt(&changed), None);
            changed[at] ^= 1;
        }
        assert_eq!(old.for_policy(b"").decrypt(&ticket[..19]), None);
        let again = old.for_policy(b"").encrypt(b"state").unwrap();
        assert_ne!(ticket, again, "sealed anew");
    }

    #[test]
    fn a_file_of_keys_is_lines_of_digits() {
        assert_eq!(keys(&[1, 2, 3]).keys.len(), 3);
        let short = Keys::parse(b"00ff").unwrap_err();
        assert!(
            short.starts_with("line 1 holds no key: 64 hexadecimal"),
            "{short}"
        );
        assert!(Keys::parse(b"\n").unwrap_err().starts_with("holds no key"));
    }
}
