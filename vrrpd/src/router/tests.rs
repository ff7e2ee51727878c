//! The transition table of RFC 9568 section 6.4, row by row, and the rules beyond it.

use std::net::{IpAddr, Ipv4Addr};

use conf::unit::Interval;

use super::*;

mod group;
mod heartbeat;

const OWN: IpAddr = v4(5);
const LOWER_IP: IpAddr = v4(4);
const HIGHER_IP: IpAddr = v4(6);
const VIP: IpAddr = v4(100);

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
}
const AT_ONCE: Preempt = Preempt::After(Interval::from_millis(0));
const PENDING: State = State::Master {
    addresses: Addresses::Pending,
};
const UP: State = State::Master {
    addresses: Addresses::Up,
};

fn ms(millis: u64) -> Moment {
    Moment::ZERO + Duration::from_millis(millis)
}

fn config(preempt: Preempt) -> Config {
    Config {
        version: Version::V3,
        vrid: 51,
        interval: 10,
        down_adverts: 3,
        addresses: vec![VIP],
        unadvertised: Vec::new(),
        preempt,
        startup_delay: Duration::ZERO,
        boot_delay: Duration::ZERO,
        pace: Pace {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Duration::from_secs(60),
        },
        has_peers: true,
        grouped: false,
        heartbeat: None,
    }
}

fn standing(priority: u8) -> Standing {
    Standing {
        priority,
        yields: None,
    }
}

fn link(up: bool) -> Input {
    Input::Link(Link {
        up,
        primary: up.then_some(OWN),
    })
}

fn advert_at(source: IpAddr, priority: u8, interval: u16, arrived: Moment) -> Input {
    let advert = Advert {
        version: Version::V3,
        vrid: 51,
        priority,
        interval,
        addresses: vec![VIP],
    };
    Input::Advert {
        source,
        advert,
        arrived,
    }
}

fn drain(router: &mut Router) -> Vec<Action> {
    std::iter::from_fn(|| router.poll_action()).collect()
}

/// The actions in short, without the transitions.
fn short(actions: &[Action]) -> String {
    let words: Vec<String> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Advertise { priority } => Some(format!("advert {priority}")),
            Action::Hold { hold: true, .. } => Some("add".to_owned()),
            Action::Hold { hold: false, .. } => Some("remove".to_owned()),
            Action::Announce { addresses } => Some(format!("announce {}", addresses.len())),
            Action::Transition { .. }
            | Action::HeldBack { .. }
            | Action::Settled
            | Action::LowerMaster { .. } => None,
        })
        .collect();
    words.join(", ")
}

/// A started router with its link; Backup at 0 ms unless it is the owner.
fn backup(priority: u8, preempt: Preempt) -> Router {
    let mut router = Router::new(config(preempt), standing(priority), ms(0));
    router.handle(link(true), ms(0));
    router.handle(Input::Start { holding: false }, ms(0));
    drain(&mut router);
    router
}

/// A master since 0 ms of its own clock, addresses up.
fn master(priority: u8) -> (Router, Moment) {
    let mut router = backup(priority, AT_ONCE);
    let (due, _) = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    let generation = router.generation;
    router.handle(Input::AddressesUp { generation }, due);
    drain(&mut router);
    assert_eq!(router.state(), UP);
    (router, due)
}

#[test]
fn initialize() {
    for (priority, state, actions) in [(100, State::Backup, ""), (255, PENDING, "advert 255, add")]
    {
        let mut router = Router::new(config(AT_ONCE), standing(priority), ms(0));
        router.handle(link(true), ms(0));
        assert_eq!(router.poll_timeout(), None, "nothing before the start");
        router.handle(Input::Start { holding: false }, ms(0));
        assert_eq!(
            (router.state(), short(&drain(&mut router)).as_str()),
            (state, actions)
        );
    }
}

