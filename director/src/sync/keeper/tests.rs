//! The keeper over a kernel in memory that can be told to fail.

use std::sync::Mutex;

use async_trait::async_trait;
use conf::Tier;

use super::*;
use crate::ipvs::IpvsError;

#[derive(Default)]
struct Kernel {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    found: Found,
    applied: Vec<String>,
    refuses: Option<&'static str>,
    hangs: bool,
}

impl Kernel {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap())
    }
}

#[async_trait]
impl SyncKernel for Kernel {
    async fn observe(&self, _: Option<&str>) -> Result<Found, IpvsError> {
        if self.with(|state| state.hangs) {
            std::future::pending::<()>().await;
        }
        Ok(self.with(|state| state.found.clone()))
    }

    async fn apply(&self, steps: &[Step]) -> Vec<Result<(), IpvsError>> {
        self.with(|state| {
            let mut results = Vec::new();
            for step in steps {
                let text = step.to_string();
                if state.refuses.is_some_and(|word| text.contains(word)) {
                    results.push(Err(IpvsError("no".to_owned())));
                    break;
                }
                state.found.apply(step);
                state.applied.push(text);
                results.push(Ok(()));
            }
            results
        })
    }
}

fn platform(sync: &str) -> Platform {
    let text = format!(
        r#"
schema = 1
name = "t"
network.front.cidr = ["10.0.0.0/24"]
network.inside.cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5"] }}
inside = {{ interface = "eth1", addresses = ["10.1.0.5"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1"]
vrrp = {{ id = 51 }}
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
real_servers = [{{ address = "10.0.0.11" }}]
check = {{ kind = "tcp" }}
{sync}
"#
    );
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
    report.platform_for(Tier::Layer4).unwrap().clone()
}

const SYNC: &str = "[connection_sync]\nnetwork = \"inside\"\nid = 7\n";

struct Bench {
    kernel: Arc<Kernel>,
    keeper: Keeper,
    state: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let kernel = Arc::new(Kernel::default());
        kernel.with(|state| {
            state.found.mtu = Some(1500);
            state.found.ports = Some(1);
        });
        let state = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(Arc::clone(&kernel) as Arc<dyn SyncKernel>, state.path());
        Self {
            kernel,
            keeper,
            state,
        }
    }

    async fn reconcile(&mut self, platform: &Platform, may_change: bool) -> Told {
        self.keeper
            .reconcile(platform, "lb1", may_change, at(10))
            .await
    }

    fn restart(&mut self) {
        self.keeper = Keeper::new(
            Arc::clone(&self.kernel) as Arc<dyn SyncKernel>,
            self.state.path(),
        );
    }

    fn applied(&self) -> usize {
        self.kernel
            .with(|state| std::mem::take(&mut state.applied).len())
    }
}

fn at(seconds: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(seconds)
}

#[tokio::test]
async fn daemons_are_started_once_and_repaired() {
    let (mut bench, platform) = (Bench::new(), platform(SYNC));
    let told = bench.reconcile(&platform, true).await;
    assert_eq!((told.done.len(), told.drift), (2, false));
    assert_eq!(bench.reconcile(&platform, true).await, Told::default());
    assert_eq!(bench.applied(), 2);
    bench.kernel.with(|state| state.found.daemons.truncate(1));
    assert!(bench.reconcile(&platform, true).await.drift);
    assert_eq!(bench.applied(), 1);
}

#[tokio::test]
async fn a_file_without_synchronisation_stops_what_an_earlier_process_started() {
    let mut bench = Bench::new();
    bench.reconcile(&platform(SYNC), true).await;
    bench.restart();
    bench.applied();
    let told = bench.reconcile(&platform(""), true).await;
    assert_eq!((told.done.len(), told.drift), (2, false));
    // Somebody else's are left alone.
    bench.kernel.with(|state| {
        let daemon = Daemon::new(DaemonRole::Master, "eth9", 1);
        state.found.daemons.push(daemon);
    });
    bench.restart();
    bench.applied();
    bench.reconcile(&platform(""), true).await;
    assert_eq!(bench.applied(), 0);
}

#[tokio::test]
async fn a_hold_changes_nothing_and_says_what_waits() {
    let (mut bench, platform) = (Bench::new(), platform(SYNC));
    bench.reconcile(&platform, false).await;
    assert_eq!(bench.applied(), 0);
    assert_eq!(
        bench.keeper.problems().len(),
        2,
        "{:?}",
        bench.keeper.problems()
    );
}

#[tokio::test]
async fn threads_that_cannot_be_set_keep_no_daemon_from_running() {
    let mut bench = Bench::new();
    let platform = platform(&format!(
        "{SYNC}[director]\nsysctl = {{ sync_ports = 2 }}\n"
    ));
    bench
        .kernel
        .with(|state| state.refuses = Some("sync_ports"));
    let told = bench.reconcile(&platform, true).await;
    assert_eq!(told.refused, ["no"]);
    assert_eq!(bench.keeper.daemons().len(), 2);
    assert_eq!(
        bench.reconcile(&platform, true).await,
        Told::default(),
        "told once"
    );
}

#[tokio::test]
async fn a_kernel_that_hangs_holds_nobody_up() {
    let (mut bench, platform) = (Bench::new(), platform(SYNC));
    bench.kernel.with(|state| state.hangs = true);
    assert_eq!(bench.reconcile(&platform, true).await, Told::default());
    assert!(bench.keeper.problems()[0].contains("has not answered"));
    // Waited for once: from now on it is only asked whether it has ended.
    let begun = daemon::clock::now();
    for _ in 0..100 {
        bench.reconcile(&platform, true).await;
    }
    assert!(daemon::clock::now().since(begun) < Duration::from_secs(1));
}

#[tokio::test]
async fn a_new_table_waits_across_a_restart() {
    let (mut bench, platform) = (Bench::new(), platform(SYNC));
    bench.keeper.handle_table(false, at(1));
    bench.reconcile(&platform, true).await;
    let unknown = bench.keeper.unknown(&platform, at(20)).unwrap();
    assert_eq!((unknown.until, unknown.new_table), (at(925), true));
    bench.restart();
    bench.keeper.handle_table(true, at(30));
    assert_eq!(bench.keeper.unknown(&platform, at(31)), Some(unknown));
}

#[tokio::test]
async fn what_is_ours_is_stopped_at_the_end() {
    let mut bench = Bench::new();
    bench.reconcile(&platform(SYNC), true).await;
    bench.keeper.remove_all(at(20)).await;
    assert_eq!(bench.keeper.daemons(), []);
    assert!(bench.kernel.with(|state| state.found.daemons.is_empty()));
}
