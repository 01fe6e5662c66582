//! Skips a value that is ignored or read later, and reports its contents.
//!
//! **Invariant:** a value skipped without an error is valid JSON; there is no recursion, and each level of nesting
//! needs one bit of memory.

use crate::decode::json::json_number;
use crate::decode::json::json_reader::{JsonReader, JsonString, JsonType, SyntaxError};

use crate::decode::json::string::plain_end;

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
                    levels.push(kind == JsonType::Object);
                    contents.depth = contents.depth.max(levels.len);
                }
                JsonType::Text => {
                    if let Some(escaped) = self.skip_text()? {
                        contents.escaped(escaped);
                    }
                }
                JsonType::Number => contents.number(self.number()?),
                JsonType::Bool => drop(self.bool()?),
                JsonType::Null => self.null()?,
            }
            // Closes each object and array that ends here, and stops before the next value.
            loop {
                let Some(is_object) = levels.top() else {
                    return Ok((self.since(start).unwrap_or_default(), contents));
                };
                let close = if is_object { b'}' } else { b']' };
                if self.is_closed(close)? {
                    levels.pop();
                    continue;
                }
                if is_object {
                    if let Some(escaped) = self.skip_text()? {
                        contents.escaped(escaped);
                    }
                    self.take(b':', "a colon is expected")?;
                }
                break;
            }
        }
    }

    /// Skips a string; returns it if it has escapes.
    #[inline(always)]
    fn skip_text(&mut self) -> Result<Option<JsonString<'a>>, SyntaxError> {
        let start = *self;
        self.take(b'"', "a string is expected")?;
        self.at = plain_end(self.bytes, self.at);
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(None);
        }
        *self = start;
        self.text().map(Some)
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
        match json_number::plain_len(number) {
            Some(len) => self.swell_bytes += len.saturating_sub(number.len()),
            None => self.has_long_number = true,
        }
    }
}

/// The open objects (1) and arrays (0), one bit each. The first 64 levels need no allocation.
#[derive(Debug, Default)]
struct OpenLevels {
    first: u64,
    more: Vec<u64>,
    len: usize,
}

impl OpenLevels {
    fn word(&mut self, level: usize) -> &mut u64 {
        match level / 64 {
            0 => &mut self.first,
            index => {
                if self.more.len() < index {
                    self.more.resize(index, 0);
                }
                &mut self.more[index - 1]
            }
        }
    }

    fn push(&mut self, is_object: bool) {
        let level = self.len;
        let bit = 1 << (level % 64);
        let word = self.word(level);
        if is_object {
            *word |= bit;
        } else {
            *word &= !bit;
        }
        self.len += 1;
    }

    fn pop(&mut self) {
        self.len -= 1;
    }

    fn top(&mut self) -> Option<bool> {
        let level = self.len.checked_sub(1)?;
        Some(*self.word(level) & (1 << (level % 64)) != 0)
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