#[test]
fn backup_rows() {
    // (own priority, preempt, advert priority, does the Down timer move?)
    let rows = [
        (100, AT_ONCE, 101, true),
        (100, AT_ONCE, 100, true),
        (100, AT_ONCE, 99, false),
        (100, Preempt::Never, 99, true),
        (100, Preempt::After(Interval::from_secs(10)), 99, true),
        (100, Preempt::Never, 2, false),
    ];
    for (own, preempt, theirs, moves) in rows {
        let mut router = backup(own, preempt);
        let before = router.poll_timeout().unwrap();
        assert_eq!(before.1, "Active_Down_Timer");
        router.handle(advert_at(LOWER_IP, theirs, 20, ms(50)), ms(50));
        let after = router.poll_timeout().unwrap();
        let case = format!("{own} {preempt:?} {theirs}");
        assert_eq!(short(&drain(&mut router)), "", "{case}");
        assert_eq!(router.state(), State::Backup, "{case}");
        if moves {
            // The master's interval (200 ms) is adopted.
            let down = active_down_interval(Version::V3, Duration::from_millis(200), 3, own);
            assert_eq!(after.0, ms(50) + down, "{case}");
        } else {
            assert_eq!(after, before, "{case}");
        }
    }
}

#[test]
fn backup_priority_zero_waits_for_the_skew_only() {
    let mut router = backup(100, AT_ONCE);
    router.handle(advert_at(HIGHER_IP, 0, 10, ms(50)), ms(50));
    let due = ms(50) + skew_time(Version::V3, Duration::from_millis(100), 100);
    assert_eq!(router.poll_timeout().unwrap().0, due);
    router.handle_timeout(due);
    assert_eq!(router.why(), Why::MasterStopped { peer: HIGHER_IP });
    assert_eq!(
        short(&drain(&mut router)),
        "advert 100, add",
        "the advert comes first"
    );
    assert_eq!(router.state(), PENDING);
}

#[test]
fn backup_down_timer_and_shutdown() {
    let mut router = backup(100, AT_ONCE);
    let (due, _) = router.poll_timeout().unwrap();
    router.handle_timeout(due - Duration::from_nanos(1));
    assert_eq!(router.state(), State::Backup);
    router.handle_timeout(due);
    assert_eq!((router.state(), router.why()), (PENDING, Why::MasterSilent));

    let mut router = backup(100, AT_ONCE);
    router.handle(Input::Stop, ms(10));
    assert_eq!(
        short(&drain(&mut router)),
        "",
        "a backup says nothing when it stops"
    );
    assert_eq!(
        (router.state(), router.poll_timeout()),
        (State::Initialize, None)
    );
}

#[test]
fn addresses_are_announced_only_when_they_are_up() {
    let mut router = backup(100, AT_ONCE);
    let (due, _) = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    drain(&mut router);
    for tick in 1..5 {
        router.handle_timeout(due + Duration::from_millis(100 * tick));
        assert_eq!(
            short(&drain(&mut router)),
            "advert 100",
            "pending: adverts only"
        );
    }
    let now = due + Duration::from_millis(410);
    router.handle(
        Input::AddressesUp {
            generation: router.generation - 1,
        },
        now,
    );
    assert_eq!(
        (router.state(), short(&drain(&mut router)).as_str()),
        (PENDING, ""),
        "an old answer"
    );
    router.handle(
        Input::AddressesUp {
            generation: router.generation,
        },
        now,
    );
    assert_eq!(
        (router.state(), short(&drain(&mut router)).as_str()),
        (UP, "announce 1")
    );
}

#[test]
fn master_rows() {
    // (advert priority, source, actions, state after)
    let rows = [
        (0, HIGHER_IP, "advert 100", UP),
        (101, LOWER_IP, "advert 100, remove", State::Backup),
        (100, HIGHER_IP, "advert 100, remove", State::Backup),
        (100, LOWER_IP, "advert 100", UP),
        (99, HIGHER_IP, "advert 100", UP),
    ];
    for (theirs, source, actions, state) in rows {
        let (mut router, since) = master(100);
        let now = since + Duration::from_millis(40);
        router.handle(advert_at(source, theirs, 20, now), now);
        let case = format!("{theirs} from {source}");
        assert_eq!(short(&drain(&mut router)), actions, "{case}");
        assert_eq!(router.state(), state, "{case}");
        if state == State::Backup {
            let down = active_down_interval(Version::V3, Duration::from_millis(200), 3, 100);
            assert_eq!(
                router.poll_timeout().unwrap().0,
                now + down,
                "{case}: adopted"
            );
        } else {
            let (_, next) = router.poll_timeout().map(|(at, _)| ((), at)).unwrap();
            assert!(next <= now + Duration::from_millis(100), "{case}");
        }
    }
}

