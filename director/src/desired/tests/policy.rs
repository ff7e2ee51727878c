//! Tables of the policies: quorum, sorry server, last good set, slow start, change budget, and all of them together.

use super::*;

/// A pool of servers 10.0.0.11 and up with weight 10 each, over time.
struct Pool {
    layout: Layout,
    memory: Memory,
    orders: Orders,
    seconds: u64,
    /// When each verdict came to be.
    since: Vec<(Health, u64)>,
}

impl Pool {
    fn new(servers: u8, extra: &str) -> Pool {
        Pool {
            layout: Self::layout(servers, extra),
            memory: Memory::default(),
            orders: Orders::default(),
            seconds: 0,
            since: vec![(Checking, 0); servers.into()],
        }
    }

    fn layout(servers: u8, extra: &str) -> Layout {
        let list: Vec<String> = (1..=servers)
            .map(|number| format!("{{ address = \"10.0.0.{}\", weight = 10 }}", 10 + number))
            .collect();
        let service = format!(
            "ports = [80]\nreal_servers = [{}]\ncheck = {{ kind = \"tcp\", interval = \"2s\", timeout = \"1s\", fall = 3 }}\n{extra}",
            list.join(", ")
        );
        layout(&platform(&service), "lb1")
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.seconds = seconds;
        self
    }

    /// One decision. `+` is up, `-` down, `?` not checked, `~` asks for no connections.
    fn decide(&mut self, health: &str) -> Wanted {
        let seconds = self.seconds;
        let statuses = self.layout.pools[0]
            .members
            .iter()
            .zip(health.chars())
            .zip(&mut self.since)
            .map(|((member, letter), since)| {
                let health = match letter {
                    '-' => Down,
                    '?' => Checking,
                    _ => Up,
                };
                if since.0 != health {
                    *since = (health, seconds);
                }
                let status = Status {
                    draining: letter == '~',
                    since: Moment::ZERO + Duration::from_secs(since.1),
                    ..status(health)
                };
                (member.key.clone(), status)
            })
            .collect();
        let wanted = desired(
            &self.layout,
            View {
                statuses: &statuses,
                orders: &self.orders,
                memory: &self.memory,
                now: Moment::ZERO + Duration::from_secs(seconds),
            },
        );
        self.memory.learn(&self.layout, &wanted);
        wanted
    }

    /// The weights after a decision, `-` for one without an entry; the sorry server comes last, after `+`.
    fn weights(&mut self, health: &str) -> String {
        let wanted = self.decide(health);
        let pool = &self.layout.pools[0];
        let service = &wanted.table.services[&pool.services[0].service.key];
        let weight = |key: &DestinationKey| service.destinations.get(key).map(|found| found.weight);
        let mut text: Vec<String> = pool
            .members
            .iter()
            .map(|member| {
                weight(&pool.server(member)).map_or("-".to_owned(), |weight| weight.to_string())
            })
            .collect();
        let sorry = pool.sorry.as_ref();
        let sorry = sorry.and_then(|sorry| weight(&sorry.destination(&pool.services[0]).key));
        text.extend(sorry.map(|weight| format!("+{weight}")));
        text.join(" ")
    }

    fn order(&mut self, wants: &[(&str, Want)]) {
        let intents: Vec<Intent> = wants
            .iter()
            .map(|(target, want)| intent(target, want.clone()))
            .collect();
        self.orders = Orders::new(&intents);
    }
}

const SORRY: &str = "sorry_server = { address = \"10.0.0.99\", weight = 7 }\n";

