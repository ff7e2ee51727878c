//! vrrpd with as many virtual routers on one interface as there are ids. Any kernel; needs root.

use std::time::Duration;

use rustix::process::Signal;
use tests::bench::usage;
use tests::routers::{Families, Pair, platform};
use tests::wait;

/// What the protocol thread of a director has done.
#[derive(Debug, Clone, Copy)]
struct Work {
    wakes: f64,
    packets: f64,
    sent: f64,
    transitions: f64,
}

fn work(pair: &Pair, director: usize) -> Work {
    let daemon = &pair.daemons[director];
    Work {
        wakes: daemon.metric("vrrp_loop_wakes_total", ""),
        packets: daemon.metric("vrrp_loop_packets_total", ""),
        sent: daemon.metric("vrrp_advertisements_sent_total", ""),
        transitions: daemon.metric("vrrp_transitions_total", ""),
    }
}

#[test]
fn a_backup_that_wakes_up_to_thousands_of_adverts_reads_them_before_it_believes_a_timer() {
    let mut pair = Pair::new();
    pair.start(&platform(255, "100ms", Families::Both));
    let received = |pair: &Pair| pair.daemons[1].metric("vrrp_advertisements_received_total", "");
    for _ in 0..3 {
        let (transitions, before) = (pair.transitions(), received(&pair));
        // Down timers end after 306 ms; from 606 ms on the process would know by itself that it slept.
        pair.daemons[1].signal(Signal::STOP);
        wait::for_a_while(Duration::from_millis(500));
        pair.daemons[1].signal(Signal::CONT);
        wait::until("it has caught up", Duration::from_secs(10), || {
            received(&pair) - before > 510.0 * 8.0
        });
        assert_eq!(
            pair.transitions(),
            transitions,
            "every master had spoken in time"
        );
    }
}

#[test]
fn hundreds_of_addresses_move_as_fast_as_one() {
    let mut pair = Pair::new();
    pair.start(&platform(255, "100ms", Families::Both));
    let held = || {
        let addresses = pair
            .node(1)
            .sh("ip", &["-brief", "address", "show", "dev", "eth0"]);
        let words = addresses.split_whitespace();
        words
            .filter(|word| word.ends_with("/32") || word.ends_with("/128"))
            .count()
    };
    assert_eq!(held(), 0);
    let begun = std::time::Instant::now();
    pair.daemons[0].signal(Signal::STOP);
    wait::until(
        "the backup is master of all",
        Duration::from_secs(10),
        || pair.in_state(1, "master") == 510,
    );
    let masters = begun.elapsed();
    wait::until("it holds every address", Duration::from_secs(10), || {
        held() == 510
    });
    println!(
        "master of 510 after {masters:?}, all addresses after {:?}",
        begun.elapsed()
    );
    if !tests::in_uml() {
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "the slowest of them"
        );
    }
    pair.daemons[0].signal(Signal::CONT);
    wait::until("all is as before", Duration::from_secs(20), || {
        pair.in_state(0, "master") == 510 && pair.in_state(1, "backup") == 510 && held() == 0
    });
    println!("and back after {:?}", begun.elapsed());
}

#[test]
fn an_advert_costs_one_wake_however_many_routers_there_are() {
    const IDS: u8 = 255;
    let mut pair = Pair::new();
    pair.start(&platform(IDS, "1s", Families::Both));
    let routers = f64::from(u32::try_from(pair.routers(0)).expect("hundreds"));
    // The bursts of announcements after the takeover are no adverts.
    wait::until("adverts alone", Duration::from_secs(60), || {
        let before = work(&pair, 0);
        wait::for_a_while(Duration::from_secs(1));
        let after = work(&pair, 0);
        after.wakes - before.wakes <= (after.sent - before.sent) * 1.3 + 5.0
    });
    let processor = |director: usize| {
        let pid = pair.daemons[director].pid().expect("it runs");
        usage::processor(&[pid]).expect("its processor time")
    };
    let before = [0, 1].map(|director| (work(&pair, director), processor(director)));
    let begun = std::time::Instant::now();
    wait::for_a_while(Duration::from_secs(5));
    let passed = begun.elapsed();
    for (director, (before, used)) in before.into_iter().enumerate() {
        let spent = processor(director).since(&used).total;
        let after = work(&pair, director);
        let wakes = after.wakes - before.wakes;
        let adverts = (after.sent - before.sent) + (after.packets - before.packets);
        println!(
            "director {director}: {wakes} wakes for {adverts} adverts, {:.2} % of a processor",
            100.0 * spent.as_secs_f64() / passed.as_secs_f64()
        );
        let least = routers * passed.as_secs_f64() * 0.8;
        assert!(adverts >= least, "{adverts} adverts in {passed:?}");
        // One wake each at most, but for the questions of this test.
        assert!(
            wakes <= adverts * 1.1 + 10.0,
            "{wakes} wakes for {adverts} adverts"
        );
        assert_eq!(after.transitions, before.transitions, "nothing moves");
    }
}
