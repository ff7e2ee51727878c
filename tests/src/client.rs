//! The client: many source addresses, a steady rate of requests, every failure counted with its cause. One thread with its own runtime.
//!
//! Open loop: request number n is due at n × interval whatever became of the others, as independent users would behave.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::http::field;
use crate::netns::Node;

/// What a load does.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Where requests go.
    pub target: SocketAddr,
    /// The Host header.
    pub host: String,
    /// The method and the path.
    pub request: String,
    /// Addresses to send from, in turn.
    pub sources: Vec<IpAddr>,
    /// Requests per second.
    pub rate: u32,
    /// Requests that may be under way at once.
    pub workers: u32,
    /// Requests on one connection: 1 for a fresh connection each time.
    pub per_connection: u32,
    /// Time for one request, connecting included.
    pub timeout: Duration,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Nobody listens.
    Refused,
    /// No answer to the handshake in time.
    ConnectTimeout,
    /// A router says that there is no way.
    Unreachable,
    /// The connection was reset before the whole answer came.
    Reset,
    /// The connection ended before the whole answer came.
    Closed,
    /// No answer in time.
    AnswerTimeout,
    /// An answer with a status of 500 and above.
    Status(u16),
    /// An answer that is not HTTP.
    Garbage,
    /// Something else.
    Other(String),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Refused => f.write_str("connection refused"),
            Cause::ConnectTimeout => f.write_str("connect timed out"),
            Cause::Unreachable => f.write_str("unreachable"),
            Cause::Reset => f.write_str("reset"),
            Cause::Closed => f.write_str("closed early"),
            Cause::AnswerTimeout => f.write_str("no answer in time"),
            Cause::Status(status) => write!(f, "status {status}"),
            Cause::Garbage => f.write_str("not HTTP"),
            Cause::Other(what) => f.write_str(what),
        }
    }
}

/// A good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Good {
    /// The status.
    pub status: u16,
    /// The application server that answered (`x-app`).
    pub app: Option<String>,
    /// The address that the application server saw (`x-saw`): the proxy.
    pub proxy: Option<String>,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it began, since the start of the load.
    pub begun: Duration,
    /// When it ended.
    pub ended: Duration,
    /// From which address.
    pub source: IpAddr,
    /// What became of it.
    pub outcome: Result<Good, Cause>,
}

/// Requests of a load, or of a part of its time.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order in which they ended.
    pub records: Vec<Record>,
}

impl Report {
    /// Requests in all.
    pub fn requests(&self) -> usize {
        self.records.len()
    }

    /// Failed requests.
    pub fn failed(&self) -> usize {
        self.failures().count()
    }

    /// The failed requests.
    pub fn failures(&self) -> impl Iterator<Item = (&Record, &Cause)> {
        self.records
            .iter()
            .filter_map(|record| record.outcome.as_ref().err().map(|cause| (record, cause)))
    }

    /// Failures by their cause.
    pub fn causes(&self) -> BTreeMap<Cause, usize> {
        let mut causes = BTreeMap::new();
        for (_, cause) in self.failures() {
            *causes.entry(cause.clone()).or_default() += 1;
        }
        causes
    }

    /// Failures in words, such as `3 reset, 1 status 502`; `none` if there are none.
    pub fn causes_in_words(&self) -> String {
        let words: Vec<String> = self
            .causes()
            .iter()
            .map(|(cause, count)| format!("{count} {cause}"))
            .collect();
        if words.is_empty() {
            "none".to_owned()
        } else {
            words.join(", ")
        }
    }

    /// Failures that none of the windows excuses. A window runs from the moment at which a part went away to the moment at which that was
    /// noticed: whoever began before its end and was not done at its beginning may have been on the dead part.
    pub fn unexcused(&self, windows: &[(Duration, Duration)]) -> Report {
        let excused = |record: &Record| {
            windows
                .iter()
                .any(|(from, to)| record.begun <= *to && record.ended >= *from)
        };
        let records = self
            .failures()
            .filter(|(record, _)| !excused(record))
            .map(|(record, _)| record.clone())
            .collect();
        Report { records }
    }

    /// The longest time without a good answer between two good ones.
    pub fn longest_gap(&self) -> Duration {
        let mut ends: Vec<Duration> = self
            .records
            .iter()
            .filter(|record| record.outcome.is_ok())
            .map(|record| record.ended)
            .collect();
        ends.sort();
        ends.windows(2)
            .map(|pair| pair[1] - pair[0])
            .max()
            .unwrap_or_default()
    }

    /// Answers by application server.
    pub fn by_app(&self) -> BTreeMap<String, usize> {
        self.count(|good| good.app.clone())
    }

    /// Answers by the proxy that the application server saw.
    pub fn by_proxy(&self) -> BTreeMap<String, usize> {
        self.count(|good| good.proxy.clone())
    }

