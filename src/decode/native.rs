//! Native events: one JSON object, an array of them, or one a line.
//!
//! **Invariant:** an event that is taken is complete and within its limits; nothing is cut or guessed but a missing time.

use std::borrow::Cow;

use super::normal::Normaliser;
use super::scan::{Kind, Scanner, SyntaxError};
use super::string::Text;
use super::tally::{SWOLLEN, Tally};
use super::value::{cut_to, without_nul_cow};
use super::{Checked, DecodeError, SINK_IS_FULL, Sanitized, Sink, Source, timestamp};
use crate::event::{Event, Flags};

const NANOS_PER_MS: i64 = 1_000_000;

/// The texts of an event, in the order of [`Envelope::texts`].
const FIELDS: [Field; 6] = [
    Field::new("correlationId", 255, Need::Required),
    Field::new("integration", 100, Need::Required),
    Field::new("eventType", 50, Need::Required),
    Field::new("provider", 100, Need::Optional),
    Field::new("traceId", 64, Need::Optional),
    Field::new("spanId", 32, Need::Optional),
];

/// One text of an event.
struct Field {
    name: &'static str,
    /// Unicode scalar values.
    limit: usize,
    need: Need,
}

#[derive(PartialEq, Eq)]
enum Need {
    Required,
    Optional,
}

impl Field {
    const fn new(name: &'static str, limit: usize, need: Need) -> Self {
        Self { name, limit, need }
    }
}

/// Decodes an object or an array of objects.
pub(super) fn batch(
    body: &[u8],
    source: &Source,
    sink: Option<&mut dyn Sink>,
) -> Result<Checked, DecodeError> {
    let mut scanner = Scanner::of_body(body)?;
    if scanner.is_at_end() {
        return Err(scanner.error("the body is empty").into());
    }
    let mut events = Events::new(source, sink);
    if scanner.peek()? == Kind::Array {
        scanner.array()?;
        let mut is_first = true;
        while scanner.next_element(&mut is_first)? {
            events.one(&mut scanner, events.tally.items())?;
        }
    } else {
        events.one(&mut scanner, 0)?;
    }
    scanner.end()?;
    events.finish()
}

/// Decodes one object a line; empty lines are passed over.
pub(super) fn lines(
    body: &[u8],
    source: &Source,
    sink: Option<&mut dyn Sink>,
) -> Result<Checked, DecodeError> {
    let mut whole = Scanner::of_body(body)?;
    if whole.is_at_end() {
        return Err(whole.error("the body is empty").into());
    }
    let text = std::str::from_utf8(body).unwrap_or_default();
    let mut events = Events::new(source, sink);
    for (index, line) in text.lines().enumerate() {
        let mut scanner = Scanner::new(line);
        if scanner.is_at_end() {
            continue;
        }
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        // A line is read to its end before anything of it is taken, so that a broken one is not half an event.
        let mut ahead = scanner;
        if let Err(error) = ahead.skip().and_then(|_| ahead.end()) {
            events.room()?;
            events.tally.reject();
            events.tally.describe(number, None, || {
                format!("{} at byte {}", error.what, error.at)
            });
            continue;
        }
        events.one(&mut scanner, number)?;
    }
    events.finish()
}

/// Takes the events of a request.
struct Events<'a, 's> {
    source: &'a Source,
    tally: Tally,
    sink: Option<&'s mut dyn Sink>,
    normaliser: Normaliser<'a>,
    metadata: String,
}

impl<'a, 's> Events<'a, 's> {
    fn new(source: &'a Source, sink: Option<&'s mut dyn Sink>) -> Self {
        Self {
            source,
            tally: Tally::default(),
            sink,
            normaliser: Normaliser::default(),
            metadata: String::new(),
        }
    }

    fn finish(self) -> Result<Checked, DecodeError> {
        if self.source.partial {
            Ok(self.tally.finish_partial())
        } else {
            self.tally.finish_unit()
        }
    }

