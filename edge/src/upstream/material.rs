//! SHELL: the files of an upstream: whom it trusts, what it shows, what signs its cookies.
//!
//! They are read when the platform is, all or none, and not at every change of names or intents: an operator's drain must not fail because a
//! file has gone meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use conf::Platform;
use conf::platform::{self, Place};
use daemon::secret::{self, SecretError, hexadecimal};
use pingora_core::protocols::tls::CaType;

use crate::sticky;
use crate::trust::{self, Shown, TrustError};

/// What the files of all upstreams hold, by the upstream's name.
#[derive(Debug, Default)]
pub(crate) struct Materials(BTreeMap<String, Arc<Material>>);

/// A file of an upstream cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: a file of upstream `{upstream}`")]
pub(crate) struct MaterialsError {
    upstream: String,
    place: Place,
    source: MaterialError,
}

impl Materials {
    /// Reads the files of all upstreams.
    pub(crate) fn read(platform: &Platform) -> Result<Materials, MaterialsError> {
        let read = platform.upstreams.iter().map(|(name, upstream)| {
            let material = Material::read(upstream, platform).map_err(|source| MaterialsError {
                upstream: name.clone(),
                place: upstream.place.clone(),
                source,
            })?;
            Ok((name.clone(), Arc::new(material)))
        });
        Ok(Materials(read.collect::<Result<_, _>>()?))
    }

    /// Those of one upstream.
    pub(crate) fn of(&self, upstream: &str) -> Arc<Material> {
        self.0.get(upstream).map(Arc::clone).unwrap_or_default()
    }
}

/// What the files of an upstream hold.
#[derive(Debug, Default)]
pub(crate) struct Material {
    /// Whom TLS trusts, if not the system's certificates.
    pub(crate) ca: Option<Arc<CaType>>,
    /// What its servers are shown.
    pub(crate) shown: Option<Shown>,
    /// What signs the cookies that bind clients.
    pub(crate) sticky: Option<sticky::Key>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MaterialError {
    /// A certificate or key.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Material {
    /// Reads the files of `upstream`.
    pub(crate) fn read(
        upstream: &platform::Upstream,
        platform: &Platform,
    ) -> Result<Material, MaterialError> {
        let tls = upstream.tls.as_ref();
        let ca = tls.and_then(|tls| tls.ca.as_deref());
        let files = tls.and_then(|tls| tls.client.as_ref());
        Ok(Material {
            ca: ca.map(trust::read).transpose()?,
            shown: files
                .map(|files| trust::identity(files, &upstream.place))
                .transpose()?,
            sticky: upstream
                .sticky
                .as_ref()
                .and_then(|sticky| platform.secrets.get(&sticky.secret))
                .map(key)
                .transpose()?,
        })
    }
}

/// The key in a secret's file.
pub(crate) fn key(secret: &platform::Secret) -> Result<sticky::Key, SecretError> {
    let content = secret::read(&secret.name, &secret.file)?;
    let bytes = hexadecimal(content.trim_ascii())
        .and_then(|bytes| <[u8; sticky::KEY]>::try_from(bytes).ok());
    match bytes {
        Some(bytes) => Ok(sticky::Key::new(&bytes)),
        None => Err(SecretError::Content {
            name: secret.name.clone(),
            file: secret.file.clone(),
            what: format!(
                "holds no key: {} hexadecimal digits (openssl rand -hex {})",
                sticky::KEY * 2,
                sticky::KEY
            ),
        }),
    }
}
