//! SHELL: what edge shows its TLS clients: certificates by server name, read from the files of the sites, with their rules.
//!
//! One identity is a certificate with its key and what is asked of clients; sites with the same files share one. It is read whole or not at
//! all: a key that does not belong to the certificate refuses the reload, and the old ones stay. The handshake itself is `listen/tls.rs`.

pub(crate) mod client;
pub(crate) mod expiry;
mod names;
mod tickets;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use conf::Platform;
use conf::platform::{
    CIPHER_SUITES, CipherSuite, ClientCertificates, EdgeTls, Place, SiteTls, TlsVersion,
};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, SupportedProtocolVersion};

pub(crate) use names::Names;
pub(crate) use tickets::{Keys, KeysError};

/// Tickets that a TLS 1.3 client gets: one for each of two connections at once.
const TICKETS: usize = 2;
/// ALPN names, the preferred one first.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A certificate with its key and rules, ready for handshakes.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The files and rules it is made of: what a request's site is compared with.
    pub(crate) spec: SiteTls,
    /// When the certificate ends, in seconds since 1970.
    pub(crate) not_after: i64,
    /// The content of the authorities for clients' certificates, with whether one must be shown.
    policy: Vec<u8>,
    with_http2: Arc<ServerConfig>,
    http1_only: Arc<ServerConfig>,
}

impl Identity {
    /// Whether what came by one of them may come by the other: the same site's, and the same rules on clients' certificates. A renewed
    /// certificate of the site itself makes no difference.
    pub(crate) fn is_like(&self, other: &Identity) -> bool {
        self.spec == other.spec && self.policy == other.policy
    }

    /// What a handshake of a listener uses.
    pub(crate) fn config(&self, http2: bool) -> Arc<ServerConfig> {
        Arc::clone(if http2 {
            &self.with_http2
        } else {
            &self.http1_only
        })
    }
}

/// A certificate that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file cannot be read.
    #[error("{place}: failed to read {file}")]
    Read {
        /// Where the certificate is declared.
        place: Place,
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file's content cannot be used.
    #[error("{place}: {file}: {what}")]
    Content {
        /// Where the certificate is declared.
        place: Place,
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// The keys of session tickets.
    #[error(transparent)]
    Tickets(#[from] KeysError),
}

/// All certificates of a snapshot.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// By listener.
    listeners: BTreeMap<String, Names<Arc<Identity>>>,
    /// Each once, in the file's order.
    pub(crate) identities: Vec<Arc<Identity>>,
    /// The keys of session tickets.
    pub(crate) keys: Keys,
}

impl Certificates {
    /// Reads everything that the listeners with TLS of this node need. `previous` gives the keys of tickets, where the file names none.
    pub(crate) fn read(
        platform: &Platform,
        node: &str,
        previous: Option<&Certificates>,
    ) -> Result<Certificates, TlsError> {
        let keys = Keys::of(platform, previous.map(|previous| &previous.keys))?;
        let mut all = Certificates {
            listeners: BTreeMap::new(),
            identities: Vec::new(),
            keys,
        };
        let spoken = Spoken::new(&platform.edge.tls);
        for (name, listener) in platform.listeners_of(node) {
            if !listener.tls {
                continue;
            }
            let mut names = Names::default();
            for site in &platform.sites {
                let served = site.listeners.is_empty() || site.listeners.contains(name);
                let Some(spec) = site.tls.as_ref().filter(|_| served) else {
                    continue;
                };
                let identity = all.identity(spec, &site.place, &spoken)?;
                for host in &site.hosts {
                    names.add(host, Arc::clone(&identity));
                }
            }
            all.listeners.insert(name.clone(), names);
        }
        Ok(all)
    }

    /// Whom a client of `listener` that names `server_name` talks to; `None`: nobody here has that name.
    pub(crate) fn find(&self, listener: &str, server_name: Option<&str>) -> Option<Arc<Identity>> {
        self.listeners.get(listener)?.find(server_name).cloned()
    }

    /// The certificate that requests for a site must come by: its own, or that of the site for all other names.
    pub(crate) fn of_site(&self, listener: &str, own: Option<&SiteTls>) -> Option<&Identity> {
        let names = self.listeners.get(listener)?;
        let Some(own) = own else {
            return names.find(None).map(|other| &**other);
        };
        let mut all = self.identities.iter();
        all.find(|one| one.spec == *own).map(|one| &**one)
    }

    fn identity(
        &mut self,
        spec: &SiteTls,
        place: &Place,
        spoken: &Spoken,
    ) -> Result<Arc<Identity>, TlsError> {
        if let Some(known) = self.identities.iter().find(|known| known.spec == *spec) {
            return Ok(Arc::clone(known));
        }
        let identity = Arc::new(identity(spec, place, spoken, &self.keys)?);
        self.identities.push(Arc::clone(&identity));
        Ok(identity)
    }
}

/// Versions and suites that are spoken.
struct Spoken {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    /// The file has an order of suites.
    ordered: bool,
}

impl Spoken {
    fn new(settings: &EdgeTls) -> Spoken {
        let mut provider = ring::default_provider();
        let all = CIPHER_SUITES.map(|(_, number)| CipherSuite(number));
        let ordered = !settings.ciphers.is_empty();
        let wanted = if ordered { &settings.ciphers } else { &all[..] };
        let known = std::mem::take(&mut provider.cipher_suites);
        provider.cipher_suites = wanted
            .iter()
            .filter_map(|suite| {
                let mut known = known.iter();
                known.find(|known| u16::from(known.suite()) == suite.0)
            })
            .copied()
            .collect();
        let has = |version| wanted.iter().any(|suite| suite.version() == version);
        let mut versions = Vec::new();
        if has(TlsVersion::V13) {
            versions.push(&rustls::version::TLS13);
        }
        if has(TlsVersion::V12) && settings.min_version == TlsVersion::V12 {
            versions.push(&rustls::version::TLS12);
        }
        Spoken {
            provider: Arc::new(provider),
            versions,
            ordered,
        }
    }
}

/// A certificate with its chain and its key, which belong together.
pub(crate) struct Pair {
    /// The certificate first. Every one of them can be parsed.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub(crate) key: PrivateKeyDer<'static>,
    certified: CertifiedKey,
    /// When the certificate ends, in seconds since 1970.
    pub(crate) not_after: i64,
}

/// Looks at the files of a site without making anything of them: when its certificate ends, or why they cannot be used.
pub(crate) fn inspect(spec: &SiteTls) -> Result<i64, TlsError> {
    let pair = pair(
        &spec.cert,
        &spec.key,
        &spec.place,
        &ring::default_provider(),
    )?;
    if let Some(client) = &spec.client {
        authorities(client, &spec.place)?;
    }
    Ok(pair.not_after)
}

/// Reads a certificate with its key, or neither.
pub(crate) fn pair(
    cert: &str,
    key: &str,
    place: &Place,
    provider: &CryptoProvider,
) -> Result<Pair, TlsError> {
    let content = |file: &str, what: String| TlsError::Content {
        place: place.clone(),
        file: file.to_owned(),
        what,
    };
    let chain = certificates(cert, place)?;
    let ends: Option<Vec<i64>> = chain.iter().map(|one| expiry::not_after(one)).collect();
    let not_after = ends
        .and_then(|ends| ends.first().copied())
        .ok_or_else(|| content(cert, "one of its certificates is malformed".to_owned()))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key, place)?)
        .map_err(|error| content(key, format!("no private key: {error}")))?;
    let certified = CertifiedKey::from_der(chain.clone(), private.clone_key(), provider)
        .map_err(|error| content(key, wrong_key(&error, cert)))?;
    Ok(Pair {
        chain,
        key: private,
        certified,
        not_after,
    })
}

