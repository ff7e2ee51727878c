//! SHELL: tells the loop which addresses appear on this node and which go, as long as somebody listens.

use std::time::Duration;

use net::{Event, Net, Watch};

use tokio::sync::mpsc;

use super::Seen;

/// Addresses that wait for the loop; when it is slow the kernel keeps them, and says so when it cannot.
const WAITING: usize = 64;
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// What is seen, from now until the receiver is dropped.
pub fn start() -> mpsc::Receiver<Seen> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        while !sender.is_closed() {
            if let Err(error) = watch(&sender).await {
                tracing::warn!(%error, "cannot watch the node's addresses: a takeover goes unnoticed");
            }
            tokio::select! {
                () = sender.closed() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    });
    receiver
}

async fn watch(sender: &mpsc::Sender<Seen>) -> Result<(), net::Error> {
    let mut watch = Watch::open(Net::connect()?)?;
    loop {
        let event = tokio::select! {
            () = sender.closed() => return Ok(()),
            event = watch.next() => event?,
        };
        let seen = match event {
            Event::Everything(snapshot) => Seen::All(
                snapshot
                    .addresses
                    .iter()
                    .map(|address| address.address)
                    .collect(),
            ),
            Event::Address(address) => Seen::Added(address.address),
            Event::AddressGone(address) => Seen::Gone(address.address),
            Event::Link(_) | Event::LinkGone { .. } => continue,
        };
        if sender.send(seen).await.is_err() {
            return Ok(());
        }
    }
}
