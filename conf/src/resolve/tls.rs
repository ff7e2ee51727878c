//! CORE: TLS towards clients: certificates of sites, and what is spoken.

use super::{Resolver, given};
use crate::codes;
use crate::decode::At;
use crate::platform::{
    CIPHER_SUITES, CipherSuite, ClientCertificates, EdgeTls, SiteTls, TlsVersion,
};
use crate::problems::{Tiers, suggestion};
use crate::raw::tls as raw;
use crate::unit::Interval;

const DEFAULT_HANDSHAKE_TIMEOUT: Interval = Interval::from_secs(10);

impl Resolver<'_> {
    pub(super) fn site_tls(&mut self, raw: &At<raw::SiteTls>, site: &str) -> Option<SiteTls> {
        let key = format!("{site}.tls");
        let files = [
            ("cert", raw.cert.as_ref()),
            ("key", raw.key.as_ref()),
            ("client_ca", raw.client_ca.as_ref()),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                self.absolute(file, &format!("{key}.{name}"));
            }
        }
        if let (None, Some(auth)) = (&raw.client_ca, &raw.client_auth) {
            self.report(
                codes::CLIENT_CA,
                Tiers::LAYER7,
                auth.span,
                format!("{key}.client_auth"),
                "it is not said whose certificates clients may show",
            )
            .help("add `client_ca` with the file of the authority's certificate");
        }
        Some(SiteTls {
            cert: raw.cert.as_ref()?.value.clone(),
            key: raw.key.as_ref()?.value.clone(),
            client: raw.client_ca.as_ref().map(|ca| ClientCertificates {
                ca: ca.value.clone(),
                required: given(&raw.client_auth) != Some(raw::ClientAuth::Optional),
            }),
            place: self.place(raw.span),
        })
    }

    pub(super) fn edge_tls(&mut self, raw: Option<&At<raw::EdgeTls>>) -> EdgeTls {
        let none = raw::EdgeTls::default();
        let tls = raw.map_or(&none, |tls| &tls.value);
        if let Some(name) = &tls.ticket_keys {
            let secrets = self.raw.secret.as_ref();
            self.known(
                secrets,
                codes::UNKNOWN_SECRET,
                Tiers::LAYER7,
                name,
                "edge.tls.ticket_keys",
                "secret",
            );
        }
        let min_version = match given(&tls.min_version) {
            Some(raw::TlsVersion::V13) => TlsVersion::V13,
            Some(raw::TlsVersion::V12) | None => TlsVersion::V12,
        };
        let mut ciphers = Vec::new();
        for name in tls.ciphers.iter().flat_map(|ciphers| &ciphers.value) {
            match CipherSuite::named(name) {
                Some(suite) => ciphers.push(suite),
                None => {
                    let known = CIPHER_SUITES.iter().map(|(name, _)| *name);
                    let help = suggestion(&name.value, "cipher suites", known);
                    self.report(
                        codes::UNKNOWN_CIPHER,
                        Tiers::LAYER7,
                        name.span,
                        "edge.tls.ciphers",
                        format!("there is no cipher suite `{}`", name.value),
                    )
                    .help(help);
                }
            }
        }
        let usable = |suite: &CipherSuite| suite.version() >= min_version;
        if let Some(list) = tls.ciphers.as_ref().filter(|list| !list.value.is_empty())
            && ciphers.len() == list.value.len()
            && !ciphers.iter().any(usable)
        {
            self.report(
                codes::NO_CIPHER,
                Tiers::LAYER7,
                list.span,
                "edge.tls.ciphers",
                "none of these cipher suites belongs to a version that is spoken: no client could connect",
            )
            .help("add those of TLS 1.3, or lower `min_version`");
        }
        EdgeTls {
            min_version,
            ciphers,
            ticket_keys: tls.ticket_keys.as_ref().map(|name| name.value.clone()),
            handshake_timeout: given(&tls.handshake_timeout).unwrap_or(DEFAULT_HANDSHAKE_TIMEOUT),
        }
    }
}