    /// Fails if the request has as many events as it may have.
    fn room(&self) -> Result<(), DecodeError> {
        let limit = self.source.limits.events;
        if self.tally.items() >= limit {
            return Err(DecodeError::TooManyEvents { limit });
        }
        Ok(())
    }

    /// Takes or rejects the next value of `scanner`.
    fn one(&mut self, scanner: &mut Scanner<'a>, index: u32) -> Result<(), DecodeError> {
        self.room()?;
        if scanner.peek()? != Kind::Object {
            scanner.skip()?;
            self.tally.reject();
            self.tally
                .describe(index, None, || "an event is a JSON object".to_owned());
            return Ok(());
        }
        let mut envelope = Envelope::read(scanner, self.source)?;
        if envelope.problems.is_empty() && !self.tally.swell(envelope.swell_bytes) {
            envelope.problem("metadata", SWOLLEN);
        }
        if !envelope.problems.is_empty() {
            self.tally.reject();
            for (field, reason) in envelope.problems {
                self.tally.describe(index, Some(field), || reason);
            }
            return Ok(());
        }
        let time = envelope.timestamp_ms;
        self.tally
            .accept(time.map(|ms| ms.saturating_mul(NANOS_PER_MS)));
        self.tally.sanitized(&envelope.seen);
        if let Some(sink) = &mut self.sink {
            self.metadata.clear();
            match envelope.metadata {
                Some(metadata) => self
                    .normaliser
                    .value(&mut Scanner::new(metadata), &mut self.metadata)?,
                None => self.metadata.push_str("{}"),
            }
            sink.event(&envelope.event(self.source, &self.metadata));
            if !sink.wants_more() {
                return Err(DecodeError::Malformed {
                    message: SINK_IS_FULL.to_owned(),
                    offset: None,
                });
            }
        }
        Ok(())
    }
}

