//! SHELL: `run`: starts the threads and tasks, wires them, and takes them down in order.
//!
//! ```text
//!  director's ro.sock ──▶ verdicts ─┐                ┌──▶ protocol thread (driver) ◀──▶ raw sockets
//!  tracked checks ──▶ prober ───────┼──▶ desk ──▶ mailbox        │ wishes   │ reports
//!  control sockets ──▶ control ─────┘      ▲         ▲           ▼          ▼
//!                                          └─────────┴──── netlink      events, log
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use conf::Moment;
use daemon::{Context, Control, Events, clock};
use net::{Net, Watch};
use probe::{Change, Prober};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::control::VrrpControl;
use crate::desk::{Desk, Outlets};
use crate::driver::Driver;
use crate::mailbox::{Desired, Mailbox, Outbox, Report};
use crate::metrics::Routers;
use crate::netlink::{self, Kernel, Wires};
use crate::secrets;
use crate::status;
use crate::track::Tracker;
use crate::verdicts::{self, Heard};

/// Log lines that the protocol thread may be ahead of the log: hundreds of virtual routers may move at once, and more than once.
const REPORTS: usize = 4096;
/// How long the last address changes may take when the daemon stops.
const LAST_WISHES: Duration = Duration::from_secs(3);
/// How long the last reports may take to reach the log.
const LAST_REPORTS: Duration = Duration::from_secs(1);
/// The longest the desk sleeps: a bound, not a cadence.
const DESK_IDLE: Duration = Duration::from_secs(60);

/// How often readers of the pipe are looked for.
const READERS: Duration = Duration::from_millis(200);

/// The desk, shared by the tasks. Every use is short and never waits.
pub(crate) type SharedDesk = Arc<Mutex<Desk>>;

/// Locks the desk. Its state is replaced as a whole by each judgement, so a panic elsewhere leaves nothing half done.
pub(crate) fn lock(desk: &SharedDesk) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The daemon's life.
pub(crate) fn run(context: Context) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(context))
}