#[test]
fn sorry_server_quorum_and_floor_in_every_combination() {
    // Four servers; what serves with 4, 3, 2, 1 and 0 of them healthy, the others having failed long ago.
    for (sorry, quorum, floor, expected) in [
        (
            false,
            0,
            0,
            [
                "10 10 10 10",
                "10 10 10 0",
                "10 10 0 0",
                "10 0 0 0",
                "10 0 0 0",
            ],
        ),
        (
            true,
            0,
            0,
            [
                "10 10 10 10",
                "10 10 10 0",
                "10 10 0 0",
                "10 0 0 0",
                "0 0 0 0 +7",
            ],
        ),
        // Without a sorry server a lost quorum is reported, no more.
        (
            false,
            60,
            0,
            [
                "10 10 10 10",
                "10 10 10 0",
                "10 10 0 0",
                "10 0 0 0",
                "10 0 0 0",
            ],
        ),
        (
            true,
            60,
            0,
            [
                "10 10 10 10",
                "10 10 10 0",
                "0 0 0 0 +7",
                "0 0 0 0 +7",
                "0 0 0 0 +7",
            ],
        ),
        // Below the floor the set before the fall is kept, one that failed included.
        (
            false,
            0,
            60,
            [
                "10 10 10 10",
                "10 10 10 0",
                "10 10 10 0",
                "10 10 10 0",
                "10 10 10 0",
            ],
        ),
        (
            true,
            0,
            60,
            [
                "10 10 10 10",
                "10 10 10 0",
                "10 10 10 0",
                "10 10 10 0",
                "0 0 0 0 +7",
            ],
        ),
        (
            false,
            30,
            60,
            [
                "10 10 10 10",
                "10 10 10 0",
                "10 10 10 0",
                "10 10 10 0",
                "10 10 10 0",
            ],
        ),
        (
            true,
            30,
            60,
            [
                "10 10 10 10",
                "10 10 10 0",
                "10 10 10 0",
                "0 0 0 0 +7",
                "0 0 0 0 +7",
            ],
        ),
        // A floor that is not above the quorum is never reached (`check` says so).
        (
            true,
            60,
            30,
            [
                "10 10 10 10",
                "10 10 10 0",
                "0 0 0 0 +7",
                "0 0 0 0 +7",
                "0 0 0 0 +7",
            ],
        ),
    ] {
        let text = format!(
            "quorum = \"{quorum}%\"\nfloor = \"{floor}%\"\nremove_after = \"1h\"\n{}",
            if sorry { SORRY } else { "" }
        );
        let mut pool = Pool::new(4, &text);
        let mut seen = Vec::new();
        for (minute, health) in (0..).zip(["++++", "+++-", "++--", "+---", "----"]) {
            seen.push(pool.at(minute * 60).weights(health));
        }
        assert_eq!(
            seen, expected,
            "sorry {sorry}, quorum {quorum}, floor {floor}"
        );
        assert_eq!(
            pool.at(300).weights("++++"),
            "10 10 10 10",
            "all is well again"
        );
    }
}

#[test]
fn the_quorum_has_hysteresis_and_the_sorry_server_follows_it() {
    let mut pool = Pool::new(
        4,
        &format!("quorum = \"50%\"\nhysteresis = \"25%\"\n{SORRY}"),
    );
    for (health, expected) in [
        ("++++", "10 10 10 10"),
        ("++--", "10 10 0 0"),
        ("+---", "10 0 0 0"),
        ("----", "0 0 0 0 +7"),
        ("+---", "0 0 0 0 +7"),
        ("++--", "0 0 0 0 +7"),
        ("+++-", "10 10 10 0"),
    ] {
        assert_eq!(pool.weights(health), expected, "{health}");
    }
}

#[test]
fn the_quorum_counts_what_is_drained_as_missing() {
    let mut pool = Pool::new(4, "quorum = \"75%\"");
    assert_eq!(pool.decide("++++").pools[0].quorum, Quorum::Held);
    pool.order(&[("10.0.0.11", Want::Drain)]);
    let decided = pool.decide("++++").pools[0].clone();
    assert_eq!(
        (decided.quorum, decided.healthy_percent),
        (Quorum::Held, 75)
    );
    let decided = pool.decide("+++-").pools[0].clone();
    assert_eq!(
        (decided.quorum, decided.healthy_percent, decided.mode),
        (Quorum::Lost, 50, Mode::Normal)
    );
}

#[test]
fn the_sorry_server_stands_in_whenever_nobody_takes_connections() {
    let mut pool = Pool::new(2, SORRY);
    assert_eq!(pool.weights("??"), "0 0 +7", "while the first checks run");
    assert_eq!(pool.weights("+?"), "10 0");
    assert_eq!(pool.weights("~~"), "0 0 +7", "they asked for it");
    pool.order(&[("10.0.0.11", Want::Drain), ("10.0.0.12", Want::Disable)]);
    assert_eq!(pool.weights("++"), "0 - +7", "so did the operator");
    pool.order(&[("10.0.0.11", Want::Weight { weight: 0 })]);
    assert_eq!(pool.weights("+-"), "0 0 +7");

    let mut pool = Pool::new(2, &format!("on_failure = \"remove\"\n{SORRY}"));
    assert_eq!(pool.weights("++"), "10 10");
    assert_eq!(pool.weights("--"), "- - +7");
    let wanted = pool.decide("-+");
    assert_eq!(
        wanted.cut.len(),
        1,
        "the sorry server itself leaves by a drain"
    );
}

#[test]
fn a_restarted_director_knows_by_the_sorry_server_that_the_quorum_is_lost() {
    let text = format!("quorum = \"50%\"\nhysteresis = \"25%\"\n{SORRY}");
    let mut pool = Pool::new(4, &text);
    pool.decide("++++");
    let table = pool.decide("----").table;
    let mut again = Pool::new(4, &text);
    again.memory.adopt(&again.layout, &table);
    assert_eq!(again.weights("????"), "0 0 0 0 +7");
    assert_eq!(
        again.weights("++--"),
        "0 0 0 0 +7",
        "enough to hold it, not to regain it"
    );
    assert_eq!(again.weights("+++-"), "10 10 10 0");
}

