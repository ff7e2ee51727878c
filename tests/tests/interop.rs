//! vrrpd on one segment with keepalived and with FRR, both directions: who is master is judged by adverts, client traffic and kernels. Needs root,
//! keepalived and frr.

use std::time::Duration;

use tests::segment::speaker::{Program, Speaker};
use tests::segment::{Segment, Setup};
use tests::{wait, witness};

/// Ours on lb1 and a peer on lb2, neither started.
fn pair(segment: &Segment, peer: Program, setup: &Setup, priorities: [u8; 2]) -> [Speaker; 2] {
    [
        Speaker::new(segment, "lb1", Program::Ours, setup, priorities[0], None),
        Speaker::new(segment, "lb2", peer, setup, priorities[1], None),
    ]
}

/// The better one, `better`, takes over from the other by its priority, hands over when it is stopped, comes back, is killed, comes back.
fn the_better_one_comes_and_goes(peer: Program, setup: &Setup, better: usize) {
    let segment = Segment::new();
    let mut priorities = [240; 2];
    priorities[better] = 250;
    let mut speakers = pair(&segment, peer, setup, priorities);
    let names = ["lb1", "lb2"];
    let (name, other) = (names[better], names[1 - better]);
    speakers[1 - better].start(&segment);
    segment.settles(other, setup, true);
    speakers[better].start(&segment);
    segment.settles(name, setup, true);
    let from = witness::now();
    speakers[better].stop(&segment);
    segment.settles(other, setup, true);
    let farewell = segment.witness.adverts_since(from);
    assert!(
        farewell.iter().any(|(_, advert)| advert.priority == 0),
        "{name} said farewell"
    );
    speakers[better].start(&segment);
    segment.settles(name, setup, true);
    speakers[better].kill();
    speakers[better].reap();
    // A killed process leaves its address; the client has learned the new place all the same.
    segment.settles(other, setup, false);
    speakers[better].start(&segment);
    segment.settles(name, setup, true);
}

/// Both directions.
fn both_directions(peer: Program, setup: &Setup) {
    for better in [0, 1] {
        the_better_one_comes_and_goes(peer, setup, better);
    }
}

#[test]
fn version_3_with_keepalived() {
    both_directions(Program::Keepalived, &Setup::v3());
}

#[test]
fn version_3_with_frr() {
    both_directions(Program::Frr, &Setup::v3());
}

#[test]
fn version_3_on_ipv6_with_keepalived() {
    both_directions(Program::Keepalived, &Setup::v3_on_ipv6());
}

#[test]
fn version_3_on_ipv6_with_frr() {
    both_directions(Program::Frr, &Setup::v3_on_ipv6());
}

#[test]
fn version_2_with_keepalived_and_a_password() {
    let setup = Setup {
        password: Some("s3cret12".to_owned()),
        ..Setup::v2()
    };
    both_directions(Program::Keepalived, &setup);
}

#[test]
fn version_2_with_frr() {
    both_directions(Program::Frr, &Setup::v2());
}

#[test]
fn version_2_with_keepalived() {
    both_directions(Program::Keepalived, &Setup::v2());
}

#[test]
fn unicast_with_keepalived() {
    let setup = Setup {
        unicast: true,
        ..Setup::v3()
    };
    both_directions_by_service(&setup);
}

/// Unicast adverts do not reach the client, and a virtual MAC is on both sides: there the kernels and the client's answers judge.
fn both_directions_by_service(setup: &Setup) {
    for better in [0, 1] {
        let segment = Segment::new();
        let mut priorities = [240; 2];
        priorities[better] = 250;
        let mut speakers = pair(&segment, Program::Keepalived, setup, priorities);
        let names = ["lb1", "lb2"];
        let is_held = |name: &str, alone: bool| {
            wait::until(
                &format!("{name} to hold the address"),
                Duration::from_secs(20),
                || {
                    let holders = segment.holders(setup.vip());
                    (holders == [name] || !alone)
                        && segment.served_by(setup.vip()).as_deref() == Some(name)
                },
            );
        };
        speakers[1 - better].start(&segment);
        is_held(names[1 - better], true);
        speakers[better].start(&segment);
        is_held(names[better], true);
        speakers[better].stop(&segment);
        is_held(names[1 - better], true);
        speakers[better].start(&segment);
        is_held(names[better], true);
        speakers[better].kill();
        speakers[better].reap();
        is_held(names[1 - better], false);
        speakers[better].start(&segment);
        is_held(names[better], true);
    }
}

