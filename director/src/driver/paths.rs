//! SHELL: which paths the prober checks: those whose kernel service is there, and whose answers the kernel takes in.

use std::collections::BTreeSet;

use probe::{Change, Health, Target, TargetKey};

use super::Driver;
use crate::path_check;

impl Driver {
    /// Hands the prober its targets, if the paths among them are others than before.
    pub(super) fn probe_paths(&mut self) {
        let ready: BTreeSet<u32> = path_check::ready(
            &self.reconciler.layout().paths,
            &self.observed.table,
            &self.deviations,
        )
        .map(|path| path.mark)
        .collect();
        if ready != self.paths {
            self.paths = ready;
            self.prober.set_targets(self.targets());
        }
        self.path_problems =
            path_check::problems(&self.reconciler.layout().paths, &self.deviations);
    }

    /// A real server that came back is asked at once by the paths that failed with it: their own turn may be long away.
    pub(super) fn hasten_paths(&self, changes: &[Change]) {
        let back: BTreeSet<&TargetKey> = changes
            .iter()
            .filter(|change| change.status.health == Health::Up)
            .map(|change| &change.key)
            .collect();
        let pools = self.reconciler.layout().pools.iter();
        let members = pools.flat_map(|pool| &pool.members);
        let paths = members.filter(|member| back.contains(&member.key));
        let keys: BTreeSet<TargetKey> = paths
            .flat_map(|member| &member.paths)
            .map(|path| path.key.clone())
            .collect();
        if !keys.is_empty() {
            self.prober.hasten(&keys);
        }
    }

    /// Everything that is checked by the layout in force.
    pub(super) fn targets(&self) -> Vec<Target> {
        let layout = self.reconciler.layout();
        let mut targets = layout.targets();
        let paths = layout.paths.iter();
        let ready = paths.filter(|path| self.paths.contains(&path.mark));
        targets.extend(ready.map(|path| path.target()));
        targets
    }
}
