//! CORE: why the kernel was not changed.

/// Why a wish is not fulfilled.
#[derive(Debug)]
pub(super) enum Failure {
    /// The kernel did not answer.
    Silence(String),
    /// It cannot be, or must not be.
    Refusal(String),
}

/// What an error of the kernel means, with its causes.
pub(super) fn failure(error: net::Error) -> Failure {
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    match error {
        net::Error::TimedOut { .. } => Failure::Silence(reason),
        // Also where an address was taken away to be changed and nothing was heard since: what was there is not any more.
        _ => Failure::Refusal(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_leaves_what_was_there_unless_it_was_taken_away_before() {
        let object = net::Object::Address {
            address: "192.0.2.1".parse().unwrap(),
            prefix_len: 32,
            link: 2,
        };
        let silence = || net::Error::TimedOut {
            attempt: "add",
            object: object.clone(),
            seconds: 5,
        };
        let said = "failed to add address 192.0.2.1/32 on interface number 2: no answer from the kernel within 5 s";
        match failure(silence()) {
            Failure::Silence(reason) => assert_eq!(reason, said),
            other @ Failure::Refusal(_) => panic!("{other:?}"),
        }
        let gone = net::Error::NotPutBack {
            object: object.clone(),
            source: Box::new(silence()),
        };
        let before = "address 192.0.2.1/32 on interface number 2 was taken away to be changed, and cannot be put back";
        match failure(gone) {
            Failure::Refusal(reason) => assert_eq!(reason, format!("{before}: {said}")),
            other @ Failure::Silence(_) => panic!("{other:?}"),
        }
    }
}