#[test]
fn master_timer_and_shutdown() {
    let (mut router, since) = master(100);
    let mut adverts = 0;
    for tick in 1..=20u64 {
        // Late by up to 30 ms each time: the schedule does not drift.
        router.handle_timeout(since + Duration::from_millis(100 * tick + (tick * 7) % 30));
        adverts += drain(&mut router)
            .iter()
            .filter(|a| matches!(a, Action::Advertise { .. }))
            .count();
    }
    assert_eq!(adverts, 20);
    let now = since + Duration::from_millis(2100);
    router.handle(Input::Stop, now);
    assert_eq!(short(&drain(&mut router)), "advert 0, remove");
    assert_eq!(
        (router.state(), router.poll_timeout()),
        (State::Initialize, None)
    );
}

#[test]
fn a_lower_master_is_answered_at_once_but_a_flood_is_not() {
    let (mut router, since) = master(100);
    let mut adverts = 0;
    for tick in 1..100u64 {
        let now = since + Duration::from_millis(tick);
        router.handle(advert_at(LOWER_IP, 50, 10, now), now);
        adverts += drain(&mut router)
            .iter()
            .filter(|a| matches!(a, Action::Advertise { .. }))
            .count();
    }
    assert_eq!(adverts, 4, "one per quarter of an interval");
    assert_eq!(router.counters().second_master, 99);
}

#[test]
fn answers_to_an_earlier_router_of_the_same_name_are_not_for_this_one() {
    let (earlier, since) = master(100);
    let mut router = Router::new(config(AT_ONCE), standing(100), since);
    router.handle(link(true), since);
    router.handle(Input::Start { holding: false }, since);
    let (due, _) = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    drain(&mut router);
    let generation = earlier.generation;
    router.handle(Input::AddressesUp { generation }, due);
    assert_eq!(router.state(), PENDING);
}

#[test]
fn a_link_that_fails_is_a_fault_and_mends_into_backup() {
    let (mut router, since) = master(100);
    router.handle(link(false), since);
    assert_eq!(short(&drain(&mut router)), "advert 0, remove");
    assert_eq!(
        (router.name(), router.poll_timeout()),
        (StateName::Fault, None)
    );
    let now = since + Duration::from_secs(5);
    router.handle(link(true), now);
    let transition = Action::Transition {
        from: StateName::Fault,
        to: StateName::Backup,
        why: Why::LinkUp,
    };
    assert_eq!(drain(&mut router), [transition]);
    assert_eq!(
        router.poll_timeout().unwrap().0,
        now + active_down_interval(Version::V3, Duration::from_millis(100), 3, 100)
    );

    let mut router = backup(100, AT_ONCE);
    router.handle(
        Input::Link(Link {
            up: true,
            primary: None,
        }),
        ms(1),
    );
    assert_eq!(
        (router.name(), router.why()),
        (StateName::Fault, Why::NoAddress)
    );
}

#[test]
fn preempt_delay_counts_from_the_first_advert_of_the_lower_master() {
    let mut router = backup(200, Preempt::After(Interval::from_millis(1000)));
    let mut now = ms(0);
    while router.state() == State::Backup {
        now = now + Duration::from_millis(100);
        assert!(now < ms(5000), "it never preempts");
        router.handle(advert_at(LOWER_IP, 100, 10, now), now);
        if router.poll_timeout().is_some_and(|(at, _)| at <= now) {
            router.handle_timeout(now);
        }
    }
    // Heard from 100 ms; accepted until 1000 ms; then the Down interval runs out.
    assert_eq!(now, ms(1400), "1000 + 322, at the next look");
    assert_eq!(
        router.why(),
        Why::Preempted {
            peer: LOWER_IP,
            priority: 100
        }
    );
}

