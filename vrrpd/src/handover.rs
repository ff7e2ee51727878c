//! CORE: planned handovers: from an operator's `failover` until the node that took the VIP over is gone.
//!
//! Meanwhile this node stays behind the others, also over a restart. Once every virtual router of a handover is master here again, although
//! it stayed behind, nobody else is there to have it: the handover has served its purpose, and priorities are the file's again.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use crate::event::StateName;
use crate::plan::Key;

/// Where a virtual router of a handover is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Still here.
    Here,
    /// Given away, or not here in the first place.
    Away,
    /// It was away, and nobody else has it any more.
    Back,
}

/// The handovers in force.
#[derive(Debug, Default)]
pub struct Handovers {
    targets: BTreeMap<String, BTreeSet<Key>>,
    places: BTreeMap<Key, Place>,
    masters: BTreeSet<Key>,
}

impl Handovers {
    /// The handovers that are in force from now on: what the operator named, with the virtual routers that this means. Known ones go on.
    pub fn set(&mut self, targets: BTreeMap<String, BTreeSet<Key>>) {
        let keys: BTreeSet<&Key> = targets.values().flatten().collect();
        self.places.retain(|key, _| keys.contains(key));
        for key in keys {
            let place = match self.masters.contains(key) {
                true => Place::Here,
                false => Place::Away,
            };
            self.places.entry(key.clone()).or_insert(place);
        }
        self.targets = targets;
    }

    /// A virtual router has gone over to another state.
    pub fn handle_state(&mut self, key: &Key, state: StateName) {
        let master = state == StateName::Master;
        if master {
            self.masters.insert(key.clone());
        } else {
            self.masters.remove(key);
        }
        if let Some(place) = self.places.get_mut(key) {
            *place = match (*place, master) {
                (Place::Away, true) => Place::Back,
                (place, true) => place,
                (Place::Here | Place::Away | Place::Back, false) => Place::Away,
            };
        }
    }

    /// Which have served their purpose.
    pub fn over(&self) -> Vec<String> {
        let back = |key: &Key| self.places.get(key) == Some(&Place::Back);
        let over = self
            .targets
            .iter()
            .filter(|(_, keys)| !keys.is_empty() && keys.iter().all(back));
        over.map(|(target, _)| target.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Family;

    fn key(vip: &str) -> Key {
        Key {
            vip: vip.to_owned(),
            family: Family::Ipv4,
        }
    }

    fn targets(list: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<Key>> {
        let one = |(target, vips): &(&str, &[&str])| {
            let keys = vips.iter().map(|vip| key(vip)).collect();
            ((*target).to_owned(), keys)
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn a_handover_ends_when_the_vip_comes_back_because_nobody_else_is_there() {
        use StateName::{Backup, Master};
        let mut handovers = Handovers::default();
        handovers.handle_state(&key("web"), Master);
        handovers.set(targets(&[("web", &["web"])]));
        assert_eq!(handovers.over(), [""; 0], "it is still here");
        handovers.handle_state(&key("web"), Backup);
        assert_eq!(handovers.over(), [""; 0], "another node has it");
        // Set again, as a reload does.
        handovers.set(targets(&[("web", &["web"])]));
        handovers.handle_state(&key("web"), Master);
        assert_eq!(handovers.over(), ["web"]);
        handovers.handle_state(&key("web"), Backup);
        assert_eq!(handovers.over(), [""; 0], "and away once more");
    }

    #[test]
    fn after_a_restart_it_was_never_here() {
        let mut handovers = Handovers::default();
        handovers.set(targets(&[("web", &["web"])]));
        handovers.handle_state(&key("web"), StateName::Backup);
        assert_eq!(handovers.over(), [""; 0]);
        handovers.handle_state(&key("web"), StateName::Master);
        assert_eq!(handovers.over(), ["web"]);
    }

    #[test]
    fn a_handover_of_several_ends_with_the_last() {
        let mut handovers = Handovers::default();
        handovers.set(targets(&[("this", &["mail", "web"]), ("web", &["web"])]));
        handovers.handle_state(&key("web"), StateName::Master);
        assert_eq!(handovers.over(), ["web"]);
        handovers.handle_state(&key("mail"), StateName::Master);
        assert_eq!(handovers.over(), ["this", "web"]);
        handovers.set(targets(&[]));
        assert_eq!(handovers.over(), [""; 0]);
        handovers.set(targets(&[("web", &["web"])]));
        assert_eq!(
            handovers.over(),
            [""; 0],
            "another one begins with the VIP here"
        );
    }
}
