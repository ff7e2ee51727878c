//! SHELL: a program whose exit code 0 means healthy; how it is kept harmless is in [`program`](crate::program).

use conf::platform::CheckKind;

use super::{Answer, CheckError, Deadline, internet};
use crate::Target;
use crate::program::{Job, Program, RunAs};

/// An `exec` check.
pub(super) async fn check(target: &Target, deadline: Deadline) -> Result<Answer, CheckError> {
    let CheckKind::Exec { command, user } = &target.check.kind else {
        return Err(CheckError::other_kind(target));
    };
    let address = internet(target)?;
    let job = Job {
        command: command.clone(),
        user: RunAs::User(user.clone()),
        environment: vec![
            ("WEIR_CHECK_ADDRESS", address.ip().to_string()),
            ("WEIR_CHECK_PORT", address.port().to_string()),
        ],
    };
    let mut program = Program::start(job).map_err(CheckError::Exec)?;
    let run = async { program.finish().await.map_err(CheckError::Exec) };
    let ended = deadline.limit("exit", run).await?;
    if ended.is_success() {
        return Ok(Answer::alive(ended.to_string()));
    }
    Err(CheckError::Exec(ended.to_string()))
}
