//! The client against the controller of generic netlink, which every kernel has and which refuses what it does not know.

use super::*;

fn client(timeout: Duration, change: impl FnOnce(&mut Exchange)) -> Client {
    let mut exchange = Exchange::open().expect("a socket");
    change(&mut exchange);
    Client {
        worker: Worker::start(exchange).expect("a thread"),
        family: exchange::CONTROLLER,
        timeout,
    }
}

#[tokio::test]
async fn each_request_gets_its_answer() {
    let client = client(DEFAULT_TIMEOUT, |_| {});
    for _ in 0..2 {
        let families = client.query(
            Operation::ResolveFamily,
            wire::resolve_family("nlctrl"),
            0,
            wire::decode_family,
        );
        assert_eq!(families.await.expect("an answer"), [exchange::CONTROLLER]);
        let results = client
            .apply(vec![Change::ZeroCounters(None); BATCH + 3])
            .await;
        assert_eq!(results.len(), BATCH + 3);
        for result in results {
            assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
        }
    }
}

#[tokio::test]
async fn a_dump_is_read_to_its_end() {
    let client = client(DEFAULT_TIMEOUT, |_| {});
    // CTRL_CMD_GETFAMILY as a dump: all families.
    let request = wire::empty(3);
    let families = client.query(
        Operation::ResolveFamily,
        request.clone(),
        DUMP,
        wire::decode_family,
    );
    let families = families.await.expect("an answer");
    assert!(families.contains(&exchange::CONTROLLER), "{families:?}");

    // An answer that is not understood does not disturb the next request.
    let decode = |_: &[u8]| Err::<(), _>(DecodeError::Truncated);
    let failed = client
        .query(Operation::ListServices, request, DUMP, decode)
        .await;
    assert!(matches!(failed, Err(Error::Malformed { .. })), "{failed:?}");
    let again = client.query(
        Operation::ResolveFamily,
        wire::empty(3),
        DUMP,
        wire::decode_family,
    );
    assert_eq!(again.await.expect("an answer"), families);
}

/// With room for a few answers only, the kernel drops the others and says so (ENOBUFS): what was done is then unknown, and the next
/// request is answered again.
#[tokio::test]
async fn lost_answers_are_reported_and_the_next_request_works() {
    let client = client(DEFAULT_TIMEOUT, Exchange::shorten_queue);
    let results = client.apply(vec![Change::ZeroCounters(None); BATCH]).await;
    let lost = |result: &Result<(), Error>| matches!(result, Err(Error::Overrun { .. }));
    assert!(results.iter().any(lost), "{results:?}");
    assert!(
        results.iter().all(Result::is_err),
        "no refusal is taken for success"
    );
    let text = results
        .iter()
        .find(|result| lost(result))
        .expect("one")
        .as_ref()
        .expect_err("lost");
    assert!(text.to_string().contains("net.core.rmem_max"), "{text}");

    let families = client.query(
        Operation::ResolveFamily,
        wire::resolve_family("nlctrl"),
        0,
        wire::decode_family,
    );
    assert_eq!(families.await.expect("an answer"), [exchange::CONTROLLER]);
}

#[tokio::test]
async fn a_kernel_that_hangs_does_not_hang_its_caller() {
    let client = client(Duration::from_millis(50), |_| {});
    let (release, released) = std::sync::mpsc::channel::<()>();
    let stuck = move |_: &mut Exchange| released.recv().is_ok();
    assert_eq!(
        client.worker.run(client.timeout, stuck).await,
        Err(Silence::TimedOut)
    );
    let results = client
        .apply(vec![Change::ZeroCounters(None); BATCH + 1])
        .await;
    assert!(
        matches!(results[0], Err(Error::TimedOut { .. })),
        "{results:?}"
    );
    assert!(
        matches!(results[BATCH], Err(Error::NotSent { .. })),
        "{results:?}"
    );

    release.send(()).expect("the thread still waits");
    let results = client.apply(vec![Change::ZeroCounters(None)]).await;
    assert!(
        matches!(results[0], Err(Error::Refused { .. })),
        "{results:?}"
    );
}
