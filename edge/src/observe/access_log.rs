//! SHELL: the access log's way to its target: a buffer per data thread, a bounded queue, one writer thread.
//!
//! A request never waits for the disk or a syslog daemon. When the queue is full whole buffers are lost and their lines counted
//! (`edge_log_dropped_total`). SIGUSR1 opens the file anew, as log rotation expects.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use conf::platform::{AccessLog as Settings, LogTarget};

use super::line::{Line, Times};
use super::syslog::Syslog;

/// Buffers on their way to the writer. Full: the buffer is dropped and counted.
const QUEUE: usize = 1024;
/// A thread's buffer is handed over when it holds this much, and at every tick of the thread.
const BUFFER: usize = 32 * 1024;
/// How late the writer may notice a rotation or the end.
const GLANCE: Duration = Duration::from_millis(200);

/// The access log. Cheap to share; one per process.
#[derive(Debug)]
pub(crate) struct AccessLog {
    settings: ArcSwap<Settings>,
    sender: SyncSender<Chunk>,
    reopen: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Lines that were lost because their target did not take them in time.
    pub(crate) lost: Arc<AtomicU64>,
}

struct Chunk {
    settings: Arc<Settings>,
    lines: u64,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Buffer {
    /// Where its lines were meant to go.
    settings: Option<Arc<Settings>>,
    lines: u64,
    bytes: Vec<u8>,
    /// The second of the cached time and its two forms.
    second: i64,
    local: String,
    iso8601: String,
}

thread_local! {
    static BUFFERED: RefCell<Buffer> = RefCell::new(Buffer::default());
}

impl AccessLog {
    /// Starts the writer.
    pub(crate) fn start(settings: &Settings) -> io::Result<Arc<AccessLog>> {
        let (sender, receiver) = sync_channel(QUEUE);
        let reopen = Arc::new(AtomicBool::new(false));
        let closing = Arc::new(AtomicBool::new(false));
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            receiver,
            reopen: reopen.clone(),
            closing: closing.clone(),
            lost: lost.clone(),
            open: None,
            complained: false,
        };
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())?;
        Ok(Arc::new(AccessLog {
            settings: ArcSwap::from_pointee(settings.clone()),
            sender,
            reopen,
            closing,
            writer: Mutex::new(Some(writer)),
            lost,
        }))
    }

    /// Takes new settings; lines that are buffered go where they were meant to go.
    pub(crate) fn configure(&self, settings: &Settings) {
        self.settings.store(Arc::new(settings.clone()));
    }

    /// Opens the file anew: SIGUSR1.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    /// Whether lines are written at all.
    pub(crate) fn is_on(&self) -> bool {
        self.settings.load().target != LogTarget::Off
    }

    /// Buffers one line.
    pub(crate) fn log(&self, line: &Line<'_>) {
        let settings = self.settings.load();
        if settings.target == LogTarget::Off {
            return;
        }
        BUFFERED.with_borrow_mut(|buffer| {
            if buffer
                .settings
                .as_ref()
                .is_none_or(|meant| !Arc::ptr_eq(meant, &settings))
            {
                self.hand_over(buffer);
                buffer.settings = Some(Arc::clone(&settings));
            }
            buffer.stamp();
            let Buffer {
                local,
                iso8601,
                bytes,
                ..
            } = buffer;
            line.write(Times { local, iso8601 }, &settings.format, bytes);
            buffer.lines = buffer.lines.saturating_add(1);
            if buffer.bytes.len() >= BUFFER {
                self.hand_over(buffer);
            }
        });
    }

    /// Hands this thread's buffer to the writer: at each tick of a data thread.
    pub(crate) fn flush(&self) {
        BUFFERED.with_borrow_mut(|buffer| self.hand_over(buffer));
    }

    /// Writes what is queued and ends the writer. Data threads must have ended.
    pub(crate) fn close(&self) {
        self.flush();
        self.closing.store(true, Ordering::Release);
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }

    fn hand_over(&self, buffer: &mut Buffer) {
        if buffer.lines == 0 {
            return;
        }
        let Some(settings) = buffer.settings.clone() else {
            return;
        };
        let lines = std::mem::take(&mut buffer.lines);
        let bytes = std::mem::replace(&mut buffer.bytes, Vec::with_capacity(1024));
        match self.sender.try_send(Chunk {
            settings,
            lines,
            bytes,
        }) {
            Ok(()) => {}
            Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) => {
                self.lost.fetch_add(chunk.lines, Ordering::Relaxed);
            }
        }
    }
}

impl Buffer {
    /// Formats the time once a second.
    fn stamp(&mut self) {
        let now = daemon::clock::wall();
        if self.second == now.as_second() && !self.local.is_empty() {
            return;
        }
        let local = now.to_zoned(jiff::tz::TimeZone::system());
        self.local = local.strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
        self.iso8601 = local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        self.second = now.as_second();
    }
}

