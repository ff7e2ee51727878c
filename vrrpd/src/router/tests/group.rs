//! A member of a sync group, and two masters that are equal.

use super::*;
use crate::event::{Common, Follow};

fn grouped(priority: u8, leads: bool) -> Router {
    let config = Config {
        grouped: true,
        ..config(AT_ONCE)
    };
    let mut router = Router::new(config, standing(priority), ms(0));
    router.handle(link(true), ms(0));
    router.handle(Input::Start { holding: false }, ms(0));
    router.handle(common(priority, false, leads), ms(0));
    drain(&mut router);
    router
}

fn common(priority: u8, fault: bool, leads: bool) -> Input {
    Input::Common(Common {
        standing: standing(priority),
        fault,
        leads,
    })
}

fn grouped_master(priority: u8, leads: bool) -> (Router, Moment) {
    let mut router = grouped(priority, leads);
    let (due, _) = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    router.handle(Input::Follow(Follow::Master), due);
    let generation = router.generation;
    router.handle(Input::AddressesUp { generation }, due);
    drain(&mut router);
    assert_eq!(router.state(), UP);
    (router, due)
}

#[test]
fn a_member_waits_for_its_group() {
    let mut router = grouped(100, true);
    let (due, _) = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    assert_eq!(short(&drain(&mut router)), "");
    assert!(router.member().wants);
    assert_eq!(router.poll_timeout(), None, "the group decides");
    let mut heard = router.clone();
    heard.handle(advert_at(LOWER_IP, 200, 10, due), due);
    assert!(!heard.member().wants, "there is a master after all");
    router.handle(Input::Follow(Follow::Master), due);
    assert_eq!(short(&drain(&mut router)), "advert 100, add");
    assert_eq!(router.why(), Why::MasterSilent);
}

#[test]
fn an_owner_waits_for_its_group_too() {
    let router = grouped(255, true);
    assert_eq!(router.state(), State::Backup);
    assert!(router.member().wants);
}

#[test]
fn a_master_follows_its_group() {
    // (input, actions, state after)
    let rows = [
        (
            Input::Follow(Follow::Backup),
            "advert 0, remove",
            StateName::Backup,
        ),
        (Input::Follow(Follow::Linger), "", StateName::Backup),
        (Input::Follow(Follow::Master), "", StateName::Master),
        (
            common(100, true, true),
            "advert 0, remove",
            StateName::Fault,
        ),
        (common(90, false, true), "advert 90", StateName::Master),
    ];
    for (input, actions, state) in rows {
        let (mut router, since) = grouped_master(100, true);
        router.handle(input.clone(), since);
        assert_eq!(short(&drain(&mut router)), actions, "{input:?}");
        assert_eq!(router.name(), state, "{input:?}");
    }
}

#[test]
fn a_member_that_slept_gives_way_before_it_says_anything() {
    let (mut router, since) = grouped_master(100, true);
    let now = since + Duration::from_secs(1);
    router.handle(Input::Follow(Follow::Backup), now);
    assert_eq!(short(&drain(&mut router)), "", "no advert of any priority");
    assert_eq!(router.why(), Why::Overslept);
}

#[test]
fn a_fault_of_the_group_ends_with_it() {
    let mut router = grouped(100, true);
    router.handle(common(100, true, true), ms(10));
    let states = (router.name(), router.why(), router.member().fault);
    assert_eq!(states, (StateName::Fault, Why::GroupFault, false));
    router.handle(common(100, false, true), ms(20));
    assert_eq!(
        (router.name(), router.why()),
        (StateName::Backup, Why::Group)
    );
}

#[test]
fn whoever_leaves_its_group_goes_on_alone() {
    let mut router = grouped(100, true);
    let (due, _) = router.poll_timeout().unwrap();
    router.handle_timeout(due);
    router.reconfigure(config(AT_ONCE), false, due);
    let down = active_down_interval(Version::V3, Duration::from_millis(100), 3, 100);
    assert_eq!(router.poll_timeout().unwrap().0, due + down);
    router.handle_timeout(due + down);
    assert_eq!(router.state(), PENDING);
}

#[test]
fn the_first_member_decides_ties_unless_nobody_does() {
    let (mut leads, since) = grouped_master(100, true);
    leads.handle(advert_at(HIGHER_IP, 100, 10, since), since);
    assert_eq!(leads.state(), State::Backup);

    let (mut other, since) = grouped_master(100, false);
    let mut now = since;
    while other.name() == StateName::Master {
        now = now + Duration::from_millis(100);
        assert!(now < since + Duration::from_secs(2), "for ever two masters");
        other.handle_timeout(now);
        other.handle(advert_at(HIGHER_IP, 100, 10, now), now);
    }
    assert_eq!(now.since(since), Duration::from_millis(500), "100 + 361");

    let (mut seldom, since) = grouped_master(100, false);
    for second in 0..20 {
        for tick in 0..10 {
            seldom.handle_timeout(since + Duration::from_millis(1000 * second + 100 * tick));
        }
        let now = since + Duration::from_millis(1000 * second + 950);
        seldom.handle(advert_at(HIGHER_IP, 100, 10, now), now);
    }
    assert_eq!(seldom.name(), StateName::Master, "each time another tie");
}

#[test]
fn of_two_owners_the_lower_address_gives_way_at_once() {
    let (mut lower, since) = master_of(255);
    lower.handle(advert_at(HIGHER_IP, 255, 10, since), since);
    assert_eq!(lower.state(), State::Backup);
    assert_eq!(short(&drain(&mut lower)), "advert 255, remove");
}

#[test]
fn an_owner_of_the_higher_address_gives_way_if_the_other_does_not() {
    let (mut higher, since) = master_of(255);
    let mut now = since;
    while higher.name() == StateName::Master {
        now = now + Duration::from_millis(100);
        assert!(now < since + Duration::from_secs(2), "for ever two masters");
        higher.handle_timeout(now);
        higher.handle(advert_at(LOWER_IP, 255, 10, now), now);
    }
    assert_eq!(
        now.since(since),
        Duration::from_millis(500),
        "100 + 2 adverts + 1.2 intervals"
    );
    assert_eq!(higher.priority(), 254);
    let (due, _) = higher.poll_timeout().unwrap();
    higher.handle_timeout(due);
    assert_eq!((higher.state(), higher.priority()), (PENDING, 255), "gone");
}

fn master_of(owner: u8) -> (Router, Moment) {
    let mut router = backup(owner, AT_ONCE);
    let generation = router.generation;
    router.handle(Input::AddressesUp { generation }, ms(0));
    drain(&mut router);
    assert_eq!(router.state(), UP);
    (router, ms(0))
}
