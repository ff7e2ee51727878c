//! SHELL: what the control sockets ask of `vrrpd`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::routing::get;
use daemon::intent::{Intent, Slot, Target, Want};
use daemon::plan::Plan;
use daemon::{Control, Exit, Loaded, Refused, clock};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::mailbox::{Mailbox, Snapshot};
use crate::netlink::Kernel;
use crate::plan::{difference, share};
use crate::run::{SharedDesk, lock};
use crate::secrets;
use crate::status;

/// The running daemon as the control sockets see it.
#[derive(Clone)]
pub(crate) struct VrrpControl {
    pub(crate) desk: SharedDesk,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) kernel: watch::Receiver<Kernel>,
    pub(crate) changed: Arc<Notify>,
    /// A virtual router has changed its state.
    pub(crate) moved: Arc<Notify>,
}

impl VrrpControl {
    /// The protocol thread answers within microseconds; waiting for one that does not must not hold up the runtime.
    async fn snapshot(&self) -> Option<Snapshot> {
        let mailbox = self.mailbox.clone();
        tokio::task::spawn_blocking(move || mailbox.snapshot())
            .await
            .ok()
            .flatten()
    }
}

#[async_trait]
impl Control for VrrpControl {
    async fn status(&self) -> Value {
        let snapshot = self.snapshot().await;
        let kernel = self.kernel.borrow().clone();
        status::data(&lock(&self.desk), snapshot.as_ref(), &kernel)
    }

    async fn not_ready(&self) -> Option<String> {
        if self.kernel.borrow().found.is_none() {
            return Some("the interfaces have not been read yet".to_owned());
        }
        let desk = lock(&self.desk);
        let waiting = desk
            .share()
            .routers
            .keys()
            .find(|key| !desk.has_started(key));
        waiting.map(|key| format!("virtual router {key} waits for the director's first word"))
    }

    async fn alive(&self) -> bool {
        self.snapshot().await.is_some()
    }

    async fn plan(&self, new: &Loaded) -> Plan {
        // A secret that cannot be read is named by the reload that needs it.
        let secrets = secrets::read(&new.platform, &new.node).unwrap_or_default();
        let desk = lock(&self.desk);
        difference(desk.share(), &share(&new.platform, &new.node, &secrets))
    }

    async fn reload(&self, new: Loaded) -> Result<Plan, Refused> {
        let secrets = secrets::read(&new.platform, &new.node)
            .map_err(|error| Refused::new(Exit::Refused, error.to_string()))?;
        let plan = {
            let mut desk = lock(&self.desk);
            if desk.is_held() {
                let reason = "an operator holds this daemon: `vrrpd unhold` or the end of the hold comes first";
                return Err(Refused::new(Exit::Refused, reason));
            }
            let plan = difference(desk.share(), &share(&new.platform, &new.node, &secrets));
            desk.set_platform(new.platform, new.node, &secrets, clock::now());
            plan
        };
        self.changed.notify_one();
        // It answers after it has taken the new routers.
        match self.snapshot().await {
            Some(_) => Ok(plan),
            None => Err(Refused::new(
                Exit::Failed,
                "the protocol thread does not answer: restart vrrpd",
            )),
        }
    }

    async fn check_want(&self, want: &Want) -> Result<(), Refused> {
        match want {
            Want::Weight { .. } => Err(Refused::new(
                Exit::Refused,
                "a VIP has no weight: `vrrpd drain` leaves it to others, the file's priorities choose among them",
            )),
            Want::Drain | Want::Disable | Want::Failover if lock(&self.desk).is_held() => {
                Err(Refused::new(
                    Exit::Refused,
                    "an operator holds this daemon, so nothing would move: `vrrpd unhold` or the end of the hold comes first",
                ))
            }
            Want::Drain | Want::Disable | Want::Failover | Want::Hold => Ok(()),
        }
    }

    async fn check_intent(&self, target: &Target) -> Result<(), Refused> {
        let desk = lock(&self.desk);
        let found = desk.targets(&target.0);
        if found.is_empty() && target.0 != "this" {
            let known: Vec<String> = desk
                .share()
                .routers
                .keys()
                .map(ToString::to_string)
                .collect();
            let reason = format!(
                "`{target}` is neither `this` nor a VIP of node {}; its VIPs: {}",
                desk.node(),
                known.join(", ")
            );
            return Err(Refused::new(Exit::Refused, reason));
        }
        match found.iter().find(|key| desk.is_alone(key)) {
            Some(key) if target.0 != "this" => Err(Refused::new(
                Exit::Refused,
                format!("{key} has no other director that could take it over"),
            )),
            _ => Ok(()),
        }
    }

    async fn intents_changed(&self, intents: &[Intent]) {
        lock(&self.desk).handle_intents(intents, clock::now());
        self.changed.notify_one();
    }

    async fn fulfilled(&self) -> Vec<(Target, Slot, String)> {
        loop {
            let moved = self.moved.notified();
            let over = lock(&self.desk).handovers_over();
            if !over.is_empty() {
                let reason = "no other director has the VIP any more";
                let ended = over
                    .into_iter()
                    .map(|target| (Target(target), Slot::Service, reason.to_owned()));
                return ended.collect();
            }
            moved.await;
        }
    }

    async fn why(&self, query: &Value) -> Result<Value, Refused> {
        let target = query["args"][0].as_str().unwrap_or("this");
        let keys = lock(&self.desk).targets(target);
        if keys.is_empty() {
            let reason = format!(
                "`{target}` is no VIP of this node: name a VIP, one of its addresses, or `this`"
            );
            return Err(Refused::new(Exit::Refused, reason));
        }
        let status = self.status().await;
        let chosen: serde_json::Map<String, Value> = keys
            .iter()
            .map(|key| {
                (
                    key.to_string(),
                    status["virtual_routers"][key.to_string()].clone(),
                )
            })
            .collect();
        Ok(Value::Object(chosen))
    }

    fn routes(&self) -> axum::Router {
        let control = self.clone();
        let vips = move || {
            let control = control.clone();
            async move {
                let status = control.status().await;
                Json(json!(status["virtual_routers"]))
            }
        };
        axum::Router::new().route("/v1/vips", get(vips))
    }
}
