//! CORE: the intents that a node holds, and how two nodes come to hold the same.
//!
//! Per target and slot the later entry stands, so it does not matter in which order, how often and over which node entries arrive: merging is
//! commutative, associative and idempotent. What ended is remembered for [`REMEMBERED`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;

use jiff::{SignedDuration, Timestamp};

use super::{Entry, Intent, Slot, Stamp, Standing, Target};

/// How many entries are kept at most, so that a runaway script cannot grow the file for ever.
pub const MAX_INTENTS: usize = 4096;

/// How long the end of an intent is remembered. A node that was away for longer may bring back what was withdrawn meanwhile.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The intents of a node: those in force, and the ends that are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intents {
    /// The highest number seen.
    clock: u64,
    entries: BTreeMap<(Target, Slot), Entry>,
}

impl Intents {
    /// What was stored.
    pub fn from_entries(clock: u64, entries: Vec<Entry>) -> Self {
        let mut intents = Self {
            clock,
            entries: BTreeMap::new(),
        };
        for entry in entries {
            intents.take(entry);
        }
        intents
    }

    /// Intents without stamps, as of an older file: the later in the list is the later one.
    pub fn from_list(list: Vec<Intent>, node: &str) -> Self {
        let mut intents = Self::default();
        for intent in list {
            let stamp = intents.next_stamp(node);
            intents.take(Entry::set(intent, stamp));
        }
        intents
    }

    /// The intents in force, by target.
    pub fn list(&self) -> Vec<Intent> {
        self.in_force().cloned().collect()
    }

    /// How many are in force.
    pub fn len(&self) -> usize {
        self.in_force().count()
    }

    /// Whether none is in force.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether another target would be too many.
    pub fn is_full(&self) -> bool {
        self.len() >= MAX_INTENTS
    }

    /// The highest number seen.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// All entries, by target.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// What the other nodes of the pool are to hold too.
    pub fn shared(&self) -> Vec<Entry> {
        self.entries()
            .filter(|entry| entry.target.is_shared())
            .cloned()
            .collect()
    }

    /// The entry about a target and slot.
    pub fn entry(&self, target: &Target, slot: Slot) -> Option<&Entry> {
        self.entries.get(&(target.clone(), slot))
    }

    /// The stamp of the next change on `node`.
    pub fn next_stamp(&self, node: &str) -> Stamp {
        Stamp {
            number: self.clock.saturating_add(1),
            node: node.to_owned(),
        }
    }

    /// Takes an entry, if it is later than what is held about the same. Answers whether it was taken.
    pub fn take(&mut self, entry: Entry) -> bool {
        self.clock = self.clock.max(entry.stamp.number);
        let key = (entry.target.clone(), entry.slot);
        if !self.entries.contains_key(&key) && !self.make_room() {
            return false;
        }
        match self.entries.entry(key) {
            Place::Vacant(place) => {
                place.insert(entry);
                true
            }
            Place::Occupied(mut place) if entry.is_later_than(place.get()) => {
                place.insert(entry);
                true
            }
            Place::Occupied(_) => false,
        }
    }

    /// Takes what another node holds, and answers with what was taken.
    pub fn merge(&mut self, clock: u64, entries: &[Entry]) -> Vec<Entry> {
        self.clock = self.clock.max(clock);
        let mut taken = Vec::new();
        for entry in entries.iter().filter(|entry| entry.target.is_shared()) {
            if self.take(entry.clone()) {
                taken.push(entry.clone());
            }
        }
        taken
    }

    /// Ends what is over by `now`, and answers with it; forgets ends that are old.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Intent> {
        let mut ended = Vec::new();
        for entry in self.entries.values_mut() {
            let Some(intent) = entry.intent().filter(|intent| intent.expired(now)) else {
                continue;
            };
            let at = intent.until.unwrap_or(now);
            ended.push(intent.clone());
            // The stamp stays: every node comes to the same end by itself.
            entry.standing = Standing::Ended {
                at,
                who: "its end".to_owned(),
            };
        }
        self.entries.retain(|_, entry| match &entry.standing {
            Standing::InForce(_) => true,
            Standing::Ended { at, .. } => now.duration_since(*at) < REMEMBERED,
        });
        ended
    }

    /// When the next intent ends.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.in_force().filter_map(|intent| intent.until).min()
    }

    fn in_force(&self) -> impl Iterator<Item = &Intent> {
        self.entries.values().filter_map(Entry::intent)
    }

    /// Room for one more, if need be by forgetting the oldest end.
    fn make_room(&mut self) -> bool {
        if self.entries.len() < MAX_INTENTS {
            return true;
        }
        let oldest = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.intent().is_none())
            .min_by_key(|(_, entry)| &entry.stamp)
            .map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.entries.remove(&key).is_some())
    }
}

#[cfg(test)]
mod tests;
