//! SHELL: `director real-server`: prepares a real server of DR and TUN services, watches over it, and undoes it at the end.
//!
//! The order is what keeps the network sound: the ARP settings first, so that no answer for a VIP ever leaves this node, then the tunnels, then
//! the VIPs on the loopback interface; undone in reverse. What the loop should do is decided by the pure [`wanted()`] and done by `keeper`.
//!
//! IPv6 has no ARP settings and needs none: the kernel answers neighbour solicitations for addresses of the interface that was asked, and the
//! VIPs are on another one, `/128` and without duplicate address detection, which would announce them.

mod advmss;
mod keeper;
mod memory;
mod show;
mod wanted;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use conf::Tier;
use daemon::event::Events;
use daemon::intent::{Intent, Target};
use daemon::plan::{Plan, PlanAction, PlanStep};
use daemon::{Common, Context, Control, Daemon, Exit, Loaded, NoCommand, Refused, frame};
use futures_util::FutureExt;
use net::{Event, Net, Watch};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::marking::chain;
use keeper::{Item, Keeper, Outcome};
use memory::Memory;
use show::{Metrics, render};
pub use wanted::{Inside, Thing, TunnelPath, Wanted, wanted};

/// How often everything is looked at. Addresses and links that others change are looked at when the kernel reports it.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long further reports are waited for: whoever changes one address often changes many.
const SETTLE: Duration = Duration::from_millis(20);
const LOOPBACK: &str = "lo";

/// Options of `director real-server`.
#[derive(Debug, clap::Args)]
pub struct RealServerCommand {
    /// Leave addresses and ARP settings in place at the end.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    question: Option<Question>,
}

/// What can be asked of a running one.
#[derive(Debug, clap::Subcommand)]
enum Question {
    /// What is in place here.
    Status,
    /// What the file on disk, or another one, would change here.
    Plan {
        /// Another file.
        file: Option<PathBuf>,
    },
}

/// Carries out the subcommand.
pub fn command(common: &Common, command: RealServerCommand) -> anyhow::Result<Exit> {
    match (command.question, command.keep) {
        (Some(Question::Status), _) => frame::status_of::<Undoing>(common),
        (Some(Question::Plan { file }), _) => frame::plan_of::<Undoing>(common, file),
        (None, false) => frame::run_as::<Undoing>(common),
        (None, true) => frame::run_as::<Keeping>(common),
    }
}

/// The mode as a daemon of its own.
struct Undoing;
/// The same with `--keep`.
struct Keeping;

impl Daemon for Undoing {
    const NAME: &'static str = "real-server";
    const ABOUT: &'static str = "Prepares a real server of DR and TUN services";
    const TIER: Tier = Tier::Layer4;
    type Command = NoCommand;

    fn run(context: Context) -> anyhow::Result<()> {
        run(&context, false)
    }

    fn command(_: &Common, command: NoCommand) -> anyhow::Result<Exit> {
        match command {}
    }

    fn render_status(data: &Value, out: &mut String) {
        render(data, out);
    }
}

impl Daemon for Keeping {
    const NAME: &'static str = Undoing::NAME;
    const ABOUT: &'static str = Undoing::ABOUT;
    const TIER: Tier = Undoing::TIER;
    type Command = NoCommand;

    fn run(context: Context) -> anyhow::Result<()> {
        run(&context, true)
    }

    fn command(_: &Common, command: NoCommand) -> anyhow::Result<Exit> {
        match command {}
    }

    fn render_status(data: &Value, out: &mut String) {
        render(data, out);
    }
}

/// What the loop and the control sockets share.
struct Shared {
    state: Mutex<State>,
    /// One at a time looks or changes.
    keeper: tokio::sync::Mutex<Keeper>,
    wake: Notify,
}

#[derive(Debug, Clone, Default)]
struct State {
    node: String,
    wanted: Wanted,
    items: Vec<Item>,
    /// How often something that was in place had to be put back, by kind.
    repaired: BTreeMap<&'static str, u64>,
    problems: Vec<String>,
    advice: Vec<String>,
    /// Whether what is wanted was looked at.
    looked: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(context: &Context, keep: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(context, keep))
}

async fn serve(context: &Context, keep: bool) -> anyhow::Result<()> {
    let node = context.loaded.node.clone();
    let wanted = wanted(&context.loaded.platform, &node);
    if wanted.addresses.is_empty() {
        let reason = format!(
            "node {node} is no real server of a DR or TUN service in this file: there is nothing to prepare; NAT services need none of this"
        );
        return Err(Refused::new(Exit::Refused, reason).into());
    }
    let net = Net::connect()?;
    let mut watch = Watch::open(net.clone())?;
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            node,
            wanted,
            ..State::default()
        }),
        keeper: tokio::sync::Mutex::new(Keeper::new(net, Memory::open(&context.state_dir))),
        wake: Notify::new(),
    });
    context
        .registry
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .register_collector(Box::new(Metrics(Arc::clone(&shared))));
    // The sockets first: a second start ends here, before it touches what the first one holds.
    let served = context
        .serve(Arc::new(RealServerControl {
            shared: Arc::clone(&shared),
        }))
        .await?;
    verify(&shared, &context.events).await;
    let refused = {
        let state = shared.state();
        let placed = state.items.iter().filter(|item| item.kind == "address");
        let placed = placed.filter(|item| item.in_place).count();
        (placed < state.wanted.addresses.len()).then(|| state.problems.join("; "))
    };
    if let Some(reason) = refused {
        undo(&shared).await;
        return Err(Refused::new(Exit::Refused, reason).into());
    }
    served.ready();
    loop {
        tokio::select! {
            () = served.stop_requested() => break,
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
            event = watch.next() => settle(event, &mut watch).await,
        }
        verify(&shared, &context.events).await;
    }
    if keep {
        tracing::info!("addresses, tunnels and kernel settings stay in place");
    } else {
        undo(&shared).await;
    }
    Ok(())
}

