//! Decompresses a body piece by piece, within a limit.
//!
//! **Invariant:** no more than `limit_bytes` of output, and no output that `reserve` did not grant, is ever held.
//! (A decoder's own state is not included: 32 KiB for gzip and deflate, for zstd at most its window of 8 MiB.)

use crate::event::ContentEncoding;
use std::borrow::Cow;
use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// The reason why a body could not be decompressed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecompressError {
    #[error("the body is not valid {0:?}, or is cut short")]
    Malformed(ContentEncoding),
    /// A zstd frame needs a window of more than 8 MiB.
    #[error(
        "a zstd frame of the body needs a window over 8 MiB: compress with a window of 2^23 bytes or less (zstd up to level 19, \
         without --ultra and --long)"
    )]
    LargeWindow,
    #[error("the body is larger than {limit_bytes} bytes once decompressed")]
    TooLarge { limit_bytes: usize },
    /// `reserve` refused.
    #[error("no memory is left for the decompressed body")]
    NoRoom,
}

/// Base-2 logarithm of a zstd frame's largest window: 8 MiB, which RFC 8878, 3.1.1.1.2 recommends decoders to support.
/// The library's own limit is 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The library's message for a frame with a larger window.
const LARGE_WINDOW: &str = "Frame requires too much memory for decoding";

/// Bounds of the first piece of output, which is four times the body. Each later piece is half of the output so far,
/// but not smaller than the first.
const FIRST_PIECE_BYTES: (usize, usize) = (1 << 10, 1 << 20);

/// Decompresses `body`; calls `reserve(n)` before it allocates each further `n` bytes.
///
/// Reserves at most 1.5 times the output plus the first piece, and never more than `limit_bytes`. Reads all gzip
/// members and all zstd frames. `deflate` is the zlib format (RFC 9110, 8.4.1.2), or raw deflate, which many clients
/// send. An empty body of any encoding is empty.
///
/// # Errors
/// * [`DecompressError::Malformed`] if the body is not of that encoding: truncated, followed by other bytes, or with a
///   wrong checksum;
/// * [`DecompressError::LargeWindow`] if a zstd frame needs a window of more than 8 MiB;
/// * [`DecompressError::TooLarge`] if the output exceeds `limit_bytes`;
/// * [`DecompressError::NoRoom`] if `reserve` returns false.
pub fn decompress<'a>(
    encoding: ContentEncoding,
    body: &'a [u8],
    limit_bytes: usize,
    reserve: &mut dyn FnMut(usize) -> bool,
) -> Result<Cow<'a, [u8]>, DecompressError> {
    if encoding == ContentEncoding::Identity || body.is_empty() {
        return if body.len() > limit_bytes {
            Err(DecompressError::TooLarge { limit_bytes })
        } else {
            Ok(Cow::Borrowed(body))
        };
    }
    let malformed = |_: io::Error| DecompressError::Malformed(encoding);
    let mut rest = body;
    let mut decoder: Box<dyn Read + '_> = match encoding {
        ContentEncoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(&mut rest).map_err(malformed)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(malformed)?;
            Box::new(decoder)
        }
        ContentEncoding::Deflate if is_zlib(body) => Box::new(ZlibDecoder::new(&mut rest)),
        ContentEncoding::Deflate => Box::new(DeflateDecoder::new(&mut rest)),
        ContentEncoding::Gzip | ContentEncoding::Identity => {
            Box::new(MultiGzDecoder::new(&mut rest))
        }
    };
    let output = read_all(&mut *decoder, encoding, body.len(), limit_bytes, reserve)?;
    drop(decoder);
    if rest.is_empty() {
        Ok(Cow::Owned(output))
    } else {
        Err(DecompressError::Malformed(encoding))
    }
}

/// Returns whether a `deflate` body has the header of RFC 1950, 2.2: method 8, a window of at most 32 KiB, and two
/// bytes that are a multiple of 31. A raw stream that begins with these bytes would have a stored block whose padding
/// is not zero, which no encoder writes.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flags, ..]
        if cmf & 0x0f == 8 && cmf >> 4 <= 7 && u16::from_be_bytes([*cmf, *flags]) % 31 == 0)
}

/// Reads a decoder to its end, where it also detects that the body is truncated or its checksum wrong.
fn read_all(
    decoder: &mut dyn Read,
    encoding: ContentEncoding,
    body_bytes: usize,
    limit_bytes: usize,
    reserve: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, DecompressError> {
    let mut read = |into: &mut [u8]| {
        decoder.read(into).map_err(|error| {
            // The library reports this only by its text, which a test checks.
            if encoding == ContentEncoding::Zstd && error.to_string() == LARGE_WINDOW {
                DecompressError::LargeWindow
            } else {
                DecompressError::Malformed(encoding)
            }
        })
    };
    let (least, most) = FIRST_PIECE_BYTES;
    let first = body_bytes.saturating_mul(4).clamp(least, most);
    let mut output = Vec::new();
    let mut filled = 0;
    loop {
        if filled == output.len() {
            let piece = first.max(filled / 2).min(limit_bytes - filled);
            if piece == 0 {
                // The output has reached the limit: it is complete only if the decoder is at its end.
                return match read(&mut [0])? {
                    0 => Ok(output),
                    _ => Err(DecompressError::TooLarge { limit_bytes }),
                };
            }
            if !reserve(piece) {
                return Err(DecompressError::NoRoom);
            }
            output.reserve_exact(piece);
            output.resize(filled + piece, 0);
        }
        match read(&mut output[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    output.truncate(filled);
    Ok(output)
}

#[cfg(test)]
mod tests;
