//! Skips a value that is ignored or read later, and reports its contents.
//!
//! **Invariant:** a value skipped without an error is valid JSON; there is no recursion, and each level of nesting
//! needs one bit of memory.

use crate::decode::json::json_reader::{JsonReader, JsonType, SyntaxError};
use crate::decode::json::json_writer;
use crate::decode::json::string::{JsonString, plain_end};

/// Properties of a skipped value that limit or change how it is stored.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::decode) struct SkippedValue {
    /// Number of values in it, itself included; keys are not counted.
    pub(in crate::decode) nodes: usize,
    /// Number of nested levels of objects and arrays.
    pub(in crate::decode) depth: usize,
    /// Number of texts and keys with a NUL.
    pub(in crate::decode) nul: u32,
    /// Number of texts and keys with half of a surrogate pair.
    pub(in crate::decode) lone_surrogates: u32,
    /// A number has more than 400 characters in plain digits.
    pub(in crate::decode) has_long_number: bool,
    /// Number of bytes by which its numbers grow in plain digits.
    pub(in crate::decode) swell_bytes: usize,
}

impl<'a> JsonReader<'a> {
    /// Skips one value of any type and depth; returns its text (empty if it is not UTF-8) and its properties.
    pub(in crate::decode) fn skip(&mut self) -> Result<(&'a str, SkippedValue), SyntaxError> {
        self.skip_space();
        let start = self.at;
        let mut contents = SkippedValue::default();
        let mut levels = OpenLevels::default();
        loop {
            contents.nodes += 1;
            match self.peek()? {
                kind @ (JsonType::Object | JsonType::Array) => {
                    self.at += 1;
                    levels.push(kind);
                    contents.depth = contents.depth.max(levels.len);
                    if !self.is_empty(closing(kind))? {
                        self.skip_key_in(kind, &mut contents)?;
                        continue;
                    }
                    levels.pop();
                }
                JsonType::Text => self.skip_text(&mut contents)?,
                JsonType::Number => match plain_number_end(self.bytes, self.at) {
                    Some(end) => self.at = end,
                    None => contents.number(self.number()?),
                },
                JsonType::Bool => drop(self.bool()?),
                JsonType::Null => self.null()?,
            }
            // Closes each object and array that ends here, and stops before the next value.
            loop {
                let Some(kind) = levels.top() else {
                    return Ok((self.since(start).unwrap_or_default(), contents));
                };
                if !self.is_last(closing(kind))? {
                    self.skip_key_in(kind, &mut contents)?;
                    break;
                }
                levels.pop();
            }
        }
    }

    /// Skips the next key of an object and its colon; an array has none.
    #[inline(always)]
    fn skip_key_in(
        &mut self,
        kind: JsonType,
        contents: &mut SkippedValue,
    ) -> Result<(), SyntaxError> {
        if kind == JsonType::Object {
            self.skip_space();
            self.skip_text(contents)?;
            self.take(b':', "a colon is expected")?;
        }
        Ok(())
    }

    /// Skips a string.
    #[inline(always)]
    fn skip_text(&mut self, contents: &mut SkippedValue) -> Result<(), SyntaxError> {
        if self.byte() == Some(b'"') {
            let end = plain_end(self.bytes, self.at + 1);
            if self.bytes.get(end) == Some(&b'"') {
                self.at = end + 1;
                return Ok(());
            }
        }
        self.skip_odd_text(contents)
    }

    /// The same for a string with escapes, or anything else.
    #[inline(never)]
    fn skip_odd_text(&mut self, contents: &mut SkippedValue) -> Result<(), SyntaxError> {
        contents.escaped(self.text()?);
        Ok(())
    }

