//! Heartbeats over a second network: who waits because of them, and until when.

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 6));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 7));
const OWN_THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 5));

fn beat(source: IpAddr, priority: u8, at: u64) -> Input {
    Input::Heartbeat {
        source,
        priority,
        interval: 10,
        arrived: ms(at),
    }
}

/// Hands it heartbeats every 100 ms from `from` on, and lets its timers fire in between; what it did.
fn beats(router: &mut Router, priority: u8, from: u64, until: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    for at in from..=until {
        if (at - from).is_multiple_of(100) {
            router.handle(beat(PEER, priority, at), ms(at));
        }
        router.handle_timeout(ms(at));
        actions.extend(drain(router));
    }
    actions
}

/// The first moment after `from` at which it becomes master by itself.
fn takes_over(router: &mut Router, from: u64) -> u64 {
    (from..from + 2000)
        .find(|at| {
            router.handle_timeout(ms(*at));
            router.name() == StateName::Master
        })
        .expect("it takes over")
}

#[test]
fn a_backup_that_hears_heartbeats_alone_waits_and_says_so() {
    let mut router = backup(240, AT_ONCE);
    // The last advert with its heartbeat; then adverts are lost.
    router.handle(advert_at(HIGHER_IP, 250, 10, ms(1000)), ms(1000));
    drain(&mut router);
    let actions = beats(&mut router, 250, 1000, 5000);
    assert_eq!(actions, [Action::HeldBack { peer: Some(PEER) }]);
    assert_eq!(router.name(), StateName::Backup);
    assert_eq!(router.counters().held_back, 1);
    // The master dies: as long as after a last advert.
    assert_eq!(takes_over(&mut router, 5001), 5307);
    assert!(drain(&mut router).contains(&Action::HeldBack { peer: None }));
}

#[test]
fn adverts_that_are_back_end_it() {
    let mut router = backup(240, AT_ONCE);
    beats(&mut router, 250, 1000, 2000);
    router.handle(advert_at(HIGHER_IP, 250, 10, ms(2000)), ms(2000));
    assert_eq!(drain(&mut router), [Action::HeldBack { peer: None }]);
    assert_eq!(router.held_back(), None);
}

#[test]
fn a_dead_master_is_waited_for_no_longer_than_without_heartbeats() {
    for down_adverts in [1, 3] {
        let mut config = config(AT_ONCE);
        config.down_adverts = down_adverts;
        let mut router = backup(240, AT_ONCE);
        router.reconfigure(config, false, ms(900));
        router.handle(beat(PEER, 250, 1003), ms(1003));
        router.handle(advert_at(HIGHER_IP, 250, 10, ms(1000)), ms(1004));
        let expected = 1000 + u64::from(down_adverts) * 100 + 7;
        assert_eq!(takes_over(&mut router, 1004), expected);
    }
}

#[test]
fn a_higher_priority_does_not_take_over_from_whom_it_does_not_hear() {
    let mut router = backup(250, AT_ONCE);
    beats(&mut router, 240, 1000, 3000);
    assert_eq!(router.held_back(), Some(PEER));
    // Heard on its own network it is preempted as ever.
    for at in [3010, 3110, 3210, 3310] {
        router.handle(advert_at(HIGHER_IP, 240, 10, ms(at)), ms(at));
        router.handle(beat(PEER, 240, at), ms(at));
        router.handle_timeout(ms(at));
    }
    assert_eq!(takes_over(&mut router, 3310), 3313);
    assert_eq!(router.counters().overslept, 0);
}

#[test]
fn a_master_that_stops_or_yields_holds_nobody_back() {
    let mut router = backup(240, AT_ONCE);
    beats(&mut router, 250, 1000, 2000);
    router.handle(beat(PEER, 0, 2030), ms(2030));
    assert_eq!(takes_over(&mut router, 2030), 2037, "the skew alone");
    let mut router = backup(240, AT_ONCE);
    beats(&mut router, YIELDING, 1000, 2000);
    assert_eq!(router.name(), StateName::Master);
}

