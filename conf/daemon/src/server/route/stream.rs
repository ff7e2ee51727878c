//! SHELL: events as they happen: server-sent events (HTML standard, section 9.2), for those who ask for `text/event-stream`.
//!
//! A reader pulls from the ring: one that is slow costs no memory, and sees by the numbers what it missed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, header};
use tokio::sync::watch;

use crate::event::{Event, Events, Place};

/// The media type of the stream.
const MEDIA_TYPE: &str = "text/event-stream";
/// At least this often something is sent, so that a reader knows that the daemon lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Whether the asker wants the stream.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(MEDIA_TYPE))
}

/// The last event that a reader saw before its connection broke.
pub(super) fn last_seen(headers: &HeaderMap) -> Option<Place> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}

/// Every event after `place`, and then each as it happens.
pub(super) fn events(events: &Events, place: Place) -> Response {
    let reader = Reader {
        newest: events.newest(),
        events: events.clone(),
        waiting: VecDeque::new(),
        seen: place,
    };
    let parts = stream::unfold(reader, |mut reader| async move {
        let part = reader.next().await;
        Some((Ok::<_, Infallible>(part), reader))
    });
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(parts)).into_response()
}

struct Reader {
    newest: watch::Receiver<u64>,
    events: Events,
    waiting: VecDeque<Event>,
    seen: Place,
}

impl Reader {
    async fn next(&mut self) -> String {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                self.seen = event.place();
                return written(&event);
            }
            self.newest.borrow_and_update();
            self.waiting = self.events.after(self.seen).into();
            if self.seen == Place::default() {
                // From here on whatever it misses was its own.
                self.seen = self.events.beginning();
            }
            if !self.waiting.is_empty() {
                continue;
            }
            if let Err(_) | Ok(Err(_)) =
                tokio::time::timeout(HEARTBEAT, self.newest.changed()).await
            {
                return ": still here\n\n".to_owned();
            }
        }
    }
}

fn written(event: &Event) -> String {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!(
        "id: {}-{}\nevent: {}\ndata: {data}\n\n",
        event.start, event.seq, event.event
    )
}