struct Writer {
    receiver: Receiver<Chunk>,
    reopen: Arc<AtomicBool>,
    closing: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
    open: Option<(LogTarget, Output)>,
    complained: bool,
}

enum Output {
    Stdout,
    File(File),
    Syslog(Box<Syslog>),
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.receiver.recv_timeout(GLANCE) {
                Ok(chunk) => self.write(&chunk),
                Err(RecvTimeoutError::Timeout) if self.closing.load(Ordering::Acquire) => return,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&mut self, chunk: &Chunk) {
        let target = &chunk.settings.target;
        let reopen = self.reopen.swap(false, Ordering::AcqRel);
        if reopen || self.open.as_ref().is_none_or(|(open, _)| open != target) {
            self.open = open(target)
                .map_err(|error| self.complain(&error))
                .ok()
                .map(|output| (target.clone(), output));
        }
        let (written, result) = match &mut self.open {
            Some((_, output)) => output.write(chunk),
            None => (0, Err(io::ErrorKind::NotFound.into())),
        };
        match result {
            Ok(()) => self.complained = false,
            Err(error) => {
                let lost = chunk.lines.saturating_sub(written);
                self.lost.fetch_add(lost, Ordering::Relaxed);
                self.complain(&error);
            }
        }
    }

    /// Once until it works again: a full disk must not fill the other log too.
    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(event = "log.dropped", %error, "the access log cannot be written; its lines are lost until it can");
        }
    }
}

impl Output {
    /// Returns how many lines were written; where it cannot be known, all or none.
    fn write(&mut self, chunk: &Chunk) -> (u64, io::Result<()>) {
        let result = match self {
            Output::Stdout => io::stdout().lock().write_all(&chunk.bytes),
            Output::File(file) => file.write_all(&chunk.bytes),
            Output::Syslog(syslog) => return syslog.send(&chunk.bytes, daemon::clock::wall()),
        };
        (if result.is_ok() { chunk.lines } else { 0 }, result)
    }
}

fn open(target: &LogTarget) -> io::Result<Output> {
    match target {
        LogTarget::Off | LogTarget::Stdout => Ok(Output::Stdout),
        LogTarget::File(path) => Ok(Output::File(
            OpenOptions::new().append(true).create(true).open(path)?,
        )),
        LogTarget::Syslog(settings) => Ok(Output::Syslog(Box::new(Syslog::open(settings)?))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

    use conf::platform::{AccessLogFormat, Endpoint};

    use super::*;
    use crate::peer::{Client, Peer};

    static SERVER: Endpoint =
        Endpoint::Ip(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80)));

    fn line<'a>(request: &'a [u8]) -> Line<'a> {
        Line {
            client: Client::Unix,
            peer: Peer::Unix,
            server: &SERVER,
            tls: None,
            request,
            host: b"a",
            fields: None,
            sent: None,
            request_id: b"",
            status: 200,
            bytes: 0,
            duration: Duration::ZERO,
            attempts: &[],
            site: "",
            route: "",
            upstream: "",
            note: "",
        }
    }

    #[test]
    fn lines_reach_the_file_and_a_rotated_file_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let settings = Settings {
            target: LogTarget::File(path.display().to_string()),
            format: AccessLogFormat::Combined,
        };
        let log = AccessLog::start(&settings).unwrap();
        log.log(&line(b"GET /1 HTTP/1.1"));
        log.flush();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while std::fs::read_to_string(&path)
            .unwrap_or_default()
            .is_empty()
        {
            assert!(
                std::time::Instant::now() < deadline,
                "no line in {}",
                path.display()
            );
            std::thread::yield_now();
        }
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        log.reopen();
        log.log(&line(b"GET /2 HTTP/1.1"));
        log.close();
        assert!(
            std::fs::read_to_string(folder.path().join("old"))
                .unwrap()
                .contains("GET /1")
        );
        let new = std::fs::read_to_string(&path).unwrap();
        assert!(new.contains("GET /2") && !new.contains("GET /1"), "{new}");
        assert_eq!(log.lost.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_reload_moves_no_line_to_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let settings = |name: &str| Settings {
            target: LogTarget::File(folder.path().join(name).display().to_string()),
            format: AccessLogFormat::Combined,
        };
        let log = AccessLog::start(&settings("old")).unwrap();
        log.log(&line(b"GET /1 HTTP/1.1"));
        log.configure(&settings("new"));
        log.log(&line(b"GET /2 HTTP/1.1"));
        log.close();
        for (name, request) in [("old", "GET /1 "), ("new", "GET /2 ")] {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(
                text.contains(request) && text.lines().count() == 1,
                "{name}: {text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let settings = Settings {
            target: LogTarget::File("/nonexistent/access.log".to_owned()),
            format: AccessLogFormat::Combined,
        };
        let log = AccessLog::start(&settings).unwrap();
        log.log(&line(b"GET / HTTP/1.1"));
        log.log(&line(b"GET / HTTP/1.1"));
        log.close();
        assert_eq!(log.lost.load(Ordering::Relaxed), 2);
    }
}
