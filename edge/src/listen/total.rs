//! SHELL: waits for the end of `timeouts.total` beside a request, with a timer of its own.
//!
//! Pingora can be told of a deadline by nothing but an event at one of its sockets. So while no response has begun the connection to the server is
//! shut down, and the engine takes its usual way to an error page; when one has begun the request is dropped with all that it holds.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::Duration;

use daemon::clock;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::time::{Sleep, sleep};

use crate::total::{Reached, Total};

/// How long the error page may take. It is small: a client that does not take it in so long reads nothing.
const FAREWELL: Duration = Duration::from_secs(1);

/// What comes of `request`; `None` if it was cut.
pub(super) async fn bounded<F: Future>(total: &Total, request: F) -> Option<F::Output> {
    let mut request = pin!(request);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    let mut interrupted = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = request.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            if !interrupted && total.poll_timeout().is_none() {
                return Poll::Pending;
            }
            let left = || match interrupted {
                true => FAREWELL,
                false => total.left(clock::now()).unwrap_or_default(),
            };
            ready!(
                timer
                    .get_or_insert_with(|| Box::pin(sleep(left())))
                    .as_mut()
                    .poll(cx)
            );
            timer = None;
            if interrupted {
                return Poll::Ready(None);
            }
            match total.reach() {
                Reached::Interrupt(server) => {
                    interrupted = true;
                    if let Some(server) = server {
                        // Fails only where the server has ended it already.
                        let _ = shutdown(server, Shutdown::Both);
                    }
                }
                Reached::Cut => return Poll::Ready(None),
                Reached::Nothing => {}
            }
        }
    })
    .await
}
