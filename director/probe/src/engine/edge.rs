//! SHELL: asks an edge's readiness endpoint.
//!
//! Only edge itself can tell "drain me" from "I am broken": a draining edge is healthy for the connections it has, so the check succeeds and
//! the director takes it out of new ones.

use conf::platform::CheckKind;

use super::http::{Want, exchange, request};
use super::{Answer, CheckError, Deadline, tcp};
use crate::{EdgeReport, EdgeState, Target};

/// An `edge` check.
pub(super) async fn check(target: &Target, deadline: Deadline) -> Result<Answer, CheckError> {
    debug_assert!(matches!(target.check.kind, CheckKind::Edge));
    let request = request(target, "GET", "/ready", None)?;
    let stream = tcp::connect(target, deadline).await?;
    let (status, body) = deadline
        .limit("answer", exchange(stream, request, Want::All))
        .await?;
    judge(status, &body)
}

/// 200 only while ready, 503 otherwise: whoever else looks at the endpoint with a plain HTTP check sees the same.
fn judge(status: u16, body: &[u8]) -> Result<Answer, CheckError> {
    let report: EdgeReport =
        serde_json::from_slice(body).map_err(|_| CheckError::Report(status))?;
    let weight_percent = report.weight_percent.clamp(1, 100);
    match (status, report.state) {
        (200, EdgeState::Ready) => Ok(Answer {
            weight_percent,
            ..Answer::alive("ready")
        }),
        (503, EdgeState::Draining) => Ok(Answer {
            draining: true,
            weight_percent,
            ..Answer::alive("draining")
        }),
        (503, EdgeState::NotReady) => Err(CheckError::NotReady),
        _ => Err(CheckError::Report(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_report_must_agree() {
        type Expected = Option<(bool, u8)>;
        let cases: &[(u16, &str, Expected)] = &[
            (
                200,
                r#"{"state":"ready","weight_percent":100}"#,
                Some((false, 100)),
            ),
            (
                200,
                r#"{"state":"ready","weight_percent":40}"#,
                Some((false, 40)),
            ),
            (
                200,
                r#"{"state":"ready","weight_percent":0}"#,
                Some((false, 1)),
            ),
            (
                200,
                r#"{"state":"ready","weight_percent":200}"#,
                Some((false, 100)),
            ),
            (
                200,
                r#"{"state":"ready","weight_percent":40,"later":1}"#,
                Some((false, 40)),
            ),
            (
                503,
                r#"{"state":"draining","weight_percent":100}"#,
                Some((true, 100)),
            ),
            (503, r#"{"state":"not_ready","weight_percent":100}"#, None),
            (200, r#"{"state":"draining","weight_percent":100}"#, None),
            (503, r#"{"state":"ready","weight_percent":100}"#, None),
            (200, "ready", None),
            (200, "", None),
            (404, r#"{"state":"ready","weight_percent":100}"#, None),
        ];
        for (status, body, expected) in cases {
            let answer = judge(*status, body.as_bytes())
                .ok()
                .map(|answer| (answer.draining, answer.weight_percent));
            assert_eq!(answer, *expected, "{status} {body}");
        }
    }
}