async fn serve(context: Context) -> anyhow::Result<()> {
    // First of all: until it is taken, the signal ends the process.
    let usr1 = signal(SignalKind::user_defined1()).context("cannot listen to SIGUSR1")?;
    let platform = context.loaded.platform.clone();
    let realtime = platform.vrrpd.realtime_priority;
    let attachments = platform
        .nodes
        .get(&context.loaded.node)
        .map(|node| &node.on);
    let attachments = attachments.into_iter().flat_map(BTreeMap::values);
    let interfaces = attachments.filter_map(|on| on.interface.clone()).collect();
    let secrets = secrets::read(&platform, &context.loaded.node)?;
    let mailbox = Arc::new(Mailbox::new().context("cannot make the event descriptor")?);
    let net = Net::connect()?;
    let events = Watch::open(net.clone())?;

    let (desired_sender, desired) = watch::channel(Desired::new());
    let (reports_sender, reports) = mpsc::channel(REPORTS);
    let (routers_sender, routers) = watch::channel(BTreeMap::new());
    let (kernel_sender, kernel) = watch::channel(Kernel::default());
    let (prober, changes) = Prober::new(u64::from(std::process::id()), clock::now);
    let desk: SharedDesk = Arc::new(Mutex::new(Desk::new(
        platform,
        context.loaded.node.clone(),
        &secrets,
        prober,
        Outlets {
            mailbox: mailbox.clone(),
            routers: routers_sender,
            events: context.events.clone(),
        },
        clock::now(),
    )));

    let outbox = Outbox {
        desired: desired_sender,
        reports: reports_sender,
    };
    let driver = Driver::new(mailbox.clone(), outbox).context("cannot make the set of sockets")?;
    let (alive, mut ended) = oneshot::channel::<()>();
    let protocol = std::thread::Builder::new()
        .name("vrrp".to_owned())
        .spawn(move || {
            let _alive = alive;
            driver.run(realtime);
        })
        .context("cannot start the protocol thread")?;
    let wires = Wires {
        mailbox: mailbox.clone(),
        routers,
        desired,
        kernel: kernel_sender,
        events: context.events.clone(),
        interfaces,
    };
    let tracker = Tracker::new(wires.routers.clone())?;
    let mut netlink = tokio::spawn(netlink::run(net, events, wires));

    let changed = Arc::new(Notify::new());
    let socket = director_socket(&context);
    tokio::spawn(listen(desk.clone(), socket, changed.clone()));
    tokio::spawn(tend(desk.clone()));
    let told = desk.clone();
    tokio::spawn(tracker.run(move |readings| {
        lock(&told).handle_readings(readings, clock::now());
    }));
    tokio::spawn(attend(
        desk.clone(),
        changes,
        kernel.clone(),
        changed.clone(),
    ));
    let moved = Arc::new(Notify::new());
    let log = tokio::spawn(log(
        reports,
        context.events.clone(),
        desk.clone(),
        moved.clone(),
    ));
    context
        .registry
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .register_collector(Box::new(Routers(
            mailbox.clone(),
            desk.clone(),
            kernel.clone(),
        )));

    let control = Arc::new(VrrpControl {
        desk: desk.clone(),
        mailbox: mailbox.clone(),
        kernel,
        changed,
        moved,
    });
    tokio::spawn(tell_on_signal(control.clone(), usr1));
    let mut netlink_ended = false;
    let (served, result) = match context.serve(control).await {
        Err(error) => (None, Err(error)),
        Ok(served) => {
            served.ready();
            let result = tokio::select! {
                () = served.stop_requested() => Ok(()),
                _ = &mut ended => Err(anyhow::anyhow!("the protocol thread has ended by itself")),
                ended = &mut netlink => {
                    netlink_ended = true;
                    Err(match ended {
                        Ok(Err(error)) => anyhow::Error::new(error).context("the netlink task has ended"),
                        Ok(Ok(())) => anyhow::anyhow!("the netlink task has ended by itself"),
                        Err(error) => anyhow::Error::new(error).context("the netlink task has died"),
                    })
                }
            };
            (Some(served), result)
        }
    };
    lock(&desk).herald.hooks.hold_back();
    // Priority 0 goes out at once; the wishes that it leaves behind are carried out before the process ends.
    mailbox.post(|inbox| inbox.stop = true);
    let _ = tokio::task::spawn_blocking(move || protocol.join()).await;
    if netlink_ended || tokio::time::timeout(LAST_WISHES, netlink).await.is_err() {
        tracing::warn!(
            "virtual addresses may be left on the interfaces: the next start adopts them, `vrrpd cleanup` removes them"
        );
    }
    let _ = tokio::time::timeout(LAST_REPORTS, log).await;
    // Programs that are told of the end find the addresses gone.
    let hooks = lock(&desk).herald.hooks.finish();
    hooks.await;
    drop(served);
    result
}

/// The director of this node has its folder beside ours.
fn director_socket(context: &Context) -> std::path::PathBuf {
    let parent = context.run_dir.parent().unwrap_or(&context.run_dir);
    parent.join("director").join("ro.sock")
}

async fn listen(desk: SharedDesk, socket: std::path::PathBuf, changed: Arc<Notify>) {
    let (mut silent, mut spoken) = (None, false);
    verdicts::listen(socket, |heard| {
        let now = clock::now();
        match heard {
            Heard::Verdicts(verdicts) => {
                if silent.take().is_some() {
                    tracing::info!("the local director answers");
                }
                spoken = true;
                lock(&desk).handle_verdicts(&verdicts, now);
            }
            Heard::Silence(reason) => {
                let first = silent.as_ref() != Some(&reason);
                silent = Some(reason.clone());
                let mut desk = lock(&desk);
                desk.handle_silence(reason.clone(), now);
                // It is tried five times a second for ever, also where nobody waits for it.
                if !desk.needs_director() {
                    return;
                }
                if first && desk.director_trouble().is_some() {
                    let meanwhile = match spoken {
                        true => "its last verdicts are believed for `verdict_hold`",
                        false => "until it does, this node counts as not ready",
                    };
                    tracing::warn!(%reason, meanwhile, "the local director does not answer");
                }
            }
        }
        changed.notify_one();
    })
    .await;
}

