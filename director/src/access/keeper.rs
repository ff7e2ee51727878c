//! SHELL: keeps the table of lists and limits in place: compares, repairs, counts. What it should hold is decided by [`ruleset`].
//!
//! Where the kernel cannot have it, the services go on without: whether a node balances does not depend on its filter.

use conf::Platform;
use daemon::plan::PlanStep;
use net::nft::Content;
use serde_json::{Value, json};

use super::filter::Filter;
use super::tally::Tally;
use super::{Reason, Wanted, limit_words, ruleset, steps, wanted};
use crate::marking::chain;

/// The table of this node.
#[derive(Debug)]
pub struct Keeper {
    filter: Box<dyn Filter>,
    /// What was put in place, or found there.
    kept: Option<Kept>,
    /// Whether a table that nobody wants has been looked for: a predecessor may have left one.
    looked: bool,
    tally: Tally,
    problem: Option<String>,
    drift: u64,
}

#[derive(Debug)]
struct Kept {
    wanted: Wanted,
    /// How the kernel shows it.
    content: Content,
    /// The generation in which it was seen: while that stays, nobody has changed anything.
    generation: Option<u32>,
}

/// What a round found, for the log and the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All is as it should be.
    InPlace,
    /// A table was put in place, or changed, or removed, because the file says so.
    Changed,
    /// Somebody had changed the table.
    Repaired,
    /// It cannot be kept: the reason, if it is a new one.
    Unavailable(Option<String>),
}

impl Keeper {
    /// One that has not looked yet.
    pub fn new(filter: impl Filter + 'static) -> Self {
        Self {
            filter: Box::new(filter),
            kept: None,
            looked: false,
            tally: Tally::default(),
            problem: None,
            drift: 0,
        }
    }

    /// What keeps the lists and limits from being enforced, as a sentence.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The sums of dropped packets.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Compares and repairs.
    pub async fn reconcile(&mut self, platform: &Platform, node: &str) -> Outcome {
        let wanted = wanted(platform, node);
        if wanted.is_empty() && self.kept.is_none() && self.looked {
            self.problem = None;
            return Outcome::InPlace;
        }
        match self.try_reconcile(&wanted).await {
            Ok(outcome) => {
                self.problem = None;
                outcome
            }
            // A node that wants no table needs none: a kernel without nftables is no problem there.
            Err(_) if wanted.is_empty() && self.kept.is_none() => {
                self.looked = true;
                self.problem = None;
                Outcome::InPlace
            }
            Err(error) => {
                let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
                let problem = format!(
                    "lists and limits of {} are not enforced, everybody is let in: {}{}",
                    names.join(", "),
                    chain(&error),
                    remedy(&error)
                );
                let news = self.problem.as_ref() != Some(&problem);
                self.problem = Some(problem.clone());
                Outcome::Unavailable(news.then_some(problem))
            }
        }
    }

    /// Reads the counters and changes nothing.
    pub async fn count(&mut self) -> Outcome {
        if let Some(kept) = &self.kept
            && let Ok(counters) = self.filter.counters(ruleset::TABLE).await
        {
            self.tally.handle_counters(&kept.wanted, &counters);
        }
        Outcome::InPlace
    }

    async fn try_reconcile(&mut self, wanted: &Wanted) -> Result<Outcome, net::Error> {
        if wanted.is_empty() {
            let removed = self.filter.remove(ruleset::TABLE).await?;
            self.looked = true;
            self.kept = None;
            self.tally = Tally::default();
            return Ok(if removed {
                Outcome::Changed
            } else {
                Outcome::InPlace
            });
        }
        // Asked before the content: what changes in between shows next time.
        let generation = self.filter.generation().await?;
        let same = self
            .kept
            .as_ref()
            .is_some_and(|kept| kept.wanted == *wanted && kept.generation == Some(generation));
        let mut outcome = Outcome::InPlace;
        if !same {
            outcome = self.compare(wanted, generation).await?;
        }
        let counters = self.filter.counters(ruleset::TABLE).await?;
        self.tally.handle_counters(wanted, &counters);
        Ok(outcome)
    }

