//! The members of one JSON object, each as it is written.
//!
//! **Invariant:** no value is taken apart before it is asked for.

use crate::decode::json::json_reader::{JsonReader, SyntaxError};
use crate::decode::json::json_writer;

/// Names and the JSON of their values, in order.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Members<'a> {
    /// # Errors
    /// When the text is not one JSON object.
    pub(super) fn of(object: &'a str) -> Result<Self, SyntaxError> {
        let mut scanner = JsonReader::new(object);
        let mut members = Vec::new();
        scanner.object()?;
        let mut is_first = true;
        while let Some(name) = scanner.next_key(&mut is_first)? {
            let (value, _) = scanner.skip()?;
            members.push((name.written(), value));
        }
        scanner.end()?;
        Ok(Self(members))
    }

    /// The value of that name; `null` is none.
    pub(super) fn find(&self, name: &str) -> Option<&'a str> {
        self.iter()
            .find_map(|(found, value)| (found == name).then_some(value))
            .filter(|value| *value != "null")
    }

    /// The same, and it is no member any more.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(found, _)| *found == name)?;
        Some(self.0.remove(at).1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().copied()
    }
}

/// A whole member as it is; left out where there is none, or it is a default.
pub(super) fn copy(out: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value
        && !matches!(value, "0" | "\"\"")
    {
        json_writer::key(out, name);
        out.push_str(value);
    }
}

/// A whole number, be it written as one or as a string.
pub(super) fn whole<T: std::str::FromStr>(value: &str) -> Option<T> {
    value.trim_matches('"').parse().ok()
}
