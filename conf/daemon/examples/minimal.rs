//! SHELL: the smallest daemon: how one plugs into the frame. The tests of this package drive it over its real sockets.
//!
//! It "runs" the platform's name and nothing else, so a plan is a line when that changes.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use axum::routing::get;
use conf::{Platform, Tier};
use daemon::control::Remaining;
use daemon::intent::{Intent, Target};
use daemon::plan::{Plan, PlanAction, PlanStep};
use daemon::{Common, Context, Control, Daemon, Exit, Facts, Loaded, NoCommand, Peering, Refused};
use serde_json::{Value, json};

struct Minimal;

impl Daemon for Minimal {
    const NAME: &'static str = "vrrpd";
    const ABOUT: &'static str = "A daemon that only shows how a daemon is made";
    const TIER: Tier = Tier::Failover;
    type Command = NoCommand;

    fn run(context: Context) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let control = Arc::new(Name::new(context.loaded.clone()));
            let served = context.serve(control).await?;
            served.ready();
            served.stop_requested().await;
            Ok(())
        })
    }

    fn command(_: &Common, command: NoCommand) -> anyhow::Result<Exit> {
        match command {}
    }

    fn render_status(data: &Value, out: &mut String) {
        out.push_str(&format!("name {}\n", data["name"].as_str().unwrap_or("?")));
    }
}

/// What the daemon "does".
struct Name {
    running: Mutex<Loaded>,
    intents: Mutex<Vec<Intent>>,
}

impl Name {
    fn new(loaded: Loaded) -> Self {
        Self {
            running: Mutex::new(loaded),
            intents: Mutex::default(),
        }
    }

    fn name(&self) -> String {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .platform
            .name
            .clone()
    }
}

fn difference(from: &str, to: &str) -> Plan {
    let step = PlanStep {
        action: PlanAction::Change,
        what: "platform name".to_owned(),
        detail: format!("{from} -> {to}"),
        disruptive: false,
    };
    Plan {
        steps: if from == to { Vec::new() } else { vec![step] },
        order: Vec::new(),
    }
}

#[async_trait]
impl Control for Name {
    async fn status(&self) -> Value {
        let intents = self
            .intents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len();
        json!({ "warnings": [], "name": self.name(), "intents_seen": intents })
    }

    async fn not_ready(&self) -> Option<String> {
        None
    }

    async fn plan(&self, new: &Loaded) -> Plan {
        difference(&self.name(), &new.platform.name)
    }

    async fn reload(&self, new: Loaded) -> Result<Plan, Refused> {
        if new.platform.name == "unwanted" {
            return Err(Refused::new(Exit::Refused, "this name is not wanted here"));
        }
        let plan = difference(&self.name(), &new.platform.name);
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(plan)
    }

    async fn check_intent(&self, target: &Target) -> Result<(), Refused> {
        let known = target.0 == "this" || {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.platform.nodes.contains_key(&target.0)
        };
        match known {
            true => Ok(()),
            false => Err(Refused::new(
                Exit::Refused,
                format!("there is no node `{target}`"),
            )),
        }
    }

    async fn intents_changed(&self, intents: &[Intent]) {
        *self.intents.lock().unwrap_or_else(PoisonError::into_inner) = intents.to_vec();
    }

    /// The network `peers`, if the file has one: whoever is attached to it belongs to the pool.
    fn peering(&self, platform: &Platform, node: &str) -> Option<Peering> {
        let nodes = platform
            .nodes
            .values()
            .filter(|node| node.on.contains_key("peers"));
        Peering::on(
            platform,
            "peers",
            8182,
            node,
            nodes.map(|node| node.name.as_str()),
        )
    }

    async fn holders(&self, _: &Target) -> Vec<String> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = running
            .platform
            .nodes
            .values()
            .filter(|node| node.on.contains_key("peers"));
        let others = nodes
            .map(|node| node.name.clone())
            .filter(|name| *name != running.node);
        others.collect()
    }

    async fn facts(&self) -> Facts {
        let name = BTreeMap::from([("platform".to_owned(), self.name())]);
        Facts::from([("name".to_owned(), name)])
    }

    /// As many connections as its name has letters; none on `lb2`.
    async fn remaining(&self, target: &Target) -> Option<Remaining> {
        let connections = if target.0 == "lb2" {
            0
        } else {
            self.name().len() as u64
        };
        Some(Remaining {
            connections,
            places: vec![(target.0.clone(), connections)],
        })
    }

    async fn why(&self, query: &Value) -> Result<Value, Refused> {
        Ok(json!([format!("you asked for {query}")]))
    }

    fn routes(&self) -> axum::Router {
        axum::Router::new().route(
            "/v1/extra",
            get(|| async { "extra\n" }).post(|| async { "changed\n" }),
        )
    }
}

fn main() -> ExitCode {
    daemon::main::<Minimal>()
}