#[test]
fn a_yielding_master_says_zero_once_and_comes_back_only_if_nobody_else_is_there() {
    for (reason, left) in [(Yield::TableMissing, 1), (Yield::Drained, 2)] {
        let (mut router, since) = master(250);
        let yields = Standing {
            priority: 250,
            yields: Some(reason),
        };
        router.handle(Input::Standing(yields), since);
        assert_eq!(
            short(&drain(&mut router)),
            "advert 0",
            "clients are served until somebody else does it"
        );
        assert_eq!((router.state(), router.priority()), (State::Backup, left));
        let mut handed_over = router.clone();
        handed_over.handle(advert_at(LOWER_IP, 50, 10, since), since);
        assert_eq!(short(&drain(&mut handed_over)), "remove", "a peer does it");
        let (due, _) = router.poll_timeout().unwrap();
        router.handle_timeout(due);
        assert_eq!(
            short(&drain(&mut router)),
            format!("advert {left}, add"),
            "the last resort"
        );
        router.handle(Input::Standing(yields), due);
        assert_eq!(short(&drain(&mut router)), "", "told again: nothing new");
        router.handle(Input::Standing(standing(250)), due);
        assert_eq!(short(&drain(&mut router)), "advert 250");
    }
}

#[test]
fn without_peers_nothing_is_given_away() {
    let mut router = Router::new(
        Config {
            has_peers: false,
            ..config(AT_ONCE)
        },
        standing(250),
        ms(0),
    );
    router.handle(link(true), ms(0));
    router.handle(Input::Start { holding: false }, ms(0));
    let (due, _) = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    drain(&mut router);
    router.handle(
        Input::Standing(Standing {
            priority: 250,
            yields: Some(Yield::TableMissing),
        }),
        due,
    );
    assert_eq!(short(&drain(&mut router)), "advert 1");
    router.handle_timeout(due + Duration::from_secs(9));
    assert!(
        matches!(router.state(), State::Master { .. }),
        "overslept, but nobody took over"
    );
}

#[test]
fn not_ready_lowers_the_priority_and_tells_it_at_once() {
    let (mut router, since) = master(250);
    router.handle(Input::Standing(standing(150)), since);
    assert_eq!(
        (router.state(), short(&drain(&mut router)).as_str()),
        (UP, "advert 150")
    );
}

#[test]
fn an_overslept_master_becomes_backup_before_it_sends() {
    type Wake = fn(&mut Router, Moment);
    let wakes: [(&str, Wake); 3] = [
        ("its timer", |router, now| router.handle_timeout(now)),
        ("an advert", |router, now| {
            router.handle(advert_at(LOWER_IP, 50, 10, now), now)
        }),
        ("a verdict", |router, now| {
            router.handle(Input::Standing(standing(99)), now)
        }),
    ];
    for (what, wake) in wakes {
        let (mut router, since) = master(100);
        let now = since + Duration::from_millis(300);
        wake(&mut router, now);
        assert_eq!(router.state(), State::Backup, "{what}");
        let actions = short(&drain(&mut router));
        assert!(!actions.contains("advert"), "{what}: {actions}");
        assert_eq!(router.counters().overslept, 1);
    }
    let (mut router, since) = master(100);
    router.handle_timeout(since + Duration::from_millis(299));
    assert_eq!(router.state(), UP);
}

#[test]
fn after_oversleeping_the_addresses_stay_until_a_peer_is_heard() {
    for peer in [true, false] {
        let (mut router, since) = master(100);
        let now = since + Duration::from_secs(2);
        router.handle_timeout(now);
        assert_eq!(short(&drain(&mut router)), "", "kept");
        if peer {
            router.handle(advert_at(LOWER_IP, 50, 10, now), now);
            assert_eq!(short(&drain(&mut router)), "remove");
        }
        let (due, _) = router.poll_timeout().unwrap();
        router.handle_timeout(due);
        assert_eq!(short(&drain(&mut router)), "advert 100, add");
    }
}

#[test]
fn an_overslept_backup_listens_once_more() {
    let mut router = backup(100, AT_ONCE);
    router.handle_timeout(ms(5000));
    assert_eq!(router.state(), State::Backup);
    let due = ms(5000) + active_down_interval(Version::V3, Duration::from_millis(100), 3, 100);
    assert_eq!(router.poll_timeout().unwrap().0, due);
    router.handle_timeout(due);
    assert_eq!(router.state(), PENDING);
}

