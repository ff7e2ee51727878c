//! Targets that come, stay and go; results and what they change.

use std::net::SocketAddr;
use std::sync::Arc;

use conf::platform::{Check, CheckKind, InitialState, Place};
use conf::unit::{Interval, Percent};

use super::*;

fn check() -> Check {
    Check {
        name: None,
        kind: CheckKind::Tcp,
        interval: Interval::from_secs(2),
        timeout: Interval::from_secs(1),
        rise: 2,
        fall: 3,
        retry_delay: None,
        initial: InitialState::Down,
        jitter: Percent::new(0).unwrap(),
        bind: None,
        address: None,
        port: None,
        place: Place::default(),
    }
}

fn target(address: &str, check: Check) -> Target {
    let address: SocketAddr = address.parse().unwrap();
    Target::new(address, Arc::new(check))
}

fn at(millis: u64) -> Moment {
    Moment::ZERO + Duration::from_millis(millis)
}

fn book() -> Book {
    Book::new(Schedule::new(1, 10, 2))
}

fn ok() -> Result<Answer, String> {
    Ok(Answer::alive("connected"))
}

fn report(draining: bool, weight_percent: u8) -> Result<Answer, String> {
    Ok(Answer {
        draining,
        weight_percent,
        ..Answer::alive("ready")
    })
}

fn fail() -> Result<Answer, String> {
    Err("connect: refused".to_owned())
}

/// Runs the one target's next check, whenever it is due; returns when that was.
fn next(book: &mut Book, result: Result<Answer, String>) -> (Moment, Option<Change>) {
    let (due, _) = book.poll_timeout().unwrap();
    let (slot, _) = book.poll_action(due).unwrap();
    (
        due,
        book.handle_result(slot, result, Duration::from_millis(1), due),
    )
}

#[test]
fn results_make_statuses_and_only_changes_are_told() {
    let mut book = book();
    let key = book
        .set_targets(vec![target("10.0.0.1:80", check())], at(0))
        .pop_first()
        .unwrap();
    assert_eq!(book.statuses()[&key].health, Health::Checking);
    let (first, change) = next(&mut book, ok());
    assert_eq!(first, at(0));
    assert_eq!(change.unwrap().status.health, Health::Up);
    assert!(next(&mut book, ok()).1.is_none());
    assert!(next(&mut book, fail()).1.is_none());
    assert!(next(&mut book, fail()).1.is_none());
    assert_eq!(&*book.statuses()[&key].reason, "connect: refused");
    let (third, change) = next(&mut book, fail());
    let status = change.unwrap().status;
    assert_eq!(
        (status.health, status.since, status.checks),
        (Health::Down, third, (5, 3))
    );
    assert_eq!(status.latency, Some(Duration::from_millis(1)));
}

#[test]
fn a_drain_and_a_weight_are_changes_too() {
    let mut book = book();
    book.set_targets(
        vec![target(
            "10.0.0.1:8181",
            Check {
                kind: CheckKind::Edge,
                ..check()
            },
        )],
        at(0),
    );
    assert!(next(&mut book, report(false, 100)).1.is_some());
    assert_eq!(
        next(&mut book, report(false, 50))
            .1
            .unwrap()
            .status
            .weight_percent,
        50
    );
    assert!(next(&mut book, report(false, 50)).1.is_none());
    let change = next(&mut book, report(true, 50)).1.unwrap();
    assert!(change.status.draining && change.status.health == Health::Up);
    assert!(
        next(&mut book, fail()).1.is_none(),
        "one failure does not end a drain"
    );
    next(&mut book, fail());
    let change = next(&mut book, fail()).1.unwrap();
    assert!(!change.status.draining && change.status.health == Health::Down);
}

#[test]
fn only_a_doubtful_failure_is_looked_at_again_sooner() {
    let mut book = book();
    book.set_targets(
        vec![target(
            "10.0.0.1:80",
            Check {
                retry_delay: Some(Interval::from_millis(300)),
                ..check()
            },
        )],
        at(0),
    );
    next(&mut book, ok());
    next(&mut book, ok());
    let (failed, _) = next(&mut book, fail());
    let (again, _) = next(&mut book, fail());
    assert_eq!(again, failed + Duration::from_millis(300));
    let (last, change) = next(&mut book, fail());
    assert!(change.is_some());
    assert_eq!(
        next(&mut book, fail()).0,
        last + Duration::from_secs(2),
        "a confirmed failure is no doubt"
    );
}

#[test]
fn what_stays_keeps_its_state_and_place() {
    let mut book = book();
    let both = vec![
        target("10.0.0.1:80", check()),
        target("10.0.0.2:80", check()),
    ];
    let keys = book.set_targets(both.clone(), at(0));
    assert_eq!(keys.len(), 2);
    while let Some((slot, _)) = book.poll_action(at(0)) {
        book.handle_result(slot, ok(), Duration::ZERO, at(0));
    }
    let (before, due) = (book.statuses(), book.poll_timeout());
    assert_eq!(book.set_targets(both.clone(), at(10)), keys);
    assert_eq!(
        (book.statuses(), book.poll_timeout()),
        (before, due),
        "applying twice does nothing"
    );
    let shared = vec![both[0].clone(), both[0].clone()];
    assert_eq!(
        book.set_targets(shared, at(20)).len(),
        1,
        "two users, one probe"
    );
    assert_eq!(book.statuses().len(), 1);
    assert_eq!(
        book.statuses().into_values().next().unwrap().health,
        Health::Up
    );
}