    async fn compare(&mut self, wanted: &Wanted, generation: u32) -> Result<Outcome, net::Error> {
        let table = ruleset::table(wanted);
        let found = self.filter.read(ruleset::TABLE).await?;
        let kept = self.kept.as_ref().filter(|kept| kept.wanted == *wanted);
        let content = kept.map_or_else(|| table.content(), |kept| kept.content.clone());
        let (outcome, content, generation) = if found.as_ref() == Some(&content) {
            (Outcome::InPlace, content, Some(generation))
        } else {
            let drifted = kept.is_some();
            // The last of the old counters.
            if let (Some(kept), true) = (&self.kept, found.is_some()) {
                let counters = self.filter.counters(ruleset::TABLE).await?;
                self.tally.handle_counters(&kept.wanted, &counters);
            }
            self.filter.replace(&table).await?;
            self.tally.handle_replaced();
            let shown = self.filter.read(ruleset::TABLE).await?;
            if shown.as_ref() != Some(&table.content()) {
                // Not a reason to put it in place again and again.
                tracing::warn!(
                    table = ruleset::TABLE,
                    "the kernel shows the table otherwise than it was written"
                );
            }
            let outcome = if drifted {
                self.drift += 1;
                Outcome::Repaired
            } else {
                Outcome::Changed
            };
            (outcome, shown.unwrap_or_default(), None)
        };
        self.kept = Some(Kept {
            wanted: wanted.clone(),
            content,
            generation,
        });
        Ok(outcome)
    }

    /// What another platform would change, as lines of a plan.
    pub fn plan(&self, platform: &Platform, node: &str) -> Vec<PlanStep> {
        let nothing = Wanted::new();
        let before = self.kept.as_ref().map_or(&nothing, |kept| &kept.wanted);
        steps(before, &wanted(platform, node))
    }

    /// Removes the table.
    pub async fn remove(&mut self) {
        if self.kept.is_none() && self.looked {
            return;
        }
        let result = self.filter.remove(ruleset::TABLE).await;
        match result {
            Ok(_) => self.kept = None,
            // What was never there cannot be removed.
            Err(_) if self.kept.is_none() => {}
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "cannot remove the table of lists and limits"
                );
            }
        }
    }

    /// The part of the status that is about lists and limits, by service.
    pub fn data(&self, platform: &Platform, node: &str) -> Value {
        let enforced = self.kept.as_ref().filter(|_| self.problem.is_none());
        let services = wanted(platform, node).into_iter().map(|(name, access)| {
            let dropped = |reason| {
                let dropped = self.tally.dropped().get(&(name.clone(), reason));
                dropped.copied().unwrap_or(0)
            };
            json!({
                "service": name,
                "rule": access.describe(),
                "allow": access.allow.len(),
                "deny": access.deny.len(),
                "new_connections": access.limit.map(limit_words),
                "enforced": enforced.is_some_and(|kept| kept.wanted.get(&name) == Some(&access)),
                "dropped": {
                    "denied": dropped(Reason::Denied),
                    "not_allowed": dropped(Reason::NotAllowed),
                    "over_limit": dropped(Reason::OverLimit),
                },
            })
        });
        json!({ "services": services.collect::<Vec<_>>(), "repaired": self.drift })
    }
}

/// What can be done about an error, if it is known.
fn remedy(error: &net::Error) -> &'static str {
    if error.is_denied() {
        return "; the director needs CAP_NET_ADMIN";
    }
    match error.raw_os_error() {
        // EOPNOTSUPP: no such family, or no nftables at all; ENOENT on a rule: one of its expressions.
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
            "; this kernel has no nftables for the family inet (module nf_tables, CONFIG_NF_TABLES_INET)"
        }
        Some(libc::ENOENT) => "; is the module nft_limit missing?",
        _ => "",
    }
}
