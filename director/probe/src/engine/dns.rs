//! SHELL: one DNS query over UDP, and over TCP when the answer is truncated (RFC 7766 section 5).

mod message;

use conf::platform::CheckKind;
use socket2::{Protocol, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::message::{Expected, Judgement, Query};
use super::{Answer, CheckError, Deadline, datagram, internet, tcp};
use crate::Target;

/// Without EDNS an answer has at most 512 bytes (RFC 1035 section 2.3.4); whoever sends more is read too.
const DATAGRAM_LIMIT: usize = 4096;

/// A `dns` check.
pub(super) async fn check(target: &Target, deadline: Deadline) -> Result<Answer, CheckError> {
    let CheckKind::Dns {
        name,
        record,
        rcode,
        answer,
    } = &target.check.kind
    else {
        return Err(CheckError::other_kind(target));
    };
    let query = Query::new(fastrand::u16(..), name, record).map_err(CheckError::Request)?;
    let expected = Expected {
        rcode,
        answer: answer.as_deref(),
    };
    let judgement = deadline
        .limit("answer", over_udp(target, &query, &expected))
        .await?;
    let judgement = match judgement {
        Judgement::Truncated => over_tcp(target, deadline, &query, &expected).await?,
        judgement => judgement,
    };
    match judgement {
        Judgement::Accepted(reason) => Ok(Answer::alive(reason)),
        Judgement::Refused(reason) => Err(CheckError::Answer(reason)),
        Judgement::Foreign => Err(CheckError::Answer("it is to another query".to_owned())),
        Judgement::Truncated => Err(CheckError::Answer("truncated over TCP too".to_owned())),
    }
}

/// Answers to other queries are passed over: the answer to an earlier check may be late.
async fn over_udp(
    target: &Target,
    query: &Query,
    expected: &Expected<'_>,
) -> Result<Judgement, CheckError> {
    let port = internet(target)?.port();
    let socket = datagram::connect(target, Type::DGRAM, Protocol::UDP, port)?;
    socket
        .send(query.octets())
        .await
        .map_err(datagram::broken)?;
    let mut answer = vec![0; DATAGRAM_LIMIT];
    loop {
        let length = socket.recv(&mut answer).await.map_err(datagram::broken)?;
        let octets = answer.get(..length).unwrap_or_default();
        match query.judge(octets, expected) {
            Judgement::Foreign => {}
            judgement => return Ok(judgement),
        }
    }
}

async fn over_tcp(
    target: &Target,
    deadline: Deadline,
    query: &Query,
    expected: &Expected<'_>,
) -> Result<Judgement, CheckError> {
    let mut stream = tcp::connect(target, deadline).await?;
    let conversation = async {
        let length = u16::try_from(query.octets().len()).unwrap_or(u16::MAX);
        let mut request = length.to_be_bytes().to_vec();
        request.extend_from_slice(query.octets());
        stream.write_all(&request).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok::<Vec<u8>, std::io::Error>(answer)
    };
    let answer = deadline
        .limit("answer", async {
            conversation.await.map_err(datagram::broken)
        })
        .await?;
    Ok(query.judge(&answer, expected))
}