#[test]
fn a_restarted_node_adopts_what_it_finds() {
    let start = |up: bool| {
        let mut router = Router::new(config(AT_ONCE), standing(100), ms(0));
        router.handle(link(up), ms(0));
        router.handle(Input::Start { holding: true }, ms(0));
        let actions = short(&drain(&mut router));
        (router, actions)
    };
    let (mut router, actions) = start(true);
    assert_eq!((router.state(), actions.as_str()), (State::Backup, "add"));
    router.handle(advert_at(LOWER_IP, 50, 10, ms(10)), ms(10));
    assert_eq!(short(&drain(&mut router)), "remove", "a peer has it");
    let (router, actions) = start(false);
    assert_eq!(
        (router.name(), actions.as_str()),
        (StateName::Fault, "remove")
    );
}

#[test]
fn refused_addresses_make_it_yield_for_a_while() {
    let (mut router, since) = master(100);
    let generation = router.generation;
    let reason = "not allowed".to_owned();
    router.handle(Input::AddressesRefused { generation, reason }, since);
    assert_eq!(short(&drain(&mut router)), "advert 0, remove");
    assert_eq!(
        (router.priority(), router.refusal()),
        (1, Some("not allowed"))
    );
    router.handle(advert_at(LOWER_IP, 50, 10, since), since);
    router.handle_timeout(since + REFUSED_FOR);
    assert_eq!((router.priority(), router.refusal()), (100, None));
}

#[test]
fn mismatches_are_counted_and_never_dropped() {
    let mut router = backup(100, AT_ONCE);
    let advert = Advert {
        version: Version::V3,
        vrid: 51,
        priority: 200,
        interval: 30,
        addresses: vec![VIP, OWN],
    };
    router.handle(
        Input::Advert {
            source: HIGHER_IP,
            advert,
            arrived: ms(20),
        },
        ms(20),
    );
    let counters = router.counters();
    assert_eq!(
        (counters.address_mismatch, counters.interval_mismatch),
        (1, 1)
    );
    assert_eq!(
        router.poll_timeout().unwrap().0,
        ms(20) + active_down_interval(Version::V3, Duration::from_millis(300), 3, 100)
    );
    router.handle(advert_at(OWN, 255, 10, ms(30)), ms(30));
    assert_eq!(
        (
            router.counters().own_source,
            router.counters().adverts_received
        ),
        (1, 1)
    );
}

#[test]
fn a_late_read_of_an_early_packet_counts_from_its_arrival() {
    let mut router = backup(100, AT_ONCE);
    router.handle(advert_at(HIGHER_IP, 200, 10, ms(100)), ms(290));
    assert_eq!(
        router.poll_timeout().unwrap().0,
        ms(100) + active_down_interval(Version::V3, Duration::from_millis(100), 3, 100)
    );
}

#[test]
fn masters_of_one_moment_spread_their_adverts() {
    let mut second = Vec::new();
    for phase in [0, 1, 16, 31] {
        let mut router = backup(100, AT_ONCE).spread(phase);
        let (down, _) = router.poll_timeout().unwrap();
        router.handle_timeout(down);
        assert_eq!(router.name(), StateName::Master);
        let (next, _) = router.poll_timeout().unwrap();
        router.handle_timeout(next);
        let (third, _) = router.poll_timeout().unwrap();
        assert_eq!(third.since(next), Duration::from_millis(100), "only once");
        second.push(next.since(down).as_micros());
    }
    assert_eq!(second, [100_000, 96_875, 50_000, 3_125]);
}

#[test]
fn the_startup_delay_keeps_silent() {
    let config = Config {
        startup_delay: Duration::from_secs(2),
        ..config(AT_ONCE)
    };
    let mut router = Router::new(config, standing(255), ms(0));
    router.handle(link(true), ms(0));
    router.handle(Input::Start { holding: false }, ms(0));
    assert_eq!(router.poll_timeout(), Some((ms(2000), "startup delay")));
    router.handle_timeout(ms(2000));
    assert_eq!(short(&drain(&mut router)), "advert 255, add");
}

