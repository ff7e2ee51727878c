//! SHELL: the deadlines of drains, by the wall clock: CLOCK_MONOTONIC means nothing after a reboot, and little in a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use conf::Moment;
use ipvs_netlink::{DestinationKey, ServiceKey};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::file::JsonFile;
use crate::drain::{DrainReason, Draining, Remembered};

/// One drain as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Written {
    service: String,
    destination: String,
    deadline: Timestamp,
    reason: DrainReason,
}

/// The file of drains.
#[derive(Debug)]
pub(super) struct Drains {
    file: JsonFile<Vec<Written>>,
    /// What is written, by the other clock: so that the difference between the clocks, which drifts, makes no new file.
    known: BTreeMap<(ServiceKey, DestinationKey), Draining>,
}

impl Drains {
    pub(super) fn open(state_dir: &Path) -> Self {
        Self {
            file: JsonFile::open(
                state_dir.join("drains.json"),
                "the memory of drains cannot be read: what drains gets its whole time again",
            ),
            known: BTreeMap::new(),
        }
    }

    pub(super) fn remembered(&self, now: Moment, wall: Timestamp) -> Vec<Remembered> {
        let drains = self.file.content().iter().map(|written| {
            let left = written.deadline.duration_since(wall);
            Remembered {
                service: written.service.clone(),
                destination: written.destination.clone(),
                deadline: now + Duration::try_from(left).unwrap_or_default(),
            }
        });
        drains.collect()
    }

    pub(super) fn save(
        &mut self,
        draining: &BTreeMap<(ServiceKey, DestinationKey), Draining>,
        now: Moment,
        wall: Timestamp,
    ) {
        if *draining == self.known && (!draining.is_empty() || self.file.content().is_empty()) {
            return;
        }
        let written: Vec<Written> = draining
            .iter()
            .map(|((service, destination), draining)| {
                let left = SignedDuration::try_from(draining.deadline.since(now));
                Written {
                    service: service.to_string(),
                    destination: destination.to_string(),
                    deadline: left
                        .ok()
                        .and_then(|left| wall.checked_add(left).ok())
                        .unwrap_or(Timestamp::MAX),
                    reason: draining.reason,
                }
            })
            .collect();
        self.file.save(&written);
        self.known.clone_from(draining);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_same_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let key = ServiceKey::Mark {
            family: ipvs_netlink::Family::V4,
            mark: 7,
        };
        let destination = DestinationKey {
            address: [10, 0, 0, 11].into(),
            port: 0,
        };
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let wall = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).unwrap();
        let draining = BTreeMap::from([(
            (key, destination),
            Draining {
                deadline: at(160),
                reason: DrainReason::LeftFile,
            },
        )]);
        Drains::open(folder.path()).save(&draining, at(100), wall(0));
        // The machine's monotonic clock began anew; 20 s have passed.
        let remembered = |seconds| Drains::open(folder.path()).remembered(at(5), wall(seconds));
        let expected = Remembered {
            service: key.to_string(),
            destination: destination.to_string(),
            deadline: at(45),
        };
        assert_eq!(remembered(20), [expected]);
        assert_eq!(remembered(90)[0].deadline, at(5), "its time is over");

        let mut file = Drains::open(folder.path());
        file.save(&BTreeMap::new(), at(6), wall(21));
        assert_eq!(remembered(20), [], "ended drains are forgotten");
    }
}
