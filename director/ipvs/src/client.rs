//! SHELL: the client: one generic netlink socket, a deadline on every request, pipelined changes with an answer for each.
//!
//! Built straight on `netlink-proto`; the family is resolved by hand. The kernel offers no transaction and sends no events: whoever wants
//! the table to be in a certain state reads it, compares, and asks for the difference.

use std::io;
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
}

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

    /// Carries out changes in their order, pipelined. Each has its own answer, at its own place; a refused one does not stop those behind it.
    pub async fn apply(&self, changes: Vec<Change>) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(changes.len());
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let batch: Vec<Change> = changes.by_ref().take(BATCH).collect();
            results.extend(self.apply_batch(batch).await);
        }
        results
    }

    async fn apply_batch(&self, batch: Vec<Change>) -> Vec<Result<(), Error>> {
        let requests: Vec<_> = batch
            .iter()
            .map(|change| self.message(change.encode(), NLM_F_ACK))
            .collect();
        let Ok(stream) = self.handle.request_batch(requests, SocketAddr::new(0, 0)) else {
            return batch
                .into_iter()
                .map(|change| {
                    Err(Error::Closed {
                        operation: Box::new(Operation::Change(change)),
                    })
                })
                .collect();
        };
        let mut answers = Answers::collect(stream.take(batch.len()).boxed(), self.timeout).await;
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
        let Ok(stream) = self.handle.request(message, SocketAddr::new(0, 0)) else {
            return Err(Error::Closed {
                operation: Box::new(operation),
            });
        };
        let mut stream = stream.boxed();
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

    fn message(&self, message: Message, flags: u16) -> NetlinkMessage<GenlMessage<Payload>> {
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

/// The acknowledgements of a batch. The kernel works through a datagram in order and answers each request before it takes the next, so
/// the n-th answer belongs to the n-th request; sequence numbers tell if one was lost.
struct Answers {
    received: std::collections::VecDeque<(u32, Option<i32>)>,
    expected: Option<u32>,
}

impl Answers {
    async fn collect(
        mut stream: BoxStream<'_, NetlinkMessage<GenlMessage<Payload>>>,
        timeout: Duration,
    ) -> Self {
        let mut received = std::collections::VecDeque::new();
        let all = async {
            while let Some(message) = stream.next().await {
                if let NetlinkPayload::Error(error) = &message.payload {
                    let code = error.raw_code();
                    received
                        .push_back((message.header.sequence_number, (code != 0).then_some(code)));
                }
            }
        };
        // What was answered before the deadline counts.
        let _ = tokio::time::timeout(timeout, all).await;
        let expected = received.front().map(|(sequence, _)| *sequence);
        Self { received, expected }
    }

    /// The answer to the next request: `None` if there was none in time, else the error code or `None` for success.
    fn next(&mut self) -> Option<Option<i32>> {
        let expected = self.expected?;
        self.expected = Some(expected.wrapping_add(1));
        match self.received.front() {
            Some((sequence, _)) if *sequence == expected => {
                self.received.pop_front().map(|(_, code)| code)
            }
            _ => None,
        }
    }
}
