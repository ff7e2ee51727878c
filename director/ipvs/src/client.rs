//! SHELL: the client: a deadline on every request, pipelined changes with an answer for each, whole tables.
//!
//! The kernel offers no transaction and sends no events: whoever wants the table to be in a certain state reads it, compares, and asks for
//! the difference.

mod exchange;
mod worker;

use std::time::Duration;

use crate::change::Change;
use crate::envelope::DUMP;
use crate::error::{Errno, Error, Operation};
use crate::model::{
    Daemon, DestinationEntry, Info, ServiceEntry, ServiceKey, TableEntry, Timeouts,
};
use crate::wire::{self, Message, command};
use crate::{DecodeError, Family};

use exchange::{Answer, Exchange, Failure};
use worker::{Silence, Worker};

/// Changes sent at once. If all of them are refused, the answers must fit into the socket's receive buffer (208 KiB, about 270 of them).
const BATCH: usize = 128;
/// Services whose destinations are read under one deadline.
const CHUNK: usize = 256;
/// How long the kernel may take for one request or batch. It answers in microseconds; a wedged one must not wedge its caller.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to the IPVS of the network namespace that the calling thread was in when it connected.
///
/// Its socket lives on a thread of its own: a request that the kernel does not finish (stopping a synchronisation daemon was seen to take
/// a minute) holds up that thread and no other.
#[derive(Debug)]
pub struct Client {
    worker: Worker,
    family: u16,
    timeout: Duration,
}

impl Client {
    /// Connects and looks the family up; asking for it makes the kernel load `ip_vs` where modules may be loaded. Needs CAP_NET_ADMIN.
    ///
    /// Must be called on a tokio runtime with time enabled.
    pub async fn connect() -> Result<Self, Error> {
        Self::connect_with_timeout(DEFAULT_TIMEOUT).await
    }

    /// [`connect`](Self::connect) with another deadline per request.
    pub async fn connect_with_timeout(timeout: Duration) -> Result<Self, Error> {
        let worker = Exchange::open()
            .and_then(Worker::start)
            .map_err(|source| Error::Socket { source })?;
        let mut client = Self {
            worker,
            family: exchange::CONTROLLER,
            timeout,
        };
        let request = wire::resolve_family("IPVS");
        let families = client.query(Operation::ResolveFamily, request, 0, wire::decode_family);
        client.family = match families.await {
            Ok(families) => families.first().copied().ok_or(Error::FamilyMissing)?,
            Err(Error::Refused { errno, .. }) if errno == Errno::ENOENT => {
                return Err(Error::FamilyMissing);
            }
            Err(error) => return Err(error),
        };
        Ok(client)
    }

    /// All services, in no particular order.
    pub async fn services(&self) -> Result<Vec<ServiceEntry>, Error> {
        let request = wire::empty(command::GET_SERVICE);
        let decode = wire::decode_service;
        self.query(Operation::ListServices, request, DUMP, decode)
            .await
    }

    /// The destinations of a service in the kernel's order, the one added last first; none if there is no such service.
    pub async fn destinations(&self, service: &ServiceKey) -> Result<Vec<DestinationEntry>, Error> {
        let family = service.family();
        let request = wire::on_service_key(command::GET_DEST, service);
        let decode = move |body: &[u8]| wire::decode_destination(body, family);
        let operation = Operation::ListDestinations(*service);
        self.query(operation, request, DUMP, decode).await
    }

    /// All services, each with its destinations.
    ///
    /// The kernel lists the destinations of one service at a time, and one list per socket; so this is a request per service, made one after
    /// the other without going back to the runtime in between. What others change meanwhile may or may not be in the answer.
    pub async fn table(&self) -> Result<Vec<TableEntry>, Error> {
        let mut services = self.services().await?.into_iter().peekable();
        let mut table = Vec::new();
        while services.peek().is_some() {
            let chunk: Vec<ServiceEntry> = services.by_ref().take(CHUNK).collect();
            let Some(first) = chunk.first().map(|entry| entry.service.key) else {
                break;
            };
            let family = self.family;
            let work = move |exchange: &mut Exchange| {
                let entries = chunk.into_iter();
                let entries = entries.map(|entry| exchange.table_entry(family, entry));
                entries.collect::<Result<Vec<TableEntry>, (ServiceKey, Failure)>>()
            };
            let answer = self.worker.run(self.timeout, work).await;
            let entries = answer
                .map_err(|silence| self.silent(Operation::ListDestinations(first), silence))?;
            table.extend(
                entries
                    .map_err(|(key, failure)| failed(Operation::ListDestinations(key), failure))?,
            );
        }
        Ok(table)
    }

