//! CORE: when addresses are announced: a burst after a takeover, a second one later, and now and then while master.
//!
//! A burst is `repeat` rounds over all addresses, paced: switches drop ARP that comes too fast. It knows nothing of states; `router`
//! starts it when the addresses are up and ends it when they go.

use std::net::IpAddr;
use std::time::Duration;

use conf::Moment;

/// Addresses announced at once.
const CHUNK: usize = 32;
/// Time between two chunks of one round.
const CHUNK_GAP: Duration = Duration::from_millis(1);
/// Time between two rounds of one burst.
const ROUND_GAP: Duration = Duration::from_millis(50);
/// The least time between two bursts that a confused peer can cause.
const MIN_BURST_GAP: Duration = Duration::from_secs(1);

/// When and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Rounds of a burst.
    pub repeat: u8,
    /// The second burst comes this long after the first; zero: never.
    pub delay: Duration,
    /// One more round this often; zero: never.
    pub refresh: Duration,
}

/// The schedule of one virtual router; idle unless it holds its addresses.
#[derive(Debug, Clone, Default)]
pub struct Announcer {
    burst: Option<Burst>,
    begun: bool,
    /// The last burst that somebody else caused.
    answered: Option<Moment>,
    second: Option<Moment>,
    again: Option<Moment>,
    refresh: Option<Moment>,
}

#[derive(Debug, Clone)]
struct Burst {
    next: Moment,
    at: usize,
    rounds: u8,
}

impl Announcer {
    /// The addresses are up: first burst now.
    pub fn begin(&mut self, pace: Pace, now: Moment) {
        *self = Announcer::default();
        self.start(pace.repeat.max(1), now);
        self.second = (!pace.delay.is_zero()).then(|| now + pace.delay);
        self.refresh = (!pace.refresh.is_zero()).then(|| now + pace.refresh);
    }

    /// The addresses go: nothing more is announced.
    pub fn end(&mut self) {
        *self = Announcer::default();
    }

    /// Somebody else announced them, or may have: another burst, at once, but not too soon after the last one of that kind. One that begins a
    /// mastership does not count: where a split heals soon after it, clients are at the loser until they hear this. While a burst runs, the rest of
    /// it is enough: the loser's parting advert must not cost the next split its answer.
    pub fn again(&mut self, now: Moment) {
        if self.begun && self.burst.is_none() {
            let due = self.answered.map_or(now, |last| last + MIN_BURST_GAP);
            self.again = Some(due.max(now));
        }
    }

    /// When the next announcement is due.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let burst = self.burst.as_ref().map(|burst| burst.next);
        [burst, self.second, self.again, self.refresh]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is to be announced now.
    pub fn poll(&mut self, pace: Pace, addresses: &[IpAddr], now: Moment) -> Vec<IpAddr> {
        if self.second.is_some_and(|due| due <= now) {
            self.second = None;
            self.start(pace.repeat.max(1), now);
        }
        if self.again.is_some_and(|due| due <= now) {
            self.again = None;
            self.answered = Some(now);
            self.start(pace.repeat.max(1), now);
        }
        if self.refresh.is_some_and(|due| due <= now) {
            self.refresh = Some(now + pace.refresh);
            if self.burst.is_none() {
                self.start(1, now);
            }
        }
        let Some(burst) = self.burst.as_mut().filter(|burst| burst.next <= now) else {
            return Vec::new();
        };
        let chunk: Vec<IpAddr> = addresses
            .iter()
            .skip(burst.at)
            .take(CHUNK)
            .copied()
            .collect();
        burst.at += CHUNK;
        burst.next = now + CHUNK_GAP;
        if burst.at >= addresses.len() {
            burst.at = 0;
            burst.rounds -= 1;
            burst.next = now + ROUND_GAP;
        }
        if burst.rounds == 0 {
            self.burst = None;
        }
        chunk
    }

    fn start(&mut self, rounds: u8, now: Moment) {
        self.begun = true;
        self.burst = Some(Burst {
            next: now,
            at: 0,
            rounds,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        repeat: 5,
        delay: Duration::from_secs(5),
        refresh: Duration::from_secs(60),
    };

    fn run(announcer: &mut Announcer, addresses: &[IpAddr], until: Moment) -> Vec<(u64, usize)> {
        let mut sent = Vec::new();
        while let Some(due) = announcer.poll_timeout().filter(|due| *due <= until) {
            let chunk = announcer.poll(PACE, addresses, due);
            if !chunk.is_empty() {
                sent.push((due.as_nanos() / 1_000_000, chunk.len()));
            }
        }
        sent
    }

    fn secs(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_burst_a_second_one_and_a_refresh() {
        let vip = [IpAddr::from([192, 0, 2, 100])];
        let mut announcer = Announcer::default();
        assert_eq!(announcer.poll_timeout(), None);
        announcer.begin(PACE, Moment::ZERO);
        let times: Vec<u64> = run(&mut announcer, &vip, secs(130))
            .iter()
            .map(|(at, _)| *at)
            .collect();
        let first = [0, 50, 100, 150, 200];
        let second = [5000, 5050, 5100, 5150, 5200];
        let refreshes = [60_000, 120_000];
        assert_eq!(times, [&first[..], &second, &refreshes].concat());
        announcer.end();
        assert_eq!(announcer.poll_timeout(), None);
    }

    #[test]
    fn many_addresses_are_paced_and_all_are_sent() {
        let vips: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        let mut announcer = Announcer::default();
        announcer.begin(PACE, Moment::ZERO);
        let sent = run(&mut announcer, &vips, secs(1));
        assert_eq!(sent[..4], [(0, 32), (1, 32), (2, 32), (3, 4)]);
        assert_eq!(sent.iter().map(|(_, count)| count).sum::<usize>(), 5 * 100);
    }

    #[test]
    fn a_split_that_heals_right_after_the_takeover_is_answered_at_once() {
        let vip = [IpAddr::from([192, 0, 2, 100])];
        let mut announcer = Announcer::default();
        announcer.begin(PACE, secs(1));
        let healed = secs(1) + Duration::from_millis(400);
        run(&mut announcer, &vip, healed);
        announcer.again(healed);
        assert_eq!(announcer.poll_timeout(), Some(healed));
        assert_eq!(run(&mut announcer, &vip, healed).len(), 1);
        announcer.again(healed + Duration::from_millis(30));
        assert_eq!(run(&mut announcer, &vip, secs(2)).len(), 4);
        announcer.again(secs(2));
        assert_eq!(announcer.poll_timeout(), Some(healed + MIN_BURST_GAP));
    }

    #[test]
    fn a_confused_peer_cannot_cause_a_storm() {
        let vip = [IpAddr::from([192, 0, 2, 100])];
        let mut announcer = Announcer::default();
        announcer.again(secs(1));
        assert_eq!(
            announcer.poll_timeout(),
            None,
            "nothing to announce unless begun"
        );
        announcer.begin(PACE, secs(10));
        let mut sent = 0;
        for tick in 0..300u64 {
            let now = secs(10) + Duration::from_millis(10 * tick);
            announcer.again(now);
            sent += run(&mut announcer, &vip, now).len();
        }
        assert_eq!(
            sent,
            5 + 3 * 5,
            "three seconds, one burst a second after that of the takeover"
        );
    }
}
