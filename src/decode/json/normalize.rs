//! Normalises native metadata for the store: sorted keys, each key once, and numbers in plain digits.
//!
//! **Invariant:** normalising a normalised value changes nothing.

use std::borrow::Cow;

use crate::decode::json::json_number;
use crate::decode::json::json_reader::{JsonReader, JsonType, SyntaxError};
use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;

/// Number of members for which memory is reserved, so that most events need no more.
const USUAL_MEMBERS: usize = 16;

/// Normalises one value.
#[derive(Debug, Default)]
pub(in crate::decode) struct Normalizer<'a> {
    /// Members of the open objects, those of the innermost last.
    members: Vec<ObjectMember<'a>>,
}

/// A member of an object that is about to be written.
#[derive(Debug)]
struct ObjectMember<'a> {
    key: Cow<'a, str>,
    /// The JSON of the value, as sent.
    value: &'a str,
}

impl<'a> Normalizer<'a> {
    /// Appends the next value of `reader`. The caller has skipped the value before and found that its depth is
    /// bounded, because this function recurses, and that its numbers are not too long.
    pub(in crate::decode) fn value(
        &mut self,
        reader: &mut JsonReader<'a>,
        out: &mut JsonText<'_>,
    ) -> Result<(), SyntaxError> {
        match reader.peek()? {
            JsonType::Object => {
                let first = self.members.len();
                self.read_members(reader)?;
                self.write_members(first, out)
            }
            JsonType::Array => {
                reader.array()?;
                out.push('[');
                while reader.next_element()? {
                    json_writer::separate(out);
                    self.value(reader, out)?;
                }
                out.push(']');
                Ok(())
            }
            _ => scalar(reader.skip()?.0, out),
        }
    }

    /// Appends one object: the members of `metadata`, which is the text of an object, and `others`, whose keys it does
    /// not have.
    pub(in crate::decode) fn joined(
        &mut self,
        metadata: Option<&'a str>,
        others: impl Iterator<Item = (Cow<'a, str>, &'a str)>,
        out: &mut JsonText<'_>,
    ) -> Result<(), SyntaxError> {
        self.members.reserve(USUAL_MEMBERS);
        self.members
            .extend(others.map(|(key, value)| ObjectMember { key, value }));
        if let Some(metadata) = metadata {
            self.read_members(&mut JsonReader::new(metadata))?;
        }
        self.write_members(0, out)
    }

    fn read_members(&mut self, reader: &mut JsonReader<'a>) -> Result<(), SyntaxError> {
        reader.object()?;
        while let Some(key) = reader.next_key()? {
            let key = key.decode_without_nul();
            let (value, _) = reader.skip()?;
            self.members.push(ObjectMember { key, value });
        }
        Ok(())
    }

    /// Writes the members from that one on in order, each key once: the last of equals wins.
    fn write_members(&mut self, first: usize, out: &mut JsonText<'_>) -> Result<(), SyntaxError> {
        // The sort is stable, so the last of equal keys stays last.
        self.members[first..]
            .sort_by(|a, b| json_writer::key_order(a.key.as_bytes(), b.key.as_bytes()));
        out.push('{');
        for index in first..self.members.len() {
            let member = &self.members[index];
            let next = self.members.get(index + 1);
            if next.is_some_and(|next| next.key == member.key) {
                continue;
            }
            json_writer::key(out, &member.key);
            match member.value.as_bytes() {
                [b'{' | b'[', ..] => self.value(&mut JsonReader::new(member.value), out)?,
                _ => scalar(member.value, out)?,
            }
        }
        self.members.truncate(first);
        out.push('}');
        Ok(())
    }
}

/// Appends a text, a number, a bool or null. One that needs no change is copied.
fn scalar(json: &str, out: &mut JsonText<'_>) -> Result<(), SyntaxError> {
    match json.as_bytes() {
        [b'"', ..] if json.contains('\\') => {
            json_writer::text(out, JsonReader::new(json).text()?.decode().as_bytes());
        }
        [b'-' | b'0'..=b'9', ..] => {
            let too_long = JsonReader::new(json).error("the number is too long");
            json_number::plain_number(out, json).ok_or(too_long)?;
        }
        _ => out.push_str(json),
    }
    Ok(())
}