fn identity(
    spec: &SiteTls,
    place: &Place,
    spoken: &Spoken,
    keys: &Keys,
) -> Result<Identity, TlsError> {
    let content = |file: &str, what: String| TlsError::Content {
        place: place.clone(),
        file: file.to_owned(),
        what,
    };
    let Pair {
        certified,
        not_after,
        ..
    } = pair(&spec.cert, &spec.key, place, &spoken.provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&spoken.provider))
        .with_protocol_versions(&spoken.versions)
        .map_err(|error| content(&spec.cert, error.to_string()))?;
    let mut policy = Vec::new();
    let builder = match &spec.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            policy = read(&client.ca, place)?;
            policy.push(u8::from(client.required));
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(authorities(client, place)?),
                Arc::clone(&spoken.provider),
            );
            let verifier = if client.required {
                verifier
            } else {
                verifier.allow_unauthenticated()
            };
            let verifier = verifier
                .build()
                .map_err(|error| content(&client.ca, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.ignore_client_order = spoken.ordered;
    // Tickets alone: sessions that are kept here would be those of one node, and cost memory.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if spec.client.is_none() {
        // A session that goes on is not asked for its certificate again, which may have ended or been withdrawn meanwhile.
        config.ticketer = Arc::new(keys.for_policy(&policy));
        config.send_tls13_tickets = TICKETS;
    } else {
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![HTTP1.to_vec()];
    let mut with_http2 = config.clone();
    with_http2.alpn_protocols.insert(0, HTTP2.to_vec());
    Ok(Identity {
        spec: spec.clone(),
        not_after,
        policy,
        with_http2: Arc::new(with_http2),
        http1_only: Arc::new(config),
    })
}

fn wrong_key(error: &rustls::Error, cert: &str) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("this key does not belong to the certificate in {cert}")
        }
        other => other.to_string(),
    }
}

fn authorities(client: &ClientCertificates, place: &Place) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(&client.ca, place)? {
        store.add(certificate).map_err(|error| TlsError::Content {
            place: place.clone(),
            file: client.ca.clone(),
            what: error.to_string(),
        })?;
    }
    Ok(store)
}

fn certificates(file: &str, place: &Place) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |what: String| TlsError::Content {
        place: place.clone(),
        file: file.to_owned(),
        what,
    };
    let text = read(file, place)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| content(error.to_string()))?;
    if found.is_empty() {
        return Err(content(
            "the file holds no `-----BEGIN CERTIFICATE-----`".to_owned(),
        ));
    }
    Ok(found)
}

fn read(file: &str, place: &Place) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|source| TlsError::Read {
        place: place.clone(),
        file: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
