//! SHELL: what `check` says of the files that the platform names: certificates, keys, authorities, the keys of session tickets.
//!
//! They are read as the start and every reload read them, so what is refused there is found here. On a machine that is no node of the
//! platform files are not missed, but those that are there are judged all the same.

use std::collections::BTreeSet;
use std::io;

use conf::platform::Place;
use conf::{Finding, FindingKind, Platform};
use daemon::clock;
use daemon::secret::SecretError;

use crate::tls::{self, KeysError, TlsError};
use crate::trust::{self, TrustError};
use crate::upstream::material;

const TICKET_KEYS: &str = "edge.tls.ticket_keys";
const RENEW: &str = "renew it, then `edge reload`";

/// What is wrong with the files that `platform` names. `nodes` is what this machine may be called.
pub(crate) fn inspect(platform: &Platform, nodes: &[String]) -> Vec<Finding> {
    let node = nodes.iter().find(|name| platform.nodes.contains_key(*name));
    let listeners: Option<BTreeSet<&String>> = node.map(|node| {
        let served = platform.listeners_of(node);
        served.map(|(name, _)| name).collect()
    });
    // Every edge serves every site of its listeners; on other machines all sites are looked at.
    let needed = listeners.as_ref().is_some_and(|served| !served.is_empty());
    let mut inspector = Inspector {
        needed,
        found: Vec::new(),
    };
    inspector.sites(platform, listeners.as_ref().filter(|_| needed));
    inspector.upstreams(platform);
    inspector.cookie_keys(platform);
    inspector.ticket_keys(platform);
    inspector.found
}

struct Inspector {
    /// This machine is a node that needs the files.
    needed: bool,
    found: Vec<Finding>,
}

impl Inspector {
    fn sites(&mut self, platform: &Platform, served: Option<&BTreeSet<&String>>) {
        let shown = |listener: &String| {
            let here = served.is_none_or(|served| served.contains(listener));
            here && platform.listeners.get(listener).is_some_and(|one| one.tls)
        };
        let mut seen = Vec::new();
        for (index, site) in platform.sites.iter().enumerate() {
            let Some(spec) = &site.tls else { continue };
            let on: Vec<&String> = match site.listeners.is_empty() {
                true => platform.listeners.keys().collect(),
                false => site.listeners.iter().collect(),
            };
            if seen.contains(&spec) || !on.into_iter().any(shown) {
                continue;
            }
            seen.push(spec);
            let key = format!("site[{index}].tls");
            match tls::inspect(spec) {
                Ok(not_after) => self.ending(&spec.place, &key, &spec.cert, not_after),
                Err(error) => self.tls(&spec.place, &key, &error),
            }
        }
    }

    fn upstreams(&mut self, platform: &Platform) {
        for (name, upstream) in &platform.upstreams {
            let Some(spec) = &upstream.tls else { continue };
            let key = format!("upstream.{name}.tls");
            if let Some(ca) = &spec.ca
                && let Err(error) = trust::read(ca)
            {
                self.trust(&upstream.place, &key, &error);
            }
            let Some(files) = &spec.client else { continue };
            match trust::identity(files, &upstream.place) {
                Ok(shown) => self.ending(&upstream.place, &key, &files.cert, shown.not_after),
                Err(error) => self.trust(&upstream.place, &key, &error),
            }
        }
    }

    fn cookie_keys(&mut self, platform: &Platform) {
        for (name, upstream) in &platform.upstreams {
            let sticky = upstream.sticky.as_ref();
            let secret = sticky.and_then(|sticky| platform.secrets.get(&sticky.secret));
            if let Some(secret) = secret
                && let Err(error) = material::key(secret)
            {
                let key = format!("upstream.{name}.sticky.secret");
                self.secret(&secret.place, &key, &error);
            }
        }
    }

    fn ticket_keys(&mut self, platform: &Platform) {
        if let Err(KeysError::Secret(error)) = tls::Keys::of(platform, None) {
            let name = platform.edge.tls.ticket_keys.as_ref();
            let secret = name.and_then(|name| platform.secrets.get(name));
            let place = secret.map(|secret| secret.place.clone());
            self.secret(&place.unwrap_or_default(), TICKET_KEYS, &error);
        }
    }

    fn secret(&mut self, place: &Place, key: &str, error: &SecretError) {
        match error {
            SecretError::Read { file, cause, .. } => self.unread(place, key, file, cause),
            other => self.unusable(
                place,
                key,
                other.to_string(),
                "every edge needs the same keys",
            ),
        }
    }

    fn tls(&mut self, place: &Place, key: &str, error: &TlsError) {
        match error {
            TlsError::Read { file, source, .. } => self.unread(place, key, file, source),
            TlsError::Content { file, what, .. } => {
                let help =
                    "give the certificate with its chain, and the key that it was made for, as PEM";
                self.unusable(place, key, format!("{file}: {what}"), help);
            }
            TlsError::Tickets(KeysError::Secret(error)) => self.secret(place, TICKET_KEYS, error),
            TlsError::Tickets(KeysError::Random) => {}
        }
    }

    fn trust(&mut self, place: &Place, key: &str, error: &TrustError) {
        match error {
            TrustError::Read { file, source } => self.unread(place, key, file, source),
            TrustError::Identity(error) => self.tls(place, key, error),
            other => {
                let help = "give the certificates of the servers' authorities, as PEM";
                self.unusable(place, key, other.to_string(), help);
            }
        }
    }

    fn unread(&mut self, place: &Place, key: &str, file: &str, cause: &io::Error) {
        let (kind, help) = match cause.kind() {
            io::ErrorKind::NotFound if !self.needed => return,
            io::ErrorKind::PermissionDenied => (
                FindingKind::Elsewhere,
                "run `check` as the user that edge runs as",
            ),
            _ => (
                FindingKind::Unreadable,
                "edge would not start, and a reload would be refused: put the file there, or correct its name",
            ),
        };
        let message = format!("{file} cannot be read: {cause}");
        self.add(kind, place, key, message, help);
    }

    fn unusable(&mut self, place: &Place, key: &str, message: String, help: &str) {
        self.add(FindingKind::Unusable, place, key, message, help);
    }

    fn ending(&mut self, place: &Place, key: &str, file: &str, not_after: i64) {
        let now = clock::wall().as_second();
        if let Some(message) = tls::expiry::warning(file, not_after, now) {
            self.add(FindingKind::Ending, place, key, message, RENEW);
        }
    }

    fn add(&mut self, kind: FindingKind, place: &Place, key: &str, message: String, help: &str) {
        self.found.push(Finding {
            kind,
            place: place.clone(),
            key: key.to_owned(),
            message,
            help: help.to_owned(),
        });
    }
}
