//! Timelines, bounds, places, many threads.

use conf::platform::{Place as Line, RateLimit};

use super::*;

fn limit(rate: &str, burst: u32, delay_after: u32) -> Limit {
    Limit {
        name: "test".to_owned(),
        key: None,
        rate: Some(RateLimit {
            rate: rate.parse().unwrap(),
            burst,
            delay_after,
        }),
        concurrent: None,
        status: 429,
        entries: 100,
        place: Line::default(),
    }
}

fn at(millis: u64) -> Moment {
    Moment::ZERO + Duration::from_millis(millis)
}

/// For each request of the timeline: `0` it passes, `-1` it is refused, else the delay in milliseconds.
fn answers(limit: &Limit, timeline: &[u64]) -> Vec<i64> {
    let counts = Counts::new(limit.entries);
    let judge = |time: &u64| match counts.admit(limit, b"client", at(*time)) {
        None => -1,
        Some(admitted) => i64::try_from(admitted.delay.as_millis()).unwrap(),
    };
    timeline.iter().map(judge).collect()
}

/// Rate, burst, delay_after, when requests come, what becomes of them.
type Case = (&'static str, u32, u32, &'static [u64], &'static [i64]);

#[test]
fn timelines_are_judged_as_nginx_does() {
    // Computed by hand from ngx_http_limit_req_lookup.
    let cases: &[Case] = &[
        // Without burst one request each 100 ms.
        (
            "10/s",
            0,
            0,
            &[0, 50, 99, 100, 150, 200],
            &[0, -1, -1, 0, -1, 0],
        ),
        // nodelay: the burst goes on at once, then one each 100 ms.
        (
            "10/s",
            2,
            2,
            &[0, 0, 0, 0, 100, 100, 200],
            &[0, 0, 0, -1, 0, -1, 0],
        ),
        // Delayed: each of the burst waits for its turn.
        ("10/s", 3, 0, &[0, 0, 0, 0, 0], &[0, 100, 200, 300, -1]),
        // Two at once, the next two wait, the rest is refused.
        ("10/s", 4, 2, &[0, 0, 0, 0, 0, 0], &[0, 0, 0, 100, 200, -1]),
        // A minute's rate: 5/m is 83 thousandths a second.
        ("5/m", 0, 0, &[0, 12_000, 24_048, 24_049], &[0, -1, 0, -1]),
        // A bucket that was full long ago is empty.
        (
            "10/s",
            1,
            1,
            &[0, 0, 0, 3_600_000, 3_600_000, 3_600_000],
            &[0, 0, -1, 0, 0, -1],
        ),
    ];
    for (rate, burst, delay_after, timeline, expected) in cases {
        let limit = limit(rate, *burst, *delay_after);
        assert_eq!(
            answers(&limit, timeline),
            *expected,
            "{rate} {burst} {delay_after}"
        );
    }
}

#[test]
fn keys_are_counted_each_by_itself_and_the_oldest_is_forgotten() {
    let limit = limit("1/s", 0, 0);
    let counts = Counts::new(160);
    for key in 0..1_000u32 {
        assert!(counts.admit(&limit, &key.to_le_bytes(), at(0)).is_some());
    }
    assert!(counts.keys() <= 160, "{}", counts.keys());
    assert!(counts.admit(&limit, &999u32.to_le_bytes(), at(1)).is_none());
    let first = counts.admit(&limit, &0u32.to_le_bytes(), at(1));
    assert!(first.is_some(), "forgotten");
    assert_eq!(counts.refused.load(Ordering::Relaxed), 1);
}

#[test]
fn places_come_back() {
    let limit = Limit {
        rate: None,
        concurrent: Some(2),
        ..limit("1/s", 0, 0)
    };
    let counts = Counts::new(100);
    let one = counts.admit(&limit, b"a", at(0)).unwrap();
    let two = counts.admit(&limit, b"a", at(0)).unwrap();
    assert!(counts.admit(&limit, b"a", at(0)).is_none());
    assert!(counts.admit(&limit, b"b", at(0)).is_some());
    drop(one);
    let three = counts.admit(&limit, b"a", at(0)).unwrap();
    drop((two, three));
    assert!(
        counts
            .shards
            .iter()
            .all(|shard| lock(shard).under_way.is_empty())
    );
}

#[test]
fn a_request_that_is_refused_for_its_rate_holds_no_place() {
    let limit = Limit {
        concurrent: Some(5),
        ..limit("1/s", 0, 0)
    };
    let counts = Counts::new(100);
    drop(counts.admit(&limit, b"a", at(0)).unwrap());
    assert!(counts.admit(&limit, b"a", at(1)).is_none());
    assert!(
        counts
            .shards
            .iter()
            .all(|shard| lock(shard).under_way.is_empty())
    );
}

#[test]
fn threads_share_one_count() {
    let limit = limit("1/s", 99, 99);
    let counts = Counts::new(100);
    let passed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    if counts.admit(&limit, b"a", at(0)).is_some() {
                        passed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(passed.load(Ordering::Relaxed), 100);
}
