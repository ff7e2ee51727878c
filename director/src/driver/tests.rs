//! The loop's parts on a table in memory: a hold changes nothing, a file that is refused leaves no gap, a stop tells vrrpd.

use std::path::Path;

use async_trait::async_trait;
use conf::Tier;
use daemon::intent::Want;
use daemon::verdict::VerdictState;
use ipvs_netlink::{Destination, DestinationKey, Protocol, ServiceKey};

use probe::Settings;
use probe::engine::{Answer, CheckError, Engine};

use super::*;
use crate::ipvs::InMemory;

/// Servers, and further settings of the director.
fn platform(servers: &str, director: &str) -> Arc<conf::Platform> {
    let text = format!(
        r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/16"]
[node.lb1.on]
front = {{ interface = "weirtest0", addresses = ["10.0.0.5"] }}
[node.lb2.on]
front = {{ interface = "weirtest0", addresses = ["10.0.0.6"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51 }}
[director]
reconcile_interval = "1h"
{director}
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
real_servers = [{servers}]
check = {{ kind = "tcp", initial = "up", interval = "1h", timeout = "1m" }}
"#
    );
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
    let platform = report.platform_for(Tier::Layer4);
    Arc::new(
        platform
            .unwrap_or_else(|problems| panic!("{problems:#?}"))
            .clone(),
    )
}

const ONE: &str = r#"{ address = "10.0.0.11" }"#;
const OTHER: &str = r#"{ address = "10.0.0.12" }"#;

fn vip() -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: "10.0.0.100".parse().unwrap(),
        port: 80,
    }
}

fn server(last: u8) -> DestinationKey {
    DestinationKey {
        address: [10, 0, 0, last].into(),
        port: 80,
    }
}

/// Checks that never end: nothing leaves the machine, and `initial` is what counts.
struct Silent;

#[async_trait]
impl Engine for Silent {
    async fn check(&self, _: &probe::Target) -> Result<Answer, CheckError> {
        std::future::pending().await
    }
}

struct Bench {
    driver: Driver,
    kernel: Arc<InMemory>,
    verdicts: watch::Receiver<Verdicts>,
    state: tempfile::TempDir,
}

impl Bench {
    async fn running(platform: Arc<conf::Platform>) -> Self {
        let state = tempfile::tempdir().unwrap();
        Self::start(platform, Arc::default(), state).await
    }

    /// Another process on the same kernel, with what the one before remembered.
    async fn restarted(self, platform: Arc<conf::Platform>) -> Self {
        Self::start(platform, self.kernel, self.state).await
    }

    async fn start(
        platform: Arc<conf::Platform>,
        kernel: Arc<InMemory>,
        state: tempfile::TempDir,
    ) -> Self {
        let (sender, verdicts) = watch::channel(Verdicts::default());
        let (prober, _) = Prober::with_engine(Settings::default(), clock::now, Arc::new(Silent));
        let driver = Driver::new(Parts {
            ipvs: Arc::clone(&kernel) as Arc<dyn Ipvs>,
            reconciler: Reconciler::new(platform, "lb1", Default::default()),
            prober,
            marking: Marking::default(),
            access: Keeper::new(crate::access::filter::InMemory::default()),
            state: StateFile::open(state.path()),
            metrics: Metrics::default(),
            events: Events::default(),
            verdicts: sender,
            facts: watch::channel(Default::default()).0,
            sync: sync::keeper::Keeper::new(
                Arc::new(crate::sync::worker::Worker::default()),
                state.path(),
            ),
            // A test must not change the machine it runs on.
            tunables: |_, _| Vec::new(),
        });
        let mut bench = Self {
            driver,
            kernel,
            verdicts,
            state,
        };
        bench.driver.round().await;
        bench.kernel.take_applied();
        bench
    }

    async fn hold(&mut self, wants: &[Want]) {
        let intents: Vec<Intent> = wants
            .iter()
            .map(|want| Intent {
                target: Target("this".to_owned()),
                want: want.clone(),
                who: "ann".to_owned(),
                since: jiff::Timestamp::UNIX_EPOCH,
                why: "works on it".to_owned(),
                until: None,
            })
            .collect();
        let (sender, _) = oneshot::channel();
        self.driver.command(Command::Intents(intents, sender)).await;
    }

    async fn look_again(&mut self) {
        self.driver.stale = true;
        self.driver.round().await;
    }

    fn drift(&self) -> u64 {
        self.driver.metrics.read(|sample| sample.drift)
    }

    async fn weight(&self, last: u8) -> Option<u32> {
        let table = self.kernel.observe().await.unwrap().table;
        let found = table.destination(&vip(), &server(last)).copied();
        found.map(|found: Destination| found.weight)
    }
}

