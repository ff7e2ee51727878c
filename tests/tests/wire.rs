//! vrrpd against vrrpd in every way that adverts travel: both versions, both families, to the group and to single peers. Needs root.

use std::fs::write;
use std::path::Path;
use std::time::Duration;

use tests::wait;
use tests::wires::Pair;

const PATIENCE: Duration = Duration::from_secs(20);

/// Crash, return and planned move, and afterwards nothing was dropped on either side.
fn moves_there_and_back(vips: &[&str], vrrp: &str, password: Option<&str>) {
    let mut pair = Pair::start(vips, vrrp, password);
    pair.await_holders(&["lb1"]);
    pair.daemons[0].kill();
    let taken = || pair.holders().contains(&"lb2");
    wait::until("lb2 takes over", PATIENCE, taken);
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    pair.await_holders(&["lb1"]);
    pair.daemons[0].stop();
    pair.await_holders(&["lb2"]);
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    pair.await_holders(&["lb1"]);
    for at in 0..2 {
        for router in pair.routers(at) {
            assert!(
                router["counters"]["adverts_received"].as_u64() > Some(0),
                "{router:#}"
            );
            let errors = router["packet_errors"].as_object();
            let dropped = errors.is_some_and(|errors| !errors.is_empty());
            assert!(!dropped, "{vrrp}: {router:#}");
        }
    }
}

const FOUR: &str = "10.0.0.100/32";
const SIX: [&str; 2] = ["fe80::100/64", "2001:db8::100/128"];

#[test]
fn version_3_to_the_groups_of_both_families_at_once() {
    moves_there_and_back(&[FOUR, SIX[0], SIX[1]], "advert_interval = \"100ms\"", None);
}

#[test]
fn version_3_to_single_peers_of_both_families() {
    let vrrp = "advert_interval = \"100ms\", unicast = true";
    moves_there_and_back(&[FOUR, SIX[1]], vrrp, None);
}

#[test]
fn version_2_with_a_password() {
    let vrrp = "version = 2, advert_interval = \"1s\", password = \"old\"";
    moves_there_and_back(&[FOUR], vrrp, Some("s3cret12\n"));
}

#[test]
fn signed_adverts_of_both_families() {
    let vrrp = "advert_interval = \"100ms\", hmac = { keys = [{ id = 3, secret = \"old\" }] }";
    moves_there_and_back(&[FOUR, SIX[0], SIX[1]], vrrp, Some(&"1f".repeat(32)));
}

/// From none to signed adverts in the three steps, director by director: the VIP never moves and nobody is ever deaf.
#[test]
fn signing_is_rolled_out_without_a_deaf_moment() {
    let pair = Pair::start(
        &[FOUR],
        "advert_interval = \"100ms\"",
        Some(&"2e".repeat(32)),
    );
    pair.await_holders(&["lb1"]);
    let transitions =
        |pair: &Pair, at: usize| pair.routers(at)[0]["counters"]["transitions"].as_u64();
    let before = [transitions(&pair, 0), transitions(&pair, 1)];
    for mode in ["receive_only", "permissive", "enforce"] {
        let hmac = format!("hmac = {{ keys = [{{ id = 1, secret = \"old\" }}], mode = {mode:?} }}");
        let text = pair.text(&format!("advert_interval = \"100ms\", {hmac}"), true);
        for at in [1, 0] {
            let config: &Path = &pair.folder.path().join(format!("lb{}.toml", at + 1));
            write(config, &text).expect("the config can be written");
            let output = pair.daemons[at].command(&["reload"]);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let heard = |pair: &Pair| pair.routers(1)[0]["counters"]["adverts_received"].as_u64();
            let start = heard(&pair).unwrap_or_default();
            wait::until("lb2 hears five more", PATIENCE, || {
                heard(&pair) > Some(start + 5)
            });
        }
    }
    assert_eq!([transitions(&pair, 0), transitions(&pair, 1)], before);
    let router = pair.routers(1).remove(0);
    assert_eq!(router["packet_errors"], serde_json::json!({}), "{router:#}");
}