    /// Skips a value of a text in which [`Self::skip`] has found no fault, by its brackets and strings alone.
    ///
    /// # Errors
    /// [`SyntaxError`] never, if that is so.
    pub(in crate::decode) fn skip_valid(&mut self) -> Result<(), SyntaxError> {
        if !matches!(self.peek()?, JsonType::Object | JsonType::Array) {
            return self.skip().map(drop);
        }
        let (bytes, mut at, mut depth) = (self.bytes, self.at, 0usize);
        while let Some(byte) = bytes.get(at) {
            at += 1;
            match byte {
                b'"' => at = valid_text_end(bytes, at),
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth > 1 => depth -= 1,
                b'}' | b']' => {
                    self.at = at;
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(self.error("the JSON is cut short"))
    }
}

/// Returns the offset behind a valid string, whose first byte is at `at`.
fn valid_text_end(bytes: &[u8], at: usize) -> usize {
    let mut end = plain_end(bytes, at);
    while let Some(b'\\') = bytes.get(end) {
        end = plain_end(bytes, end + 2);
    }
    end + 1
}

impl SkippedValue {
    fn escaped(&mut self, text: JsonString<'_>) {
        let (nul, has_lone_surrogate) = text.oddities();
        self.nul += u32::from(nul);
        self.lone_surrogates += u32::from(has_lone_surrogate);
    }

    fn number(&mut self, number: &str) {
        match json_writer::plain_len(number) {
            Some(len) => self.swell_bytes += len.saturating_sub(number.len()),
            None => self.has_long_number = true,
        }
    }
}

/// Returns the offset behind a number at `at` that [`json_writer`] writes as it is: of at most 400 digits, without a sign
/// and an exponent. `None` for any other.
fn plain_number_end(bytes: &[u8], at: usize) -> Option<usize> {
    let digits_end = |mut at: usize| {
        while let Some(b'0'..=b'9') = bytes.get(at) {
            at += 1;
        }
        at
    };
    let mut end = digits_end(at);
    if end == at || bytes[at] == b'0' && end > at + 1 {
        return None;
    }
    if let Some(b'.') = bytes.get(end) {
        let fraction = end + 1;
        end = digits_end(fraction);
        if end == fraction {
            return None;
        }
    }
    let is_whole = !matches!(bytes.get(end), Some(b'e' | b'E'));
    (is_whole && end - at <= json_writer::NUMBER_CHARACTERS).then_some(end)
}

/// The open objects (1) and arrays (0), one bit each. The first 64 levels need no allocation.
#[derive(Debug, Default)]
struct OpenLevels {
    /// The innermost level in the lowest bit; of the others, those since the last multiple of 64 levels count.
    innermost: u64,
    /// The levels outside of these, in words of 64.
    outer: Vec<u64>,
    len: usize,
}

impl OpenLevels {
    #[inline]
    fn push(&mut self, kind: JsonType) {
        if self.len > 0 && self.len.is_multiple_of(64) {
            self.outer.push(self.innermost);
        }
        self.innermost = self.innermost << 1 | u64::from(kind == JsonType::Object);
        self.len += 1;
    }

    #[inline]
    fn pop(&mut self) {
        self.len -= 1;
        self.innermost = if self.len.is_multiple_of(64) {
            self.outer.pop().unwrap_or_default()
        } else {
            self.innermost >> 1
        };
    }

    #[inline]
    const fn top(&self) -> Option<JsonType> {
        match (self.len, self.innermost & 1) {
            (0, _) => None,
            (_, 0) => Some(JsonType::Array),
            _ => Some(JsonType::Object),
        }
    }
}

/// Returns the bracket that closes an object or an array.
const fn closing(kind: JsonType) -> u8 {
    match kind {
        JsonType::Object => b'}',
        _ => b']',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(text: &str) -> Result<SkippedValue, SyntaxError> {
        let mut reader = JsonReader::new(text);
        let (_, contents) = reader.skip()?;
        reader.end()?;
        Ok(contents)
    }

    #[test]
    fn what_is_json_and_what_is_not_agrees_with_serde_json() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "[1 2]",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "-0",
            "-0.0e-0",
            "+1",
            "NaN",
            "nul",
            "nullx",
            "tru",
            "true",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\t\"",
            "\"\\t\"",
            "[[[]]]",
            "{\"a\":{\"b\":[1,{\"c\":null}]}}",
            "{} {}",
            "[]]",
            "{\"a\":1 \"b\":2}",
            "{1:2}",
            "\"\u{7f}\"",
            "\u{feff}1",
            "1 ",
            "\n[\r\n1\t]",
        ] {
            let expected = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
            assert_eq!(skip(text).is_ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_valid_value_ends_where_it_ended_before() {
        for text in [
            "1 ",
            "-1.5e3,",
            "true]",
            "null",
            "\"a]\" ",
            " {} ",
            "[[],{}],",
            r#"{"a\"}":"\\","b":[1,"]",{"c":"\\\""}]} ]"#,
            "\n{\"long key of a member\" : [ 1.0 , \"\" ] , \"é\" : \"\u{1f600}}\" }}",
        ] {
            let (mut first, mut again) = (JsonReader::new(text), JsonReader::new(text));
            first.skip().expect("valid JSON");
            again.skip_valid().expect("valid JSON");
            assert_eq!(again.at, first.at, "{text}");
        }
        let cut = JsonReader::new("[\"a").skip_valid().expect_err("cut short");
        assert_eq!(cut.what, "the JSON is cut short");
    }

    #[test]
    fn a_million_open_brackets_are_skipped_without_recursion() {
        let depth = 1_000_000;
        let text = "[".repeat(depth) + &"]".repeat(depth);
        let contents = skip(&text).expect("valid JSON");
        assert_eq!(contents.depth, depth);
        let cut = skip(&text[..depth]).expect_err("cut short");
        assert_eq!(cut.at, depth);
    }

    #[test]
    fn contents_are_counted() {
        let contents =
            skip(r#"{"a\u0000": [1, "\u0000\u0000"], "b": {"c": 1e999}}"#).expect("valid JSON");
        assert_eq!((contents.nodes, contents.depth, contents.nul), (6, 2, 2));
        assert!(contents.has_long_number && contents.lone_surrogates == 0);
    }
}
