//! Normalises native metadata for the store: sorted keys, each key once, and numbers in plain digits.
//!
//! **Invariant:** normalising a normalised value changes nothing.

use std::borrow::Cow;
use std::ops::Range;

use crate::decode::json::json_reader::{JsonReader, JsonType, SyntaxError};
use crate::decode::json::json_writer;

/// Normalises the values of one request; each value reuses the buffers.
#[derive(Debug, Default)]
pub(in crate::decode) struct Normalizer<'a> {
    /// Members of the open objects, those of the innermost last.
    members: Vec<NormalizedMember<'a>>,
    scratch: String,
}

/// A member of an object that is being written.
#[derive(Debug)]
struct NormalizedMember<'a> {
    key: Cow<'a, str>,
    /// Range of the whole member in the output, in bytes.
    written: Range<usize>,
}

/// An object that is being written.
#[derive(Debug)]
struct OpenObject {
    /// Index of its first member in [`Normalizer::members`].
    first_member: usize,
    /// Byte offset of its members in the output.
    start: usize,
    is_sorted: bool,
}

impl<'a> Normalizer<'a> {
    /// Appends the next value of `scanner`. The caller has skipped the value before and found that its depth is
    /// bounded, because this function recurses, and that its numbers are not too long.
    pub(in crate::decode) fn value(
        &mut self,
        scanner: &mut JsonReader<'a>,
        out: &mut String,
    ) -> Result<(), SyntaxError> {
        match scanner.peek()? {
            JsonType::Object => return self.object(scanner, out),
            JsonType::Array => {
                scanner.array()?;
                out.push('[');
                let mut is_first = true;
                while scanner.next_element(&mut is_first)? {
                    json_writer::separate(out);
                    self.value(scanner, out)?;
                }
                out.push(']');
            }
            JsonType::Text => json_writer::text(out, &scanner.text()?.decode()),
            JsonType::Number => {
                let too_long = scanner.error("the number is too long");
                json_writer::plain_number(out, scanner.number()?).ok_or(too_long)?;
            }
            JsonType::Bool => out.push_str(if scanner.bool()? { "true" } else { "false" }),
            JsonType::Null => {
                scanner.null()?;
                out.push_str("null");
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        scanner: &mut JsonReader<'a>,
        out: &mut String,
    ) -> Result<(), SyntaxError> {
        let mut object = self.begin(out);
        self.members_of(scanner, &mut object, out)?;
        self.end(&object, out);
        Ok(())
    }

    /// Appends one object: the members of `metadata`, which is the text of an object, and `others`, whose keys it does
    /// not have.
    pub(in crate::decode) fn joined(
        &mut self,
        metadata: Option<&'a str>,
        others: impl Iterator<Item = (Cow<'a, str>, &'a str)>,
        out: &mut String,
    ) -> Result<(), SyntaxError> {
        let mut object = self.begin(out);
        for (key, value) in others {
            self.member(key, &mut JsonReader::new(value), &mut object, out)?;
        }
        if let Some(metadata) = metadata {
            self.members_of(&mut JsonReader::new(metadata), &mut object, out)?;
        }
        self.end(&object, out);
        Ok(())
    }

    fn begin(&self, out: &mut String) -> OpenObject {
        out.push('{');
        OpenObject {
            first_member: self.members.len(),
            start: out.len(),
            is_sorted: true,
        }
    }

    fn members_of(
        &mut self,
        scanner: &mut JsonReader<'a>,
        object: &mut OpenObject,
        out: &mut String,
    ) -> Result<(), SyntaxError> {
        scanner.object()?;
        let mut is_first = true;
        while let Some(key) = scanner.next_key(&mut is_first)? {
            let key = crate::decode::otlp::any_value::without_nul_cow(key.decode());
            self.member(key, scanner, object, out)?;
        }
        Ok(())
    }

    fn member(
        &mut self,
        key: Cow<'a, str>,
        scanner: &mut JsonReader<'a>,
        object: &mut OpenObject,
        out: &mut String,
    ) -> Result<(), SyntaxError> {
        json_writer::separate(out);
        let from = out.len();
        json_writer::text(out, &key);
        out.push_str(": ");
        self.value(scanner, out)?;
        if let Some(last) = self.members[object.first_member..].last() {
            object.is_sorted &= json_writer::key_order(&last.key, &key).is_lt();
        }
        let written = from..out.len();
        self.members.push(NormalizedMember { key, written });
        Ok(())
    }

    fn end(&mut self, object: &OpenObject, out: &mut String) {
        if !object.is_sorted {
            self.sort(object.first_member, object.start, out);
        }
        self.members.truncate(object.first_member);
        out.push('}');
    }

    /// Sorts the members written from byte `start` on and keeps each key once: the last of equal keys wins.
    fn sort(&mut self, first_member: usize, start: usize, out: &mut String) {
        let members = &mut self.members[first_member..];
        // The sort is stable, so the last of equal keys stays last.
        members.sort_by(|a, b| json_writer::key_order(&a.key, &b.key));
        self.scratch.clear();
        self.scratch.push_str(&out[start..]);
        out.truncate(start);
        for (index, member) in members.iter().enumerate() {
            let is_last = members
                .get(index + 1)
                .is_none_or(|next| next.key != member.key);
            if is_last {
                json_writer::separate(out);
                let Range { start: from, end } = member.written;
                out.push_str(&self.scratch[from - start..end - start]);
            }
        }
    }
}
