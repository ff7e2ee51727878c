//! SHELL: the client: one generic netlink socket, a deadline on every request, pipelined changes with an answer for each.
//!
//! Built straight on `netlink-proto`; the family is resolved by hand. The kernel offers no transaction and sends no events: whoever wants
//! the table to be in a certain state reads it, compares, and asks for the difference.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_generic::GenlMessage;
use netlink_proto::sys::SocketAddr;
use netlink_proto::{ConnectionHandle, sys::protocols::NETLINK_GENERIC};
use tokio::task::JoinHandle;

use crate::error::{Error, Operation};
use crate::model::Destination;
use crate::model::{
    Daemon, DaemonRole, DestinationEntry, DestinationKey, Info, Service, ServiceEntry, ServiceKey,
    Timeouts,
};
use crate::wire::{self, Message, command};

mod payload;

use payload::Payload;

/// The generic netlink controller's fixed family.
const CONTROLLER: u16 = 16;
/// Requests sent at once. Their acknowledgements must fit into the socket's receive buffer (208 KiB, about 250 of them).
const BATCH: usize = 64;
/// How long the kernel may take for one request or batch. It answers in microseconds; a wedged one must not wedge its caller.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// One change of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a service.
    AddService(Service),
    /// Changes a service in place: its connections live on, also when the scheduler changes.
    SetService(Service),
    /// Deletes a service and its destinations.
    DeleteService(ServiceKey),
    /// Adds a destination to a service.
    AddDestination(ServiceKey, Destination),
    /// Changes a destination in place.
    SetDestination(ServiceKey, Destination),
    /// Deletes a destination.
    DeleteDestination(ServiceKey, DestinationKey),
    /// Starts a synchronisation daemon.
    AddDaemon(Daemon),
    /// Stops a synchronisation daemon. Kernels were seen to hang when this follows the start at once: wait some milliseconds between the two.
    DeleteDaemon(DaemonRole),
    /// Sets the timeouts that are not 0.
    SetTimeouts(Timeouts),
    /// Sets the counters of one service to zero, or all.
    ZeroCounters(Option<ServiceKey>),
}

impl Change {
    /// The request's command and attributes.
    pub fn encode(&self) -> Message {
        match self {
            Change::AddService(service) => wire::on_service(command::NEW_SERVICE, service),
            Change::SetService(service) => wire::on_service(command::SET_SERVICE, service),
            Change::DeleteService(key) => wire::on_service_key(command::DEL_SERVICE, key),
            Change::AddDestination(service, destination) => {
                wire::on_destination(command::NEW_DEST, service, destination)
            }
            Change::SetDestination(service, destination) => {
                wire::on_destination(command::SET_DEST, service, destination)
            }
            Change::DeleteDestination(service, key) => {
                wire::on_destination_key(command::DEL_DEST, service, key)
            }
            Change::AddDaemon(daemon) => wire::new_daemon(daemon),
            Change::DeleteDaemon(role) => wire::delete_daemon(*role),
            Change::SetTimeouts(timeouts) => wire::set_timeouts(timeouts),
            Change::ZeroCounters(None) => wire::empty(command::ZERO),
            Change::ZeroCounters(Some(key)) => wire::on_service_key(command::ZERO, key),
        }
    }
}

/// A connection to the IPVS of the network namespace that the calling thread was in when it connected.
#[derive(Debug)]
pub struct Client {
    handle: ConnectionHandle<GenlMessage<Payload>>,
    family: u16,
    timeout: Duration,
    connection: JoinHandle<()>,
    /// The last sequence number: the connection counts requests from 1.
    sequence: Mutex<u32>,
}

