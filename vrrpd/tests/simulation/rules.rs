//! What must hold: at any time, and once a world had the time to settle.

use conf::platform::Preempt;
use vrrpd::event::{StateName, YIELDING};

use super::world::{Member, World};

impl World {
    /// After every event: all members of a sync group are in one state.
    pub(crate) fn always(&self) {
        if !self.setup.grouped {
            return;
        }
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            let states: Vec<StateName> = node.members.iter().map(class).collect();
            if states.iter().any(|state| *state != states[0]) {
                self.fail(&format!("the group of node {at} is torn: {states:?}"));
            }
        }
    }

    /// No two that reach each other have the VIP.
    pub(crate) fn one_holder(&self) {
        for lan in 0..self.lans.len() {
            for one in 0..self.nodes.len() {
                for other in 0..one {
                    let both = self.nodes[one].members[lan].has_vip
                        && self.nodes[other].members[lan].has_vip;
                    if both && self.reaches(one, other, lan) {
                        self.fail(&format!("nodes {other} and {one} both answer on lan {lan}"));
                    }
                }
            }
        }
    }

    /// Everybody who can is master or hears one that is good enough; masters have the VIP, have announced it, and do not hear each other.
    pub(crate) fn in_order(&self) {
        self.one_holder();
        self.one_master_by_heartbeats();
        for node in 0..self.nodes.len() {
            let able = |lan: usize| self.nodes[node].members[lan].link;
            let all_able = (0..self.lans.len()).all(able);
            let masters: Vec<bool> = (0..self.lans.len())
                .map(|lan| self.is_master(node, lan))
                .collect();
            if !all_able {
                if masters.contains(&true) {
                    self.fail(&format!("node {node} is master without a link"));
                }
                continue;
            }
            if masters[0] {
                self.is_a_good_master(node);
            } else {
                self.has_a_better_one(node);
            }
        }
    }

    fn is_a_good_master(&self, node: usize) {
        for (lan, member) in self.nodes[node].members.iter().enumerate() {
            if !member.has_vip {
                self.fail(&format!("master {node} has no address on lan {lan}"));
            }
            if member.announced == 0 {
                self.fail(&format!("master {node} has not announced on lan {lan}"));
            }
            let heard = (0..self.nodes.len()).filter(|other| *other != node);
            let mut heard = heard
                .filter(|other| self.is_master(*other, lan) && self.reaches(node, *other, lan));
            if let Some(other) = heard.next() {
                self.fail(&format!(
                    "nodes {node} and {other} are masters on lan {lan}"
                ));
            }
        }
    }

    fn has_a_better_one(&self, node: usize) {
        let own = self.nodes[node].members[0].router.priority();
        let mut heard = Vec::new();
        let mut silent = false;
        for lan in 0..self.lans.len() {
            let before = heard.len();
            for other in 0..self.nodes.len() {
                if other != node && self.is_master(other, lan) && self.reaches(node, other, lan) {
                    heard.push(self.nodes[other].members[lan].router.priority());
                }
            }
            silent |= heard.len() == before;
        }
        if heard.is_empty() && self.setup.beats && self.heartbeats_of_a_master(node) {
            return;
        }
        let Some(best) = heard.iter().max() else {
            self.fail(&format!("nobody holds the VIP for node {node}"));
        };
        let preempts = match self.setup.config.preempt {
            Preempt::Never => *best <= YIELDING,
            Preempt::After(_) => true,
        };
        // Heartbeats keep a group from taking over on a network where it does not hear whom it would replace.
        let held = silent && self.setup.beats;
        if preempts && !held && *best < own {
            self.fail(&format!("node {node} of {own} leaves it to one of {best}"));
        }
    }
}

impl World {
    /// Where all hear the heartbeats of all, a split network has one master: a second one only beside one that yields.
    fn one_master_by_heartbeats(&self) {
        if !self.setup.beats {
            return;
        }
        for lan in 0..self.lans.len() {
            let masters = (0..self.nodes.len()).filter(|node| self.is_master(*node, lan));
            let masters: Vec<usize> = masters.collect();
            let able = |node: &&usize| self.priority(**node, lan) > YIELDING;
            if masters.len() > 1 && masters.iter().any(|node| able(&node)) {
                self.fail(&format!("nodes {masters:?} are masters on lan {lan}"));
            }
        }
    }

    /// Somebody able is master on a network, wherever.
    fn heartbeats_of_a_master(&self, node: usize) -> bool {
        (0..self.lans.len()).any(|lan| {
            let mut others = (0..self.nodes.len()).filter(|other| *other != node);
            others.any(|other| self.is_master(other, lan) && self.priority(other, lan) > YIELDING)
        })
    }

    fn priority(&self, node: usize, lan: usize) -> u8 {
        self.nodes[node].members[lan].router.priority()
    }
}

/// One that waits for its start-up delay waits as a backup does.
fn class(member: &Member) -> StateName {
    match member.router.name() {
        StateName::Initialize => StateName::Backup,
        other => other,
    }
}
