//! Splits one JSON object into its members, each as it is written.
//!
//! **Invariant:** a value is checked but not decoded.

use crate::decode::json::json_reader::{JsonReader, SyntaxError};
use crate::decode::json::json_text::JsonText;
use crate::decode::json::json_writer;

/// Names with the JSON of their values, in the order of the object.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Members<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// [`SyntaxError`] if the text is not one JSON object.
    pub(super) fn of(object: &'a str) -> Result<Self, SyntaxError> {
        let mut reader = JsonReader::new(object);
        let mut members = Vec::new();
        reader.object()?;
        while let Some(name) = reader.next_key()? {
            let (value, _) = reader.skip()?;
            members.push((name.written(), value));
        }
        reader.end()?;
        Ok(Self(members))
    }

    /// Returns the value of that name; `null` counts as absent.
    pub(super) fn find(&self, name: &str) -> Option<&'a str> {
        self.iter()
            .find_map(|(found, value)| (found == name).then_some(value))
            .filter(|value| *value != "null")
    }

    /// Removes the member of that name and returns its value.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(found, _)| *found == name)?;
        Some(self.0.remove(at).1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}

/// Writes a member with an unchanged value; leaves it out if the value is absent or a default (0 or an empty text).
pub(super) fn copy(out: &mut JsonText<'_>, name: &str, value: Option<&str>) {
    if let Some(value) = value
        && !matches!(value, "0" | "\"\"")
    {
        json_writer::key(out, name);
        out.push_str(value);
    }
}

/// Parses a whole number, which may be written as a string.
pub(super) fn whole<T: std::str::FromStr>(value: &str) -> Option<T> {
    value.trim_matches('"').parse().ok()
}