#[tokio::test]
async fn a_hold_changes_nothing_and_says_what_waits() {
    let mut bench = Bench::running(platform(ONE, "")).await;
    bench.hold(&[Want::Hold]).await;
    bench.kernel.edit(|observed| {
        let service = observed.table.services.get_mut(&vip()).unwrap();
        service.destinations.clear();
    });
    for _ in 0..3 {
        bench.look_again().await;
    }
    assert_eq!((bench.kernel.take_applied(), bench.drift()), (vec![], 0));
    let status = status::data(
        &bench.driver.reconciler,
        &bench.driver.observed,
        &bench.driver.around(),
    );
    assert_eq!(
        status["warnings"][0],
        "on hold by ann: works on it: nothing is changed; changes that wait for its end: 1"
    );
    let new = Loaded {
        platform: platform(OTHER, ""),
        node: "lb1".to_owned(),
        hash: String::new(),
        warnings: Vec::new(),
    };
    let plan = bench.driver.plan(&new).await;
    let waits =
        |step: &daemon::plan::PlanStep| step.detail.ends_with("waits for the end of the hold");
    assert!(
        !plan.steps.is_empty() && plan.steps.iter().all(waits),
        "{plan:?}"
    );
    bench.hold(&[]).await;
    bench.look_again().await;
    assert_eq!((bench.weight(11).await, bench.drift()), (Some(1), 1));
}

#[tokio::test]
async fn a_stop_while_on_hold_ends_and_leaves_the_table() {
    for policy in ["drain", "remove"] {
        let director = format!("on_stop = \"{policy}\"");
        let mut bench = Bench::running(platform(ONE, &director)).await;
        bench.hold(&[Want::Hold]).await;
        let (_sender, mut commands) = mpsc::channel(1);
        bench
            .driver
            .stop(&mut commands, std::future::pending::<()>())
            .await;
        assert_eq!(bench.kernel.take_applied(), [], "{policy}");
    }
}

#[tokio::test]
async fn a_stop_that_removes_tells_vrrpd() {
    let mut bench = Bench::running(platform(ONE, "on_stop = \"remove\"")).await;
    let (_sender, mut commands) = mpsc::channel(1);
    let stop = bench
        .driver
        .stop(&mut commands, std::future::pending::<()>());
    stop.await;
    assert!(
        bench
            .kernel
            .observe()
            .await
            .unwrap()
            .table
            .services
            .is_empty()
    );
    let state = bench.verdicts.borrow_and_update().vips[0].state;
    assert_eq!(state, VerdictState::TableMissing);
}

#[tokio::test]
async fn a_file_that_the_kernel_refuses_takes_nothing_away_meanwhile() {
    let servers = format!(r#"{ONE}, {{ address = "10.0.0.13" }}"#);
    let mut bench = Bench::running(platform(&servers, "")).await;
    bench.kernel.refuse_additions();
    let new = Loaded {
        platform: platform(OTHER, ""),
        node: "lb1".to_owned(),
        hash: String::new(),
        warnings: Vec::new(),
    };
    let refused = bench.driver.reload(&new).await.unwrap_err().to_string();
    assert!(refused.contains("the file before stays"), "{refused}");
    assert_eq!(bench.kernel.take_applied(), [], "not for a moment");
    assert_eq!(bench.weight(11).await, Some(1));
}

#[tokio::test]
async fn timeouts_are_set_once_kept_and_planned() {
    let wanted = "timeouts = { tcp_fin = \"30s\" }";
    let mut bench = Bench::running(platform(ONE, wanted)).await;
    let timeouts = |tcp, tcp_fin, udp| ipvs_netlink::Timeouts { tcp, tcp_fin, udp };
    bench.driver.tick().await;
    assert_eq!(
        bench.kernel.timeouts().await.unwrap(),
        timeouts(900, 30, 300)
    );
    assert_eq!(bench.drift(), 0, "what was never set is no drift");

    // Somebody else changes them: what the file says is put back, the rest is left alone.
    bench
        .kernel
        .set_timeouts(timeouts(800, 20, 0))
        .await
        .unwrap();
    bench.driver.tick().await;
    assert_eq!(
        bench.kernel.timeouts().await.unwrap(),
        timeouts(800, 30, 300)
    );
    assert_eq!(bench.drift(), 1);

    let other = Loaded {
        platform: platform(ONE, "timeouts = { tcp = \"600s\", udp = \"10s\" }"),
        hash: String::new(),
        node: "lb1".to_owned(),
        warnings: Vec::new(),
    };
    let plan = bench.driver.plan(&other).await;
    let lines: Vec<String> = plan
        .steps
        .iter()
        .map(|step| format!("{}: {}", step.what, step.detail))
        .collect();
    assert_eq!(
        lines,
        [
            "timeout tcp of connections: 800 s -> 600 s",
            "timeout udp of connections: 300 s -> 10 s"
        ]
    );

    bench.hold(&[Want::Hold]).await;
    bench.kernel.set_timeouts(timeouts(0, 20, 0)).await.unwrap();
    bench.driver.tick().await;
    assert_eq!(
        bench.kernel.timeouts().await.unwrap().tcp_fin,
        20,
        "on hold"
    );
}

#[tokio::test]
async fn a_flood_of_drift_is_one_event_and_a_few_lines() {
    let servers: Vec<String> = (0..2000_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            format!("{{ address = \"10.0.{}.{low}\" }}", 64 + high)
        })
        .collect();
    let wide = platform(&servers.join(", "), "");
    let mut bench = Bench::running(wide).await;
    for _ in 0..3 {
        bench.kernel.edit(|observed| {
            let service = observed.table.services.get_mut(&vip()).unwrap();
            service.service.flags.fallback ^= true;
            service.destinations.clear();
        });
        bench.look_again().await;
        bench.kernel.take_applied();
    }
    assert_eq!(bench.drift(), 3 * 2001);
    assert_eq!(bench.driver.drift.len(), DRIFT_SHOWN);
    let events = bench.driver.events.since(0);
    let repaired: Vec<_> = events
        .iter()
        .filter(|event| event.event == "ipvs.drift_repaired")
        .collect();
    assert_eq!(repaired.len(), 3);
    assert_eq!(repaired[0].fields["count"], 2001);
    assert_eq!(
        repaired[0].fields["repairs"].as_array().map(Vec::len),
        Some(DRIFT_SHOWN)
    );
}

