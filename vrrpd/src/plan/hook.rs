//! CORE: the hook programs of this node, and what a change of them would do.

use std::collections::BTreeMap;

use conf::Platform;
use conf::platform::Hooks;
use daemon::plan::{PlanAction, PlanStep};

use super::Share;
use crate::hook::queue::Programs;
use crate::notice::About;

type Set = BTreeMap<About, Programs>;

/// The programs of the virtual routers and groups that this node runs; `None`: programs are not allowed.
pub(super) fn hooks(platform: &Platform, share: &Share) -> Option<Set> {
    if !platform.vrrpd.allow_hooks {
        return None;
    }
    let programs = |hooks: &Hooks| Programs {
        of: hooks.programs.clone(),
        timeout: hooks.timeout.as_duration(),
        user: platform.vrrpd.hook_user.clone(),
    };
    let mut set = Set::new();
    for key in share.routers.keys() {
        let hooks = platform.vips.get(&key.vip);
        if let Some(hooks) = hooks.and_then(|vip| vip.hooks.as_ref()) {
            set.insert(About::Router(key.clone()), programs(hooks));
        }
    }
    for name in share.groups().into_keys() {
        let hooks = platform.sync_groups.get(&name);
        if let Some(hooks) = hooks.and_then(|group| group.hooks.as_ref()) {
            set.insert(About::Group(name), programs(hooks));
        }
    }
    Some(set)
}

/// What going over from one set to another does. No virtual router is touched.
pub(super) fn steps(old: &Share, new: &Share) -> Vec<PlanStep> {
    let none = Set::new();
    let (before, after) = (
        old.hooks.as_ref().unwrap_or(&none),
        new.hooks.as_ref().unwrap_or(&none),
    );
    let mut steps = Vec::new();
    let mut step = |action, about: &About, detail: String| {
        steps.push(PlanStep {
            action,
            what: format!("hooks of {about}"),
            detail,
            disruptive: false,
        });
    };
    for (about, programs) in after {
        match before.get(about) {
            None => step(PlanAction::Add, about, text(programs)),
            Some(known) if known != programs => {
                let detail = format!("{} -> {}", text(known), text(programs));
                step(PlanAction::Change, about, detail);
            }
            Some(_) => {}
        }
    }
    for (about, programs) in before {
        if !after.contains_key(about) {
            step(PlanAction::Remove, about, text(programs));
        }
    }
    steps
}

fn text(programs: &Programs) -> String {
    let list: Vec<String> = programs
        .of
        .iter()
        .map(|(occasion, command)| format!("{}: {}", occasion.word(), command.join(" ")))
        .collect();
    format!(
        "[{}] as {} for at most {:?}",
        list.join(", "),
        programs.user,
        programs.timeout
    )
}
