//! SHELL: the nftables socket: one transaction, or one dump, at a time, each with a deadline.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::frame::{self, Answer};
use super::wire::{self, Request, command};
use super::{Content, Counter, Table};
use crate::error::{Error, Object};

/// How long a transaction or a dump may take: tens of thousands of elements on a slow machine.
pub const NFT_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a dump is begun anew because somebody changed the ruleset meanwhile.
const DUMP_ATTEMPTS: usize = 5;

/// The send buffer of a socket as it comes; a transaction must fit into it as a whole.
const SEND_BUFFER: usize = 64 * 1024;

/// A socket to nftables in the network namespace of the thread that opened it. Changes need CAP_NET_ADMIN.
pub struct Nft {
    socket: TokioSocket,
    sequence: u32,
    /// Set while a request is under way: if it was given up, late answers may still come, and another socket is taken.
    dirty: bool,
}

impl std::fmt::Debug for Nft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nft")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Nft {
    /// Opens the socket. Call it inside a tokio runtime.
    pub fn open() -> Result<Nft, Error> {
        let socket = open().map_err(|source| Error::Refused {
            attempt: "open",
            object: Object::Socket,
            source,
        })?;
        Ok(Nft {
            socket,
            sequence: 0,
            dirty: false,
        })
    }

    /// The number of the ruleset's generation: it changes with every transaction of anybody, so while it stays, all rules and sets do.
    pub async fn generation(&mut self) -> Result<u32, Error> {
        let object = Object::Nft("the ruleset's generation".to_owned());
        let answers = self
            .ask("read", &object, command::GET_GENERATION, NLM_F_ACK, &[])
            .await?;
        let number = answers
            .iter()
            .find_map(|body| wire::decode_generation(body));
        number.ok_or_else(|| no_answer("read", object))
    }

    /// What the kernel holds of a table, or `None` if there is no such table.
    pub async fn read(&mut self, table: &str) -> Result<Option<Content>, Error> {
        let object = |kind: &str| Object::Nft(format!("{kind} of table {table}"));
        let tables = self.dump(object("name"), command::GET_TABLE, &[]).await?;
        if !tables
            .iter()
            .any(|body| wire::decode_table(body).as_deref() == Some(table))
        {
            return Ok(None);
        }
        let selector = wire::selector(table, None);
        let mut content = Content::default();
        // The dump of chains cannot be narrowed down.
        for body in self.dump(object("chains"), command::GET_CHAIN, &[]).await? {
            match wire::decode_chain(&body) {
                Some((of, name, chain)) if of == table => {
                    content.chains.insert(name, chain);
                }
                _ => {}
            }
        }
        for body in self.rules(table).await? {
            if let Some((fingerprint, counter)) = wire::decode_rule(&body) {
                let chain = content.chains.entry(counter.chain).or_default();
                chain.rules.push(fingerprint);
            }
        }
        let sets = self
            .dump(object("sets"), command::GET_SET, &selector)
            .await?;
        for body in sets {
            let Some((name, mut set, compared)) = wire::decode_set(&body) else {
                continue;
            };
            if compared {
                let object = object(&format!("elements of set {name}"));
                let selector = wire::selector(table, Some(&name));
                let messages = self.dump(object, command::GET_ELEMENTS, &selector).await?;
                set.elements = messages
                    .iter()
                    .flat_map(|body| wire::decode_elements(body))
                    .collect();
            }
            content.sets.insert(name, set);
        }
        Ok(Some(content))
    }

    /// The counters of a table's rules, in the rules' order; none if there is no such table.
    pub async fn counters(&mut self, table: &str) -> Result<Vec<Counter>, Error> {
        let rules = self.rules(table).await?;
        Ok(rules
            .iter()
            .filter_map(|body| wire::decode_rule(body))
            .map(|(_, counter)| counter)
            .collect())
    }

    /// Puts a table in the place of the one of its name, if there is one: all of it in one transaction, or nothing. Counters and buckets
    /// begin anew.
    pub async fn replace(&mut self, table: &Table) -> Result<(), Error> {
        self.transaction("put in place", &wire::replace(table))
            .await
    }

    /// Removes a table with all that is in it. False if there was none.
    pub async fn remove(&mut self, table: &str) -> Result<bool, Error> {
        match self.transaction("delete", &[wire::remove(table)]).await {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn rules(&mut self, table: &str) -> Result<Vec<Vec<u8>>, Error> {
        let object = Object::Nft(format!("rules of table {table}"));
        let selector = wire::selector(table, None);
        match self.dump(object, command::GET_RULE, &selector).await {
            // Newer kernels say so, older ones list nothing.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            other => other,
        }
    }

    async fn dump(
        &mut self,
        object: Object,
        command: u8,
        body: &[u8],
    ) -> Result<Vec<Vec<u8>>, Error> {
        let mut attempt = 1;
        loop {
            match self.ask("list", &object, command, NLM_F_DUMP, body).await {
                Err(error)
                    if error.raw_os_error() == Some(libc::EINTR) && attempt < DUMP_ATTEMPTS =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    /// One request outside of a transaction; answers with the bodies of what came.
    async fn ask(
        &mut self,
        attempt: &'static str,
        object: &Object,
        command: u8,
        flags: u16,
        body: &[u8],
    ) -> Result<Vec<Vec<u8>>, Error> {
        let sequence = self.next_sequence(1);
        let bytes = frame::message(command, NLM_F_REQUEST | flags, sequence, body);
        self.exchange(attempt, object, &bytes, async |socket| {
            let mut found = Vec::new();
            let mut interrupted = false;
            loop {
                let (datagram, _) = socket.recv_from_full().await?;
                for message in frame::answers(&datagram) {
                    if message.sequence != sequence {
                        continue;
                    }
                    interrupted |= message.interrupted;
                    match message.answer {
                        Answer::Object(body) => found.push(body.to_vec()),
                        Answer::Done if interrupted => {
                            return Err(io::Error::from_raw_os_error(libc::EINTR));
                        }
                        Answer::Done | Answer::Code(0) => return Ok(found),
                        Answer::Code(code) => {
                            return Err(io::Error::from_raw_os_error(code.saturating_abs()));
                        }
                    }
                }
            }
        })
        .await
    }

    async fn transaction(
        &mut self,
        attempt: &'static str,
        requests: &[Request],
    ) -> Result<(), Error> {
        let count = u32::try_from(requests.len()).unwrap_or(u32::MAX);
        let begin = self.next_sequence(count.saturating_add(2));
        let mut bytes = frame::batch_begin(begin);
        let mut objects: BTreeMap<u32, &str> = BTreeMap::new();
        let mut sequence = begin;
        for (index, request) in requests.iter().enumerate() {
            sequence = sequence.wrapping_add(1);
            objects.insert(sequence, &request.object);
            let create = if request.creates {
                NLM_F_CREATE | NLM_F_APPEND
            } else {
                0
            };
            // The answer to the last one comes when all is committed.
            let acknowledge = if index + 1 == requests.len() {
                NLM_F_ACK
            } else {
                0
            };
            let flags = NLM_F_REQUEST | create | acknowledge;
            bytes.extend(frame::message(
                request.command,
                flags,
                sequence,
                &request.body,
            ));
        }
        let last = sequence;
        bytes.extend(frame::batch_end(last.wrapping_add(1)));
        if bytes.len() > SEND_BUFFER {
            // Twice, since the kernel counts its own overhead as well.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(
                self.socket.socket_ref(),
                bytes.len().saturating_mul(2),
            );
        }
        let whole = Object::Nft(requests.last().map_or_else(
            || "an empty transaction".to_owned(),
            |request| request.object.clone(),
        ));
        let refused = self
            .exchange(attempt, &whole, &bytes, async |socket| {
                let mut refused = None;
                loop {
                    let (datagram, _) = socket.recv_from_full().await?;
                    for message in frame::answers(&datagram) {
                        let behind = message.sequence.wrapping_sub(begin);
                        let Answer::Code(code) = message.answer else {
                            continue;
                        };
                        if behind > last.wrapping_sub(begin) {
                            continue;
                        }
                        if code != 0 && refused.is_none() {
                            refused = Some((message.sequence, code));
                        }
                        // A transaction that cannot even begin, or be committed, is refused as a whole.
                        if message.sequence == last || (behind == 0 && code != 0) {
                            return Ok(refused);
                        }
                    }
                }
            })
            .await?;
        match refused {
            None => Ok(()),
            Some((at, code)) => Err(Error::Refused {
                attempt,
                object: objects
                    .get(&at)
                    .map_or(whole, |object| Object::Nft((*object).to_owned())),
                source: io::Error::from_raw_os_error(code.saturating_abs()),
            }),
        }
    }

    async fn exchange<T>(
        &mut self,
        attempt: &'static str,
        object: &Object,
        bytes: &[u8],
        answers: impl AsyncFnOnce(&TokioSocket) -> io::Result<T>,
    ) -> Result<T, Error> {
        let refused = |source| Error::Refused {
            attempt,
            object: object.clone(),
            source,
        };
        if self.dirty {
            self.socket = open().map_err(refused)?;
        }
        self.dirty = true;
        let socket = &self.socket;
        let work = async {
            socket.send(bytes).await?;
            answers(socket).await
        };
        match tokio::time::timeout(NFT_TIMEOUT, work).await {
            Ok(Ok(value)) => {
                self.dirty = false;
                Ok(value)
            }
            Ok(Err(source)) => Err(refused(source)),
            Err(_) => Err(Error::TimedOut {
                attempt,
                object: object.clone(),
                seconds: NFT_TIMEOUT.as_secs(),
            }),
        }
    }

    /// The first of `count` sequence numbers.
    fn next_sequence(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }
}

fn open() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_ref().connect(&SocketAddr::new(0, 0))?;
    // An error need not bring back the whole request.
    socket.socket_ref().set_cap_ack(true)?;
    Ok(socket)
}

fn no_answer(attempt: &'static str, object: Object) -> Error {
    Error::Connection {
        attempt,
        object,
        reason: "the kernel answered with nothing".to_owned(),
    }
}
