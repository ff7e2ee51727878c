//! CORE: why the kernel was not changed.

/// Why a wish is not fulfilled.
#[derive(Debug)]
pub(super) enum Failure {
    /// The kernel did not answer.
    Silence(String),
    /// It cannot be, or must not be.
    Refusal(String),
}

/// What an error of the kernel means, with its cause.
pub(super) fn failure(error: net::Error) -> Failure {
    let reason = match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    match error {
        net::Error::TimedOut { .. } => Failure::Silence(reason),
        _ => Failure::Refusal(reason),
    }
}
