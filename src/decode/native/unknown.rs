//! Adds the members of a native event that are not fields to its metadata.
//!
//! **Invariant:** adding them makes no event invalid; a member whose key the metadata already has, or that does not
//! fit, is left out and counted.

use std::borrow::Cow;

use crate::decode::UnknownMemberFate;
use crate::decode::decode_report::{ReportBuilder, echo};
use crate::decode::json::json_reader::{JsonReader, JsonType, SyntaxError};
use crate::decode::json::json_writer;
use crate::decode::json::string::JsonString;
use crate::decode::native::FIELDS;
use crate::event::{Limits, Sanitized};

/// Maximum number of left-out members whose names are kept for the answer.
const NAMES: usize = 10;
/// Maximum number of an event's members that are compared with the names of fields, because a comparison is slow.
const COMPARED: usize = 100;
/// Maximum number of bytes of a name that is compared; a longer one is not a misspelt field.
const COMPARED_BYTES: usize = 40;
/// Levels above a member's value: the event's own object and its metadata.
const LEVELS_ABOVE: usize = 2;

/// Members of one event that are not fields.
#[derive(Debug, Default)]
pub(super) struct UnknownMembers<'a> {
    /// Members that may be added; after [`Self::fit`], those that are.
    members: Vec<UnknownMember<'a>>,
    /// Names of the first members that are left out.
    out: Vec<Cow<'a, str>>,
    /// Number of all members that are left out.
    out_count: u32,
}

#[derive(Debug)]
pub(super) struct UnknownMember<'a> {
    /// The key as it is stored.
    pub(super) key: Cow<'a, str>,
    /// The JSON of the value, as sent.
    pub(super) value: &'a str,
    nodes: usize,
    pub(super) swell_bytes: usize,
    nul: u32,
    utf8: u32,
}

impl<'a> UnknownMembers<'a> {
    /// Reads the value of `key`; leaves the member out if the value exceeds a limit.
    pub(super) fn read(
        &mut self,
        key: JsonString<'a>,
        reader: &mut JsonReader<'a>,
        limits: &Limits,
    ) -> Result<(), SyntaxError> {
        let (value, contents) = reader.skip()?;
        let (nul, lone_surrogate) = key.oddities();
        let key = key.decode_without_nul();
        let fits = contents.depth + LEVELS_ABOVE <= usize::from(limits.native_depth)
            && !contents.has_long_number
            && self.members.len() < nodes(limits);
        if !fits {
            self.stays_out(key);
            return Ok(());
        }
        self.members.push(UnknownMember {
            key,
            value,
            nodes: contents.nodes,
            swell_bytes: contents.swell_bytes,
            nul: contents.nul + u32::from(nul),
            utf8: contents.lone_surrogates + u32::from(lone_surrogate),
        });
        Ok(())
    }

    fn stays_out(&mut self, key: Cow<'a, str>) {
        self.out_count = self.out_count.saturating_add(1);
        if self.out.len() < NAMES {
            self.out.push(key);
        }
    }