#[test]
fn who_failed_in_the_same_storm_is_kept_whatever_the_order() {
    // Detection takes 6 s here, so directors may differ by 12 s at most.
    for order in [
        ["++-+", "++--", "-+--", "----"],
        ["-+++", "-++-", "-+--", "----"],
    ] {
        let mut pool = Pool::new(4, "floor = \"60%\"\nremove_after = \"1h\"");
        pool.decide("++++");
        let mut last = String::new();
        for (second, health) in (1..).zip(order) {
            last = pool.at(second).weights(health);
        }
        assert_eq!(last, "10 10 10 10", "{order:?}");
    }
    let mut pool = Pool::new(4, "floor = \"60%\"\nremove_after = \"1h\"");
    pool.decide("++++");
    pool.decide("+++-");
    assert_eq!(pool.at(12).weights("+++-"), "10 10 10 0");
    assert_eq!(
        pool.at(13).weights("+---"),
        "10 10 10 0",
        "one was dead before"
    );
    pool.order(&[("10.0.0.12", Want::Drain)]);
    assert_eq!(
        pool.weights("+---"),
        "10 0 10 0",
        "the operator's drain holds"
    );
    pool.order(&[]);
    assert_eq!(pool.weights("+---"), "10 10 10 0");
    assert_eq!(
        pool.weights("+--+"),
        "10 10 10 10",
        "two of four are too few"
    );
    assert_eq!(pool.weights("++-+"), "10 10 0 10");
}

#[test]
fn a_restarted_director_takes_the_last_good_set_from_the_kernel() {
    let mut pool = Pool::new(4, "floor = \"60%\"\nremove_after = \"1h\"");
    pool.decide("+++-");
    pool.at(60).decide("+++-");
    let table = pool.at(61).decide("+---").table;
    let mut again = Pool::new(4, "floor = \"60%\"\nremove_after = \"1h\"");
    again.memory.adopt(&again.layout, &table);
    assert_eq!(again.at(70).weights("+---"), "10 10 10 0");
}

#[test]
fn who_comes_back_starts_slowly() {
    let mut pool = Pool::new(2, "slow_start = \"27s\"");
    assert_eq!(pool.weights("??"), "0 0");
    assert_eq!(pool.weights("+?"), "10 0");
    assert_eq!(pool.weights("++"), "10 10", "not at the start of the pool");
    assert_eq!(pool.weights("+-"), "10 0");
    let wanted = pool.at(100).decide("++");
    assert_eq!(wanted.next, Some(Moment::ZERO + Duration::from_secs(103)));
    assert_eq!(wanted.pools[0].starting, 1);
    let reason = &wanted.pools[0].members[1].reason;
    assert!(reason.contains("slow start"), "{reason}");
    for (second, expected) in [
        (100, "10 1"),
        (102, "10 1"),
        (103, "10 2"),
        (115, "10 6"),
        (126, "10 9"),
        (127, "10 10"),
        (128, "10 10"),
    ] {
        assert_eq!(pool.at(second).weights("++"), expected, "after {second} s");
    }
    assert_eq!(pool.weights("+-"), "10 0");
    assert_eq!(pool.at(200).weights("++"), "10 1");
    assert_eq!(pool.at(201).weights("-+"), "0 10", "nobody else serves");
    assert_eq!(pool.at(202).weights("++"), "1 10", "and now the other one");
    assert_eq!(pool.weights("--"), "10 10", "nobody is known to be better");
    assert_eq!(pool.weights("++"), "10 10", "who took connections goes on");
}

#[test]
fn slow_start_has_its_limits() {
    for (text, expected) in [
        ("scheduler = \"mh\"", "10 10"),
        ("scheduler = \"sh\"", "10 10"),
        ("scheduler = \"rr\"", "10 10"),
        ("scheduler = \"wrr\"", "10 1"),
    ] {
        let mut pool = Pool::new(2, &format!("slow_start = \"27s\"\n{text}"));
        pool.decide("+-");
        assert_eq!(pool.at(9).weights("++"), expected, "{text}");
    }
    let mut pool = Pool::new(2, "slow_start = \"27s\"");
    pool.decide("++");
    pool.order(&[("10.0.0.12", Want::Drain)]);
    pool.decide("++");
    pool.order(&[("10.0.0.12", Want::Weight { weight: 8 })]);
    assert_eq!(pool.weights("++"), "10 8", "an ordered weight is absolute");

    let mut pool = Pool::new(3, "slow_start = \"27s\"");
    pool.layout.pools[0].members.pop();
    pool.decide("++");
    pool.layout = Pool::layout(3, "slow_start = \"27s\"");
    assert_eq!(pool.weights("++?"), "10 10 0");
    assert_eq!(pool.weights("+++"), "10 10 1", "new in a pool that serves");

    let table = pool.at(20).decide("+++").table;
    let mut again = Pool::new(3, "slow_start = \"27s\"");
    again.memory.adopt(&again.layout, &table);
    assert_eq!(
        again.weights("+++"),
        "10 10 10",
        "not at the director's start"
    );
}

