//! Parsing of times and durations in parameters, and printing of the receive time in answers.
//!
//! **Invariant:** parsing never panics and never wraps, for any text.

use jiff::Timestamp;

/// Returns Unix ms from a whole number of them or from RFC 3339. Fractions of a millisecond are rounded down, as in
/// stored times.
pub(super) fn millis(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (date, rest) = text.split_at_checked("2026-01-01T".len())?;
    // A `+` that was not percent-encoded arrives as a space.
    let time: Timestamp = format!("{date}{}", rest.replace(' ', "+")).parse().ok()?;
    i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).ok()
}

/// Returns nanoseconds from milliseconds with or without a fraction of at most six digits.
pub(super) fn duration_ns(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 6 {
        return None;
    }
    let fraction_ns: i64 = format!("{fraction:0<6}").parse().ok()?;
    let whole_ms: i64 = whole.parse().ok()?;
    whole_ms.checked_mul(1_000_000)?.checked_add(fraction_ns)
}

/// Returns RFC 3339 in UTC from Unix µs; `None` if the time is beyond the calendar's range.
pub(super) fn rfc3339(micros: i64) -> Option<String> {
    Some(Timestamp::from_microsecond(micros).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::{duration_ns, millis, rfc3339};

    #[test]
    fn a_time_is_unix_milliseconds_or_rfc_3339() {
        let at = 1_767_225_600_000;
        for (text, expected) in [
            ("0", Some(0)),
            ("1767225600000", Some(at)),
            ("2026-01-01T00:00:00Z", Some(at)),
            ("2026-01-01T00:00:00.0019Z", Some(at + 1)),
            ("2026-01-01t00:00:00z", Some(at)),
            ("2026-01-01T02:00:00+02:00", Some(at)),
            ("2026-01-01T02:00:00 02:00", Some(at)),
            ("2026-01-01 00:00:00Z", Some(at)),
            ("1969-12-31T23:59:59.9999Z", Some(-1)),
            ("2026-02-30T00:00:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("yesterday", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("99999999999999999999", None),
            ("2026-01-01é", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }

    #[test]
    fn a_duration_is_milliseconds_with_or_without_a_fraction() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1_000_000)),
            ("0.5", Some(500_000)),
            ("1.000001", Some(1_000_001)),
            ("1.0000001", None),
            ("-1", None),
            ("1e3", None),
            (".5", None),
            ("5.", None),
            ("9223372036854775807", None),
        ] {
            assert_eq!(duration_ns(text), expected, "{text}");
        }
    }

    #[test]
    fn the_time_of_receipt_is_printed_to_the_microsecond_in_utc() {
        assert_eq!(
            rfc3339(1_767_225_600_123_456).as_deref(),
            Some("2026-01-01T00:00:00.123456Z")
        );
        assert_eq!(rfc3339(i64::MAX), None);
    }
}
