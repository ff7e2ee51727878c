//! SHELL: keeps the table of `accept = false` in place: before the addresses are there, until they are gone. A task of its own, since
//! nftables may be busy for long and a takeover must not wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use net::nft::{Content, Nft};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{TABLE, closed, table};
use crate::plan::{Key, Wanted};

/// How often it is asked whether somebody has changed the table.
const LOOK: Duration = Duration::from_secs(2);
/// How long an address waits for the table, at most.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long the end waits for the table's removal.
const FAREWELL: Duration = Duration::from_secs(2);

/// What has been done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The addresses in the table.
    pub(crate) closed: BTreeSet<IpAddr>,
    /// Packets that were dropped.
    pub(crate) dropped: u64,
    /// Times the table was put back.
    pub(crate) repaired: u64,
    /// Why it cannot be kept.
    pub(crate) trouble: Option<String>,
}

/// The task, as its user sees it.
pub(crate) struct Guard {
    kept: watch::Receiver<Kept>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Guard {
    pub(crate) fn start(routers: watch::Receiver<BTreeMap<Key, Wanted>>) -> Guard {
        let (sender, kept) = watch::channel(Kept::default());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(work(routers, sender, stopped));
        Guard { kept, stop, task }
    }

    /// Waits a little until packets to the closed addresses of `routers` are dropped. Where they cannot be, the VIP is held all the same.
    pub(crate) async fn ready(&mut self, routers: &BTreeMap<Key, Wanted>) {
        let wanted = closed(routers);
        if wanted.is_empty() {
            return;
        }
        let ready = self
            .kept
            .wait_for(|kept| kept.trouble.is_some() || wanted.is_subset(&kept.closed));
        let _ = tokio::time::timeout(PATIENCE, ready).await;
    }

    /// What has been done.
    pub(crate) fn kept(&self) -> Kept {
        self.kept.borrow().clone()
    }

    /// Waits until that is something else.
    pub(crate) async fn changed(&mut self) {
        if self.kept.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Takes the table away: the addresses are gone.
    pub(crate) async fn end(self) {
        drop(self.stop);
        if tokio::time::timeout(FAREWELL, self.task).await.is_err() {
            tracing::warn!(
                table = TABLE,
                "the nftables table may be left behind: the next start takes it over, `vrrpd cleanup` removes it"
            );
        }
    }
}

/// Removes a table that a killed vrrpd has left behind; false if there is none.
pub(crate) async fn clean() -> Result<bool, net::Error> {
    Nft::open()?.remove(TABLE).await
}

async fn work(
    mut routers: watch::Receiver<BTreeMap<Key, Wanted>>,
    sender: watch::Sender<Kept>,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut keeper = Keeper::default();
    let mut changed = true;
    loop {
        let wanted = closed(&routers.borrow_and_update());
        let mut now = wanted.clone();
        if changed {
            // What is open from now on may still be on its interface for a moment.
            now.extend(&keeper.kept.closed);
        }
        keeper.keep(now).await;
        sender.send_if_modified(|kept| {
            let different = *kept != keeper.kept;
            kept.clone_from(&keeper.kept);
            different
        });
        let settled = wanted.is_empty() && keeper.content.is_none();
        tokio::select! {
            _ = &mut stopped => break,
            heard = routers.changed() => {
                if heard.is_err() {
                    // The end has begun, and addresses may still be there.
                    let _ = stopped.await;
                    break;
                }
                changed = true;
            }
            () = tokio::time::sleep(LOOK), if !settled => changed = false,
        }
    }
    keeper.keep(BTreeSet::new()).await;
}

#[derive(Default)]
struct Keeper {
    nft: Option<Nft>,
    kept: Kept,
    /// How the kernel shows the table that was put in place, and the ruleset's generation in which it was seen.
    content: Option<(Content, Option<u32>)>,
    /// Whether a table of a predecessor has been looked for.
    looked: bool,
    /// Dropped packets that counters from before have counted.
    counted: u64,
}

impl Keeper {
    /// Makes the table drop packets to exactly these addresses; without any there is no table.
    async fn keep(&mut self, wanted: BTreeSet<IpAddr>) {
        let idle = wanted.is_empty() && self.content.is_none();
        if idle && self.looked {
            return;
        }
        match self.try_keep(wanted).await {
            Ok(()) => self.kept.trouble = None,
            // Who wants no table needs no nftables.
            Err(_) if idle => self.looked = true,
            Err(error) => {
                let cause = std::error::Error::source(&error);
                let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
                let trouble = format!(
                    "accept = false is not in force, packets to the VIP are taken: {error}{cause} (it needs nftables in the kernel and CAP_NET_ADMIN)"
                );
                if self.kept.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(table = TABLE, trouble);
                }
                self.kept.trouble = Some(trouble);
            }
        }
    }

    async fn try_keep(&mut self, wanted: BTreeSet<IpAddr>) -> Result<(), net::Error> {
        let nft = match &mut self.nft {
            Some(nft) => nft,
            none => none.insert(Nft::open()?),
        };
        if wanted.is_empty() {
            nft.remove(TABLE).await?;
            self.looked = true;
            self.content = None;
            self.kept.closed = wanted;
            return Ok(());
        }
        self.looked = true;
        // Asked before the content: what changes in between shows next time.
        let generation = nft.generation().await?;
        let same = self.kept.closed == wanted;
        match &self.content {
            Some((_, Some(seen))) if same && *seen == generation => {}
            before => {
                let table = table(&wanted);
                let expected = match before {
                    Some((content, _)) if same => content.clone(),
                    _ => table.content(),
                };
                let found = nft.read(TABLE).await?;
                if found.as_ref() == Some(&expected) {
                    self.content = Some((expected, Some(generation)));
                } else {
                    if same && before.is_some() {
                        self.kept.repaired += 1;
                        tracing::warn!(
                            table = TABLE,
                            "somebody had changed the nftables table; it is put back"
                        );
                    }
                    self.counted = self.kept.dropped;
                    nft.replace(&table).await?;
                    let shown = nft.read(TABLE).await?;
                    self.content = Some((shown.unwrap_or_default(), None));
                }
                self.kept.closed = wanted;
            }
        }
        let counters = nft.counters(TABLE).await?;
        let packets: u64 = counters.iter().map(|counter| counter.packets).sum();
        self.kept.dropped = self.kept.dropped.max(self.counted + packets);
        Ok(())
    }
}
