//! Two edges in front of application servers, and a client machine that knows the sites by their names.
//!
//! ```text
//! client .2 ──┬── 10.0.0.0/24 ──┬── edge1 .11, edge2 .12   ports 80 and 443; the names of `NAMES` are edge1
//!                               └── app .21   8001 origin that counts, 8002 WebSocket, 8003 gRPC, 8004 uploads
//! ```

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use tests::netns::{Lab, Node};
use tests::{Daemon, Kind, Origin, wait};

/// Sites with a certificate of their own; `rsa.example` has a key of RSA, the others of P-256.
pub(crate) const NAMES: [&str; 4] = [
    "shop.example",
    "rsa.example",
    "rpc.example",
    "members.example",
];
/// Days that certificates are good for: no more than Mozilla's profile wants.
const DAYS: i64 = 90;
/// Variables that make clients ask a proxy instead.
const PROXIES: [&str; 7] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "grpc_proxy",
];

/// All of it.
pub(crate) struct Site {
    pub(crate) edges: Vec<Daemon>,
    /// The application server that counts.
    pub(crate) origin: Origin,
    servers: Vec<Server>,
    client: Arc<Node>,
    app: Arc<Node>,
    _lab: Lab,
    folder: tempfile::TempDir,
}

/// A server of one of the scripts beside this file.
struct Server {
    child: Child,
    log: PathBuf,
}

