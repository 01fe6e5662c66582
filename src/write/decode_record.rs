//! Decodes a record for the second time.
//!
//! **Invariant:** whatever the bytes are, decoding ends in events or in the reason of the failure. No panic leaves it.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::decode::decompress::decompress;
use crate::journal::Record;
use crate::store::DeadLetterReason;
use crate::write::dead_letters::DecodeFault;

/// Returns the record's body without its content encoding.
///
/// # Errors
/// A sentence, if the payload is not of that encoding or is longer than its header states.
pub(super) fn body(record: &Record) -> Result<Cow<'_, [u8]>, String> {
    let limit = record.decoded_bytes as usize;
    let inflated = decompress(record.content_encoding, &record.payload, limit, &mut |_| {
        true
    });
    inflated.map_err(|error| error.to_string())
}

/// Runs a decoding that counts its events, and compares the count with the record's header.
///
/// # Errors
/// A fault with the reason `undecodable` or `miscounted`.
pub(super) fn counted(
    record: &Record,
    decode: impl FnOnce() -> Result<u32, String>,
) -> Result<(), DecodeFault> {
    match guarded(decode)? {
        events if events == record.accepted => Ok(()),
        events => Err(DecodeFault {
            reason: DeadLetterReason::Miscounted,
            sqlstate: None,
            message: format!("{events} events decoded, {} were accepted", record.accepted),
        }),
    }
}

/// Runs one step of a decoding, and catches its panics.
///
/// # Errors
/// A fault with the reason `undecodable`.
pub(super) fn guarded<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, DecodeFault> {
    let message = match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(message)) => message,
        Err(panic) => format!("the decoder failed: {}", panic_text(&*panic)),
    };
    Err(DecodeFault {
        reason: DeadLetterReason::Undecodable,
        sqlstate: None,
        message,
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
