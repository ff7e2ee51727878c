//! CORE: what going over from one share to another does.

use conf::platform::{Checksum, Effect, Preempt};
use daemon::plan::{Plan, PlanAction, PlanStep};

use super::{Held, Key, Share, Wanted, hook};
use crate::packet::Way;
use crate::standing::name_of;

/// What changing from one share to another does.
pub fn difference(old: &Share, new: &Share) -> Plan {
    let mut plan = Plan::default();
    let mut step = |action, key: &Key, detail: String, disruptive| {
        plan.steps.push(PlanStep {
            action,
            what: format!("virtual router {key}"),
            detail,
            disruptive,
        });
    };
    for (key, wanted) in &new.routers {
        match old.routers.get(key) {
            None => {
                let detail = format!(
                    "id {} on {}, priority {}",
                    wanted.config.vrid, wanted.interface, wanted.priority
                );
                step(PlanAction::Add, key, detail, false);
            }
            Some(before) if before != wanted => {
                let changes = changes(before, wanted).join(", ");
                // An address that goes takes its connections with it.
                let stays = |held: &Held| {
                    let mut held_on = wanted.held.iter().map(Held::identity);
                    held_on.any(|identity| identity == held.identity())
                };
                let goes = !before.held.iter().all(stays);
                let disruptive = goes || restarts(before, wanted);
                step(PlanAction::Change, key, changes, disruptive);
            }
            Some(_) => {}
        }
    }
    for (key, before) in &old.routers {
        if !new.routers.contains_key(key) {
            let detail = format!("id {} on {}", before.config.vrid, before.interface);
            step(PlanAction::Remove, key, detail, true);
        }
    }
    if old.realtime_priority != new.realtime_priority {
        plan.steps.push(PlanStep {
            action: PlanAction::Change,
            what: "protocol thread".to_owned(),
            detail: format!(
                "realtime_priority {} -> {}, from the next start on",
                old.realtime_priority, new.realtime_priority
            ),
            disruptive: false,
        });
    }
    if old.fifo != new.fifo {
        let path = |share: &Share| {
            let path = share.fifo.as_ref();
            path.map_or_else(|| "none".to_owned(), |path| path.display().to_string())
        };
        plan.steps.push(PlanStep {
            action: PlanAction::Change,
            what: "pipe for changes of state".to_owned(),
            detail: format!("{} -> {}", path(old), path(new)),
            disruptive: false,
        });
    }
    plan.steps.extend(hook::steps(old, new));
    plan.order = order(old, new);
    plan
}

/// Whether the router must end and begin anew: its identity on the wire has changed.
pub fn restarts(before: &Wanted, after: &Wanted) -> bool {
    before.config.vrid != after.config.vrid
        || before.config.version != after.config.version
        || before.interface != after.interface
}

