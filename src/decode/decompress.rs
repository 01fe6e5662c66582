//! Undoes a content encoding, piece by piece, never past a limit.
//!
//! **Invariant:** no more than `limit_bytes` of output, and no output that `reserve` did not grant, is ever held.
//! (A decoder's own state comes on top: 32 KiB for gzip and deflate, for zstd at most its window, 8 MiB.)

use crate::event::ContentEncoding;
use std::borrow::Cow;
use std::io::{self, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Why a body could not be decompressed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecompressError {
    #[error("the body is not valid {0:?}, or is cut short")]
    Malformed(ContentEncoding),
    /// A zstd frame asks for more memory than is given to one.
    #[error(
        "a zstd frame of the body needs a window over 8 MiB: compress with a window of 2^23 bytes or less (zstd up to level 19, \
         without --ultra and --long)"
    )]
    LargeWindow,
    #[error("the body is larger than {limit_bytes} bytes once decompressed")]
    TooLarge { limit_bytes: usize },
    /// `reserve` said no.
    #[error("no memory is left for the decompressed body")]
    NoRoom,
}

/// A zstd frame may ask for a window of up to 2^23 bytes, 8 MiB: what RFC 8878, 3.1.1.1.2 asks decoders to support.
/// The library's own limit is 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The library's words for a frame with a larger window.
const LARGE_WINDOW: &str = "Frame requires too much memory for decoding";

/// The first piece of output: four times the body, within these bounds; each later piece is half of what there is.
const FIRST_PIECE_BYTES: (usize, usize) = (1 << 10, 1 << 20);

/// Decompresses `body`; `reserve(n)` is asked before each further `n` bytes are taken.
///
/// At most one and a half times the output and a first piece is reserved, never more than `limit_bytes`. All gzip members and
/// all zstd frames are read. `deflate` is the zlib format (RFC 9110, 8.4.1.2), or raw deflate, which many clients send.
/// An empty body of any encoding is empty.
///
/// # Errors
/// When the body is not of that encoding (cut short, followed by something else, its checksum wrong), or too large.
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
    let output = match encoding {
        ContentEncoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(&mut rest).map_err(malformed)?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(malformed)?;
            read_all(&mut decoder, encoding, body.len(), limit_bytes, reserve)
        }
        ContentEncoding::Deflate if is_zlib(body) => {
            let mut decoder = ZlibDecoder::new(&mut rest);
            read_all(&mut decoder, encoding, body.len(), limit_bytes, reserve)
        }
        ContentEncoding::Deflate => {
            let mut decoder = DeflateDecoder::new(&mut rest);
            read_all(&mut decoder, encoding, body.len(), limit_bytes, reserve)
        }
        ContentEncoding::Gzip | ContentEncoding::Identity => {
            let mut decoder = MultiGzDecoder::new(&mut rest);
            read_all(&mut decoder, encoding, body.len(), limit_bytes, reserve)
        }
    }?;
    if rest.is_empty() {
        Ok(Cow::Owned(output))
    } else {
        Err(DecompressError::Malformed(encoding))
    }
}

/// Whether a `deflate` body has the header of RFC 1950, 2.2: method 8, a window of at most 32 KiB, and the two bytes a
/// multiple of 31. A raw stream that begins so would open with a stored block whose padding is not zero, which no
/// encoder writes.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [cmf, flags, ..]
        if cmf & 0x0f == 8 && cmf >> 4 <= 7 && u16::from_be_bytes([*cmf, *flags]) % 31 == 0)
}

/// Reads a decoder to its end, which is also where it finds out that the body is cut or its checksum wrong.
fn read_all(
    decoder: &mut dyn Read,
    encoding: ContentEncoding,
    body_bytes: usize,
    limit_bytes: usize,
    reserve: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, DecompressError> {
    let mut read = |into: &mut [u8]| {
        decoder.read(into).map_err(|error| {
            // The library has no other way to tell it; a test holds the text.
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
                // At the limit: right only if the decoder has nothing more to say.
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
