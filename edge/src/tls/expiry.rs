//! CORE: when a certificate ends, and when to say so.

use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Certificates whose end is nearer are warned of: Let's Encrypt's are renewed 30 days before theirs.
const WARNED_DAYS: i64 = 14;
const DAY: i64 = 24 * 60 * 60;

/// The end of its validity, in seconds since 1970.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}

/// The whole days until it ends, negative afterwards. Both in seconds since 1970.
pub(crate) fn days_left(not_after: i64, now: i64) -> i64 {
    not_after.saturating_sub(now).div_euclid(DAY)
}

/// What there is to say about the end of the certificate in `file`.
pub(crate) fn warning(file: &str, not_after: i64, now: i64) -> Option<String> {
    match days_left(not_after, now) {
        ..0 => Some(format!(
            "the certificate {file} has ended: it is refused by all"
        )),
        0 => Some(format!("the certificate {file} ends within a day")),
        days @ 1..=WARNED_DAYS => Some(format!("the certificate {file} ends in {days} days")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_weeks_before_its_end_there_is_something_to_say() {
        let said = |left: i64| warning("/x.crt", 1_000_000_000 + left, 1_000_000_000);
        assert_eq!(said(15 * DAY), None);
        assert_eq!(
            said(15 * DAY - 1).as_deref(),
            Some("the certificate /x.crt ends in 14 days")
        );
        assert!(said(DAY - 1).unwrap().ends_with("within a day"));
        assert!(said(-1).unwrap().contains("has ended"));
        assert_eq!(days_left(i64::MIN, i64::MAX), i64::MIN.div_euclid(DAY));
    }
}
