//! SHELL: one datagram, and what comes back.
//!
//! With `expect` the first answer decides. Without it silence is good, and only the host's ICMP "port unreachable" is bad: such a check takes
//! its whole timeout.

use conf::platform::CheckKind;
use socket2::{Protocol, Type};

use super::{Answer, CheckError, Deadline, datagram, internet, shown};
use crate::Target;

/// Larger answers are cut: what is expected is a prefix.
const ANSWER_LIMIT: usize = 2048;

/// A `udp` check.
pub(super) async fn check(target: &Target, deadline: Deadline) -> Result<Answer, CheckError> {
    let CheckKind::Udp { payload, expect } = &target.check.kind else {
        return Err(CheckError::other_kind(target));
    };
    let port = internet(target)?.port();
    let socket = datagram::connect(target, Type::DGRAM, Protocol::UDP, port)?;
    let conversation = async {
        socket.send(payload).await.map_err(datagram::broken)?;
        let mut answer = vec![0; ANSWER_LIMIT];
        let length = socket.recv(&mut answer).await.map_err(datagram::broken)?;
        answer.truncate(length);
        Ok(answer)
    };
    match (deadline.limit("answer", conversation).await, expect) {
        (Ok(answer), Some(expect)) if !answer.starts_with(expect) => {
            Err(CheckError::Unexpected(shown(&answer)))
        }
        (Ok(answer), _) => Ok(Answer::alive(format!("answered {} bytes", answer.len()))),
        (Err(CheckError::Timeout { .. }), None) => Ok(Answer::alive("not refused")),
        (Err(error), _) => Err(error),
    }
}
