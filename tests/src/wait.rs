//! Waiting: a condition and a deadline, the only way a test waits. Ctrl-C ends every wait, so that Drop cleans up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes every wait that is under way, and every later one, end by a panic.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Whether somebody wants this run to end.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// A deadline that a slow kernel can keep: longer inside a guest.
pub fn patience(duration: Duration) -> Duration {
    if crate::in_uml() || crate::in_qemu() {
        duration * 4
    } else {
        duration
    }
}

/// Waits until `condition` holds; panics with `what` when it does not in time. Returns how long it took.
#[track_caller]
pub fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    some(what, deadline, || condition().then_some(()));
    begun.elapsed()
}

/// Waits until `probe` has an answer.
#[track_caller]
pub fn some<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    let deadline = patience(deadline);
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(!interrupted(), "interrupted while waiting for {what}");
        assert!(
            begun.elapsed() < deadline,
            "waited {deadline:?} in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lets the world go on for a while, when it is the passing of time that is tested: "nothing happens for 2 s".
pub fn for_a_while(duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end && !interrupted() {
        std::thread::sleep(
            Duration::from_millis(10).min(end.saturating_duration_since(Instant::now())),
        );
    }
    assert!(!interrupted(), "interrupted");
}
