//! SHELL: what `why` wants to know beside the director's own state: this node's addresses, and what the connection table says of a client.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;

use net::Net;

use crate::why::Facts;
use crate::why::connections::{MOST, Seen};

/// The connection table of this network namespace.
const TABLE: &str = "/proc/net/ip_vs_conn";

/// Looks, as far as it is allowed to.
pub(super) async fn facts(client: Option<IpAddr>) -> Facts {
    let own = match Net::connect() {
        Ok(net) => net.addresses().await.ok(),
        Err(_) => None,
    };
    let seen = match client {
        None => None,
        Some(client) => tokio::task::spawn_blocking(move || seen(client))
            .await
            .ok()
            .flatten(),
    };
    let own = own.map(|addresses| {
        addresses
            .into_iter()
            .map(|address| address.address)
            .collect::<BTreeSet<IpAddr>>()
    });
    Facts { own, seen }
}

fn seen(client: IpAddr) -> Option<Seen> {
    let file = File::open(TABLE).ok()?;
    // One more than is looked at, so that it shows whether there are more.
    let lines: Vec<String> = BufReader::new(file)
        .lines()
        .take(MOST + 1)
        .map_while(Result::ok)
        .collect();
    Some(Seen::read(lines.iter().map(String::as_str), client))
}