#[test]
fn the_boot_delay_counts_from_the_boot() {
    for (started, speaks) in [(1000, 30_000), (29_000, 31_000), (40_000, 42_000)] {
        let config = Config {
            startup_delay: Duration::from_secs(2),
            boot_delay: Duration::from_secs(30),
            ..config(AT_ONCE)
        };
        let mut router = Router::new(config, standing(255), ms(started));
        router.handle(link(true), ms(started));
        router.handle(Input::Start { holding: false }, ms(started));
        assert_eq!(router.poll_timeout(), Some((ms(speaks), "startup delay")));
        router.handle_timeout(ms(speaks));
        assert_eq!(short(&drain(&mut router)), "advert 255, add");
    }
}

#[test]
fn a_reconfigured_master_goes_on() {
    let (mut router, since) = master(100);
    let next = router.poll_timeout().unwrap();
    router.reconfigure(config(Preempt::Never), false, since);
    assert_eq!(
        (router.state(), short(&drain(&mut router)).as_str()),
        (UP, ""),
        "untouched"
    );
    assert_eq!(router.poll_timeout().unwrap(), next);
    let moved = Config {
        addresses: vec![VIP, OWN],
        ..config(AT_ONCE)
    };
    router.reconfigure(moved, false, since + Duration::from_millis(10));
    assert_eq!(
        (router.state(), short(&drain(&mut router)).as_str()),
        (PENDING, "add, advert 100")
    );
}

#[test]
fn peers_are_remembered_but_not_without_bound() {
    let mut router = backup(100, AT_ONCE);
    for n in 0..100 {
        let at = ms(u64::from(n));
        router.handle(advert_at(IpAddr::from([10, 0, 1, n]), 200, 10, at), at);
    }
    assert_eq!(router.peers().len(), super::tally::PEERS);
    assert!(router.peers().contains_key(&IpAddr::from([10, 0, 1, 99])));
}

#[test]
fn who_waits_for_the_addresses_is_told_once_whatever_the_kernel_says() {
    let settled = |router: &mut Router| {
        let actions = drain(router);
        actions.iter().filter(|a| **a == Action::Settled).count()
    };
    let becomes_master = |has_peers: bool| {
        let mut router = Router::new(
            Config {
                has_peers,
                ..config(AT_ONCE)
            },
            standing(100),
            ms(0),
        );
        router.handle(link(true), ms(0));
        router.handle(Input::Start { holding: false }, ms(0));
        let (due, _) = router.poll_timeout().unwrap();
        router.handle_timeout(due);
        assert_eq!(router.state(), PENDING);
        assert_eq!(settled(&mut router), 0, "nobody has answered yet");
        assert!(!router.is_settled());
        router
    };
    let refused = |generation| Input::AddressesRefused {
        generation,
        reason: "no".to_owned(),
    };
    let mut router = becomes_master(true);
    let generation = router.generation;
    for (count, time) in [(1, 400), (0, 401)] {
        router.handle(Input::AddressesUp { generation }, ms(time));
        assert_eq!(settled(&mut router), count);
    }
    // Its peers take over, so it was never master for anybody.
    let mut router = becomes_master(true);
    router.handle(refused(router.generation), ms(400));
    assert_eq!((router.state(), settled(&mut router)), (State::Backup, 0));
    let mut alone = becomes_master(false);
    alone.handle(refused(alone.generation), ms(400));
    assert_eq!((alone.state(), settled(&mut alone)), (PENDING, 1));
}

#[test]
fn a_lower_master_is_told_of_at_most_once_a_second() {
    let (mut router, since) = master(100);
    let mut told = Vec::new();
    for n in 0..25 {
        let now = since + Duration::from_millis(10 + n * 100);
        router.handle_timeout(now);
        router.handle(advert_at(LOWER_IP, 90, 10, now), now);
        let actions = drain(&mut router);
        let lower = |action: &Action| matches!(action, Action::LowerMaster { peer, priority: 90 } if *peer == LOWER_IP);
        told.extend(actions.iter().any(lower).then_some(n));
    }
    // At priority 100 the Down interval is 361 ms: until then it may be the loser's last one.
    assert_eq!(told, [4, 14, 24]);
}