type Request = NetlinkMessage<GenlMessage<Payload>>;

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Client {
    /// Connects and looks the family up; asking for it makes the kernel load `ip_vs` where modules may be loaded. Needs CAP_NET_ADMIN.
    ///
    /// Must be called on a tokio runtime with IO and time enabled.
    pub async fn connect() -> Result<Self, Error> {
        Self::connect_with_timeout(DEFAULT_TIMEOUT).await
    }

    /// [`connect`](Self::connect) with another deadline per request.
    pub async fn connect_with_timeout(timeout: Duration) -> Result<Self, Error> {
        let (mut connection, handle, _) = netlink_proto::new_connection(NETLINK_GENERIC)
            .map_err(|source| Error::Socket { source })?;
        // Acknowledgements tell which change of a batch was done; the end of a dump tells whether it failed on the way.
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let connection = tokio::spawn(connection);
        let mut client = Self {
            handle,
            family: CONTROLLER,
            timeout,
            connection,
            sequence: Mutex::new(0),
        };
        let family = client
            .query(
                Operation::ResolveFamily,
                wire::resolve_family("IPVS"),
                0,
                wire::decode_family,
            )
            .await;
        client.family = match family {
            Ok(families) => families.first().copied().ok_or(Error::FamilyMissing)?,
            Err(Error::Refused { errno, .. }) if errno == crate::error::Errno::ENOENT => {
                return Err(Error::FamilyMissing);
            }
            Err(error) => return Err(error),
        };
        Ok(client)
    }

    /// All services, in no particular order.
    pub async fn services(&self) -> Result<Vec<ServiceEntry>, Error> {
        self.query(
            Operation::ListServices,
            wire::empty(command::GET_SERVICE),
            NLM_F_DUMP,
            wire::decode_service,
        )
        .await
    }

    /// The destinations of a service, in no particular order; none if there is no such service.
    pub async fn destinations(&self, service: &ServiceKey) -> Result<Vec<DestinationEntry>, Error> {
        let family = service.family();
        let request = wire::on_service_key(command::GET_DEST, service);
        self.query(
            Operation::ListDestinations(*service),
            request,
            NLM_F_DUMP,
            |body| wire::decode_destination(body, family),
        )
        .await
    }

    /// The running synchronisation daemons: none, one, or one of each role.
    pub async fn daemons(&self) -> Result<Vec<Daemon>, Error> {
        self.query(
            Operation::ListDaemons,
            wire::empty(command::GET_DAEMON),
            NLM_F_DUMP,
            wire::decode_daemon,
        )
        .await
    }

    /// The timeouts of connection entries.
    pub async fn timeouts(&self) -> Result<Timeouts, Error> {
        let operation = Operation::ReadTimeouts;
        let answers = self
            .query(
                operation.clone(),
                wire::empty(command::GET_CONFIG),
                0,
                wire::decode_timeouts,
            )
            .await?;
        answers.first().copied().ok_or(Error::NoAnswer {
            operation: Box::new(operation),
        })
    }

    /// Version and size of the connection table.
    pub async fn info(&self) -> Result<Info, Error> {
        let operation = Operation::ReadInfo;
        let answers = self
            .query(
                operation.clone(),
                wire::empty(command::GET_INFO),
                0,
                wire::decode_info,
            )
            .await?;
        answers.first().copied().ok_or(Error::NoAnswer {
            operation: Box::new(operation),
        })
    }

    /// Carries out one change.
    pub async fn change(&self, change: Change) -> Result<(), Error> {
        match self.apply(vec![change]).await.pop() {
            Some(result) => result,
            None => Ok(()),
        }
    }

    /// Carries out changes in their order, pipelined. Each has its own answer, at its own place; a refused one does not stop those behind it. A
    /// kernel that does not answer does: what was not sent yet is not sent.
    pub async fn apply(&self, changes: Vec<Change>) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(changes.len());
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let batch: Vec<Change> = changes.by_ref().take(BATCH).collect();
            results.extend(self.apply_batch(batch).await);
            if matches!(results.last(), Some(Err(Error::TimedOut { .. }))) {
                results.extend(changes.by_ref().map(|change| {
                    Err(Error::NotSent {
                        operation: Box::new(Operation::Change(change)),
                    })
                }));
            }
        }
        results
    }

    async fn apply_batch(&self, batch: Vec<Change>) -> Vec<Result<(), Error>> {
        let requests: Vec<_> = batch
            .iter()
            .map(|change| self.message(change.encode(), NLM_F_ACK))
            .collect();
        let Some((first, stream)) = self.send(requests) else {
            return batch
                .into_iter()
                .map(|change| {
                    Err(Error::Closed {
                        operation: Box::new(Operation::Change(change)),
                    })
                })
                .collect();
        };
        let mut answers =
            Answers::collect(stream.take(batch.len()).boxed(), first, self.timeout).await;
        batch
            .into_iter()
            .map(|change| match answers.next() {
                Some(None) => Ok(()),
                Some(Some(errno)) => Err(Error::refused(Operation::Change(change), errno)),
                None => Err(Error::TimedOut {
                    operation: Box::new(Operation::Change(change)),
                    timeout: self.timeout,
                }),
            })
            .collect()
    }

    /// Sends one request and decodes every message of the answer.
    async fn query<T>(
        &self,
        operation: Operation,
        request: Message,
        flags: u16,
        decode: impl Fn(&[u8]) -> Result<T, crate::DecodeError>,
    ) -> Result<Vec<T>, Error> {
        let message = self.message(request, flags);
        let Some((_, stream)) = self.send(vec![message]) else {
            return Err(Error::Closed {
                operation: Box::new(operation),
            });
        };
        let mut stream = stream;
        let mut found = Vec::new();
        let all = async {
            while let Some(message) = stream.next().await {
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => {
                        match decode(&message.payload.message.body) {
                            Ok(object) => found.push(object),
                            Err(source) => return Err(Failure::Malformed(source)),
                        }
                    }
                    NetlinkPayload::Error(error) if error.raw_code() != 0 => {
                        return Err(Failure::Errno(error.raw_code()));
                    }
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(Failure::Errno(done.code));
                    }
                    NetlinkPayload::Overrun(_) => return Err(Failure::Overrun),
                    _ => {}
                }
            }
            Ok(())
        };
        match tokio::time::timeout(self.timeout, all).await {
            Ok(Ok(())) => Ok(found),
            Ok(Err(Failure::Errno(code))) => Err(Error::refused(operation, code)),
            Ok(Err(Failure::Malformed(source))) => Err(Error::Malformed {
                operation: Box::new(operation),
                source,
            }),
            Ok(Err(Failure::Overrun)) => Err(Error::Socket {
                source: io::Error::other("netlink messages were lost (receive buffer full)"),
            }),
            Err(_) => Err(Error::TimedOut {
                operation: Box::new(operation),
                timeout: self.timeout,
            }),
        }
    }

    /// Hands requests to the connection. Answers with the sequence number of the first; `None` if the connection has ended.
    fn send(&self, requests: Vec<Request>) -> Option<(u32, BoxStream<'static, Request>)> {
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        let first = sequence.wrapping_add(1);
        *sequence = sequence.wrapping_add(u32::try_from(requests.len()).unwrap_or(u32::MAX));
        let stream = self
            .handle
            .request_batch(requests, SocketAddr::new(0, 0))
            .ok()?;
        Some((first, stream.boxed()))
    }

    fn message(&self, message: Message, flags: u16) -> Request {
        let mut request = NetlinkMessage::from(GenlMessage::from_payload(Payload {
            family: self.family,
            message,
        }));
        request.header.flags = NLM_F_REQUEST | flags;
        request
    }
}