/// A cable that is out for a moment moves nothing; one that stays out does, and one that is back counts after its delay.
#[test]
fn a_link_that_flaps_is_waited_out() {
    let vrrp = "advert_interval = \"100ms\", link_delay = { down = \"150ms\", up = \"1s\" }";
    let pair = Pair::start(&[FOUR], vrrp, None);
    pair.await_holders(&["lb1"]);
    let transitions = || pair.routers(0)[0]["counters"]["transitions"].as_u64();
    let before = transitions();
    for _ in 0..3 {
        pair.lab.set_cable("lb1", "eth0", false);
        pair.lab.set_cable("lb1", "eth0", true);
        wait::for_a_while(Duration::from_millis(200));
    }
    assert_eq!(transitions(), before, "three moments without a link");
    pair.await_holders(&["lb1"]);
    pair.lab.set_cable("lb1", "eth0", false);
    pair.await_holders(&["lb2"]);
    assert_eq!(pair.routers(0)[0]["state"], "fault");
    pair.lab.set_cable("lb1", "eth0", true);
    pair.await_holders(&["lb1"]);
}

/// Neither believes the other, so both hold the address; each says what it drops, and a reload with the right word heals it.
#[test]
fn another_password_is_counted_and_a_reload_heals_it() {
    let vrrp = "version = 2, advert_interval = \"1s\", password = \"old\"";
    let mut pair = Pair::start(&[FOUR], vrrp, Some("s3cret12"));
    pair.await_holders(&["lb1"]);
    let secret = pair.folder.path().join("password");
    write(&secret, "another").expect("the secret can be changed");
    let reload = |pair: &mut Pair, at: usize| -> i32 {
        let output = pair.daemons[at].command(&["reload"]);
        output.status.code().unwrap_or(-1)
    };
    assert_eq!(reload(&mut pair, 1), 0);
    pair.await_holders(&["lb1", "lb2"]);
    for at in 0..2 {
        let router = pair.routers(at).remove(0);
        assert!(
            router["packet_errors"]["password"].as_u64() > Some(0),
            "{router:#}"
        );
    }
    write(&secret, "far too long").expect("the secret can be changed");
    let output = pair.daemons[0].command(&["reload"]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("holds 12 bytes"), "{said}");
    assert_ne!(output.status.code(), Some(0));
    write(&secret, "another").expect("the secret can be changed");
    assert_eq!(reload(&mut pair, 0), 0);
    pair.await_holders(&["lb1"]);
}

/// The reload that changes how adverts travel keeps the address where it is, on both in turn.
#[test]
fn from_multicast_to_unicast_by_reload() {
    let mut pair = Pair::start(&[FOUR], "advert_interval = \"100ms\"", None);
    pair.await_holders(&["lb1"]);
    let text = pair.text("advert_interval = \"100ms\", unicast = true", false);
    for at in [1, 0] {
        let config: &Path = &pair.folder.path().join(format!("lb{}.toml", at + 1));
        write(config, &text).expect("the config can be written");
        let output = pair.daemons[at].command(&["reload"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    pair.await_holders(&["lb1"]);
    let heard = |pair: &Pair| pair.routers(1)[0]["counters"]["adverts_received"].as_u64();
    let before = heard(&pair);
    wait::until("lb2 hears lb1 by unicast", PATIENCE, || {
        heard(&pair) > before
    });
    pair.daemons[0].kill();
    let taken = || pair.holders().contains(&"lb2");
    wait::until("lb2 takes over", PATIENCE, taken);
}

/// Another least TTL, or another director, leaves the socket as it is.
#[test]
fn a_reload_of_what_is_taken_keeps_adverts_going() {
    let pair = Pair::start(&[FOUR], "advert_interval = \"100ms\", unicast = true", None);
    pair.await_holders(&["lb1"]);
    let wider = "advert_interval = \"100ms\", unicast = { min_ttl = 200 }";
    let text = pair.text(wider, false);
    for at in [0, 1] {
        let config: &Path = &pair.folder.path().join(format!("lb{}.toml", at + 1));
        write(config, &text).expect("the config can be written");
        let output = pair.daemons[at].command(&["reload"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let heard = |pair: &Pair| pair.routers(1)[0]["counters"]["adverts_received"].as_u64();
    let before = heard(&pair).expect("a count");
    wait::until("lb2 hears lb1 as before", PATIENCE, || {
        heard(&pair).is_some_and(|count| count >= before + 10)
    });
    assert_eq!(pair.holders(), ["lb1"]);
    let moved = pair.daemons[1].metric("vrrp_became_master_total", "");
    assert_eq!(moved, 0.0, "lb2 has not taken over meanwhile");
}
