//! SHELL: `director real-server`: prepares a real server of DR and TUN services, watches over it, and undoes it at the end.
//!
//! The order is what keeps the network sound: the ARP settings first, so that no answer for a VIP ever leaves this node, then the VIPs on the
//! loopback interface; undone in reverse. What the loop should do is decided by the pure [`wanted()`].

mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use conf::Tier;
use daemon::intent::{Intent, Target};
use daemon::plan::{Plan, PlanAction, PlanStep};
use daemon::{Common, Context, Control, Daemon, Exit, Loaded, NoCommand, Refused, frame};
use net::sysctl::{self, Ensured, Key};
use net::{Added, Net, NewAddress, Removed, Scope};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::marking::chain;
pub use wanted::{Wanted, wanted};
use wanted::{answering, tunables};

/// How often everything is looked at.
const INTERVAL: Duration = Duration::from_secs(3);
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
}

/// Carries out the subcommand.
pub fn command(common: &Common, command: RealServerCommand) -> anyhow::Result<Exit> {
    match (command.question, command.keep) {
        (Some(Question::Status), _) => frame::status_of::<Undoing>(common),
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
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    node: String,
    wanted: Wanted,
    /// Tunables that were changed, with what they held before.
    before: BTreeMap<Key, i64>,
    /// Addresses that this process, or one before it, has added.
    added: BTreeSet<IpAddr>,
    present: BTreeSet<IpAddr>,
    repaired: u64,
    problems: Vec<String>,
    advice: Vec<String>,
    verified: bool,
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
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            node,
            wanted,
            ..State::default()
        }),
        wake: Notify::new(),
    });
    // The sockets first: a second start ends here, before it touches what the first one holds.
    let served = context
        .serve(Arc::new(RealServerControl {
            shared: Arc::clone(&shared),
        }))
        .await?;
    verify(&net, &shared).await;
    let refused = {
        let state = shared.state();
        (!state.verified).then(|| state.problems.join("; "))
    };
    if let Some(reason) = refused {
        undo(&net, &shared).await;
        return Err(Refused::new(Exit::Refused, reason).into());
    }
    served.ready();
    loop {
        tokio::select! {
            () = served.stop_requested() => break,
            () = shared.wake.notified() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        verify(&net, &shared).await;
    }
    if keep {
        tracing::info!("addresses and ARP settings stay in place");
    } else {
        undo(&net, &shared).await;
    }
    Ok(())
}

/// Brings everything in place, ARP settings first.
async fn verify(net: &Net, shared: &Shared) {
    let (wanted, first) = {
        let state = shared.state();
        (state.wanted.clone(), !state.verified)
    };
    let mut problems = Vec::new();
    for (key, value) in tunables(&wanted) {
        match sysctl::ensure(&key, value) {
            Ok(Ensured::Already) => {}
            Ok(Ensured::Changed { from }) => {
                tracing::info!(path = %key.path().display(), from, to = value, "ARP setting changed");
                let mut state = shared.state();
                state.before.entry(key).or_insert(from);
                state.repaired += u64::from(!first);
            }
            Err(error) => problems.push(format!("{}; without it this node would answer ARP for the VIPs and take their traffic away", chain(&error))),
        }
    }
    // Without the ARP settings no address may appear.
    let mut advice = advice(&wanted);
    if problems.is_empty() {
        match addresses(net, shared, &wanted, first).await {
            Ok(more) => advice.extend(more),
            Err(error) => problems.push(chain(&error)),
        }
    }
    let mut state = shared.state();
    state.verified = problems.is_empty();
    if problems != state.problems {
        for problem in &problems {
            tracing::warn!("{problem}");
        }
    }
    for text in advice.iter().filter(|text| !state.advice.contains(text)) {
        tracing::warn!("{text}");
    }
    state.problems = problems;
    state.advice = advice;
}

async fn addresses(
    net: &Net,
    shared: &Shared,
    wanted: &Wanted,
    first: bool,
) -> Result<Vec<String>, net::Error> {
    let loopback = net.link(LOOPBACK).await?;
    for address in &wanted.addresses {
        let prefix_len = if address.is_ipv4() { 32 } else { 128 };
        // Scope host would keep the address from being a source, scope global is what ARP settings above keep in check.
        let new = NewAddress {
            scope: Scope::Global,
            ..NewAddress::new(loopback.index, *address, prefix_len)
        };
        let added = net.add_address(&new).await?;
        let mut state = shared.state();
        state.present.insert(*address);
        if added == Added::New {
            tracing::info!(%address, "VIP added to the loopback interface");
            state.added.insert(*address);
            state.repaired += u64::from(!first);
        }
    }
    // What an earlier start added, or the file no longer names, is known by its tag.
    let found = net.addresses().await?;
    let own: Vec<IpAddr> = found
        .iter()
        .filter(|found| found.link == loopback.index && found.is_own())
        .map(|found| found.address)
        .collect();
    shared.state().added.extend(&own);
    for address in own
        .into_iter()
        .filter(|address| !wanted.addresses.contains(address))
    {
        remove(net, loopback.index, address).await?;
        let mut state = shared.state();
        state.added.remove(&address);
        state.present.remove(&address);
    }
    let names: BTreeMap<u32, String> = net
        .links()
        .await?
        .into_iter()
        .filter(|link| !link.loopback)
        .map(|link| (link.index, link.name))
        .collect();
    let places = found
        .iter()
        .filter_map(|found| Some((found.address, names.get(&found.link)?.as_str())));
    Ok(answering(wanted, places))
}

