//! Reads JSON step by step from one text (RFC 8259), without a tree: the caller asks for the type it expects next.
//!
//! The reader returns numbers as they are written, so that none is rounded.
//!
//! **Invariant:** everything read without an error is valid JSON, and reading allocates nothing.

use crate::decode::DecodeError;
use crate::decode::json::digits::digits;
use crate::decode::json::string::{JsonString, RawString, plain_end};

/// Skips values.
mod skip;

/// A fault in a JSON text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) struct SyntaxError {
    /// The fault, or the thing expected; ` at byte …` follows it in error messages.
    pub(in crate::decode) what: &'static str,
    /// Byte offset of the fault.
    pub(in crate::decode) at: usize,
}

impl SyntaxError {
    /// The error of a body that is wrong as a whole: its message names no byte.
    pub(in crate::decode) fn of_whole_body(self) -> DecodeError {
        DecodeError::Malformed {
            message: self.what.to_owned(),
            offset: Some(self.at),
        }
    }
}

impl From<SyntaxError> for DecodeError {
    fn from(error: SyntaxError) -> Self {
        Self::Malformed {
            message: format!("{} at byte {}", error.what, error.at),
            offset: Some(error.at),
        }
    }
}

/// The type of a value, known from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::decode) enum JsonType {
    Object,
    Array,
    Text,
    Number,
    Bool,
    Null,
}

/// Error text for a body that begins with the byte order mark of UTF-16.
const UTF_16: &str = "the body is UTF-16: send UTF-8";

/// A reader of a JSON text; a copy of it keeps the place.
#[derive(Clone, Copy, Debug)]
pub(in crate::decode) struct JsonReader<'a> {
    bytes: &'a [u8],
    /// The same bytes as a text; `None` if not all of them are UTF-8.
    text: Option<&'a str>,
    at: usize,
}

impl<'a> JsonReader<'a> {
    pub(in crate::decode) const fn new(text: &'a str) -> Self {
        Self {
            bytes: text.as_bytes(),
            text: Some(text),
            at: 0,
        }
    }

    /// Creates a reader of a body whose strings may hold bytes that are not UTF-8.
    pub(in crate::decode) fn of_any_body(body: &'a [u8]) -> Self {
        Self {
            bytes: body,
            text: std::str::from_utf8(body).ok(),
            at: 0,
        }
    }

    /// Creates a reader of a body.
    ///
    /// # Errors
    /// [`SyntaxError`] if the body is not UTF-8.
    pub(in crate::decode) fn of_body(body: &'a [u8]) -> Result<Self, SyntaxError> {
        match std::str::from_utf8(body) {
            Ok(text) => Ok(Self::new(text)),
            Err(error) => Err(SyntaxError {
                what: match body {
                    [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => UTF_16,
                    _ => "the body is not UTF-8",
                },
                at: error.valid_up_to(),
            }),
        }
    }

    pub(in crate::decode) const fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { what, at: self.at }
    }

    /// Returns the byte offset of the reader.
    pub(in crate::decode) const fn at(&self) -> usize {
        self.at
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Returns the part of the text from byte `start` to the reader.
    #[inline]
    fn since(&self, start: usize) -> RawString<'a> {
        match self.text {
            Some(text) => Ok(&text[start..self.at]),
            None => self.checked_since(start),
        }
    }