    /// Keeps the members that can be added to `metadata`, which is a text with its number of nodes, and leaves the
    /// others out. The last of members with the same key counts, as in the metadata itself.
    pub(super) fn fit(
        &mut self,
        metadata: Option<(&'a str, usize)>,
        limits: &Limits,
        report: &mut ReportBuilder,
    ) -> Result<(), SyntaxError> {
        if self.members.is_empty() {
            return Ok(());
        }
        let mut members = std::mem::take(&mut self.members);
        // The sort is stable, so the last of equal keys stays last.
        members.sort_by(|a, b| json_writer::key_order(a.key.as_bytes(), b.key.as_bytes()));
        members.reverse();
        members.dedup_by(|later, earlier| later.key == earlier.key);
        members.reverse();
        let mut is_in_metadata = vec![false; members.len()];
        let (text, metadata_nodes) = metadata.unwrap_or(("{}", 1));
        let mut reader = JsonReader::new(text);
        reader.object()?;
        while let Some(key) = reader.next_key()? {
            let key = key.decode_without_nul();
            if let Ok(at) = members.binary_search_by(|member| {
                json_writer::key_order(member.key.as_bytes(), key.as_bytes())
            }) {
                is_in_metadata[at] = true;
            }
            reader.skip()?;
        }
        let mut nodes_left = nodes(limits).saturating_sub(metadata_nodes);
        for (member, is_in_metadata) in members.into_iter().zip(is_in_metadata) {
            let fits = !is_in_metadata && member.nodes <= nodes_left;
            if fits && report.add_unknown_expansion(member.swell_bytes) {
                nodes_left -= member.nodes;
                self.members.push(member);
            } else {
                self.stays_out(member.key);
            }
        }
        Ok(())
    }

    /// Returns the members to be added to the metadata, in JSONB's order of keys.
    pub(super) fn kept(&self) -> &[UnknownMember<'a>] {
        &self.members
    }

    /// Adds the counts of repaired texts in the kept members.
    pub(super) fn add_to(&self, seen: &mut Sanitized) {
        for member in &self.members {
            seen.nul = seen.nul.saturating_add(member.nul);
            seen.utf8 = seen.utf8.saturating_add(member.utf8);
        }
    }

    /// Counts and names the members for the answer.
    pub(super) fn report(&self, report: &mut ReportBuilder) {
        for member in &self.members {
            report.unknown(&member.key, UnknownMemberFate::Kept, meant);
        }
        for name in &self.out {
            report.unknown(name, UnknownMemberFate::LeftOut, meant);
        }
        let named = u32::try_from(self.out.len()).unwrap_or(u32::MAX);
        report.count_unknown(UnknownMemberFate::LeftOut, self.out_count - named);
    }

    /// Returns a hint for the missing required field `name`: the member that was probably meant for it.
    pub(super) fn sent_instead_of(&self, name: &'static str) -> Option<String> {
        let member = self.first().find(|key| meant(key) == Some(name))?;
        Some(format!("{} was sent: write {name}", echo(member)))
    }

    /// Returns a hint at the correct form, if a member of this object seems to hold events: `{"events": [{…}]}`.
    pub(super) fn holds_events(&self) -> Option<String> {
        self.members.iter().take(COMPARED).find_map(|member| {
            let key = echo(&member.key);
            match JsonReader::new(member.value).peek() {
                Ok(JsonType::Array) if member.value[1..].trim_start().starts_with('{') => Some(format!(
                    "{key} holds an array: send that array itself, or one event a line as application/x-ndjson"
                )),
                Ok(JsonType::Object) if member.value.contains("\"correlationId\"") => {
                    Some(format!("{key} holds an object: send that object itself"))
                }
                _ => None,
            }
        })
    }

    fn first(&self) -> impl Iterator<Item = &Cow<'a, str>> {
        let members = self.members.iter().map(|member| &member.key);
        members.take(COMPARED).chain(&self.out)
    }
}

fn nodes(limits: &Limits) -> usize {
    usize::try_from(limits.nodes).unwrap_or(usize::MAX)
}

/// Returns the field that a client that sends `key` probably meant.
pub(super) fn meant(key: &str) -> Option<&'static str> {
    if key.len() > COMPARED_BYTES {
        return None;
    }
    let plain: String = key
        .chars()
        .filter(|character| character.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    FIELDS
        .iter()
        .map(|field| field.0)
        .chain(["timestamp", "metadata"])
        .map(|name| {
            let likeness = strsim::normalized_damerau_levenshtein(&plain, &name.to_lowercase());
            (likeness, name)
        })
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn a_name_that_is_nearly_a_fields_counts_as_that_field() {
        for (key, field) in [
            ("correlation_id", Some("correlationId")),
            ("CorrelationID", Some("correlationId")),
            ("corelationId", Some("correlationId")),
            ("event-type", Some("eventType")),
            ("traceid", Some("traceId")),
            ("trace.id", Some("traceId")),
            ("span_id", Some("spanId")),
            ("metaData", Some("metadata")),
            ("metdata", Some("metadata")),
            ("time_stamp", Some("timestamp")),
            ("intergation", Some("integration")),
            ("level", None),
            ("event", None),
            ("id", None),
            ("data", None),
            ("", None),
        ] {
            assert_eq!(meant(key), field, "{key}");
        }
        assert_eq!(meant(&"correlationId".repeat(1_000)), None);
    }
}