fn changes(before: &Wanted, after: &Wanted) -> Vec<String> {
    let (a, b) = (&before.config, &after.config);
    let mut changes = Vec::new();
    let mut compare = |what: &str, old: String, new: String| {
        if old != new {
            changes.push(format!("{what} {old} -> {new}"));
        }
    };
    compare("id", a.vrid.to_string(), b.vrid.to_string());
    compare(
        "interface",
        before.interface.clone(),
        after.interface.clone(),
    );
    compare(
        "priority",
        before.priority.to_string(),
        after.priority.to_string(),
    );
    compare(
        "advert interval",
        format!("{} ms", u32::from(a.interval) * 10),
        format!("{} ms", u32::from(b.interval) * 10),
    );
    compare("addresses", addresses(&before.held), addresses(&after.held));
    let routing = |of: &Wanted| {
        let list: Vec<String> = of.routing.iter().map(ToString::to_string).collect();
        format!("[{}]", list.join(", "))
    };
    compare("routing", routing(before), routing(after));
    compare(
        "down_timer_adverts",
        a.down_adverts.to_string(),
        b.down_adverts.to_string(),
    );
    let group = |of: &Wanted| of.group.clone().unwrap_or_else(|| "none".to_owned());
    compare("sync group", group(before), group(after));
    compare(
        "version",
        a.version.number().to_string(),
        b.version.number().to_string(),
    );
    compare("adverts", travel(before), travel(after));
    let mac = |of: &Wanted| match &of.device {
        Some(device) => format!("{} on {}", device.mac, device.name),
        None => "none".to_owned(),
    };
    compare("virtual MAC", mac(before), mac(after));
    let accept = |of: &Wanted| if of.accept { "taken" } else { "dropped" };
    compare(
        "packets to the addresses",
        accept(before).to_owned(),
        accept(after).to_owned(),
    );
    compare("preempt", preempt(a.preempt), preempt(b.preempt));
    compare(
        "checksum",
        checksum(before.checksum).to_owned(),
        checksum(after.checksum).to_owned(),
    );
    compare(
        "unready_penalty",
        before.unready_penalty.to_string(),
        after.unready_penalty.to_string(),
    );
    let second = |of: &Wanted| match &of.heartbeat {
        Some(path) => format!("{} on {}", path.own, path.interface),
        None => "none".to_owned(),
    };
    compare("heartbeat", second(before), second(after));
    if before.rules.password != after.rules.password {
        changes.push("password".to_owned());
    }
    if before.rules.hmac != after.rules.hmac {
        changes.push("keys or mode of the HMAC".to_owned());
    }
    if before.tracks != after.tracks {
        changes.push(format!("track {} -> {}", tracks(before), tracks(after)));
    }
    if changes.is_empty() {
        changes.push("announcements, delays, directors or tracked checks".to_owned());
    }
    changes
}

fn addresses(held: &[Held]) -> String {
    let list: Vec<String> = held.iter().map(ToString::to_string).collect();
    format!("[{}]", list.join(" "))
}

fn tracks(wanted: &Wanted) -> String {
    let list: Vec<String> = wanted
        .tracks
        .iter()
        .map(|track| {
            let name = name_of(&track.subject);
            match track.effect {
                Effect::Weight(weight) => format!("{name} {weight:+}"),
                Effect::Fault => format!("{name} fault"),
            }
        })
        .collect();
    format!("[{}]", list.join(", "))
}

fn travel(wanted: &Wanted) -> String {
    match &wanted.rules.way {
        Way::Multicast => "by multicast".to_owned(),
        Way::Unicast { peers, min_ttl } => {
            let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
            format!(
                "by unicast to {} (TTL {}, at least {min_ttl} from them)",
                peers.join(" "),
                wanted.ttl
            )
        }
    }
}

fn preempt(preempt: Preempt) -> String {
    match preempt {
        Preempt::Never => "never".to_owned(),
        Preempt::After(delay) if delay.is_zero() => "at once".to_owned(),
        Preempt::After(delay) => format!("after {delay}"),
    }
}

fn checksum(checksum: Checksum) -> &'static str {
    match checksum {
        Checksum::Auto => "auto",
        Checksum::Rfc9568 => "rfc9568",
        Checksum::PseudoHeader => "pseudo_header",
    }
}

/// What must be done in a certain order across the directors.
fn order(old: &Share, new: &Share) -> Vec<String> {
    let mut order = Vec::new();
    for (key, after) in &new.routers {
        let Some(before) = old.routers.get(key) else {
            continue;
        };
        if before.config.vrid != after.config.vrid {
            order.push(format!(
                "virtual router {key}: a new id makes two virtual routers until every director has it: reload the backups first, the master last"
            ));
        }
        if before.rules.bare != after.rules.bare {
            order.push(format!(
                "virtual router {key}: one with addresses drops adverts that have none: reload all directors within one Down interval, the backups first"
            ));
        } else if before.config.addresses != after.config.addresses {
            order.push(format!(
                "virtual router {key}: keepalived before 2.3 as a peer drops adverts with another address list: reload all directors within one Down interval"
            ));
        }
    }
    order
}
