//! edge and nginx side by side in one namespace, each in front of an origin that notes what it receives.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tests::netns::{Lab, Node};
use tests::{Daemon, Kind, wait};

/// How long an answer is waited for. Both close by themselves long before.
const PATIENCE: Duration = Duration::from_secs(8);
const ADDRESS: [u8; 4] = [10, 0, 0, 11];

/// A request as an origin received it: `POST /c hello`.
type Received = Arc<Mutex<Vec<String>>>;

/// One of the two.
pub(crate) struct Subject {
    front: SocketAddr,
    received: Received,
    node: Arc<Node>,
}

/// What came of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The statuses of the answers.
    pub(crate) answers: Vec<u16>,
    /// Whole requests that the origin received.
    pub(crate) received: Vec<String>,
    /// Whether the connection was still open when patience ended.
    pub(crate) hangs: bool,
}

/// Both of them.
pub(crate) struct Site {
    pub(crate) edge: Subject,
    pub(crate) nginx: Subject,
    daemon: Daemon,
    oracle: Child,
    _lab: Lab,
    _folder: tempfile::TempDir,
}

impl Site {
    pub(crate) fn start() -> Site {
        let mut lab = Lab::new(&["front"]);
        let node = lab.add("edge1");
        lab.plug("edge1", "eth0", "front", &["10.0.0.11/24".to_owned()]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let subject = |port: u16, origin: u16| Subject {
            front: SocketAddr::from((ADDRESS, port)),
            received: origin_at(&node, SocketAddr::from((ADDRESS, origin))),
            node: Arc::clone(&node),
        };
        let (edge, nginx) = (subject(80, 9080), subject(81, 9081));
        let config = folder.path().join("platform.toml");
        std::fs::write(
            &config,
            platform() + &crate::choice::platform() + &crate::balance::platform(),
        )
        .expect("the file can be written");
        let daemon = Daemon::start(&node, Kind::Edge, &config, folder.path());
        let config = folder.path().join("nginx.conf");
        // Within the block `http`.
        let servers = configuration();
        let servers = servers.trim_end().trim_end_matches('}');
        let servers = format!(
            "{servers}{}}}\n",
            crate::choice::configuration() + &crate::balance::configuration()
        );
        std::fs::write(&config, servers).expect("the file can be written");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(&config);
        command.args(["-e", "error.log"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let oracle = node
            .run(|| command.spawn())
            .unwrap_or_else(|error| panic!("cannot start nginx (tests/fetch gets it): {error}"));
        let site = Site {
            edge,
            nginx,
            daemon,
            oracle,
            _lab: lab,
            _folder: folder,
        };
        for subject in [&site.edge, &site.nginx] {
            wait::until("an answer", Duration::from_secs(10), || {
                let request =
                    [b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_vec()];
                subject
                    .node
                    .run(|| TcpStream::connect(subject.front))
                    .is_ok()
                    && subject.send(&request).answers == [200]
            });
        }
        site
    }

    /// Whether edge still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.daemon.runs()
    }

    /// A counter of edge.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        self.daemon.metric(name, label)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.oracle.kill();
        let _ = self.oracle.wait();
    }
}

impl Subject {
    /// Sends pieces one after the other on a connection of their own, and notes what comes of it.
    pub(crate) fn send(&self, pieces: &[Vec<u8>]) -> Outcome {
        lock(&self.received).clear();
        let (bytes, hangs) = self.node.run(|| exchange(self.front, pieces));
        let received = lock(&self.received).clone();
        Outcome {
            answers: statuses(&bytes),
            received,
            hangs,
        }
    }
}

impl Subject {
    /// Asks for a path of another host, and gives status and body.
    pub(crate) fn ask(&self, host: &str, path: &str) -> (u16, String) {
        self.ask_with(host, path, "")
    }

    /// The same with further field lines.
    pub(crate) fn ask_with(&self, host: &str, path: &str, fields: &str) -> (u16, String) {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n");
        let (bytes, _) = self
            .node
            .run(|| exchange(self.front, &[request.into_bytes()]));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        (status.unwrap_or(0), body.to_owned())
    }
}

fn exchange(front: SocketAddr, pieces: &[Vec<u8>]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(front).expect("it listens");
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    for piece in pieces {
        // Refused already: the answer is there to be read.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, false),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return (bytes, false);
            }
            Err(_) => return (bytes, true),
        }
    }
}

/// The statuses of all answers; their bodies have a length, or end with the connection.
fn statuses(bytes: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let Some(status) = head.split(' ').nth(1).and_then(|word| word.parse().ok()) else {
            break;
        };
        if status == 100 {
            continue;
        }
        statuses.push(status);
        let length = tests::http::field(&head, "content-length");
        let length = length
            .and_then(|length| length.parse().ok())
            .unwrap_or(rest.len());
        rest = rest.get(length..).unwrap_or_default();
    }
    statuses
}

fn lock(received: &Received) -> std::sync::MutexGuard<'_, Vec<String>> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An application server that notes every whole request and answers 200.
fn origin_at(node: &Arc<Node>, address: SocketAddr) -> Received {
    let received = Received::default();
    let listener = node.run(|| TcpListener::bind(address)).expect("a port");
    let notes = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let notes = Arc::clone(&notes);
            std::thread::spawn(move || serve(stream, &notes));
        }
    });
    received
}

fn serve(stream: TcpStream, received: &Received) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut line = Vec::new();
            if stream.read_until(b'\n', &mut line).ok()? == 0 {
                return None;
            }
            head.extend(line.into_iter().map(char::from));
        }
        let mut body = Vec::new();
        if let Some(length) = tests::http::field(&head, "content-length") {
            body = vec![0; length.parse().ok()?];
            stream.read_exact(&mut body).ok()?;
        } else if tests::http::field(&head, "transfer-encoding").is_some() {
            chunks(&mut stream, &mut body)?;
        }
        let line = head.lines().next().unwrap_or_default();
        let line = line.rsplit_once(' ').map_or(line, |(line, _)| line);
        let body: String = body.into_iter().map(char::from).collect();
        let note = format!("{line} {body}");
        lock(received).push(note.trim_end().to_owned());
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.get_mut().write_all(answer).ok()?;
    }
}

fn chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Some(());
        }
    }
}

fn platform() -> String {
    r#"schema = 1
name = "raw"
[network.front]
cidr = ["10.0.0.0/24"]
[node.edge1.on]
front = { interface = "eth0", addresses = ["10.0.0.11"] }
[group.web]
nodes = ["edge1"]
[listener.http]
group = "web"
bind = ["10.0.0.11:80"]
trusted_proxies = ["10.0.0.11/32"]
[upstream.app]
servers = ["10.0.0.11:9080"]
[[site]]
hosts = ["*"]
[[site.route]]
path = "/"
upstream = "app"
[edge]
access_log = "off"
[edge.limits]
header_timeout = "1s"
body_timeout = "1s"
"#
    .to_owned()
}

/// The same limits, and what it passes on unchanged.
fn configuration() -> String {
    r#"daemon off;
user root;
worker_processes 1;
pid nginx.pid;
events { worker_connections 1024; }
http {
    access_log off;
    client_header_timeout 1s;
    client_body_timeout 1s;
    large_client_header_buffers 4 8k;
    client_max_body_size 10m;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 10.0.0.11:81;
        server_name _;
        location / {
            proxy_pass http://10.0.0.11:9081;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
        }
    }
}
"#
    .to_owned()
}