    /// The same for a body that is not UTF-8.
    #[cold]
    #[inline(never)]
    fn checked_since(&self, start: usize) -> RawString<'a> {
        let bytes = &self.bytes[start..self.at];
        std::str::from_utf8(bytes).map_err(|_| bytes)
    }

    #[inline(always)]
    fn skip_space(&mut self) {
        // Most values have no space before them.
        if self.byte().is_some_and(|byte| byte <= b' ') {
            self.skip_more_space();
        }
    }

    #[inline(never)]
    fn skip_more_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }

    /// Skips white space; returns true if nothing follows.
    pub(in crate::decode) fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.byte().is_none()
    }

    /// Skips white space; fails if anything follows.
    pub(in crate::decode) fn end(&mut self) -> Result<(), SyntaxError> {
        if self.is_at_end() {
            Ok(())
        } else {
            Err(self.error("the JSON is followed by something else"))
        }
    }

    /// Skips white space and returns the type of the next value.
    #[inline]
    pub(in crate::decode) fn peek(&mut self) -> Result<JsonType, SyntaxError> {
        self.skip_space();
        match self.byte() {
            Some(b'{') => Ok(JsonType::Object),
            Some(b'[') => Ok(JsonType::Array),
            Some(b'"') => Ok(JsonType::Text),
            Some(b'-' | b'0'..=b'9') => Ok(JsonType::Number),
            Some(b't' | b'f') => Ok(JsonType::Bool),
            Some(b'n') => Ok(JsonType::Null),
            _ => Err(self.unexpected("a JSON value is expected")),
        }
    }

    /// Reads one byte of punctuation; `what` is the error text if another byte is found.
    #[inline(always)]
    fn take(&mut self, byte: u8, what: &'static str) -> Result<(), SyntaxError> {
        self.skip_space();
        if self.byte() != Some(byte) {
            return Err(self.unexpected(what));
        }
        self.at += 1;
        Ok(())
    }

    /// Returns the error for a byte that is not the one `expected`, or for the end.
    #[cold]
    fn unexpected(&self, expected: &'static str) -> SyntaxError {
        self.error(match self.byte() {
            Some(_) => self.instead_of(expected),
            None => "the JSON is cut short",
        })
    }

    /// Returns the error text for a byte order mark if one is found here, otherwise `expected`.
    fn instead_of(&self, expected: &'static str) -> &'static str {
        match self.bytes.get(self.at..) {
            Some([0xef, 0xbb, 0xbf, ..]) => "a byte order mark is found: send the text without it",
            Some([0xff, 0xfe, ..] | [0xfe, 0xff, ..]) => UTF_16,
            _ => expected,
        }
    }

    /// Opens an object; [`Self::next_key`] follows.
    pub(in crate::decode) fn object(&mut self) -> Result<(), SyntaxError> {
        self.take(b'{', "an object is expected")
    }

    /// Opens an array; [`Self::next_element`] follows.
    pub(in crate::decode) fn array(&mut self) -> Result<(), SyntaxError> {
        self.take(b'[', "an array is expected")
    }

    /// Reads the next key of an object, after which its value follows; `None` once the object is closed.
    #[inline]
    pub(in crate::decode) fn next_key(&mut self) -> Result<Option<JsonString<'a>>, SyntaxError> {
        if self.is_closed(b'}')? {
            return Ok(None);
        }
        self.key().map(Some)
    }

    /// Returns whether another member of an object follows; [`Self::key`] or [`Self::take_key`] follows.
    #[inline]
    pub(in crate::decode) fn next_member(&mut self) -> Result<bool, SyntaxError> {
        Ok(!self.is_closed(b'}')?)
    }

    /// Reads the key of a member, after which its value follows.
    #[inline]
    pub(in crate::decode) fn key(&mut self) -> Result<JsonString<'a>, SyntaxError> {
        let key = self.text()?;
        self.take(b':', "a colon is expected")?;
        Ok(key)
    }

    /// Reads the key of a member if it is the first of `names` of which one is written here without spaces and escapes;
    /// returns its index. Otherwise nothing is read.
    #[inline]
    pub(in crate::decode) fn take_key<'n>(
        &mut self,
        names: impl Iterator<Item = &'n str>,
    ) -> Option<usize> {
        let rest = self.bytes.get(self.at..)?.strip_prefix(b"\"")?;
        for (index, name) in names.enumerate() {
            // Most other names are told apart by their first byte.
            if rest.first() == name.as_bytes().first()
                && let Some(after) = rest.strip_prefix(name.as_bytes())
                && let Some(after) = after.strip_prefix(b"\":")
            {
                self.move_to(after);
                return Some(index);
            }
        }
        None
    }

    /// Returns whether another element of an array follows.
    pub(in crate::decode) fn next_element(&mut self) -> Result<bool, SyntaxError> {
        Ok(!self.is_closed(b']')?)
    }

    #[inline(always)]
    fn is_closed(&mut self, close: u8) -> Result<bool, SyntaxError> {
        // No value ends with an opening bracket, so one before the reader was just opened.
        match self.bytes[..self.at].last() {
            Some(b'{' | b'[') => self.is_empty(close),
            _ => self.is_last(close),
        }
    }

    /// Reads the end of an object or array that was just opened, if it has nothing in it.
    #[inline(always)]
    fn is_empty(&mut self, close: u8) -> Result<bool, SyntaxError> {
        self.skip_space();
        match self.byte() {
            Some(byte) => {
                let is_empty = byte == close;
                self.at += usize::from(is_empty);
                Ok(is_empty)
            }
            None => Err(self.error("the JSON is cut short")),
        }
    }

    /// Reads the end of an object or array behind a value in it, or a comma; returns whether it is the end.
    #[inline(always)]
    fn is_last(&mut self, close: u8) -> Result<bool, SyntaxError> {
        self.skip_space();
        match self.byte() {
            Some(byte) if byte == close || byte == b',' => {
                self.at += 1;
                Ok(byte == close)
            }
            Some(_) => Err(self.error("a comma or the end is expected")),
            None => Err(self.error("the JSON is cut short")),
        }
    }

    /// Reads a string.
    #[inline]
    pub(in crate::decode) fn text(&mut self) -> Result<JsonString<'a>, SyntaxError> {
        self.take(b'"', "a string is expected")?;
        let start = self.at;
        self.at = plain_end(self.bytes, self.at);
        let has_escapes = self.byte() != Some(b'"');
        if has_escapes {
            self.skip_escaped()?;
        }
        let raw = self.since(start);
        self.at += 1;
        Ok(JsonString { raw, has_escapes })
    }

    /// Returns the bytes that are not read yet; `None` if the whole text is not UTF-8.
    #[inline]
    pub(in crate::decode) fn rest_of_text(&self) -> Option<&'a [u8]> {
        self.text?;
        self.bytes.get(self.at..)
    }

    /// Moves to `rest`, a part of [`Self::rest_of_text`] up to its end.
    #[inline]
    pub(in crate::decode) const fn move_to(&mut self, rest: &'a [u8]) {
        self.at = self.bytes.len() - rest.len();
    }

    /// Reads a whole number of at most 19 digits, bare or as a string; `None`, and nothing is read, if something else
    /// follows.
    #[inline]
    pub(in crate::decode) fn short_number(&mut self) -> Option<u64> {
        self.skip_space();
        let mut rest = self.bytes.get(self.at..)?;
        let is_text = rest.first() == Some(&b'"');
        rest = &rest[usize::from(is_text)..];
        let value;
        (value, rest) = digits(rest)?;
        match (is_text, rest) {
            (true, [b'"', after @ ..]) => self.move_to(after),
            (false, [b'.' | b'e' | b'E', ..]) | (true, _) => return None,
            (false, after) => self.move_to(after),
        }
        Some(value)
    }

    /// Skips the rest of a string from its first escape to its quote.
    ///
    /// # Errors
    /// [`SyntaxError`] if the string is not valid, also if no escape is found.
    #[inline(never)]
    fn skip_escaped(&mut self) -> Result<(), SyntaxError> {
        loop {
            match self.byte() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.error("a string holds a control character")),
                None => return Err(self.error("the JSON is cut short")),
            }
            self.at = plain_end(self.bytes, self.at);
        }
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        let bytes = self.bytes;
        let len = match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => match bytes.get(self.at + 2..self.at + 6) {
                Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => 6,
                _ => return Err(self.error("an escape in a string is not valid")),
            },
            _ => return Err(self.error("an escape in a string is not valid")),
        };
        self.at += len;
        Ok(())
    }

    /// Reads a number and returns it as it is written.
    pub(in crate::decode) fn number(&mut self) -> Result<&'a str, SyntaxError> {
        self.skip_space();
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(self.since(start).unwrap_or_default())
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error("a digit is expected"));
        }
        Ok(())
    }

    /// Reads `true` or `false`.
    pub(in crate::decode) fn bool(&mut self) -> Result<bool, SyntaxError> {
        self.skip_space();
        let is_true = self.byte() == Some(b't');
        self.literal(if is_true { "true" } else { "false" })?;
        Ok(is_true)
    }

    pub(in crate::decode) fn null(&mut self) -> Result<(), SyntaxError> {
        self.skip_space();
        self.literal("null")
    }

    fn literal(&mut self, word: &str) -> Result<(), SyntaxError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("a JSON value is expected"));
        }
        self.at += word.len();
        Ok(())
    }
}
