//! Parses the timestamp of a native event: Unix milliseconds or RFC 3339.
//!
//! **Invariant:** an accepted time is not before 1970 and at most 24 hours after receipt.

use crate::decode::decode_report::echo;
use crate::decode::json::json_writer;

const DAY_MS: i64 = 86_400_000;
/// A number below this limit is rejected as seconds: as milliseconds it would be a time before March 1973.
pub(crate) const SECONDS_BELOW_MS: i64 = 100_000_000_000;
/// Reason for rejecting such a number, here and in queries.
pub(crate) const LOOKS_LIKE_SECONDS: &str = "looks like seconds: milliseconds are expected";
/// The first millisecond of the year 10000.
const YEAR_10000_MS: i64 = 253_402_300_800_000;
const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
const TOO_LATE: &str = "more than 24 hours after receipt";

/// Converts a JSON number to Unix milliseconds; discards its fraction.
pub(super) fn from_number(number: &str, received_ms: i64) -> Result<i64, String> {
    let plain = json_writer::plain_digits(number).ok_or("the number is too long")?;
    if plain.starts_with('-') {
        return Err("a time before 1970".to_owned());
    }
    let whole = plain.split('.').next().unwrap_or_default();
    from_whole_number(whole.parse().unwrap_or(u64::MAX), received_ms)
}

/// The same for a whole number; one beyond 64 bits counts as the greatest.
pub(super) fn from_whole_number(number: u64, received_ms: i64) -> Result<i64, String> {
    match i64::try_from(number) {
        Ok(ms) if ms < SECONDS_BELOW_MS => Err(LOOKS_LIKE_SECONDS.to_owned()),
        Ok(ms) if ms < YEAR_10000_MS => within_a_day(ms, received_ms),
        Ok(_) | Err(_) => Err("looks like µs or ns: milliseconds are expected".to_owned()),
    }
}

/// Converts a date and time with any offset (RFC 3339, section 5.6) to Unix milliseconds, rounded down.
pub(super) fn from_text(text: &str, received_ms: i64) -> Result<i64, String> {
    let time = match text.parse::<jiff::Timestamp>() {
        Ok(time) if is_rfc3339(text.as_bytes()) => time,
        Err(_) if is_rfc3339(text.as_bytes()) && is_last_year(text) => {
            return Err(TOO_LATE.to_owned());
        }
        _ => return Err(format!("{} is not a time of RFC 3339", echo(text))),
    };
    let ms = i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).unwrap_or(i64::MAX);
    if ms < 0 {
        return Err("a time before 1970".to_owned());
    }
    within_a_day(ms, received_ms)
}

fn within_a_day(ms: i64, received_ms: i64) -> Result<i64, String> {
    if ms > received_ms.saturating_add(DAY_MS) {
        return Err(TOO_LATE.to_owned());
    }
    Ok(ms)
}

/// Returns whether a text is a date and time of the year 9999; the parser cannot represent the last days of that year.
fn is_last_year(text: &str) -> bool {
    let civil = text
        .get(..SHAPE.len())
        .and_then(|head| head.parse::<jiff::civil::DateTime>().ok());
    civil.is_some_and(|civil| civil.year() == 9999)
}

/// Returns whether a text has the form of `2026-01-31T23:59:59.123Z` or `2026-01-31T23:59:59+01:00`; the parser alone
/// accepts other forms too.
fn is_rfc3339(text: &[u8]) -> bool {
    let Some((head, mut tail)) = text.split_at_checked(SHAPE.len()) else {
        return false;
    };
    if !matches_shape(head, SHAPE) {
        return false;
    }
    if let [b'.', fraction @ ..] = tail {
        let digits = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return false;
        }
        tail = &fraction[digits..];
    }
    matches!(tail, b"Z" | b"z") || matches_shape(tail, b"+dd:dd") || matches_shape(tail, b"-dd:dd")
}

fn matches_shape(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            b'T' => matches!(byte, b'T' | b't' | b' '),
            shape => byte == shape,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    #[test]
    fn numbers_are_unix_milliseconds_with_the_fraction_floored() {
        for (number, ms) in [
            ("1700000000000", 1_700_000_000_000),
            ("1700000000000.999", 1_700_000_000_000),
            ("1.7e12", 1_700_000_000_000),
            ("100000000000", 100_000_000_000),
            ("1800086400000", NOW_MS + DAY_MS),
        ] {
            assert_eq!(from_number(number, NOW_MS), Ok(ms), "{number}");
        }
    }

    #[test]
    fn numbers_that_are_not_milliseconds_say_what_they_look_like() {
        for (number, reason) in [
            ("0", "seconds"),
            ("-0", "seconds"),
            ("1700000000", "seconds"),
            ("99999999999.9", "seconds"),
            ("-1", "before 1970"),
            ("-0.5", "before 1970"),
            ("1700000000000000", "µs or ns"),
            ("1700000000000000000", "µs or ns"),
            ("253402300800000", "µs or ns"),
            ("1e300", "µs or ns"),
            ("1e500", "too long"),
            ("1800086400001", "24 hours"),
        ] {
            let error = from_number(number, NOW_MS).expect_err(number);
            assert!(error.contains(reason), "{number}: {error}");
        }
    }

    #[test]
    fn texts_are_rfc_3339_with_any_offset() {
        for (text, ms) in [
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14t22:13:20.9999z", 1_700_000_000_999),
            ("2023-11-15T03:43:20.5+05:30", 1_700_000_000_500),
            ("2023-11-14T14:13:20-08:00", 1_700_000_000_000),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(from_text(text, NOW_MS), Ok(ms), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_time_are_refused() {
        for text in [
            "",
            "now",
            "2026-02-30T00:00:00Z",
            "2023-11-14",
            "2023-11-14T22:13Z",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20Z[UTC]",
            "2023-11-14T25:13:20Z",
            "20231114T221320Z",
            "1969-12-31T23:59:59.999Z",
            "2027-01-17T08:00:00Z",
            "9999-12-31T23:59:59Z",
            "1700000000000",
        ] {
            assert!(from_text(text, NOW_MS).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_days_that_can_be_written_are_times_after_receipt() {
        for text in [
            "2100-01-01T00:00:00Z",
            "9999-12-30T22:00:00Z",
            "9999-12-31T23:59:59Z",
            "9999-12-31t23:59:59.999999999-23:59",
        ] {
            assert_eq!(from_text(text, NOW_MS), Err(TOO_LATE.to_owned()), "{text}");
        }
        for text in ["9999-12-32T00:00:00Z", "9999-13-01T00:00:00Z"] {
            let error = from_text(text, NOW_MS).expect_err(text);
            assert!(
                error.ends_with("is not a time of RFC 3339"),
                "{text}: {error}"
            );
        }
    }
}
