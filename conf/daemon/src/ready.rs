//! SHELL: what the service manager is told: READY, RELOADING, STOPPING, WATCHDOG. Without NOTIFY_SOCKET nothing is sent.

use std::time::Duration;

use sd_notify::NotifyState;

/// Tells the service manager; a failure is logged, since the daemon works without it.
pub(crate) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// The daemon works.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins. [`ready`] must follow, whatever comes of it: systemd does not restart a daemon that crashes while reloading.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no clock for RELOADING=1"),
    }
}

/// The daemon stops.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// How often to send WATCHDOG=1: half of what the unit asks for.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|interval| interval / 2)
}

/// The daemon is alive.
pub(crate) fn watchdog() {
    notify(&[NotifyState::Watchdog]);
}
