//! A silent partition: adverts do not pass between the directors while every link stays up. Both are master meanwhile; after the heal one is,
//! within one advert interval, and clients reach it at once. Needs root. Times decide on a real kernel only.

use std::time::Duration;

use tests::segment::pinger::Pinger;
use tests::segment::speaker::{Program, Speaker};
use tests::segment::{Segment, Setup, in_words, own_address};
use tests::witness::What;
use tests::{in_uml, wait, witness};

const PATIENCE: Duration = Duration::from_secs(10);
const PACE: Duration = Duration::from_millis(2);

fn rounds() -> usize {
    std::env::var("WEIR_PARTITIONS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(2)
}

/// Whether `lb2` is cut off from the better one and from the client.
fn cut_off(segment: &Segment, director: &str, cut: bool) {
    // Ports that are isolated from one another: no frame passes between them, and both stay up.
    let state = if cut { "on" } else { "off" };
    let other = if director == "lb1" { "lb2" } else { "lb1" };
    segment.lab.switches().ip(&format!(
        "link set dev {director}-eth0 type bridge_slave isolated {state}\n\
         link set dev {other}-eth0 type bridge_slave isolated {state}\n"
    ));
}

#[test]
fn after_a_silent_partition_one_master_is_left_within_an_interval_and_clients_reach_it() {
    let setup = Setup::v3();
    let segment = Segment::new();
    let mut speakers = [("lb1", 250), ("lb2", 240)].map(|(node, priority)| {
        Speaker::new(&segment, node, Program::Ours, &setup, priority, Some(50))
    });
    for speaker in &mut speakers {
        speaker.start(&segment);
    }
    segment.settles("lb1", &setup, true);
    let (vip, winner) = (setup.vip(), segment.mac("lb1"));
    let mut times = Vec::new();
    for round in 0..rounds() {
        // Re-announcements to one another are at least 1 s apart.
        wait::for_a_while(Duration::from_secs(1));
        cut_off(&segment, "lb2", true);
        wait::until("both to be master", PATIENCE, || {
            segment.holders(vip) == ["lb1", "lb2"] && segment.masters(setup.interval * 3).len() == 2
        });
        // The loser spoke last: the client has its address.
        wait::until("the client to be served by the loser", PATIENCE, || {
            segment.served_by(vip).as_deref() == Some("lb2")
        });
        let pinger = Pinger::start(segment.node("client"), vip, PACE, None);
        let before = witness::now();
        cut_off(&segment, "lb2", false);
        // The program that heals it takes its time to start.
        let healed = witness::now();
        wait::until("one holder", PATIENCE, || segment.holders(vip) == ["lb1"]);
        wait::until("a whole burst of announcements", PATIENCE, || {
            segment.witness.announcements(before, winner, vip) >= 5
        });
        drop(pinger);
        let loser = own_address("lb2", vip);
        let adverts = segment.witness.adverts_since(before);
        let last_of_loser = adverts
            .iter()
            .filter(|(_, advert)| advert.source == loser && advert.priority > 0)
            .map(|(at, _)| at.saturating_sub(healed))
            .max()
            .unwrap_or_default();
        let answers: Vec<(Duration, bool)> = segment
            .witness
            .since(before)
            .iter()
            .filter(|seen| matches!(seen.what, What::Echo { .. }))
            .map(|seen| (seen.at, seen.mac == winner))
            .collect();
        let served = answers
            .iter()
            .find(|(_, won)| *won)
            .map(|(at, _)| at.saturating_sub(healed));
        let served = served.expect("an answer by the winner");
        let gaps = answers.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let silent = gaps.max().unwrap_or_default();
        println!(
            "round {round}: after the heal the loser's last advert {last_of_loser:.1?}, answers by the winner {served:.1?}, silence {silent:.1?}"
        );
        times.push((last_of_loser, served, silent));
        let neighbour = segment
            .node("client")
            .sh("ip", &["neighbour", "show", &vip.to_string()]);
        assert!(neighbour.contains(&in_words(winner)), "{neighbour}");
        segment.settles("lb1", &setup, true);
    }
    if !in_uml() {
        // One advert of either, and the time to change a bridge port by a program.
        let most = setup.interval + Duration::from_millis(50);
        let median = |of: fn(&(Duration, Duration, Duration)) -> Duration| {
            let mut values: Vec<Duration> = times.iter().map(of).collect();
            values.sort();
            values[values.len() / 2]
        };
        assert!(median(|times| times.0) <= most, "{times:?}");
        assert!(median(|times| times.1) <= most, "{times:?}");
        assert!(
            median(|times| times.2) <= Duration::from_millis(50),
            "{times:?}"
        );
    }
}