impl Site {
    pub(crate) fn start() -> Site {
        let mut lab = Lab::new(&["front"]);
        for (name, last) in [("client", 2), ("edge1", 11), ("edge2", 12), ("app", 21)] {
            lab.add(name);
            lab.plug(name, "eth0", "front", &[format!("10.0.0.{last}/24")]);
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        certificates(folder.path());
        let keys = folder.path().join("tickets");
        fs::write(&keys, "5a".repeat(32)).expect("a file");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("a mode");
        let mut hosts = String::from("127.0.0.1 localhost\n");
        for name in NAMES.iter().chain(&["nobody.example"]) {
            hosts += &format!("10.0.0.11 {name}\n");
        }
        hosts += "10.0.0.12 edge2\n10.0.0.11 edge1\n";
        fs::write(folder.path().join("hosts"), hosts).expect("a file");
        let config = folder.path().join("platform.toml");
        fs::write(&config, platform(folder.path(), "")).expect("a file");
        let edges = ["edge1", "edge2"].map(|name| {
            let base = folder.path().join(name);
            Daemon::start(lab.node(name), Kind::Edge, &config, &base)
        });
        let app = Arc::clone(lab.node("app"));
        Site {
            edges: edges.into(),
            origin: Origin::start(&app, SocketAddr::from(([10, 0, 0, 21], 8001))),
            servers: Vec::new(),
            client: Arc::clone(lab.node("client")),
            app,
            _lab: lab,
            folder,
        }
    }

    /// A file of the run's folder, as an argument.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Starts a server of a script on its port, and waits until it listens.
    pub(crate) fn serve(&mut self, script: &str, arguments: &[&str], port: u16) {
        let log = self.folder.path().join(format!("{script}.log"));
        let file = fs::File::create(&log).expect("a file");
        let mut command = Command::new("clients-python");
        command.arg(path_of(script)).args(arguments);
        command.args(["10.0.0.21", &port.to_string()]);
        command.stdin(Stdio::null());
        command.stdout(file.try_clone().expect("a descriptor"));
        command.stderr(file);
        let child = self.app.run(|| command.spawn()).unwrap_or_else(|error| {
            panic!("cannot start clients-python (tests/fetch makes it): {error}")
        });
        self.servers.push(Server { child, log });
        let address = SocketAddr::from(([10, 0, 0, 21], port));
        wait::until(script, Duration::from_secs(20), || {
            self.app.run(|| TcpStream::connect(address)).is_ok()
        });
    }

    /// Runs a program on the client's machine, where the sites have names, with `input` to read.
    pub(crate) fn run(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let file = self.folder.path().join("input");
        fs::write(&file, input).expect("a file");
        let mut command = Command::new("unshare");
        // A mount namespace of its own: /etc/hosts is another file for it alone.
        command.args(["--mount", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"");
        command.arg(self.path("hosts")).arg(program).args(arguments);
        command.stdin(fs::File::open(&file).expect("a file"));
        for name in PROXIES {
            command.env_remove(name);
        }
        self.client
            .run(|| command.output())
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"))
    }

    /// Runs a program that must succeed; what it wrote to standard output.
    #[track_caller]
    pub(crate) fn sh(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments, "");
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a script beside this file as a client.
    #[track_caller]
    pub(crate) fn script(&self, script: &str, arguments: &[&str]) -> String {
        let path = path_of(script).display().to_string();
        self.sh("clients-python", &[&[path.as_str()], arguments].concat())
    }

    /// Makes clients of shop.example show a certificate of the authority's, on edge1.
    pub(crate) fn ask_for_certificates(&self) {
        let more = format!(", client_ca = \"{}\"", self.path("ca.pem"));
        let text = platform(self.folder.path(), &more);
        fs::write(self.path("platform.toml"), text).expect("a file");
        let reload = self.edges[0].command(&["reload"]);
        assert!(reload.status.success(), "{reload:?}");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.child.kill();
            let _ = server.child.wait();
            if std::thread::panicking() {
                let log = fs::read_to_string(&server.log).unwrap_or_default();
                eprintln!("--- {} ---\n{log:.4000}", server.log.display());
            }
        }
    }
}

fn path_of(script: &str) -> PathBuf {
    let folder = tests::repository().join("tests/tests/clients");
    folder.join(format!("{script}.py"))
}

/// Makes an authority `ca.pem`, a certificate for each name, and `someone` and `stranger` for clients; the latter is of another authority.
fn certificates(folder: &Path) {
    let (authority, stranger) = (issuer("the lab's authority"), issuer("a stranger"));
    fs::write(folder.join("ca.pem"), authority.pem()).expect("a file");
    for name in NAMES {
        let key = if name.starts_with("rsa.") {
            rsa(folder)
        } else {
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key")
        };
        issue(folder, name, &key, &authority);
    }
    for (name, issuer) in [("someone", &authority), ("stranger", &stranger)] {
        issue(folder, name, &KeyPair::generate().expect("a key"), issuer);
    }
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

fn issue(folder: &Path, name: &str, key: &KeyPair, issuer: &CertifiedIssuer<'_, KeyPair>) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let now = std::time::SystemTime::from(daemon::clock::wall());
    let hours = |hours: i64| Duration::from_secs(hours.unsigned_abs() * 3600);
    params.not_before = (now - hours(1)).into();
    params.not_after = (now + hours(DAYS * 24)).into();
    let certificate = params.signed_by(key, issuer).expect("a certificate");
    fs::write(folder.join(format!("{name}.crt")), certificate.pem()).expect("a file");
    fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("a file");
}

/// A key of RSA, which only openssl makes.
fn rsa(folder: &Path) -> KeyPair {
    let file = folder.join("rsa.pem");
    let mut command = Command::new("openssl");
    command.args(["genpkey", "-algorithm", "RSA"]);
    command.args(["-pkeyopt", "rsa_keygen_bits:2048", "-quiet", "-out"]);
    let made = command.arg(&file).output();
    let made = made.unwrap_or_else(|error| panic!("cannot start openssl: {error}"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {made:?}"));
    KeyPair::from_pkcs8_pem_and_sign_algo(&text, &PKCS_RSA_SHA256).expect("a key")
}

/// The platform file; `shop` is added to the `tls` of shop.example.
fn platform(folder: &Path, shop: &str) -> String {
    let folder = folder.display();
    let tls = |name: &str, more: &str| {
        format!("tls = {{ cert = \"{folder}/{name}.crt\", key = \"{folder}/{name}.key\"{more} }}")
    };
    let members = format!(", client_ca = \"{folder}/ca.pem\"");
    format!(
        r#"schema = 1
name = "clients"
[network.front]
cidr = ["10.0.0.0/24"]
[node.edge1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.11"] }}
[node.edge2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.12"] }}
[group.web]
nodes = ["edge1", "edge2"]
[listener.http]
group = "web"
bind = [":80"]
[listener.https]
group = "web"
bind = [":443"]
tls = true
[upstream.app]
servers = ["10.0.0.21:8001"]
[upstream.chat]
servers = ["10.0.0.21:8002"]
[upstream.rpc]
servers = ["10.0.0.21:8003"]
protocol = "http2"
[upstream.store]
servers = ["10.0.0.21:8004"]
[[site]]
hosts = ["shop.example"]
{shop}
[[site.route]]
path = "/"
upstream = "app"
[[site.route]]
path = "/ws"
upstream = "chat"
[[site.route]]
path = "/store"
upstream = "store"
max_body = "0B"
[[site]]
hosts = ["rsa.example"]
{rsa}
[[site.route]]
path = "/"
upstream = "app"
[[site]]
hosts = ["rpc.example"]
{rpc}
[[site.route]]
path = "/"
upstream = "rpc"
max_body = "0B"
[[site]]
hosts = ["members.example"]
{members}
[[site.route]]
path = "/"
upstream = "app"
[edge]
access_log = "off"
[edge.tls]
ticket_keys = "tickets"
[secret.tickets]
file = "{folder}/tickets"
"#,
        shop = tls("shop.example", shop),
        rsa = tls("rsa.example", ""),
        rpc = tls("rpc.example", ""),
        members = tls("members.example", &members),
    )
}