/// Takes in what else the kernel reports at the same time: what was changed is seen by looking.
async fn settle(event: Result<Event, net::Error>, watch: &mut Watch) {
    if let Err(error) = event {
        tracing::warn!(
            error = chain(&error),
            "changes are seen at the next look only"
        );
        tokio::time::sleep(INTERVAL).await;
        return;
    }
    tokio::time::sleep(SETTLE).await;
    while let Some(Ok(_)) = watch.next().now_or_never() {}
}

/// Brings everything in place, and notes what it came to.
async fn verify(shared: &Shared, events: &Events) {
    let wanted = shared.state().wanted.clone();
    let outcome = shared.keeper.lock().await.verify(&wanted, true).await;
    let Outcome {
        items,
        changed,
        problems,
        advice,
    } = outcome;
    let mut state = shared.state();
    // What was in place was taken away by others; the rest is new.
    let repaired: Vec<&(&str, String)> = changed
        .iter()
        .filter(|(_, what)| {
            let mut before = state.items.iter();
            before.any(|item| item.what == *what && item.in_place)
        })
        .collect();
    if !repaired.is_empty() {
        let repairs: Vec<&String> = repaired.iter().map(|(_, what)| what).collect();
        events.emit("real_server.repaired", json!({ "repairs": repairs }));
    }
    let kinds: Vec<&'static str> = repaired.iter().map(|(kind, _)| *kind).collect();
    for kind in kinds {
        *state.repaired.entry(kind).or_default() += 1;
    }
    // A reload that came meanwhile wants something else, which was not looked at.
    state.looked = state.wanted == wanted;
    for text in problems
        .iter()
        .filter(|text| !state.problems.contains(text))
    {
        tracing::warn!("{text}");
    }
    for text in advice.iter().filter(|text| !state.advice.contains(text)) {
        tracing::warn!("{text}");
    }
    state.items = items;
    state.problems = problems;
    state.advice = advice;
}

async fn undo(shared: &Shared) {
    let wanted = shared.state().wanted.clone();
    shared.keeper.lock().await.undo(&wanted).await;
}

struct RealServerControl {
    shared: Arc<Shared>,
}

impl RealServerControl {
    /// What another platform would change, by looking at what is there.
    async fn changes(&self, new: &Loaded) -> Plan {
        let old = self.shared.state().wanted.clone();
        let new = wanted(&new.platform, &new.node);
        let outcome = self.shared.keeper.lock().await.verify(&new, false).await;
        let added = outcome.items.iter().filter(|item| !item.in_place);
        let added = added.map(|item| PlanStep {
            action: if item.kind == "sysctl" {
                PlanAction::Change
            } else {
                PlanAction::Add
            },
            what: item.what.clone(),
            detail: format!("now: {}", item.found),
            disruptive: false,
        });
        let things = new.things();
        let removed = old.things().into_iter().rev();
        let removed = removed
            .filter(|thing| !things.contains(thing))
            .map(|thing| PlanStep {
                action: PlanAction::Remove,
                what: thing.describe(),
                detail: "back to what it was before".to_owned(),
                disruptive: matches!(
                    thing,
                    Thing::Address(_) | Thing::Device { .. } | Thing::Gue(_)
                ),
            });
        Plan {
            steps: added.chain(removed).collect(),
            order: outcome.advice,
        }
    }
}

#[async_trait]
impl Control for RealServerControl {
    async fn status(&self) -> Value {
        show::data(&self.shared.state())
    }

    async fn not_ready(&self) -> Option<String> {
        let state = self.shared.state();
        match state.problems.as_slice() {
            [] if state.looked => None,
            [] => Some("addresses and ARP settings were not looked at yet".to_owned()),
            problems => Some(problems.join("; ")),
        }
    }

    async fn plan(&self, new: &Loaded) -> Plan {
        self.changes(new).await
    }

    async fn reload(&self, new: Loaded) -> Result<Plan, Refused> {
        let plan = self.changes(&new).await;
        {
            let mut state = self.shared.state();
            state.wanted = wanted(&new.platform, &new.node);
            state.looked = false;
        }
        self.shared.wake.notify_one();
        Ok(plan)
    }

    async fn check_intent(&self, _: &Target) -> Result<(), Refused> {
        Err(Refused::new(
            Exit::Refused,
            "a real server is drained on the directors: `director drain NODE` there",
        ))
    }

    async fn intents_changed(&self, _: &[Intent]) {}

    async fn why(&self, _: &Value) -> Result<Value, Refused> {
        Err(Refused::new(
            Exit::Refused,
            "ask the director: `director why VIP:PORT`",
        ))
    }
}