/// keepalived with its virtual MAC, ours without: a client does not mind where the address lies.
#[test]
fn keepalived_with_its_virtual_mac() {
    let setup = Setup {
        keepalived: "  use_vmac vrrp.51\n".to_owned(),
        ..Setup::v3()
    };
    both_directions(Program::Keepalived, &setup);
}

/// Both with the virtual MAC of the standard: the switch and the client see one machine that moves.
#[test]
fn our_virtual_mac_with_that_of_keepalived() {
    let setup = Setup {
        ours: "virtual_mac = true".to_owned(),
        keepalived: "  use_vmac vrrp.51\n".to_owned(),
        ..Setup::v3()
    };
    both_directions_by_service(&setup);
}

#[test]
fn our_virtual_mac_with_unicast_adverts() {
    let setup = Setup {
        ours: "virtual_mac = true".to_owned(),
        unicast: true,
        ..Setup::v3()
    };
    both_directions_by_service(&setup);
}

/// The forms in which our last adverts' checksums were.
fn forms(segment: &Segment) -> Vec<Option<bool>> {
    let adverts = segment
        .witness
        .adverts_since(witness::now() - Duration::from_millis(350));
    let ours = adverts
        .iter()
        .filter(|(_, advert)| advert.source.to_string() == "10.0.0.5");
    ours.map(|(_, advert)| advert.plain_checksum()).collect()
}

/// keepalived 2.2.7 and FRR send the form with the pseudo-header and drop the other one: what `auto` starts with, and mirrors.
#[test]
fn the_checksum_is_sent_in_the_form_of_the_peer() {
    for peer in [Program::Keepalived, Program::Frr] {
        let setup = Setup::v3();
        let segment = Segment::new();
        let mut speakers = pair(&segment, peer, &setup, [250, 240]);
        speakers[1].start(&segment);
        segment.settles("lb2", &setup, true);
        speakers[0].start(&segment);
        segment.settles("lb1", &setup, true);
        let forms = forms(&segment);
        assert!(!forms.is_empty());
        assert!(
            forms.iter().all(|plain| *plain == Some(false)),
            "{peer:?}: {forms:?}"
        );
    }
}

/// The other form is told to the operator by what happens: keepalived drops our adverts, and both are master. Ours hears keepalived all the same.
#[test]
fn the_other_checksum_form_is_accepted_by_ours_only() {
    let setup = Setup {
        ours: "checksum = \"rfc9568\"".to_owned(),
        ..Setup::v3()
    };
    let segment = Segment::new();
    let mut speakers = pair(&segment, Program::Keepalived, &setup, [240, 250]);
    speakers[1].start(&segment);
    segment.settles("lb2", &setup, true);
    speakers[0].start(&segment);
    let status = speakers[0].ours().status();
    let heard = || {
        let status = speakers[0].ours().status();
        let routers = status["virtual_routers"].as_object().cloned();
        routers.is_some_and(|routers| {
            let mut routers = routers.values();
            routers.any(|router| router["counters"]["adverts_received"].as_u64() > Some(5))
        })
    };
    wait::until(
        &format!("adverts of keepalived in {status}"),
        Duration::from_secs(10),
        heard,
    );
    segment.settles("lb2", &setup, true);
}