/// Looks at the desk whenever a check, the kernel or the time has changed something.
async fn attend(
    desk: SharedDesk,
    mut changes: mpsc::Receiver<Change>,
    mut kernel: watch::Receiver<Kernel>,
    changed: Arc<Notify>,
) {
    let mut checks = true;
    loop {
        let now = clock::now();
        let next = lock(&desk).poll_timeout(now);
        let wait = next.map_or(DESK_IDLE, |at| at.since(now)).min(DESK_IDLE);
        tokio::select! {
            change = changes.recv(), if checks => checks = change.is_some(),
            seen = kernel.changed() => if seen.is_err() {
                return;
            },
            () = changed.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        let found = kernel.borrow_and_update().found.clone();
        let now: Moment = clock::now();
        let mut desk = lock(&desk);
        match found {
            Some(found) => desk.handle_found(found, now),
            None => desk.judge(now),
        }
    }
}

/// Looks for readers of the pipe.
async fn tend(desk: SharedDesk) {
    let mut tick = tokio::time::interval(READERS);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        lock(&desk).herald.tend();
    }
}

/// SIGUSR1 writes the status into the log, as operators of keepalived expect it.
async fn tell_on_signal(control: Arc<VrrpControl>, mut signal: Signal) {
    while signal.recv().await.is_some() {
        let mut text = String::new();
        status::render(&control.status().await, &mut text);
        for line in text.lines() {
            tracing::info!(status = line, "SIGUSR1");
        }
    }
}

/// What the protocol thread has to say goes to the log and to the events.
async fn log(
    mut reports: mpsc::Receiver<Report>,
    events: Events,
    desk: SharedDesk,
    moved: Arc<Notify>,
) {
    while let Some(report) = reports.recv().await {
        match report {
            Report::Transition {
                key,
                from,
                to,
                why,
                priority,
            } => {
                lock(&desk).handle_state(&key, to, priority);
                moved.notify_one();
                let fields = json!({
                    "vip": key.vip, "family": key.family, "from": from, "to": to, "reason": why.to_string(), "priority": priority,
                });
                events.emit("vrrp.transition", fields);
                let fields =
                    json!({ "vip": key.vip, "family": key.family, "reason": why.to_string() });
                if to == crate::event::StateName::Master {
                    events.emit("vip.acquired", fields);
                } else if from == crate::event::StateName::Master {
                    events.emit("vip.released", fields);
                }
            }
            Report::HeldBack { key, peer } => {
                let fields = |heard: bool| json!({ "vip": key.vip, "family": key.family, "heartbeats": heard, "peer": peer });
                match peer {
                    Some(_) => events.alert("vrrp.held_back", fields(true)),
                    None => events.emit("vrrp.held_back", fields(false)),
                }
            }
            Report::AddressesRefused { key, reason } => events.alert(
                "vrrp.addresses_refused",
                json!({ "vip": key.vip, "family": key.family, "reason": reason }),
            ),
            Report::Lost { count, states } => {
                lock(&desk).handle_states(&states);
                moved.notify_one();
                events.alert("vrrp.reports_lost", json!({ "count": count }));
            }
            Report::Settled { key } => lock(&desk).herald.handle_settled(&key),
            Report::LowerMaster {
                key,
                peer,
                priority,
                own,
            } => {
                lock(&desk).herald.handle_lower_master(&key, own);
                let fields = json!({
                    "vip": key.vip, "family": key.family, "source": peer, "priority": priority, "own_priority": own,
                });
                events.alert("vrrp.lower_master", fields);
            }
            Report::Socket {
                key,
                trouble: Some(reason),
            } => events.alert(
                "vrrp.socket_failed",
                json!({ "vip": key.vip, "family": key.family, "reason": reason }),
            ),
            Report::Socket { key, trouble: None } => {
                events.emit(
                    "vrrp.socket_works",
                    json!({ "vip": key.vip, "family": key.family }),
                );
            }
            Report::BadPacket { key, error, count } => {
                tracing::warn!(vip = %key, reason = %error, count, "adverts of our virtual router id are dropped");
            }
            Report::Rejoined { interface } => {
                tracing::warn!(
                    interface,
                    "the membership of the VRRP group was lost and is restored"
                );
            }
            Report::NotRealtime { reason } => {
                tracing::warn!(%reason, "no real-time scheduling: under load adverts may be late");
            }
        }
    }
}