/// One event as it came, checked.
struct Envelope<'a> {
    texts: [Option<Text<'a>>; FIELDS.len()],
    timestamp_ms: Option<i64>,
    /// The text of an object.
    metadata: Option<&'a str>,
    seen: Sanitized,
    /// How much longer the metadata is when it is written.
    swell_bytes: usize,
    /// A bit a known field that was given.
    given: u16,
    problems: Vec<(&'static str, String)>,
}

impl<'a> Envelope<'a> {
    fn read(scanner: &mut Scanner<'a>, source: &Source) -> Result<Self, SyntaxError> {
        let mut envelope = Self {
            texts: [None; FIELDS.len()],
            timestamp_ms: None,
            metadata: None,
            seen: Sanitized::default(),
            swell_bytes: 0,
            given: 0,
            problems: Vec::new(),
        };
        scanner.object()?;
        let mut is_first = true;
        while let Some(key) = scanner.next_key(&mut is_first)? {
            match &*key.decode() {
                "timestamp" => {
                    envelope.once(FIELDS.len(), "timestamp");
                    envelope.read_timestamp(scanner, source)?;
                }
                "metadata" => {
                    envelope.once(FIELDS.len() + 1, "metadata");
                    envelope.read_metadata(scanner, source)?;
                }
                key => match FIELDS.iter().position(|field| field.name == key) {
                    Some(index) => {
                        envelope.once(index, FIELDS[index].name);
                        envelope.read_text(scanner, index)?;
                    }
                    None => drop(scanner.skip()?),
                },
            }
        }
        for (field, text) in FIELDS.iter().zip(&envelope.texts) {
            let is_told = || {
                envelope
                    .problems
                    .iter()
                    .any(|(name, _)| *name == field.name)
            };
            if field.need == Need::Required && text.is_none() && !is_told() {
                let reason = "is required".to_owned();
                envelope.problems.push((field.name, reason));
            }
        }
        Ok(envelope)
    }

    fn problem(&mut self, field: &'static str, reason: impl Into<String>) {
        self.problems.push((field, reason.into()));
    }

    /// Notes that a field is given; a second time is a problem, told once.
    fn once(&mut self, index: usize, field: &'static str) {
        const TWICE: &str = "is given twice";
        let bit = 1 << index;
        let is_told = self
            .problems
            .iter()
            .any(|(name, reason)| *name == field && reason == TWICE);
        if self.given & bit != 0 && !is_told {
            self.problem(field, TWICE);
        }
        self.given |= bit;
    }

    fn read_text(&mut self, scanner: &mut Scanner<'a>, index: usize) -> Result<(), SyntaxError> {
        let field = &FIELDS[index];
        match scanner.peek()? {
            Kind::Text => {}
            Kind::Null => {
                if field.need == Need::Required {
                    self.problem(field.name, "is required, not null");
                }
                return scanner.null();
            }
            _ => {
                self.problem(field.name, "is not a string");
                return scanner.skip().map(drop);
            }
        }
        let text = scanner.text()?;
        let (has_nul, has_lone_surrogate) = text.oddities();
        let value = text.decode();
        if value.is_empty() {
            self.problem(field.name, "is empty");
        } else if has_lone_surrogate {
            self.problem(field.name, "holds half of a surrogate pair");
        } else if cut_to(Cow::Borrowed(&value), field.limit).len() < value.len() {
            let limit = field.limit;
            self.problem(field.name, format!("is longer than {limit} characters"));
        }
        self.seen.nul += u32::from(has_nul);
        self.texts[index] = Some(text);
        Ok(())
    }

    fn read_timestamp(
        &mut self,
        scanner: &mut Scanner<'a>,
        source: &Source,
    ) -> Result<(), SyntaxError> {
        let received_ms = source.received_unix_nano / NANOS_PER_MS;
        let time = match scanner.peek()? {
            Kind::Null => return scanner.null(),
            Kind::Number => timestamp::from_number(scanner.number()?, received_ms),
            Kind::Text => timestamp::from_text(&scanner.text()?.decode(), received_ms),
            Kind::Object | Kind::Array | Kind::Bool => {
                scanner.skip()?;
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
        scanner: &mut Scanner<'a>,
        source: &Source,
    ) -> Result<(), SyntaxError> {
        let kind = scanner.peek()?;
        let (text, contents) = scanner.skip()?;
        let limits = &source.limits;
        match kind {
            Kind::Null => return Ok(()),
            Kind::Object => {}
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
        if contents.has_lone_surrogate {
            self.problem("metadata", "holds half of a surrogate pair");
        }
        if contents.has_long_number {
            self.problem("metadata", "holds a number of more than 400 digits");
        }
        self.seen.nul += contents.nul;
        self.swell_bytes = contents.swell_bytes;
        self.metadata = Some(text);
        Ok(())
    }

    /// The row; `metadata` is its normalised JSON.
    fn event<'e>(&'e self, source: &Source, metadata: &'e str) -> Event<'e> {
        let [
            correlation_id,
            integration,
            event_type,
            provider,
            trace_id,
            span_id,
        ] = self.texts.map(|text| Some(without_nul_cow(text?.decode())));
        let mut flags = Flags::default();
        if self.seen.nul > 0 {
            flags.insert(Flags::TEXT_REPAIRED);
        }
        Event {
            correlation_id: correlation_id.unwrap_or_default(),
            integration: integration.unwrap_or_default(),
            provider,
            event_type: event_type.unwrap_or_default(),
            timestamp_ms: self
                .timestamp_ms
                .unwrap_or(source.received_unix_nano / NANOS_PER_MS),
            metadata: Cow::Borrowed(metadata),
            trace_id: trace_id.map(|id| lower_case(id, 32)),
            span_id: span_id.map(|id| lower_case(id, 16)),
            parent_span_id: None,
            name: None,
            time_unix_nano: None,
            duration_ns: None,
            kind: None,
            status: None,
            resource_id: None,
            flags,
        }
    }
}

/// An id of so many hex digits in lower case, any other as it is.
fn lower_case(id: Cow<'_, str>, digits: usize) -> Cow<'_, str> {
    let is_hex = id.len() == digits && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && id.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(id.to_ascii_lowercase())
    } else {
        id
    }
}
