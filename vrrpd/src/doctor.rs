//! SHELL: `doctor`: looks at the machine for what makes VRRP fail in production, and says why it matters and what to do. It changes nothing.
//!
//! What was seen is gathered first (`Facts`), files below a root that a test can choose; `findings` judges it.

mod hearing;
mod hooks;
mod interface;
mod process;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use net::{Address, Link, Net};
use serde::Serialize;
use serde_json::Value;

use crate::plan::{Key, Share, Wanted};
use process::Process;
use tree::Tree;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grade {
    /// As it should be.
    Fine,
    /// It works, and would work better.
    Advice,
    /// Failover does not work, or will not when it is needed.
    Bad,
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How much it matters.
    pub(crate) grade: Grade,
    /// What was looked at.
    pub(crate) what: String,
    /// What was found.
    pub(crate) found: String,
    /// Why it matters, unless it is fine.
    pub(crate) why: Option<String>,
    /// The command that changes it, or what else to do.
    pub(crate) fix: Option<String>,
}

impl Finding {
    fn fine(what: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding {
            grade: Grade::Fine,
            what: what.into(),
            found: found.into(),
            why: None,
            fix: None,
        }
    }

    fn or(self, grade: Grade, why: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding {
            grade,
            why: Some(why.into()),
            fix: Some(fix.into()),
            ..self
        }
    }

    /// It must be changed.
    fn bad(self, why: impl Into<String>, fix: impl Into<String>) -> Finding {
        self.or(Grade::Bad, why, fix)
    }

    /// It could be better.
    fn advice(self, why: impl Into<String>, fix: impl Into<String>) -> Finding {
        self.or(Grade::Advice, why, fix)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.grade {
            Grade::Fine => ' ',
            Grade::Advice => '~',
            Grade::Bad => '!',
        };
        write!(f, "{mark} {}: {}", self.what, self.found)?;
        if let Some(why) = &self.why {
            write!(f, "\n      why: {why}")?;
        }
        if let Some(fix) = &self.fix {
            write!(f, "\n      fix: {fix}")?;
        }
        Ok(())
    }
}

/// What was seen of the machine.
pub(super) struct Facts<'a> {
    share: &'a Share,
    tree: Tree,
    links: Vec<Link>,
    addresses: Vec<Address>,
    process: Process,
    /// The data of a running daemon's status.
    status: Option<&'a Value>,
}

/// Looks at everything that this node's virtual routers need; `status` is what the running daemon says, if one runs.
pub(crate) async fn examine(
    share: &Share,
    status: Option<&Value>,
) -> Result<Vec<Finding>, net::Error> {
    let net = Net::connect()?;
    Ok(findings(&Facts {
        share,
        tree: Tree::new("/"),
        links: net.links().await?,
        addresses: net.addresses().await?,
        process: Process::here(),
        status,
    }))
}

fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let share = facts.share;
    let mut findings = process::findings(facts);
    findings.extend(hooks::findings(share));
    for warning in &share.warnings {
        let found = Finding::fine("platform file", warning.clone());
        findings.push(found.bad("the virtual router does not run", "vrrpd check"));
    }
    if share.routers.is_empty() {
        findings.push(Finding::fine("virtual routers", "none on this node"));
    }
    for (key, wanted) in &share.routers {
        if !wanted.config.has_peers {
            let found = Finding::fine(format!("vip {key}"), "has one director only");
            let fix = format!("name another director in vip.{}.directors", key.vip);
            findings.push(found.bad("nobody takes it over", fix));
        }
        findings.extend(hearing::strangers(key, wanted, facts));
    }
    let mut interfaces: BTreeMap<&str, BTreeMap<&Key, &Wanted>> = BTreeMap::new();
    for (key, wanted) in &share.routers {
        let users = interfaces.entry(&wanted.interface).or_default();
        users.insert(key, wanted);
    }
    for (name, routers) in &interfaces {
        match facts.links.iter().find(|link| link.name == *name) {
            Some(link) => {
                findings.extend(interface::findings(link, routers, facts));
                findings.extend(hearing::findings(link, routers, facts));
            }
            None => findings.push(
                Finding::fine(format!("interface {name}"), "does not exist").bad(
                    "its virtual routers neither send nor hear adverts",
                    "ip link, and name it in the platform file as it is called here",
                ),
            ),
        }
    }
    let others: BTreeSet<&str> = share
        .routers
        .values()
        .flat_map(|wanted| &wanted.held)
        .map(|held| held.interface.as_str())
        .filter(|name| !interfaces.contains_key(name))
        .collect();
    for link in &facts.links {
        // Other networks of a VIP, where no adverts go, and interfaces with virtual MACs are seen to elsewhere.
        if others.contains(link.name.as_str()) && !crate::vmac::is_device(link) {
            findings.extend(interface::holder(link, facts));
        }
    }
    findings
}
