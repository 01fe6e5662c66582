//! JSON text that is being written: appended to a buffer, or handed on in pieces before it is complete.
//!
//! **Invariant:** the text is UTF-8. The pieces together are the text, and each is at most [`PIECE_BYTES`] long.

use std::convert::Infallible;
use std::fmt;

use sha2::{Digest as _, Sha256};

/// The longest piece.
const PIECE_BYTES: usize = 256 << 10;

/// The error for a text that is not UTF-8, of which nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) struct InvalidText;

/// A JSON text, to which the functions of [`super::json_writer`] append.
pub(in crate::decode) struct JsonText<'t> {
    /// All of the text behind what was there before, or the piece that is not full.
    bytes: &'t mut Vec<u8>,
    /// Takes each full piece; `None` = the text is kept whole.
    take: Option<&'t mut dyn FnMut(&str)>,
    has_invalid_text: bool,
}

impl<'t> JsonText<'t> {
    /// A text that is appended to `bytes`.
    pub(in crate::decode) const fn appending(bytes: &'t mut Vec<u8>) -> Self {
        Self {
            bytes,
            take: None,
            has_invalid_text: false,
        }
    }

    /// A text of which `take` gets the pieces; the last one at [`JsonText::finish`]. `buffer` is new, or was the buffer
    /// of another such text.
    pub(in crate::decode) fn in_pieces(
        buffer: &'t mut Vec<u8>,
        take: &'t mut dyn FnMut(&str),
    ) -> Self {
        buffer.clear();
        Self {
            bytes: buffer,
            take: Some(take),
            has_invalid_text: false,
        }
    }

    /// Hands on the last piece, if any.
    ///
    /// # Errors
    /// [`InvalidText`] if a text was left out because it is not UTF-8.
    pub(in crate::decode) fn finish(mut self) -> Result<(), InvalidText> {
        if self.take.is_some() && !self.bytes.is_empty() {
            self.hand_on_piece();
        }
        if self.has_invalid_text {
            return Err(InvalidText);
        }
        Ok(())
    }

    #[inline]
    pub(in crate::decode) fn push_str(&mut self, text: &str) {
        self.push_utf8(text.as_bytes());
    }

    #[inline]
    pub(in crate::decode) fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    /// Appends bytes that are UTF-8.
    #[inline]
    pub(super) fn push_utf8(&mut self, text: &[u8]) {
        // The buffer of a text in pieces is never larger than one, so this one test serves both kinds of text.
        if text.len() > self.bytes.capacity() - self.bytes.len() {
            self.push_beyond_buffer(text);
        } else {
            self.bytes.extend_from_slice(text);
        }
    }

    /// Appends texts of UTF-8.
    #[inline]
    pub(super) fn push_all<const N: usize>(&mut self, texts: [&[u8]; N]) {
        let len = texts.iter().map(|text| text.len()).sum::<usize>();
        if len > self.bytes.capacity() - self.bytes.len() {
            for text in texts {
                self.push_utf8(text);
            }
        } else {
            for text in texts {
                self.bytes.extend_from_slice(text);
            }
        }
    }

    /// Records that a text was left out because it is not UTF-8.
    #[cold]
    pub(in crate::decode) const fn mark_invalid(&mut self) {
        self.has_invalid_text = true;
    }

    /// The last byte of all that was appended.
    #[inline]
    pub(in crate::decode) fn last_byte(&self) -> Option<u8> {
        self.bytes.last().copied()
    }

    /// Appends a text for which the buffer has no room. A full piece stays until something follows it, as
    /// [`JsonText::last_byte`] looks at it.
    #[cold]
    #[inline(never)]
    fn push_beyond_buffer(&mut self, mut rest: &[u8]) {
        if self.take.is_some() {
            while self.bytes.len() + rest.len() > PIECE_BYTES {
                let room_bytes = PIECE_BYTES.saturating_sub(self.bytes.len());
                self.bytes.reserve_exact(room_bytes);
                let (fitting, others) = rest.split_at(character_boundary(rest, room_bytes));
                self.bytes.extend_from_slice(fitting);
                rest = others;
                self.hand_on_piece();
            }
            let twice = (self.bytes.capacity() * 2).min(PIECE_BYTES);
            let bytes = twice.max(self.bytes.len() + rest.len());
            self.bytes.reserve_exact(bytes - self.bytes.len());
        }
        self.bytes.extend_from_slice(rest);
    }

    fn hand_on_piece(&mut self) {
        if let Some(take) = &mut self.take {
            take(std::str::from_utf8(self.bytes).expect("only whole characters are appended"));
        }
        self.bytes.clear();
    }
}

/// Returns the number of bytes, at most `limit`, of the whole characters at the start of a text.
fn character_boundary(text: &[u8], limit: usize) -> usize {
    let mut end = limit.min(text.len());
    while end > 0 && text.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
        end -= 1;
    }
    end
}

impl fmt::Write for JsonText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

/// Returns the text that `write` writes.
pub(in crate::decode) fn json_string(write: impl FnOnce(&mut JsonText<'_>)) -> String {
    let written = try_json_string(|out| {
        write(out);
        Ok::<(), Infallible>(())
    });
    written.unwrap_or_else(|never| match never {})
}

/// Returns the text that `write` writes.
///
/// # Errors
/// The error of `write`.
pub(in crate::decode) fn try_json_string<E>(
    write: impl FnOnce(&mut JsonText<'_>) -> Result<(), E>,
) -> Result<String, E> {
    let mut bytes = Vec::new();
    write(&mut JsonText::appending(&mut bytes))?;
    Ok(String::from_utf8(bytes).expect("only UTF-8 is appended"))
}

/// Adds to `digest` the text that `write` writes, without holding all of it. `buffer` is memory that is used again.
pub(in crate::decode) fn hash_json(
    digest: &mut Sha256,
    buffer: &mut Vec<u8>,
    write: impl FnOnce(&mut JsonText<'_>),
) {
    let mut take = |piece: &str| digest.update(piece);
    let mut out = JsonText::in_pieces(buffer, &mut take);
    write(&mut out);
    // A text that is not UTF-8 is reported where it is written into a row.
    let _ = out.finish();
}

#[cfg(test)]
mod tests {
    use super::{JsonText, PIECE_BYTES};

    #[test]
    fn the_pieces_are_the_text_and_none_is_too_long() {
        let long = "é\u{1f600}x".repeat(PIECE_BYTES / 3);
        let texts = ["{", "\"", &long, "\"", &long, "", "}"];
        let (mut joined, mut longest) = (String::new(), 0);
        let mut take = |piece: &str| {
            longest = longest.max(piece.len());
            joined.push_str(piece);
        };
        let mut buffer = Vec::new();
        let mut out = JsonText::in_pieces(&mut buffer, &mut take);
        for text in texts {
            out.push_str(text);
            if let Some(last) = text.as_bytes().last() {
                assert_eq!(out.last_byte(), Some(*last));
            }
        }
        assert_eq!(out.finish(), Ok(()));
        assert!(longest <= PIECE_BYTES && joined == texts.concat());
    }
}
