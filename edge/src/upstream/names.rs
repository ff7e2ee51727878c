//! SHELL: resolves the names among the servers, in the background and again and again.
//!
//! A request never waits for DNS. A name that does not resolve keeps what it resolved to before; one that never did leaves its server
//! without members, and edge runs. The resolver of the C library is asked on the blocking pool of the control runtime.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use conf::Platform;
use conf::platform::ServerAddress;
use futures_util::{StreamExt as _, stream};

use super::Resolved;

/// How often every name is looked up. The C library does not tell the time to live.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// How often while some name has not resolved.
pub(crate) const RETRY: Duration = Duration::from_secs(2);
/// Lookups at a time: each occupies a thread while the DNS server is silent.
const PARALLEL: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(5);

/// All names that servers of `platform` have.
pub(crate) fn names(platform: &Platform) -> BTreeSet<(String, u16)> {
    platform
        .upstreams
        .values()
        .flat_map(|upstream| &upstream.servers)
        .filter_map(|server| match &server.address {
            ServerAddress::Name { host, port } => Some((host.clone(), *port)),
            ServerAddress::Ip(_) | ServerAddress::Unix(_) => None,
        })
        .collect()
}

/// Looks all `names` up; what fails keeps its entry in `before`.
pub(crate) async fn resolve(names: BTreeSet<(String, u16)>, before: &Resolved) -> Resolved {
    let lookups = stream::iter(names).map(|(host, port)| async move {
        let found =
            tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((host.clone(), port))).await;
        (
            format!("{host}:{port}"),
            found
                .map_err(|_| "timed out".to_owned())
                .and_then(|found| found.map_err(|error| error.to_string())),
        )
    });
    let mut resolved = Resolved::new();
    let mut lookups = lookups.buffer_unordered(PARALLEL);
    while let Some((name, found)) = lookups.next().await {
        match found.map(sorted) {
            Ok(addresses) if !addresses.is_empty() => {
                resolved.insert(name, addresses);
            }
            result => {
                let error = result.err().unwrap_or_else(|| "no address".to_owned());
                let kept = before.get(&name).cloned();
                tracing::debug!(
                    name,
                    error,
                    kept = kept.is_some(),
                    "a server's name does not resolve"
                );
                resolved.extend(kept.map(|addresses| (name, addresses)));
            }
        }
    }
    resolved
}

/// Sorted and without repetition: DNS servers rotate their answers, which is no change.
fn sorted(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    addresses.collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_resolve_keeps_what_it_had() {
        let names = [
            ("localhost".to_owned(), 80),
            ("does-not-exist.invalid".to_owned(), 80),
        ];
        let kept: SocketAddr = "192.0.2.1:80".parse().unwrap();
        let before: Resolved = [("does-not-exist.invalid:80".to_owned(), vec![kept])].into();
        let resolved = resolve(names.clone().into(), &before).await;
        assert_eq!(resolved["does-not-exist.invalid:80"], [kept]);
        assert!(
            resolved["localhost:80"]
                .iter()
                .all(|address| address.ip().is_loopback())
        );
        assert!(
            !resolve(names.into(), &Resolved::new())
                .await
                .contains_key("does-not-exist.invalid:80")
        );
    }
}