    fn count(&self, key: impl Fn(&Good) -> Option<String>) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for good in self
            .records
            .iter()
            .filter_map(|record| record.outcome.as_ref().ok())
        {
            *counts
                .entry(key(good).unwrap_or_else(|| "-".to_owned()))
                .or_default() += 1;
        }
        counts
    }

    /// Only the requests that began in this part of the load's time.
    pub fn begun_in(&self, from: Duration, to: Duration) -> Report {
        let records = self
            .records
            .iter()
            .filter(|record| (from..to).contains(&record.begun))
            .cloned()
            .collect();
        Report { records }
    }
}

/// How far the largest share is from an even one, in percent of the even share: 0 for 5/5, 100 for 10/0.
pub fn unevenness(counts: &BTreeMap<String, usize>, members: usize) -> f64 {
    let total: usize = counts.values().sum();
    if total == 0 || members == 0 {
        return 0.0;
    }
    let even = total as f64 / members as f64;
    let missing = members.saturating_sub(counts.len());
    let worst = counts
        .values()
        .map(|count| (*count as f64 - even).abs() / even)
        .fold(0.0, f64::max);
    100.0 * if missing > 0 { worst.max(1.0) } else { worst }
}

/// A load that runs until it is stopped or dropped.
#[derive(Debug)]
pub struct Load {
    begun: Instant,
    records: Arc<Mutex<Vec<Record>>>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    /// Starts a load from a node.
    pub fn start(node: &Arc<Node>, plan: LoadPlan) -> Load {
        let (begun, records, stop) = (
            Instant::now(),
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let shared = Arc::new(Shared {
            plan,
            begun,
            tickets: AtomicU64::new(0),
            records: Arc::clone(&records),
            stop: Arc::clone(&stop),
        });
        let node = Arc::clone(node);
        let thread = std::thread::spawn(move || {
            node.enter();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let mut workers = tokio::task::JoinSet::new();
                for _ in 0..shared.plan.workers {
                    workers.spawn(work(Arc::clone(&shared)));
                }
                while workers.join_next().await.is_some() {}
            });
        });
        Load {
            begun,
            records,
            stop,
            thread: Some(thread),
        }
    }

    /// The time since its start: what [`Report::begun_in`] counts by.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// What has ended so far.
    pub fn so_far(&self) -> Report {
        Report {
            records: self
                .records
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// Requests that have ended so far.
    pub fn count(&self) -> usize {
        self.records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Stops, waits for what is under way, and reports.
    pub fn stop(mut self) -> Report {
        self.end();
        self.so_far()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

struct Shared {
    plan: LoadPlan,
    begun: Instant,
    tickets: AtomicU64,
    records: Arc<Mutex<Vec<Record>>>,
    stop: Arc<AtomicBool>,
}

/// A connection that is kept for further requests.
struct Kept {
    stream: TcpStream,
    source: IpAddr,
    left: u32,
}

async fn work(shared: Arc<Shared>) {
    let plan = &shared.plan;
    let mut kept: Option<Kept> = None;
    loop {
        let ticket = shared.tickets.fetch_add(1, Ordering::Relaxed);
        let due =
            Duration::from_secs(1) * u32::try_from(ticket).unwrap_or(u32::MAX) / plan.rate.max(1);
        let wait = due.saturating_sub(shared.begun.elapsed());
        // In slices, so that a stop is seen while the next request is far away.
        let end = Instant::now() + wait;
        while Instant::now() < end && !shared.stop.load(Ordering::SeqCst) {
            tokio::time::sleep(
                end.saturating_duration_since(Instant::now())
                    .min(Duration::from_millis(50)),
            )
            .await;
        }
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let connection = kept.take();
        let source = match &connection {
            Some(kept) => kept.source,
            None => plan.sources[usize::try_from(ticket).unwrap_or_default() % plan.sources.len()],
        };
        let begun = shared.begun.elapsed();
        let outcome = request(plan, source, connection, &mut kept).await;
        let record = Record {
            begun,
            ended: shared.begun.elapsed(),
            source,
            outcome,
        };
        shared
            .records
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(record);
    }
}

async fn request(
    plan: &LoadPlan,
    source: IpAddr,
    connection: Option<Kept>,
    keep: &mut Option<Kept>,
) -> Result<Good, Cause> {
    let deadline = tokio::time::Instant::now() + plan.timeout;
    let mut kept = match connection {
        Some(kept) => kept,
        None => match tokio::time::timeout_at(deadline, connect(source, plan.target)).await {
            Err(_) => return Err(Cause::ConnectTimeout),
            Ok(Err(error)) => return Err(cause(&error)),
            Ok(Ok(stream)) => Kept {
                stream,
                source,
                left: plan.per_connection,
            },
        },
    };
    kept.left = kept.left.saturating_sub(1);
    let last = kept.left == 0;
    let good = match tokio::time::timeout_at(deadline, exchange(plan, &mut kept.stream, last)).await
    {
        Err(_) => Err(Cause::AnswerTimeout),
        Ok(answer) => answer,
    }?;
    if !last {
        *keep = Some(kept);
    }
    Ok(good)
}

async fn connect(source: IpAddr, target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn exchange(plan: &LoadPlan, stream: &mut TcpStream, last: bool) -> Result<Good, Cause> {
    let close = if last { "Connection: close\r\n" } else { "" };
    let request = format!(
        "{} HTTP/1.1\r\nHost: {}\r\nUser-Agent: weir-lab\r\n{close}\r\n",
        plan.request, plan.host
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| cause(&error))?;
    let mut bytes = Vec::with_capacity(1024);
    let (head, mut have) = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break (
                String::from_utf8_lossy(&bytes[..end]).into_owned(),
                bytes.len() - end - 4,
            );
        }
        if stream
            .read_buf(&mut bytes)
            .await
            .map_err(|error| cause(&error))?
            == 0
        {
            return Err(if bytes.is_empty() {
                Cause::Closed
            } else {
                Cause::Garbage
            });
        }
    };
    if !head.starts_with("HTTP/1.") {
        return Err(Cause::Garbage);
    }
    let status: u16 = head
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or(Cause::Garbage)?;
    match field(&head, "content-length").and_then(|value| value.parse::<usize>().ok()) {
        Some(length) => {
            while have < length {
                bytes.clear();
                let read = stream
                    .read_buf(&mut bytes)
                    .await
                    .map_err(|error| cause(&error))?;
                if read == 0 {
                    return Err(Cause::Closed);
                }
                have += read;
            }
        }
        // Without a length the end of the connection is the end of the body.
        None => {
            while stream
                .read_buf(&mut bytes)
                .await
                .map_err(|error| cause(&error))?
                > 0
            {}
        }
    }
    if status >= 500 {
        return Err(Cause::Status(status));
    }
    Ok(Good {
        status,
        app: field(&head, "x-app").map(str::to_owned),
        proxy: field(&head, "x-saw").map(str::to_owned),
    })
}

fn cause(error: &std::io::Error) -> Cause {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => Cause::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Cause::Reset,
        ErrorKind::TimedOut => Cause::ConnectTimeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Cause::Unreachable,
        ErrorKind::UnexpectedEof => Cause::Closed,
        _ => Cause::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(begun: u64, ended: u64, outcome: Result<&str, Cause>) -> Record {
        let outcome = outcome.map(|app| Good {
            status: 200,
            app: Some(app.to_owned()),
            proxy: None,
        });
        Record {
            begun: Duration::from_millis(begun),
            ended: Duration::from_millis(ended),
            source: IpAddr::from([10, 9, 0, 2]),
            outcome,
        }
    }

    #[test]
    fn a_report_counts_causes_gaps_and_shares() {
        let report = Report {
            records: vec![
                record(0, 10, Ok("app1")),
                record(10, 20, Ok("app2")),
                record(20, 30, Err(Cause::Reset)),
                record(30, 250, Err(Cause::Reset)),
                record(240, 260, Ok("app1")),
            ],
        };
        assert_eq!(report.causes(), BTreeMap::from([(Cause::Reset, 2)]));
        assert_eq!(report.causes_in_words(), "2 reset");
        assert_eq!(report.longest_gap(), Duration::from_millis(240));
        assert_eq!(
            report.by_app(),
            BTreeMap::from([("app1".to_owned(), 2), ("app2".to_owned(), 1)])
        );
        let window = |from, to| (Duration::from_millis(from), Duration::from_millis(to));
        assert_eq!(report.unexcused(&[window(15, 22)]).failed(), 1);
        assert_eq!(report.unexcused(&[window(15, 30)]).failed(), 0);
        assert_eq!(report.unexcused(&[window(240, 260)]).failed(), 1);
        let window = |from, to| (Duration::from_millis(from), Duration::from_millis(to));
        assert_eq!(report.unexcused(&[window(15, 22)]).failed(), 1);
        assert_eq!(report.unexcused(&[window(15, 30)]).failed(), 0);
        assert_eq!(report.unexcused(&[window(251, 260)]).failed(), 2);
        assert_eq!(
            report
                .begun_in(Duration::from_millis(20), Duration::from_millis(40))
                .failed(),
            2
        );
    }

    #[test]
    fn unevenness_is_the_largest_distance_from_an_even_share() {
        let counts = |counts: &[usize]| {
            counts
                .iter()
                .enumerate()
                .map(|(index, count)| (index.to_string(), *count))
                .collect()
        };
        assert_eq!(unevenness(&counts(&[100, 100]), 2), 0.0);
        assert_eq!(unevenness(&counts(&[105, 95]), 2), 5.0);
        assert_eq!(unevenness(&counts(&[200]), 2), 100.0);
    }
}