    /// The running synchronisation daemons: none, one, or one of each role.
    pub async fn daemons(&self) -> Result<Vec<Daemon>, Error> {
        let request = wire::empty(command::GET_DAEMON);
        let decode = wire::decode_daemon;
        self.query(Operation::ListDaemons, request, DUMP, decode)
            .await
    }

    /// The timeouts of connection entries.
    pub async fn timeouts(&self) -> Result<Timeouts, Error> {
        let request = wire::empty(command::GET_CONFIG);
        self.one(Operation::ReadTimeouts, request, wire::decode_timeouts)
            .await
    }

    /// Version and size of the connection table.
    pub async fn info(&self) -> Result<Info, Error> {
        let request = wire::empty(command::GET_INFO);
        self.one(Operation::ReadInfo, request, wire::decode_info)
            .await
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
        let requests: Vec<Message> = batch.iter().map(Change::encode).collect();
        let family = self.family;
        let work = move |exchange: &mut Exchange| exchange.batch(family, &requests);
        let answers = match self.worker.run(self.timeout, work).await {
            Ok(Ok(answers)) => answers,
            // The socket is of no use any more; what was done is unknown.
            Ok(Err(source)) => {
                let kind = source.kind();
                let broken = |_| Error::Socket {
                    source: kind.into(),
                };
                return batch
                    .into_iter()
                    .map(|change| Err(broken(change)))
                    .collect();
            }
            Err(silence) => {
                let silent = |change| self.silent(Operation::Change(change), silence);
                return batch
                    .into_iter()
                    .map(|change| Err(silent(change)))
                    .collect();
            }
        };
        batch
            .into_iter()
            .zip(answers)
            .map(|(change, answer)| match answer {
                Answer::Done => Ok(()),
                Answer::Refused(code) => Err(Error::refused(Operation::Change(change), code)),
                Answer::Lost => Err(failed(Operation::Change(change), Failure::Overrun)),
            })
            .collect()
    }

    /// The one object that a request is answered with.
    async fn one<T: Send + 'static>(
        &self,
        operation: Operation,
        request: Message,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError> + Send + 'static,
    ) -> Result<T, Error> {
        let answers = self.query(operation.clone(), request, 0, decode).await?;
        let first = answers.into_iter().next();
        first.ok_or_else(|| failed(operation, Failure::NoAnswer))
    }

    /// Sends one request and decodes every message of the answer.
    async fn query<T: Send + 'static>(
        &self,
        operation: Operation,
        request: Message,
        flags: u16,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError> + Send + 'static,
    ) -> Result<Vec<T>, Error> {
        let family = self.family;
        let work = move |exchange: &mut Exchange| exchange.query(family, flags, &request, &decode);
        match self.worker.run(self.timeout, work).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(failure)) => Err(failed(operation, failure)),
            Err(silence) => Err(self.silent(operation, silence)),
        }
    }

    fn silent(&self, operation: Operation, silence: Silence) -> Error {
        let operation = Box::new(operation);
        match silence {
            Silence::TimedOut => Error::TimedOut {
                operation,
                timeout: self.timeout,
            },
            Silence::Closed => Error::Closed { operation },
        }
    }
}

impl Exchange {
    fn table_entry(
        &mut self,
        family: u16,
        service: ServiceEntry,
    ) -> Result<TableEntry, (ServiceKey, Failure)> {
        let key = service.service.key;
        let request = wire::on_service_key(command::GET_DEST, &key);
        let packets: Family = key.family();
        let decode = move |body: &[u8]| wire::decode_destination(body, packets);
        let destinations = self
            .query(family, DUMP, &request, &decode)
            .map_err(|failure| (key, failure))?;
        Ok(TableEntry {
            service,
            destinations,
        })
    }
}

fn failed(operation: Operation, failure: Failure) -> Error {
    let operation = Box::new(operation);
    match failure {
        Failure::Errno(code) => Error::refused(*operation, code),
        Failure::Malformed(source) => Error::Malformed { operation, source },
        Failure::Overrun => Error::Overrun { operation },
        Failure::NoAnswer => Error::NoAnswer { operation },
        Failure::Socket(source) => Error::Socket { source },
    }
}

#[cfg(test)]
mod tests;
