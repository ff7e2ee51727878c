//! Certificates of a test's own authority, and TLS clients.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use crate::client::Client;
use crate::harness::PATIENCE;

/// What a client reads and writes.
pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An authority with a folder of files.
pub(crate) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "the test's authority");
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes NAME.crt and NAME.key for these names, good for so many days; what a site's `tls` says.
    pub(crate) fn issue(&self, name: &str, names: &[&str], days: u64) -> String {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let now = SystemTime::from(daemon::clock::wall());
        params.not_before = (now - Duration::from_secs(3600)).into();
        params.not_after = (now + Duration::from_secs(days * 24 * 3600 + 3600)).into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        self.tls(name)
    }

    /// What a site's `tls` says of the files of `name`.
    pub(crate) fn tls(&self, name: &str) -> String {
        let folder = self.folder.path().display();
        format!("cert = \"{folder}/{name}.crt\", key = \"{folder}/{name}.key\"")
    }

    /// A client that trusts it, and shows the certificate NAME.crt if there is one.
    pub(crate) fn client(&self, shows: Option<&str>) -> ClientConfig {
        self.client_of(shows, rustls::ALL_VERSIONS)
    }

    /// The same of certain versions only.
    pub(crate) fn client_of(
        &self,
        shows: Option<&str>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shows {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::from_pem_file(self.path(&format!("{name}.crt")));
                let key = PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key")));
                builder
                    .with_client_auth_cert(vec![chain.unwrap()], key.unwrap())
                    .unwrap()
            }
        };
        config.resumption = Resumption::in_memory_sessions(16);
        config
    }
}

/// Shakes hands; an error in the words of either side.
pub(crate) fn connect(
    config: &Arc<ClientConfig>,
    address: &str,
    name: &str,
) -> Result<Client<Tls>, String> {
    over(config, TcpStream::connect(address).unwrap(), name)
}

/// The same on a connection that is there.
pub(crate) fn over(
    config: &Arc<ClientConfig>,
    socket: TcpStream,
    name: &str,
) -> Result<Client<Tls>, String> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
            return Err(error.to_string());
        }
    }
    Ok(Client::over(stream))
}

/// The common name of the certificate that was shown: that of the files it is from.
pub(crate) fn shown(client: &Client<Tls>) -> String {
    let chain = client.carrier().conn.peer_certificates().unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    let mut names = certificate.subject().iter_common_name();
    names.next().unwrap().as_str().unwrap().to_owned()
}

/// Reads what the server sends after the handshake, tickets among it, by asking for `path`.
pub(crate) fn ask(client: &mut Client<Tls>, host: &str, path: &str) -> crate::client::Response {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    client.response()
}

/// A connection that only says hello: whether it is closed.
pub(crate) fn closes_silent(address: &str) -> bool {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(&[22]).unwrap();
    matches!(socket.read(&mut [0; 100]), Ok(0) | Err(_))
}

/// Writes a secret of these keys and returns its path.
pub(crate) fn ticket_keys(folder: &Path, keys: &[u8]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let lines: Vec<String> = keys
        .iter()
        .map(|byte| format!("{byte:02x}").repeat(32))
        .collect();
    let path = folder.join("tickets");
    std::fs::write(&path, lines.join("\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}