/// What ends a query early.
enum Failure {
    Errno(i32),
    Malformed(crate::DecodeError),
    Overrun,
}

/// The acknowledgements of a batch, by sequence number: one that was lost must not shift the others.
struct Answers {
    received: BTreeMap<u32, Option<i32>>,
    next: u32,
}

impl Answers {
    async fn collect(mut stream: BoxStream<'_, Request>, first: u32, timeout: Duration) -> Self {
        let mut received = BTreeMap::new();
        let all = async {
            while let Some(message) = stream.next().await {
                if let NetlinkPayload::Error(error) = &message.payload {
                    let code = error.raw_code();
                    received.insert(message.header.sequence_number, (code != 0).then_some(code));
                }
            }
        };
        // What was answered before the deadline counts.
        let _ = tokio::time::timeout(timeout, all).await;
        Self {
            received,
            next: first,
        }
    }

    /// The answer to the next request: `None` if there was none in time, else the error code or `None` for success.
    fn next(&mut self) -> Option<Option<i32>> {
        let answer = self.received.remove(&self.next);
        self.next = self.next.wrapping_add(1);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroI32;

    use netlink_packet_core::ErrorMessage;

    use super::*;

    fn answer(sequence: u32, code: i32) -> Request {
        let mut error = ErrorMessage::default();
        error.code = NonZeroI32::new(code);
        let mut message = NetlinkMessage::new(Default::default(), NetlinkPayload::Error(error));
        message.header.sequence_number = sequence;
        message
    }

    /// The controller of generic netlink, which every kernel has, refuses our requests one by one: each gets its own answer.
    #[tokio::test]
    async fn each_request_gets_its_answer_from_a_kernel() {
        let (mut connection, handle, _) =
            netlink_proto::new_connection(NETLINK_GENERIC).expect("a socket");
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let client = Client {
            handle,
            family: CONTROLLER,
            timeout: DEFAULT_TIMEOUT,
            connection: tokio::spawn(connection),
            sequence: Mutex::new(0),
        };
        for _ in 0..2 {
            let controller = client
                .query(
                    Operation::ResolveFamily,
                    wire::resolve_family("nlctrl"),
                    0,
                    wire::decode_family,
                )
                .await
                .expect("an answer");
            assert_eq!(controller, [CONTROLLER]);
            let changes = vec![Change::ZeroCounters(None); BATCH + 3];
            let results = client.apply(changes).await;
            assert_eq!(results.len(), BATCH + 3);
            for result in results {
                assert!(matches!(result, Err(Error::Refused { .. })), "{result:?}");
            }
        }
    }

    #[tokio::test]
    async fn a_lost_answer_does_not_shift_the_others() {
        let stream = futures_util::stream::iter([answer(8, -17), answer(10, 0)]);
        let mut answers = Answers::collect(stream.boxed(), 7, DEFAULT_TIMEOUT).await;
        let all: Vec<_> = (0..4).map(|_| answers.next()).collect();
        assert_eq!(all, [None, Some(Some(-17)), None, Some(None)]);
    }
}
