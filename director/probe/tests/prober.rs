//! The prober as its users see it: real listeners that come and go, and many targets against an engine that counts.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may panic"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use conf::Moment;
use conf::platform::{Check, CheckKind, InitialState, Place};
use conf::unit::{Interval, Percent};
use probe::engine::{Answer, CheckError, Engine};
use probe::{Health, Prober, Settings, Target};
use tokio::net::TcpListener;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

fn clock() -> Moment {
    static START: OnceLock<Instant> = OnceLock::new();
    Moment::ZERO + Duration::from_secs(1) + START.get_or_init(Instant::now).elapsed()
}

fn tcp(interval: u64) -> Check {
    Check {
        name: None,
        kind: CheckKind::Tcp,
        interval: Interval::from_millis(interval),
        timeout: Interval::from_millis(500),
        rise: 2,
        fall: 2,
        retry_delay: None,
        initial: InitialState::Down,
        jitter: Percent::new(10).unwrap(),
        bind: None,
        address: None,
        port: None,
        place: Place::default(),
    }
}

fn target(address: SocketAddr, check: &Check) -> Target {
    Target::new(address, Arc::new(check.clone()))
}

#[tokio::test]
async fn a_server_comes_and_goes() {
    // An address of its own, so that no other test is given the port in between.
    let listener = TcpListener::bind("127.0.77.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (prober, mut changes) = Prober::new(1, clock);
    let key = prober
        .set_targets(vec![target(address, &tcp(20))])
        .pop_first()
        .unwrap();
    let change = timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
    assert_eq!(
        (&change.key, change.status.health, change.status.checks),
        (&key, Health::Up, (1, 0)),
        "the first success is enough"
    );
    drop(listener);
    let change = timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
    assert_eq!(change.status.health, Health::Down);
    assert_eq!(change.status.checks.1, 2, "two failures in a row, no more");
    assert!(
        change.status.reason.contains("refused"),
        "{}",
        change.status.reason
    );
    let _listener = TcpListener::bind(address).await.unwrap();
    let change = timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
    assert_eq!(change.status.health, Health::Up);
    assert_eq!(prober.statuses()[&key].health, Health::Up);
    drop(prober);
    assert!(
        timeout(PATIENCE, changes.recv()).await.unwrap().is_none(),
        "the end of the prober is the end of its changes"
    );
}

/// Counts what runs at once and in all, per target; fails for odd ports.
#[derive(Default)]
struct Counting {
    running: AtomicUsize,
    most: AtomicUsize,
    seen: Mutex<BTreeMap<SocketAddr, usize>>,
}

#[async_trait]
impl Engine for Counting {
    async fn check(&self, target: &Target) -> Result<Answer, CheckError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        let address = target.address.socket_addr().unwrap();
        *self.seen.lock().unwrap().entry(address).or_default() += 1;
        if address.port() % 2 == 1 {
            return Err(CheckError::NotReady);
        }
        Ok(Answer::alive("fine"))
    }
}

#[tokio::test]
async fn ten_thousand_targets_in_bounded_tasks() {
    let engine = Arc::new(Counting::default());
    let settings = Settings {
        seed: 7,
        concurrency: 64,
        ..Settings::default()
    };
    let (prober, _changes) =
        Prober::with_engine(settings, clock, Arc::clone(&engine) as Arc<dyn Engine>);
    let address = |n: u16| {
        SocketAddr::new(
            IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::from(n / 100))),
            1000 + n % 100,
        )
    };
    let check = tcp(3_600_000);
    prober.set_targets((0..10_000).map(|n| target(address(n), &check)).collect());
    let all = async {
        while prober
            .statuses()
            .values()
            .any(|status| status.health == Health::Checking)
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE * 3, all)
        .await
        .expect("every target gets a verdict although nobody takes the changes");
    let up = prober
        .statuses()
        .values()
        .filter(|status| status.health == Health::Up)
        .count();
    assert_eq!(up, 5000);
    assert!(engine.most.load(Ordering::SeqCst) <= 64);
    assert_eq!(engine.seen.lock().unwrap().len(), 10_000);
}

/// Panics on its first check.
#[derive(Default)]
struct Broken(AtomicUsize);

#[async_trait]
impl Engine for Broken {
    async fn check(&self, _: &Target) -> Result<Answer, CheckError> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            panic!("as the test wants it");
        }
        Ok(Answer::alive("fine"))
    }
}

#[tokio::test]
async fn a_check_that_panics_is_a_failed_check() {
    let settings = Settings {
        seed: 7,
        concurrency: 1,
        ..Settings::default()
    };
    let (prober, mut changes) = Prober::with_engine(settings, clock, Arc::new(Broken::default()));
    prober.set_targets(vec![target("127.0.0.1:1".parse().unwrap(), &tcp(10))]);
    let first = timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
    assert_eq!(
        (first.status.health, &*first.status.reason),
        (Health::Down, "the check was cut short")
    );
    let second = timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
    assert_eq!(
        second.status.health,
        Health::Up,
        "and its place is free again"
    );
}

#[tokio::test]
async fn only_the_targets_of_the_last_set_are_checked() {
    let engine = Arc::new(Counting::default());
    let (prober, mut changes) = Prober::with_engine(
        Settings::default(),
        clock,
        Arc::clone(&engine) as Arc<dyn Engine>,
    );
    let old: SocketAddr = "10.0.0.1:80".parse().unwrap();
    let new: SocketAddr = "10.0.0.2:80".parse().unwrap();
    prober.set_targets(vec![target(old, &tcp(5))]);
    timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
    prober.set_targets(vec![target(new, &tcp(5))]);
    timeout(PATIENCE, changes.recv()).await.unwrap().unwrap();
    let count = |address: &SocketAddr| {
        engine
            .seen
            .lock()
            .unwrap()
            .get(address)
            .copied()
            .unwrap_or_default()
    };
    let before = count(&old);
    let target_count = count(&new) + 10;
    let more = async {
        while count(&new) < target_count {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, more).await.unwrap();
    // One check of the old target may have been under way when it was removed.
    assert!(count(&old) <= before + 1);
    prober.set_targets(Vec::new());
    assert!(prober.statuses().is_empty());
}