/// A master whose adverts name another address list, or another interval, stays the master; ours takes the interval over.
#[test]
fn a_master_with_another_list_and_another_interval_is_followed() {
    let theirs = Setup {
        addresses: vec!["10.0.0.101/32".to_owned(), "10.0.0.100/32".to_owned()],
        interval: Duration::from_millis(300),
        ..Setup::v3()
    };
    let setup = Setup::v3();
    let segment = Segment::new();
    let mut ours = Speaker::new(&segment, "lb1", Program::Ours, &setup, 240, None);
    let mut peer = Speaker::new(&segment, "lb2", Program::Keepalived, &theirs, 250, None);
    peer.start(&segment);
    segment.settles("lb2", &theirs, true);
    ours.start(&segment);
    // Longer than three of our own intervals, several times.
    wait::for_a_while(Duration::from_secs(2));
    segment.settles("lb2", &theirs, true);
    assert_eq!(ours.ours().metric("vrrp_state", "state=\"master\""), 0.0);
    let counters = ours.ours().status().to_string();
    assert!(counters.contains("address"), "{counters}");
    // And when it dies silently, ours waits for three of its intervals, not of its own.
    let killed = witness::now();
    peer.kill();
    peer.reap();
    segment.settles("lb1", &setup, false);
    let adverts = segment.witness.adverts_since(killed);
    let first = adverts
        .iter()
        .find(|(_, advert)| advert.source.to_string() == "10.0.0.5")
        .expect("an advert of ours");
    let waited = first.0 - killed;
    assert!(
        waited > Duration::from_millis(600) || tests::in_uml(),
        "{waited:?}"
    );
}

/// At equal priorities the first master stays; where both are master the one with the higher address wins.
#[test]
fn equal_priorities_make_one_master() {
    let setup = Setup::v3();
    for first in [0, 1] {
        let segment = Segment::new();
        let mut speakers = pair(&segment, Program::Keepalived, &setup, [200, 200]);
        let names = ["lb1", "lb2"];
        speakers[first].start(&segment);
        segment.settles(names[first], &setup, true);
        speakers[1 - first].start(&segment);
        wait::for_a_while(Duration::from_secs(1));
        segment.settles(names[first], &setup, true);
        // Apart, both become master; together again, the one with the higher address stays.
        segment.lab.set_cable("lb1", "eth0", false);
        segment.settles("lb2", &setup, false);
        segment.lab.set_cable("lb1", "eth0", true);
        segment.settles("lb2", &setup, true);
    }
}

/// A reload that adds an address on the master only: among ours nothing moves. The control: keepalived 2.2.7 as backup drops adverts with another
/// list, and becomes a second master.
#[test]
fn an_address_added_on_one_node_moves_nothing_among_ours() {
    let setup = Setup::v3();
    let more = Setup {
        addresses: vec!["10.0.0.101/32".to_owned(), "10.0.0.100/32".to_owned()],
        ..Setup::v3()
    };
    for program in [Program::Ours, Program::Keepalived] {
        let segment = Segment::new();
        let mut speakers = [("lb1", 250), ("lb2", 240)]
            .map(|(node, priority)| Speaker::new(&segment, node, program, &setup, priority, None));
        for speaker in &mut speakers {
            speaker.start(&segment);
        }
        segment.settles("lb1", &setup, true);
        let reloaded = witness::now();
        speakers[0].change(&more);
        speakers[0].reload(&segment);
        if program == Program::Keepalived {
            wait::until("two masters", Duration::from_secs(10), || {
                segment.masters(Duration::from_millis(350)).len() == 2
            });
            continue;
        }
        wait::until("the new address", Duration::from_secs(10), || {
            segment.node("lb1").has_address("eth0", "10.0.0.101")
        });
        wait::for_a_while(Duration::from_secs(1));
        assert_eq!(segment.masters(witness::now() - reloaded), ["lb1"]);
        segment.settles("lb1", &setup, true);
        for speaker in &speakers {
            let moved = speaker.ours().metric("vrrp_transitions_total", "");
            let expected = if speaker.node.name == "lb1" { 2.0 } else { 1.0 };
            assert!(moved <= expected, "{}: {moved}", speaker.node.name);
        }
    }
}
