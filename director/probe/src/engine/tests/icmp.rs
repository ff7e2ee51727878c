//! Echo requests to loopback, which answers, and to an address that does not.

use super::*;

/// What the daemon may do depends on where the test runs; when it may send, the reply must come.
async fn echo(address: &str) -> Result<Answer, String> {
    let address = SocketAddr::new(address.parse().unwrap(), 0);
    verdict(&target(address, CheckKind::Icmp, 5000)).await
}

fn denied(reason: &str) -> bool {
    reason.contains("ping_group_range") && reason.contains("CAP_NET_RAW")
}

#[tokio::test]
async fn loopback_answers_in_both_families() {
    for address in ["127.0.0.1", "127.0.0.9", "::1"] {
        match echo(address).await {
            Ok(answer) => assert_eq!(answer.reason, "echo reply"),
            Err(reason) if address == "::1" && reason.starts_with("connect: ") => {
                // This host has no IPv6.
            }
            Err(reason) => assert!(denied(&reason), "{address}: {reason}"),
        }
    }
}

#[tokio::test]
async fn an_address_that_does_not_answer_takes_the_timeout() {
    // Documentation addresses (RFC 5737) are nobody's; a host without a route says so at once.
    let address = "192.0.2.77:0".parse().unwrap();
    let reason = verdict(&target(address, CheckKind::Icmp, 200))
        .await
        .unwrap_err();
    assert!(
        reason == "echo reply: timed out after 200ms"
            || reason.starts_with("connect: ")
            || reason.starts_with("answer: ")
            || denied(&reason),
        "{reason}"
    );
}

#[tokio::test]
async fn a_source_address_is_used_for_echo_requests() {
    let mut bound = target("127.0.0.1:0".parse().unwrap(), CheckKind::Icmp, 5000);
    bound.source = Some("203.0.113.1".parse().unwrap());
    let reason = verdict(&bound).await.unwrap_err();
    assert!(reason.starts_with("bind: ") || denied(&reason), "{reason}");
}