#[test]
fn a_changed_check_begins_with_the_known_verdict() {
    let mut book = book();
    book.set_targets(
        vec![
            target("10.0.0.1:80", check()),
            target("10.0.0.2:80", check()),
        ],
        at(0),
    );
    let (slot, first) = book.poll_action(at(0)).unwrap();
    book.handle_result(slot, ok(), Duration::ZERO, at(0));
    assert_eq!(first.address.to_string(), "10.0.0.1:80");
    let (slot, _) = book.poll_action(at(1)).unwrap();
    book.handle_result(slot, fail(), Duration::ZERO, at(1));
    let faster = Check {
        interval: Interval::from_secs(1),
        ..check()
    };
    let addresses = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
    book.set_targets(
        addresses
            .map(|address| target(address, faster.clone()))
            .to_vec(),
        at(10),
    );
    let health: Vec<Health> = book
        .statuses()
        .into_values()
        .map(|status| status.health)
        .collect();
    assert_eq!(health, [Health::Up, Health::Down, Health::Checking]);
    assert_eq!(
        book.poll_timeout().unwrap().0,
        at(10),
        "and is checked at once"
    );
}

#[test]
fn another_mark_is_another_server() {
    let mut book = book();
    let marked = |mark| Target {
        mark: Some(mark),
        ..target("10.0.0.1:80", check())
    };
    book.set_targets(vec![marked(1)], at(0));
    assert!(next(&mut book, ok()).1.is_some());
    book.set_targets(vec![marked(1), marked(2)], at(10));
    let health: Vec<Health> = book
        .statuses()
        .into_values()
        .map(|status| status.health)
        .collect();
    assert_eq!(health, [Health::Up, Health::Checking]);
}

#[test]
fn a_target_that_went_while_its_check_ran_is_forgotten() {
    let mut book = Book::new(Schedule::new(1, 1, 1));
    book.set_targets(vec![target("10.0.0.1:80", check())], at(0));
    let (slot, _) = book.poll_action(at(0)).unwrap();
    book.set_targets(vec![target("10.0.0.2:80", check())], at(1));
    assert!(
        book.poll_action(at(1)).is_none(),
        "its check still takes the only place"
    );
    assert_eq!(book.handle_result(slot, ok(), Duration::ZERO, at(2)), None);
    assert_eq!(
        book.poll_action(at(2)).unwrap().1.address.to_string(),
        "10.0.0.2:80"
    );
}

#[test]
fn of_several_checks_at_one_address_the_same_question_tells() {
    let mut book = book();
    let icmp = Check {
        kind: CheckKind::Icmp,
        ..check()
    };
    let both = vec![
        target("10.0.0.1:80", check()),
        target("10.0.0.1:80", icmp.clone()),
    ];
    book.set_targets(both, at(0));
    for _ in 0..2 {
        let (due, _) = book.poll_timeout().unwrap();
        let (slot, target) = book.poll_action(due).unwrap();
        let result = match target.check.kind {
            CheckKind::Tcp => ok(),
            _ => fail(),
        };
        book.handle_result(slot, result, Duration::ZERO, due);
    }
    let slower = |check: Check| Check {
        interval: Interval::from_secs(9),
        ..check
    };
    for (check, health) in [(check(), Health::Up), (icmp, Health::Down)] {
        let mut set: Vec<Target> = book
            .entries
            .values()
            .map(|entry| entry.target.clone())
            .collect();
        let new = target("10.0.0.1:80", slower(check));
        let key = new.key();
        set.push(new);
        book.set_targets(set, at(10));
        assert_eq!(book.statuses()[&key].health, health);
    }
}

#[test]
fn a_certificate_s_end_is_kept_while_the_server_is_silent() {
    let mut book = book();
    let key = book
        .set_targets(vec![target("10.0.0.1:443", check())], at(0))
        .pop_first()
        .unwrap();
    let shown = Ok(Answer {
        certificate_expires: Some(4_000_000_000),
        ..Answer::alive("certificate valid for 9 days")
    });
    next(&mut book, shown);
    next(&mut book, fail());
    let status = &book.statuses()[&key];
    assert_eq!(status.certificate_expires, Some(4_000_000_000));
    let certificate = Certificate {
        kind: "tcp",
        address: SocketAddr::from(([10, 0, 0, 1], 443)).into(),
        expires: 4_000_000_000,
    };
    assert_eq!(book.certificates(), [certificate]);
}

#[test]
fn a_hastened_target_is_asked_at_once_and_keeps_its_verdict() {
    let mut book = book();
    let target = target("10.0.0.1:80", check());
    let key = target.key();
    book.set_targets(vec![target], at(0));
    let (first, _) = next(&mut book, fail());
    let (slot, _) = book.poll_action(book.poll_timeout().unwrap().0).unwrap();
    let now = first + Duration::from_millis(1900);
    book.hasten(&BTreeSet::from([key.clone()]), now);
    assert_eq!(book.statuses()[&key].health, Health::Down);
    // What was asked before says nothing any more.
    assert_eq!(book.handle_result(slot, ok(), Duration::ZERO, now), None);
    assert_eq!(book.statuses()[&key].checks, (1, 1));
    let (due, _) = next(&mut book, ok());
    assert_eq!(due, now);
    assert_eq!(book.statuses()[&key].checks, (2, 1));
}
