//! Reads and validates one native event.
//!
//! **Invariant:** a fault in an event is a problem of that event alone, unless it is a syntax error.

use std::borrow::Cow;

use crate::decode::decode_report::ReportBuilder;
use crate::decode::json::json_reader::{JsonReader, JsonType, SyntaxError};
use crate::decode::json::string::JsonString;
use crate::decode::native::unknown::UnknownMembers;
use crate::decode::native::{FIELDS, NANOS_PER_MS, REQUIRED};
use crate::decode::timestamp;
use crate::event::{Event, EventFlags, Limits, Sanitized, Source};
use crate::text::is_longer;

/// The indexes of these fields, behind those of [`FIELDS`].
const TIMESTAMP: usize = FIELDS.len();
const METADATA: usize = FIELDS.len() + 1;

/// One event and the problems found in it.
pub(super) struct NativeEvent<'a> {
    /// The text fields, in the order of [`FIELDS`].
    texts: [Option<JsonString<'a>>; FIELDS.len()],
    /// Unix time in milliseconds; `None` if the event gives none.
    pub(super) timestamp_ms: Option<i64>,
    /// The text of the metadata object, and its number of nodes.
    metadata: Option<(&'a str, usize)>,
    unknown: UnknownMembers<'a>,
    /// Number of texts repaired, by reason.
    pub(super) seen: Sanitized,
    /// Number of bytes by which the metadata grows when it is written.
    pub(super) swell_bytes: usize,
    /// Number of times that each field is given: the text fields, `timestamp`, `metadata`.
    given: [u8; FIELDS.len() + 2],
    /// Fields at fault, with the reasons; the event is rejected if there are any.
    pub(super) problems: Vec<(&'static str, String)>,
}

impl<'a> NativeEvent<'a> {
    pub(super) fn read(reader: &mut JsonReader<'a>, source: &Source) -> Result<Self, SyntaxError> {
        let mut envelope = Self {
            texts: [None; FIELDS.len()],
            timestamp_ms: None,
            metadata: None,
            unknown: UnknownMembers::default(),
            seen: Sanitized::default(),
            swell_bytes: 0,
            given: [0; FIELDS.len() + 2],
            problems: Vec::new(),
        };
        reader.object()?;
        while reader.next_member()? {
            let fields = FIELDS.iter().map(|field| field.0);
            let mut names = fields.chain(["timestamp", "metadata"]);
            // Most keys are a field's, without spaces and escapes.
            if let Some(index) = reader.take_key(names.clone()) {
                envelope.read_field(index, reader, source)?;
                continue;
            }
            let key = reader.key()?;
            let name = key.decode();
            match names.position(|field| field == name) {
                Some(index) => envelope.read_field(index, reader, source)?,
                None if source.keeps_unknown_members() => {
                    envelope.unknown.read(key, reader, &source.limits)?;
                }
                None => drop(reader.skip()?),
            }
        }
        envelope.require_fields();
        Ok(envelope)
    }

    /// Reads the value of a field, by the index of its name.
    fn read_field(
        &mut self,
        index: usize,
        reader: &mut JsonReader<'a>,
        source: &Source,
    ) -> Result<(), SyntaxError> {
        match index {
            TIMESTAMP => self.read_timestamp(reader, source),
            METADATA => self.read_metadata(reader, source),
            _ => self.read_text(reader, index, source),
        }
    }

    /// Adds a problem for each required field that is missing, with a hint at the member that was probably meant for
    /// it.
    fn require_fields(&mut self) {
        let is_reported = |name| self.problems.iter().any(|(known, _)| *known == name);
        let texts = FIELDS[..REQUIRED].iter().zip(&self.texts);
        let missing: Vec<_> = texts
            .filter(|((name, _), text)| text.is_none() && !is_reported(*name))
            .map(|((name, _), _)| *name)
            .collect();
        let nothing_is_there = missing.len() == REQUIRED;
        for (n, name) in missing.into_iter().enumerate() {
            let hint = match self.unknown.sent_instead_of(name) {
                None if n == 0 && nothing_is_there => self.unknown.holds_events(),
                hint => hint,
            };
            let reason = match hint {
                Some(hint) => format!("is required; {hint}"),
                None => "is required".to_owned(),
            };
            self.problem(name, reason);
        }
    }

    /// Selects the members that are not fields and fit into the metadata, and counts the selected and the left-out
    /// ones.
    ///
    /// # Errors
    /// None in practice: the metadata was parsed before.
    pub(super) fn join_unknown(
        &mut self,
        limits: &Limits,
        report: &mut ReportBuilder,
    ) -> Result<(), SyntaxError> {
        self.unknown.fit(self.metadata, limits, report)?;
        self.unknown.add_to(&mut self.seen);
        self.unknown.report(report);
        Ok(())
    }

    /// Returns the text of the metadata, if any.
    pub(super) fn metadata(&self) -> Option<&'a str> {
        self.metadata.map(|(text, _)| text)
    }

    /// Returns the members to be added to the metadata, in JSONB's order of keys.
    pub(super) fn joining(&self) -> impl Iterator<Item = (Cow<'a, str>, &'a str)> {
        let kept = self.unknown.kept().iter();
        kept.map(|member| (member.key.clone(), member.value))
    }

    /// About how many bytes the metadata takes as it is written.
    pub(super) fn written_bytes(&self) -> usize {
        let sent = self.metadata().map_or(0, str::len);
        let joining: usize = self
            .unknown
            .kept()
            .iter()
            .map(|member| member.value.len() + member.swell_bytes)
            .sum();
        sent + joining + self.swell_bytes
    }

    pub(super) fn problem(&mut self, field: &'static str, reason: impl Into<String>) {
        self.problems.push((field, reason.into()));
    }

    /// Records that a field is given; adds one problem if the field is given more than once.
    #[inline]
    fn once(&mut self, index: usize, field: &'static str) {
        self.given[index] = self.given[index].saturating_add(1);
        if self.given[index] == 2 {
            self.problem(field, "is given twice");
        }
    }

    fn read_text(
        &mut self,
        reader: &mut JsonReader<'a>,
        index: usize,
        source: &Source,
    ) -> Result<(), SyntaxError> {
        let (name, limit) = FIELDS[index];
        self.once(index, name);
        match reader.peek()? {
            JsonType::Text => {}
            JsonType::Null => {
                if index < REQUIRED {
                    self.problem(name, "is required, not null");
                }
                return reader.null();
            }
            _ => {
                self.problem(name, "is not a string");
                return reader.skip().map(drop);
            }
        }
        let text = reader.text()?;
        let (has_nul, has_lone_surrogate) = text.oddities();
        let value = text.decode();
        if value.is_empty() {
            self.problem(name, "is empty");
        } else if has_lone_surrogate && !source.repairs_lone_surrogates() {
            self.problem(name, "holds half of a surrogate pair");
        } else if is_longer(&value, limit) {
            self.problem(name, format!("is longer than {limit} characters"));
        }
        self.seen.nul += u32::from(has_nul);
        self.seen.utf8 += u32::from(has_lone_surrogate);
        self.texts[index] = Some(text);
        Ok(())
    }

    fn read_timestamp(
        &mut self,
        reader: &mut JsonReader<'a>,
        source: &Source,
    ) -> Result<(), SyntaxError> {
        self.once(TIMESTAMP, "timestamp");
        let received_ms = source.received_unix_nano / NANOS_PER_MS;
        let time = match reader.peek()? {
            JsonType::Null => return reader.null(),
            JsonType::Number => match reader.short_number() {
                Some(number) => timestamp::from_whole_number(number, received_ms),
                None => timestamp::from_number(reader.number()?, received_ms),
            },
            JsonType::Text => timestamp::from_text(&reader.text()?.decode(), received_ms),
            JsonType::Object | JsonType::Array | JsonType::Bool => {
                reader.skip()?;
                Err("is neither Unix milliseconds nor a time of RFC 3339".to_owned())
            }
        };
        match time {
            Ok(ms) => self.timestamp_ms = Some(ms),
            Err(reason) => self.problem("timestamp", reason),
        }
        Ok(())
    }

    fn read_metadata(
        &mut self,
        reader: &mut JsonReader<'a>,
        source: &Source,
    ) -> Result<(), SyntaxError> {
        self.once(METADATA, "metadata");
        let kind = reader.peek()?;
        let (text, contents) = reader.skip()?;
        let limits = &source.limits;
        match kind {
            JsonType::Null => return Ok(()),
            JsonType::Object => {}
            _ => {
                self.problem("metadata", "is not an object");
                return Ok(());
            }
        }
        // The event's own object is the first level.
        if contents.depth + 1 > usize::from(limits.native_depth) {
            let limit = limits.native_depth;
            self.problem("metadata", format!("is nested deeper than {limit} levels"));
        }
        if contents.nodes > usize::try_from(limits.nodes).unwrap_or(usize::MAX) {
            let limit = limits.nodes;
            self.problem("metadata", format!("holds more than {limit} values"));
        }
        if contents.lone_surrogates > 0 && !source.repairs_lone_surrogates() {
            self.problem("metadata", "holds half of a surrogate pair");
        }
        if contents.has_long_number {
            self.problem("metadata", "holds a number of more than 400 digits");
        }
        self.seen.nul += contents.nul;
        self.seen.utf8 += contents.lone_surrogates;
        self.swell_bytes = contents.swell_bytes;
        self.metadata = Some((text, contents.nodes));
        Ok(())
    }

    /// Returns the row without its metadata.
    pub(super) fn event(&self, source: &Source) -> Event<'a> {
        let [
            correlation_id,
            integration,
            event_type,
            provider,
            trace_id,
            span_id,
        ] = self.texts.map(|text| Some(text?.decode_without_nul()));
        let mut flags = EventFlags::default();
        if self.seen.nul > 0 || self.seen.utf8 > 0 {
            flags.insert(EventFlags::TEXT_REPAIRED);
        }
        Event {
            correlation_id: correlation_id.unwrap_or_default(),
            integration: integration.unwrap_or_default(),
            provider,
            event_type: event_type.unwrap_or_default(),
            timestamp_ms: self
                .timestamp_ms
                .unwrap_or(source.received_unix_nano / NANOS_PER_MS),
            metadata: Cow::Borrowed(""),
            trace_id: trace_id.map(|id| lower_case(id, 32)),
            span_id: span_id.map(|id| lower_case(id, 16)),
            flags,
            ..Event::EMPTY
        }
    }
}

/// Returns an id of exactly `digits` hex digits in lower case, any other unchanged.
fn lower_case(id: Cow<'_, str>, digits: usize) -> Cow<'_, str> {
    let has_upper_case = id.bytes().any(|byte| byte.is_ascii_uppercase());
    if has_upper_case && id.len() == digits && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Cow::Owned(id.to_ascii_lowercase())
    } else {
        id
    }
}