#[test]
fn failed_checks_take_out_no_more_than_the_budget() {
    let mut pool = Pool::new(10, "change_budget = { share = \"30%\", per = \"1m\" }");
    pool.decide("++++++++++");
    let wanted = pool.at(10).decide("--------++");
    assert_eq!(wanted.pools[0].kept, 5);
    assert_eq!(wanted.next, Some(Moment::ZERO + Duration::from_secs(70)));
    let reason = &wanted.pools[0].members[3].reason;
    assert!(reason.contains("budget is used up"), "{reason}");
    for (second, expected) in [
        (10, "0 0 0 10 10 10 10 10 10 10"),
        (69, "0 0 0 10 10 10 10 10 10 10"),
        (70, "0 0 0 0 0 0 10 10 10 10"),
        (130, "0 0 0 0 0 0 0 0 10 10"),
    ] {
        assert_eq!(
            pool.at(second).weights("--------++"),
            expected,
            "at {second} s"
        );
    }
    // Orders and edges that leave are not limited.
    pool.order(&[("10.0.0.20", Want::Drain)]);
    assert_eq!(pool.at(131).weights("--------++"), "0 0 0 0 0 0 0 0 10 0");

    let mut pool = Pool::new(2, "change_budget = { share = \"10%\", per = \"1m\" }");
    pool.decide("++");
    assert_eq!(pool.weights("-+"), "0 10", "one may always go");
    assert_eq!(
        pool.weights("--"),
        "10 10",
        "when none is healthy all go on"
    );
    assert_eq!(pool.weights("-+"), "0 10", "it went before");

    let mut pool = Pool::new(
        3,
        &format!("change_budget = {{ share = \"10%\", per = \"1m\" }}\n{SORRY}"),
    );
    pool.decide("+++");
    assert_eq!(pool.weights("--+"), "0 10 10");
    assert_eq!(
        pool.weights("---"),
        "0 0 0 +7",
        "the sorry server takes over whatever the budget says"
    );
}

#[test]
fn who_never_served_needs_no_budget_to_stay_out() {
    let mut pool = Pool::new(4, "change_budget = { share = \"30%\", per = \"1m\" }");
    assert_eq!(pool.weights("????"), "0 0 0 0");
    assert_eq!(pool.weights("+---"), "10 0 0 0");
}

#[test]
fn each_turn_is_told_once() {
    let text = format!(
        "quorum = \"40%\"\nfloor = \"60%\"\nchange_budget = {{ share = \"30%\", per = \"1m\" }}\n{SORRY}"
    );
    let mut pool = Pool::new(10, &text);
    let mut before = Wanted::default();
    for (health, expected) in [
        ("??????????", &["pool.sorry_server_on"][..]),
        ("++++++++++", &["pool.sorry_server_off"]),
        ("++++++++++", &[]),
        ("+++++++---", &[]),
        ("++++++----", &["pool.change_budget_used_up"]),
        ("+++++-----", &["pool.panic", "pool.change_budget_left"]),
        (
            "+++-------",
            &[
                "pool.quorum_lost",
                "pool.sorry_server_on",
                "pool.panic_over",
            ],
        ),
        ("++--------", &[]),
        (
            "++++++++++",
            &["pool.quorum_regained", "pool.sorry_server_off"],
        ),
    ] {
        let wanted = pool.decide(health);
        let events: Vec<&str> = news(&before, &wanted)
            .iter()
            .map(|news| news.event)
            .collect();
        assert_eq!(events, expected, "{health}");
        before = wanted;
    }
}

#[test]
fn weights_of_mh_fit_into_its_table() {
    let mut pool = Pool::new(2, "scheduler = \"mh\"");
    pool.order(&[("10.0.0.12", Want::Weight { weight: 1001 })]);
    assert_eq!(pool.weights("++"), "1 63");
}

#[test]
fn the_sorry_server_of_a_loopback_address_is_the_director_itself() {
    let mut pool = Pool::new(1, "sorry_server = { address = \"127.0.0.1\" }");
    let wanted = pool.decide("-");
    let service = wanted.table.services.values().next().unwrap();
    let sorry = service.destinations.values().find(|found| found.weight > 0);
    let expected = Destination::new("127.0.0.1".parse().unwrap(), 80, Forward::LocalNode, 1);
    assert_eq!(sorry, Some(&expected));
}
