//! SHELL: what `status` and `why` say, as JSON: the protocol thread's snapshot beside what the desk knows. `render` makes a screen of it,
//! `warnings` the sentences that someone should read.

mod render;
mod warnings;

use std::collections::BTreeMap;

use conf::Moment;
use conf::platform::Preempt;
use daemon::clock;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::event::StateName;
use crate::mailbox::{RouterView, Snapshot};
use crate::netlink::{Kernel, State};
use crate::notice::{About, Word};
use crate::packet::{Rules, Way};
use crate::plan::{Key, Routing, Wanted};
use crate::standing::name_of;
pub(crate) use render::{render, render_down, render_why};
use warnings::Warnings;

/// The `data` of a status answer.
pub(crate) fn data(desk: &Desk, snapshot: Option<&Snapshot>, kernel: &Kernel) -> Value {
    let now = clock::now();
    let mut warnings = Warnings::of_daemon(desk, snapshot, kernel);
    let mut routers = serde_json::Map::new();
    for (key, wanted) in &desk.share().routers {
        let view = snapshot.and_then(|snapshot| snapshot.routers.get(key));
        warnings.of_router(desk, key, wanted, view, now);
        warnings.of_routing(key, kernel);
        let mut value = router(desk, key, wanted, view, now);
        value["routing"] = routing(key, wanted, kernel);
        routers.insert(key.to_string(), value);
    }
    json!({
        "warnings": warnings.sentences(),
        "held": desk.is_held(),
        "realtime": snapshot.map(|snapshot| snapshot.rights.realtime.clone().unwrap_or(0)),
        "memory_locked": snapshot.map(|snapshot| snapshot.rights.memory.clone().unwrap_or(false)),
        "loop_lag_us": snapshot.map(|snapshot| snapshot.lag.as_micros()),
        "addresses_restored": kernel.restored,
        "routing_restored": kernel.routing_restored,
        "accept": {
            "closed": kernel.accept.closed,
            "dropped": kernel.accept.dropped,
            "repaired": kernel.accept.repaired,
        },
        "fifo": desk.herald.fifo,
        "sync_groups": sync_groups(desk),
        "virtual_routers": routers,
    })
}

/// The sync groups, as they were said to be last.
fn sync_groups(desk: &Desk) -> Value {
    let groups = desk.share().groups().into_iter().map(|(name, members)| {
        let said = desk.herald.of_group(&name);
        let members: Vec<String> = members.iter().map(ToString::to_string).collect();
        let value = json!({
            "members": members,
            "state": said.map_or(Word::Stop, |(word, _)| word).text(),
            "priority": said.map(|(_, priority)| priority),
            "hooks": desk.herald.hooks.status(&About::Group(name.clone())),
        });
        (name, value)
    });
    Value::Object(groups.collect())
}