#[tokio::test]
async fn what_the_operator_takes_out_is_told_once() {
    let mut bench = Bench::running(platform(ONE, "")).await;
    let drain = Intent {
        target: Target("10.0.0.11".to_owned()),
        want: Want::Drain,
        who: "ann".to_owned(),
        since: jiff::Timestamp::UNIX_EPOCH,
        why: "disk".to_owned(),
        until: None,
    };
    for intents in [vec![drain.clone()], vec![drain], vec![]] {
        let (sender, _) = oneshot::channel();
        bench
            .driver
            .command(Command::Intents(intents, sender))
            .await;
    }
    let events = bench.driver.events.since(0);
    let told: Vec<(&str, &Value)> = events
        .iter()
        .filter(|event| event.event.starts_with("member."))
        .map(|event| (event.event.as_str(), &event.fields["servers"][0]))
        .collect();
    let server = Value::from("web/10.0.0.11");
    assert_eq!(told, [("member.drain", &server), ("member.ready", &server)]);
    assert_eq!(events[0].fields["reason"], "by ann: disk");
}

#[tokio::test]
async fn a_new_connection_table_is_not_ready_and_a_restart_does_not_forget_it() {
    let synchronised = platform(ONE, "[connection_sync]\nnetwork = \"front\"\nid = 1\n");
    let bench = Bench::running(Arc::clone(&synchronised)).await;
    let said = |bench: &Bench| {
        let verdict = &bench.verdicts.borrow().vips[0];
        (verdict.state, verdict.reason.contains("table is new"))
    };
    assert_eq!(said(&bench), (VerdictState::NotReady, true));
    let bench = bench.restarted(Arc::clone(&synchronised)).await;
    assert_eq!(said(&bench), (VerdictState::NotReady, true));
    // Without synchronisation nothing would become known by waiting.
    let bench = bench.restarted(platform(ONE, "")).await;
    assert_eq!(said(&bench), (VerdictState::Ready, false));
}

#[tokio::test]
async fn a_plan_says_in_which_order_the_directors_get_another_sync_id() {
    let sync = |id: u8| {
        let more = format!("[connection_sync]\nnetwork = \"front\"\nid = {id}\n");
        platform(ONE, &more)
    };
    let bench = Bench::running(sync(1)).await;
    let loaded = |platform| Loaded {
        platform,
        node: "lb1".to_owned(),
        hash: String::new(),
        warnings: Vec::new(),
    };
    let plan = bench.driver.plan(&loaded(sync(2))).await;
    assert_eq!(plan.order.len(), 1, "{:?}", plan.order);
    assert!(plan.order[0].contains("Reload the backup, then the master"));
    assert_eq!(
        bench.driver.plan(&loaded(sync(1))).await.order,
        Vec::<String>::new()
    );
}