#[test]
fn a_farewell_that_was_overtaken_ends_nothing() {
    let mut router = backup(240, AT_ONCE);
    router.handle(beat(PEER, 250, 1000), ms(1000));
    router.handle(beat(OTHER, 245, 1050), ms(1050));
    router.handle(advert_at(HIGHER_IP, 245, 10, ms(1050)), ms(1050));
    router.handle(beat(PEER, 0, 1060), ms(1060));
    router.handle_timeout(ms(1100));
    assert_eq!(router.name(), StateName::Backup);
    // Nor does one of somebody who was not master.
    router.handle(beat(LOWER_IP, 0, 1110), ms(1110));
    router.handle_timeout(ms(1200));
    assert_eq!(router.name(), StateName::Backup);
}

#[test]
fn of_two_masters_the_worse_one_gives_way_once_it_lasts() {
    let rows = [
        (250, 240, false),
        (240, 250, true),
        // Addresses on the second network decide: the higher one stays.
        (240, 240, true),
    ];
    for (own, theirs, gives_way) in rows {
        let (mut router, since) = master(own);
        let mut config = config(AT_ONCE);
        config.heartbeat = Some(OWN_THERE);
        router.reconfigure(config, false, since);
        drain(&mut router);
        let from = since.as_nanos() / 1_000_000 + 10;
        beats(&mut router, theirs, from, from + 200);
        assert_eq!(
            router.name(),
            StateName::Master,
            "at first a handover may be under way"
        );
        beats(&mut router, theirs, from + 300, from + 600);
        let expected = match gives_way {
            true => StateName::Backup,
            false => StateName::Master,
        };
        assert_eq!(router.name(), expected, "{own} against {theirs}");
    }
}

#[test]
fn what_an_earlier_process_left_goes_when_the_master_is_heard() {
    let mut router = Router::new(config(AT_ONCE), standing(240), ms(0));
    router.handle(link(true), ms(0));
    router.handle(Input::Start { holding: true }, ms(0));
    drain(&mut router);
    router.handle(beat(PEER, 250, 20), ms(20));
    assert!(matches!(
        drain(&mut router)[..],
        [Action::Hold { hold: false, .. }]
    ));
}

#[test]
fn whoever_takes_over_from_a_master_that_stopped_is_waited_for() {
    let mut router = backup(230, AT_ONCE);
    router.handle(beat(PEER, 250, 1000), ms(1000));
    router.handle(advert_at(HIGHER_IP, 250, 10, ms(1000)), ms(1000));
    // It stops by both ways; the next one is heard on the second network alone.
    router.handle(advert_at(HIGHER_IP, 0, 10, ms(1050)), ms(1050));
    router.handle(beat(PEER, 0, 1050), ms(1050));
    for at in 1056..3000 {
        if u64::is_multiple_of(at - 1056, 100) {
            router.handle(beat(OTHER, 240, at), ms(at));
        }
        router.handle_timeout(ms(at));
        assert_eq!(router.name(), StateName::Backup, "at {at} ms");
    }
    assert_eq!(router.held_back(), Some(OTHER));
}

#[test]
fn a_farewell_that_the_adverts_have_said_already_says_nothing_more() {
    let mut router = backup(230, AT_ONCE);
    router.handle(beat(PEER, 250, 1000), ms(1000));
    router.handle(advert_at(LOWER_IP, 250, 10, ms(1000)), ms(1000));
    router.handle(advert_at(LOWER_IP, 0, 10, ms(1020)), ms(1020));
    // The next one has taken over by the time that the heartbeat comes.
    router.handle(advert_at(HIGHER_IP, 240, 10, ms(1027)), ms(1027));
    router.handle(beat(PEER, 0, 1030), ms(1030));
    router.handle_timeout(ms(1120));
    assert_eq!(router.name(), StateName::Backup);
}