fn router(
    desk: &Desk,
    key: &Key,
    wanted: &Wanted,
    view: Option<&RouterView>,
    now: Moment,
) -> Value {
    let judged = desk.judged(key);
    let preempt = match wanted.config.preempt {
        Preempt::Never => json!(false),
        Preempt::After(delay) => json!({ "delay_ms": delay.as_millis() }),
    };
    let mut value = json!({
        "vip": key.vip,
        "family": key.family,
        "id": wanted.config.vrid,
        "version": wanted.config.version.number(),
        "unicast_peers": match &wanted.rules.way {
            Way::Multicast => None,
            Way::Unicast { peers, .. } => Some(peers),
        },
        "sync_group": wanted.group,
        "authentication": authentication(&wanted.rules),
        "announce": {
            "repeat": wanted.config.pace.repeat,
            "delay_ms": wanted.config.pace.delay.as_millis(),
            "refresh_ms": wanted.config.pace.refresh.as_millis(),
        },
        "interface": wanted.interface,
        "virtual_mac": wanted.device.as_ref().map(|device| json!({ "interface": device.name, "mac": device.mac.to_string() })),
        "accept": wanted.accept,
        "addresses": wanted.held.iter().map(|held| format!("{}/{}", held.address, held.prefix_len)).collect::<Vec<_>>(),
        "base_priority": wanted.priority,
        "preempt": preempt,
        "tracks": desk.tracked(key).iter().map(|(track, reading)| json!({
            "what": name_of(&track.subject), "effect": track.effect, "reading": reading,
        })).collect::<Vec<_>>(),
        "contributions": judged.map(|(_, judgement)| &judgement.contributions),
        "director": judged.map(|(belief, _)| belief),
        "yields": judged.and_then(|(_, judgement)| judgement.standing.yields),
        "drained": desk.drained(key),
        "alone": desk.is_alone(key),
        "hooks": desk.herald.hooks.status(&About::Router(key.clone())),
        "started": desk.has_started(key),
    });
    let (Some(view), Some(object)) = (view, value.as_object_mut()) else {
        return value;
    };
    let packet_errors: BTreeMap<&str, u64> = view
        .packet_errors
        .iter()
        .map(|(error, count)| (error.label(), *count))
        .collect();
    let errors: serde_json::Map<String, Value> = view
        .faults
        .iter()
        .map(|(kind, fault)| {
            let value = json!({
                "count": fault.count,
                "ms_ago": now.since(fault.last).as_millis(),
                "source": fault.source,
                "text": fault.text,
            });
            ((*kind).to_owned(), value)
        })
        .collect();
    let since = now.since(view.since);
    let peers: serde_json::Map<String, Value> = view
        .peers
        .iter()
        .map(|(address, peer)| {
            let value = json!({
                "node": desk.node_of(*address),
                // Adverts of another version are dropped, and those of the other family are another router's.
                "version": wanted.config.version.number(),
                "family": key.family,
                "priority": peer.priority,
                "interval_ms": u32::from(peer.interval) * 10,
                "heard_ms_ago": now.since(peer.heard).as_millis(),
            });
            (address.to_string(), value)
        })
        .collect();
    let live = json!({
        "state": view.state,
        "addresses_up": view.addresses,
        "lingering": view.lingering,
        "waits_for_group": view.waits_for_group,
        "since_ms": since.as_millis(),
        "last_transition": SignedDuration::try_from(since).ok().and_then(|since| clock::wall().checked_sub(since).ok()),
        "why": view.why.to_string(),
        "priority": view.priority,
        "source": view.source,
        "advert_interval_ms": view.interval.as_millis(),
        "down_interval_us": view.down_interval.as_micros(),
        "master": master(desk, view),
        "peers": peers,
        "heartbeat": heartbeat(desk, view, now),
        "counters": view.counters,
        "packet_errors": packet_errors,
        "errors": errors,
        "advert_lateness_max_us": view.lateness.longest.as_micros(),
        "send_errors": view.send_errors,
        "checksums_received": view.checksums_received,
        "checksum_sent": view.checksum_sent,
        "trouble": view.refusal.clone().or_else(|| view.socket_trouble.clone()),
    });
    if let Value::Object(live) = live {
        object.extend(live);
    }
    value
}

/// The routes and rules that follow it; those of a router that holds no addresses are not there.
fn routing(key: &Key, wanted: &Wanted, kernel: &Kernel) -> Value {
    let states = kernel.routing.get(key);
    let one = |one: &Routing| {
        let state = states.and_then(|states| states.get(one));
        let (state, reason) = match state {
            None => ("absent", None),
            Some(State::Up) => ("up", None),
            Some(State::Refused(reason)) => ("refused", Some(reason)),
        };
        json!({ "what": one.to_string(), "state": state, "reason": reason })
    };
    wanted.routing.iter().map(one).collect()
}

/// Who holds the VIP as far as this node knows: itself, or the master that it heard last.
fn master(desk: &Desk, view: &RouterView) -> Value {
    match view.state {
        StateName::Master => {
            json!({ "here": true, "node": desk.node(), "address": view.source, "priority": view.priority })
        }
        StateName::Backup => {
            if let Some((address, beat)) = view
                .held_back
                .and_then(|peer| view.beats.get_key_value(&peer))
            {
                return json!({ "here": false, "node": desk.node_of(*address), "address": address, "priority": beat.priority });
            }
            let alive = view.peers.iter().filter(|(_, peer)| peer.priority > 0);
            let last = alive.max_by_key(|(_, peer)| peer.heard);
            last.map_or(
                Value::Null,
                |(address, peer)| json!({ "here": false, "node": desk.node_of(*address), "address": address, "priority": peer.priority }),
            )
        }
        StateName::Initialize | StateName::Fault => Value::Null,
    }
}

/// The second network: whom this node tells that it is master, and which masters it hears there.
fn heartbeat(desk: &Desk, view: &RouterView, now: Moment) -> Value {
    let Some(path) = &view.heartbeat else {
        return Value::Null;
    };
    let masters = view.beats.iter().map(|(address, beat)| {
        let value = json!({
            "node": desk.node_of(*address),
            "priority": beat.priority,
            "heard_ms_ago": now.since(beat.last).as_millis(),
        });
        (address.to_string(), value)
    });
    json!({
        "interface": path.interface,
        "peers": path.peers,
        "trouble": path.trouble,
        "held_back_by": view.held_back,
        "masters": masters.collect::<serde_json::Map<String, Value>>(),
    })
}

/// How adverts prove where they come from.
fn authentication(rules: &Rules) -> Option<&'static str> {
    match rules {
        Rules { hmac: Some(_), .. } => Some("hmac"),
        Rules {
            password: Some(_), ..
        } => Some("password"),
        Rules { .. } => None,
    }
}
