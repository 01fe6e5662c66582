//! JSON text that is being written: kept whole, or handed on in pieces before it is complete.
//!
//! **Invariant:** the pieces together are the text, and each is at most [`PIECE_BYTES`] long.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The longest piece.
const PIECE_BYTES: usize = 256 << 10;

/// A JSON text, to which the functions of [`super::json_writer`] append.
#[derive(Default)]
pub(in crate::decode) struct JsonText<'t> {
    /// All of the text, or the piece that is not full.
    text: String,
    /// Takes each full piece; `None` = the text is kept whole.
    take: Option<&'t mut dyn FnMut(&str)>,
}

impl<'t> JsonText<'t> {
    /// A text that is kept whole, in the memory of `buffer`.
    pub(in crate::decode) fn whole(mut buffer: String) -> Self {
        buffer.clear();
        Self {
            text: buffer,
            take: None,
        }
    }

    /// A text of which `take` gets the pieces; the last one at [`JsonText::finish`]. `buffer` is empty, or the memory
    /// that another such text has returned.
    pub(in crate::decode) fn in_pieces(mut buffer: String, take: &'t mut dyn FnMut(&str)) -> Self {
        buffer.clear();
        Self {
            text: buffer,
            take: Some(take),
        }
    }

    /// Hands on the last piece, if any. Returns the whole text, or the memory of the buffer.
    pub(in crate::decode) fn finish(mut self) -> String {
        if let Some(take) = &mut self.take
            && !self.text.is_empty()
        {
            take(&self.text);
        }
        self.text
    }

    #[inline]
    pub(in crate::decode) fn push_str(&mut self, text: &str) {
        // The buffer of a text in pieces is never larger than one, so this one test serves both kinds of text.
        if text.len() > self.text.capacity() - self.text.len() {
            self.push_beyond_buffer(text);
        } else {
            self.text.push_str(text);
        }
    }

    #[inline]
    pub(in crate::decode) fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    /// The last byte of all that was appended.
    pub(in crate::decode) fn last_byte(&self) -> Option<u8> {
        self.text.as_bytes().last().copied()
    }

    /// Appends a text for which the buffer has no room. A full piece stays until something follows it, as
    /// [`JsonText::last_byte`] looks at it.
    #[cold]
    fn push_beyond_buffer(&mut self, mut rest: &str) {
        if let Some(take) = &mut self.take {
            while self.text.len() + rest.len() > PIECE_BYTES {
                self.text
                    .reserve_exact(PIECE_BYTES.saturating_sub(self.text.len()));
                let room = rest.floor_char_boundary(PIECE_BYTES.saturating_sub(self.text.len()));
                self.text.push_str(&rest[..room]);
                rest = &rest[room..];
                take(&self.text);
                self.text.clear();
            }
            let twice = (self.text.capacity() * 2).min(PIECE_BYTES);
            let bytes = twice.max(self.text.len() + rest.len());
            self.text.reserve_exact(bytes - self.text.len());
        }
        self.text.push_str(rest);
    }
}

impl fmt::Write for JsonText<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

/// Adds to `digest` the text that `write` writes, without holding all of it. `scratch` is memory that is used again.
pub(in crate::decode) fn hash_json(
    digest: &mut Sha256,
    scratch: &mut String,
    write: impl FnOnce(&mut JsonText<'_>),
) {
    let mut take = |piece: &str| digest.update(piece);
    let mut out = JsonText::in_pieces(std::mem::take(scratch), &mut take);
    write(&mut out);
    *scratch = out.finish();
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
        let mut out = JsonText::in_pieces(String::new(), &mut take);
        for text in texts {
            out.push_str(text);
            if let Some(last) = text.as_bytes().last() {
                assert_eq!(out.last_byte(), Some(*last));
            }
        }
        out.finish();
        assert!(longest <= PIECE_BYTES && joined == texts.concat());
    }
}