async fn remove(net: &Net, loopback: u32, address: IpAddr) -> Result<(), net::Error> {
    let prefix_len = if address.is_ipv4() { 32 } else { 128 };
    if net.remove_address(loopback, address, prefix_len).await? == Removed::Gone {
        tracing::info!(%address, "VIP removed from the loopback interface");
    }
    Ok(())
}

/// Undoes what was done, in reverse: addresses first. What this node needs as a director stays.
async fn undo(net: &Net, shared: &Shared) {
    let (added, before, wanted) = {
        let state = shared.state();
        (
            state.added.clone(),
            state.before.clone(),
            state.wanted.clone(),
        )
    };
    let mut kept = false;
    match net.link(LOOPBACK).await {
        Ok(loopback) => {
            for address in added {
                if wanted.shared.contains(&address) {
                    kept = true;
                    tracing::info!(%address, "the VIP stays on the loopback interface: this node is also its director");
                } else if let Err(error) = remove(net, loopback.index, address).await {
                    kept = true;
                    tracing::warn!(%address, error = chain(&error), "the VIP stays on the loopback interface, and so do the ARP settings");
                }
            }
        }
        Err(error) => {
            kept = true;
            tracing::warn!(
                error = chain(&error),
                "the VIPs stay on the loopback interface"
            );
        }
    }
    if kept {
        return;
    }
    let left = match net.addresses().await {
        Ok(found) => found
            .into_iter()
            .map(|found| found.address)
            .find(|address| wanted.addresses.contains(address)),
        Err(error) => {
            tracing::warn!(error = chain(&error), "the ARP settings stay");
            return;
        }
    };
    if let Some(address) = left {
        tracing::warn!(
            %address,
            "a VIP that somebody else added is still on this node: the ARP settings stay, so that it does not answer for it"
        );
        return;
    }
    for (key, value) in before {
        if let Err(error) = sysctl::write(&key, value) {
            tracing::warn!(path = %key.path().display(), error = chain(&error), "the ARP setting stays changed");
        }
    }
}

/// Decapsulated packets come from clients that the tunnel interface has no route to.
fn advice(wanted: &Wanted) -> Vec<String> {
    if !wanted.tunnels {
        return Vec::new();
    }
    let filters =
        |interface: &str| sysctl::read_number(&Key::ipv4(interface, "rp_filter")).unwrap_or(0);
    let strict = filters("all").max(filters("tunl0")) == 1;
    strict
        .then(|| "net.ipv4.conf.{all,tunl0}.rp_filter is 1: packets out of the tunnel are dropped; set both to 0 or 2".to_owned())
        .into_iter()
        .collect()
}

struct RealServerControl {
    shared: Arc<Shared>,
}

impl RealServerControl {
    fn changes(&self, new: &Loaded) -> Plan {
        let (old, new) = (
            self.shared.state().wanted.addresses.clone(),
            wanted(&new.platform, &new.node).addresses,
        );
        let step = |action, address: &IpAddr, disruptive| PlanStep {
            action,
            what: format!("VIP {address} on {LOOPBACK}"),
            detail: String::new(),
            disruptive,
        };
        let steps = new
            .difference(&old)
            .map(|address| step(PlanAction::Add, address, false))
            .chain(
                old.difference(&new)
                    .map(|address| step(PlanAction::Remove, address, true)),
            )
            .collect();
        Plan {
            steps,
            order: Vec::new(),
        }
    }
}

#[async_trait]
impl Control for RealServerControl {
    async fn status(&self) -> Value {
        let state = self.shared.state();
        let warnings: Vec<&String> = state.problems.iter().chain(&state.advice).collect();
        json!({
            "warnings": warnings,
            "node": state.node,
            "addresses": state.wanted.addresses,
            "present": state.present,
            "interfaces": state.wanted.interfaces,
            "also_director_of": state.wanted.shared,
            "repaired": state.repaired,
        })
    }

    async fn not_ready(&self) -> Option<String> {
        let state = self.shared.state();
        (!state.verified).then(|| match state.problems.as_slice() {
            [] => "addresses and ARP settings were not looked at yet".to_owned(),
            problems => problems.join("; "),
        })
    }

    async fn plan(&self, new: &Loaded) -> Plan {
        self.changes(new)
    }

    async fn reload(&self, new: Loaded) -> Result<Plan, Refused> {
        let plan = self.changes(&new);
        self.shared.state().wanted = wanted(&new.platform, &new.node);
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

fn render(data: &Value, out: &mut String) {
    let list = |key: &str| {
        data.get(key)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    for warning in list("warnings") {
        out.push_str(&format!(
            "WARNING  {}\n",
            warning.as_str().unwrap_or_default()
        ));
    }
    for address in list("addresses") {
        let state = if list("present").contains(address) {
            "on lo"
        } else {
            "MISSING"
        };
        out.push_str(&format!(
            "VIP {:<40} {state}\n",
            address.as_str().unwrap_or_default()
        ));
    }
    out.push_str(&format!(
        "repaired: {}\n",
        data.get("repaired")
            .and_then(Value::as_u64)
            .unwrap_or_default()
    ));
}
