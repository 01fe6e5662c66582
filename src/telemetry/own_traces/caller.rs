//! W3C Trace Context (level 1): the caller's span, from `traceparent` and `tracestate`.
//!
//! gRPC's metadata are headers of the same names.
//!
//! **Invariant:** a header that does not conform to the specification is ignored as a whole.

use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Maximum length of `tracestate` that must be propagated; a longer one is left out ("tracestate Limits").
const TRACESTATE_BYTES: usize = 512;

/// Returns the caller's span; `None` if the request has no valid `traceparent`.
pub(crate) fn context(headers: &HeaderMap) -> Option<SpanContext> {
    let parent = headers.get(TRACEPARENT)?;
    if headers.get_all(TRACEPARENT).iter().nth(1).is_some() {
        return None;
    }
    let (trace, span, flags) = parse(parent.as_bytes())?;
    Some(SpanContext::new(trace, span, flags, true, state(headers)))
}

/// Parses `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, in lower case; a later version may continue after
/// another `-`.
fn parse(text: &[u8]) -> Option<(TraceId, SpanId, TraceFlags)> {
    let (known, more) = text.split_at_checked(55)?;
    if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
        return None;
    }
    let version = hex(&known[..2])?;
    let ends_well = match version {
        0 => more.is_empty(),
        0xff => false,
        _ => more.is_empty() || more[0] == b'-',
    };
    let trace = TraceId::from(hex(&known[3..35])?);
    let span = SpanId::from(u64::try_from(hex(&known[36..52])?).ok()?);
    let flags = TraceFlags::new(u8::try_from(hex(&known[53..])?).ok()?);
    let valid = ends_well && trace != TraceId::INVALID && span != SpanId::INVALID;
    // Unknown flags are set to zero ("Other Flags").
    valid.then(|| (trace, span, flags & TraceFlags::SAMPLED))
}

fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Returns all `tracestate` headers together; an invalid one does not invalidate `traceparent`.
fn state(headers: &HeaderMap) -> TraceState {
    let mut list = String::new();
    for part in headers.get_all(TRACESTATE) {
        let Ok(part) = part.to_str() else {
            return TraceState::NONE;
        };
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(part);
        if list.len() > TRACESTATE_BYTES {
            return TraceState::NONE;
        }
    }
    TraceState::from_str(&list).unwrap_or(TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use super::{HeaderMap, TRACEPARENT, TRACESTATE, context};
    use axum::http::HeaderValue;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(parent: &str, states: &[&str]) -> Option<opentelemetry::trace::SpanContext> {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
        for state in states {
            headers.append(TRACESTATE, HeaderValue::from_str(state).unwrap());
        }
        context(&headers)
    }

    #[test]
    fn a_caller_is_read_as_the_specification_writes_it() {
        let caller = of(GOOD, &["a=1", "b=2"]).unwrap();
        assert_eq!(
            caller.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(caller.span_id().to_string(), "b7ad6b7169203331");
        assert!(caller.is_sampled() && caller.is_remote());
        assert_eq!(caller.trace_state().header(), "a=1,b=2");
        let not_sampled = GOOD.replace("-01", "-00");
        assert!(!of(&not_sampled, &[]).unwrap().is_sampled());
        let unknown_flags = GOOD.replace("-01", "-ff");
        assert_eq!(of(&unknown_flags, &[]).unwrap().trace_flags().to_u8(), 1);
    }

    #[test]
    fn a_later_version_may_say_more_and_this_one_may_not() {
        for text in [
            &GOOD.replace("00-", "01-"),
            &format!("{}-more", GOOD.replace("00-", "cc-")),
        ] {
            assert!(of(text, &[]).is_some(), "{text}");
        }
        for text in [
            &format!("{GOOD}-"),
            &format!("{GOOD}-more"),
            &format!("{}more", GOOD.replace("00-", "01-")),
            &GOOD.replace("00-", "ff-"),
        ] {
            assert!(of(text, &[]).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_as_if_it_had_not_come() {
        for text in [
            "",
            "00",
            "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-011",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            " 0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(of(text, &[]).is_none(), "{text}");
        }
        let mut twice = HeaderMap::new();
        twice.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        twice.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(context(&twice).is_none());
        assert!(context(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_bad_or_long_state_is_left_out_and_the_caller_stays() {
        let long = format!("a={}", "x".repeat(600));
        for state in ["no pair", "A=1", &long] {
            let caller = of(GOOD, &[state]).unwrap();
            assert_eq!(caller.trace_state().header(), "", "{state}");
        }
    }
}
