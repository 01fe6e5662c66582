//! Undoes a content encoding, piece by piece, never past a limit.
//!
//! **Invariant:** no more than `limit_bytes` of output, and nothing that `reserve` did not grant, is ever held.

use std::borrow::Cow;

/// The content encodings that are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentEncoding {
    Identity,
    Gzip,
    Zstd,
    Deflate,
}

/// Why a body could not be decompressed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InflateError {
    #[error("the body is not valid {0:?}, or is cut short")]
    Malformed(ContentEncoding),
    #[error("the body is larger than {limit_bytes} bytes once decompressed")]
    TooLarge { limit_bytes: usize },
    /// `reserve` said no.
    #[error("no memory is left for the decompressed body")]
    NoRoom,
}

/// Decompresses `body`; `reserve(n)` is asked before each further `n` bytes are taken.
///
/// # Errors
/// When the body is not of that encoding, or too large.
pub fn inflate<'a>(
    encoding: ContentEncoding,
    body: &'a [u8],
    limit_bytes: usize,
    reserve: &mut dyn FnMut(usize) -> bool,
) -> Result<Cow<'a, [u8]>, InflateError> {
    let _ = (encoding, body, limit_bytes, reserve);
    todo!()
}
