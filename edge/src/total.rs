//! CORE: `timeouts.total`: the time that a request has from its whole head to the end of its response, over all attempts.
//!
//! ```text
//!            begin          response head            end of the body, or 101
//!   Off ────────────► Waiting ──────────► Responding ──────────► Off
//!                        │ time is up          │ time is up
//!                        ▼                     ▼
//!                       Over: 504            Over: the response is cut
//! ```
//!
//! The hooks tell what has happened, `listen/total.rs` waits for the time and carries out what [`Total::reach`] says.

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use conf::Moment;

const OFF: u8 = 0;
const WAITING: u8 = 1;
const RESPONDING: u8 = 2;
const OVER: u8 = 3;
/// There is no connection to a server.
const NONE: i32 = -1;

/// The deadline of one request at a time. All who touch it are on one thread.
#[derive(Debug)]
pub struct Total {
    /// In nanoseconds.
    at: AtomicU64,
    state: AtomicU8,
    /// The descriptor of the server's connection, if it serves this request alone.
    server: AtomicI32,
}

/// What is done when the time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Nothing of a response was sent: end the server's connection, so that the engine notices and the client is told.
    Interrupt(Option<i32>),
    /// The client has part of a response: no more of it follows.
    Cut,
    /// It was called off.
    Nothing,
}

impl Default for Total {
    fn default() -> Total {
        Total {
            at: AtomicU64::new(0),
            state: AtomicU8::new(OFF),
            server: AtomicI32::new(NONE),
        }
    }
}

impl Total {
    /// The time ends at `at`.
    pub fn begin(&self, at: Moment) {
        self.at.store(at.as_nanos(), Ordering::Relaxed);
        self.server.store(NONE, Ordering::Relaxed);
        self.state.store(WAITING, Ordering::Relaxed);
    }

    /// The request has a connection to a server to itself.
    pub fn connected(&self, descriptor: i32) {
        self.server.store(descriptor, Ordering::Relaxed);
    }

    /// The attempt is over, and its connection no longer this request's.
    pub fn disconnected(&self) {
        self.server.store(NONE, Ordering::Relaxed);
    }

    /// The response begins. From here on the connection goes back to the pool at a moment that no hook sees.
    pub fn responds(&self) {
        self.disconnected();
        if self.state.load(Ordering::Relaxed) == WAITING {
            self.state.store(RESPONDING, Ordering::Relaxed);
        }
    }

    /// The response has ended, or becomes a tunnel, which may last.
    pub fn end(&self) {
        self.disconnected();
        if self.state.load(Ordering::Relaxed) != OVER {
            self.state.store(OFF, Ordering::Relaxed);
        }
    }

    /// Forgets the last request of the connection.
    pub fn reset(&self) {
        self.disconnected();
        self.state.store(OFF, Ordering::Relaxed);
    }

    /// When the time ends; `None`: it does not.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let runs = matches!(self.state.load(Ordering::Relaxed), WAITING | RESPONDING);
        runs.then(|| Moment::from_nanos(self.at.load(Ordering::Relaxed)))
    }

    /// How much of the time is left.
    pub fn left(&self, now: Moment) -> Option<Duration> {
        self.poll_timeout().map(|at| at.since(now))
    }

    /// Whether the time is up.
    pub fn is_over(&self, now: Moment) -> bool {
        self.state.load(Ordering::Relaxed) == OVER
            || self.poll_timeout().is_some_and(|at| now >= at)
    }

    /// The time is up.
    pub fn reach(&self) -> Reached {
        match self.state.swap(OVER, Ordering::Relaxed) {
            WAITING => {
                let server = self.server.swap(NONE, Ordering::Relaxed);
                Reached::Interrupt(Some(server).filter(|server| *server != NONE))
            }
            RESPONDING => Reached::Cut,
            OFF => {
                self.state.store(OFF, Ordering::Relaxed);
                Reached::Nothing
            }
            _ => Reached::Nothing,
        }
    }
}

/// Whether the server is to blame for a time that ended before its response: it was waited for, with all that the client had to say, for at least
/// half of the whole. A client that took most of it leaves the server no fair chance.
pub fn blames_server(total: Duration, waited: Duration) -> bool {
    waited.saturating_mul(2) >= total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn what_the_end_of_the_time_means_depends_on_the_response() {
        let total = Total::default();
        assert_eq!(
            (total.poll_timeout(), total.reach()),
            (None, Reached::Nothing)
        );
        total.begin(at(10));
        assert_eq!(total.left(at(4)), Some(Duration::from_secs(6)));
        assert!(!total.is_over(at(9)) && total.is_over(at(10)));
        assert_eq!(total.reach(), Reached::Interrupt(None));
        assert!(total.is_over(at(0)) && total.poll_timeout().is_none());
        // Told once.
        assert_eq!(total.reach(), Reached::Nothing);
        total.begin(at(10));
        total.connected(7);
        assert_eq!(total.reach(), Reached::Interrupt(Some(7)));
        total.begin(at(10));
        total.connected(7);
        total.responds();
        assert_eq!(total.reach(), Reached::Cut);
        assert!(total.is_over(at(0)));
        total.reset();
        assert!(!total.is_over(at(99)));
    }

    #[test]
    fn a_connection_that_was_given_back_is_never_touched() {
        let total = Total::default();
        total.begin(at(10));
        total.connected(7);
        total.disconnected();
        assert_eq!(total.reach(), Reached::Interrupt(None));
        total.begin(at(10));
        total.connected(7);
        total.end();
        assert_eq!(
            (total.poll_timeout(), total.reach()),
            (None, Reached::Nothing)
        );
        assert!(!total.is_over(at(99)));
    }

    #[test]
    fn a_slow_client_is_not_the_servers_fault() {
        let secs = Duration::from_secs;
        assert!(blames_server(secs(10), secs(10)) && blames_server(secs(10), secs(5)));
        assert!(!blames_server(secs(10), secs(4)));
    }
}
