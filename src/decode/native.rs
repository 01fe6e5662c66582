//! Decodes native events: one JSON object, an array of objects, or one object per line.
//!
//! **Invariant:** an accepted event is complete and within its limits; nothing is cut, and only a missing time is
//! filled in.

use crate::decode::decode_report::{ReportBuilder, TOO_EXPANDED};
use crate::decode::event_metadata::hand_on;
use crate::decode::json::json_reader::{JsonReader, JsonType};
use crate::decode::json::json_text::JsonText;
use crate::decode::json::normalize::Normalizer;
use crate::decode::{DecodeError, DecodeReport, SINK_IS_FULL, Sink};
use crate::event::{Encoding, Source};

/// One event: its fields and their validation.
mod envelope;

/// Members that are not fields.
mod unknown;

use envelope::NativeEvent;

const NANOS_PER_MS: i64 = 1_000_000;

/// The text fields of an event with their limits in characters, in the order of [`NativeEvent::texts`].
const FIELDS: [(&str, usize); 6] = [
    ("correlationId", 255),
    ("integration", 100),
    ("eventType", 50),
    ("provider", 100),
    ("traceId", 64),
    ("spanId", 32),
];

/// Number of the first fields, without which an event is invalid.
const REQUIRED: usize = 3;

/// Decodes an object or an array of objects.
pub(super) fn batch(
    body: &[u8],
    source: &Source,
    sink: Option<&mut dyn Sink>,
) -> Result<DecodeReport, DecodeError> {
    let mut reader = JsonReader::of_body(body)?;
    if reader.is_at_end() {
        return Err(reader.error("the body is empty").of_whole_body());
    }
    let mut events = NativeEvents::new(source, sink);
    if reader.peek()? == JsonType::Array {
        reader.array()?;
        while reader.next_element()? {
            events.one(&mut reader, events.report.items())?;
        }
    } else {
        events.one(&mut reader, 0)?;
    }
    if !reader.is_at_end() && reader.peek() == Ok(JsonType::Object) {
        const LINES: &str =
            "another object follows: send one a line as application/x-ndjson, or an array of them";
        return Err(reader.error(LINES).into());
    }
    reader.end()?;
    events.finish()
}

/// Decodes one object per line; ignores empty lines.
pub(super) fn lines(
    body: &[u8],
    source: &Source,
    sink: Option<&mut dyn Sink>,
) -> Result<DecodeReport, DecodeError> {
    let mut whole = JsonReader::of_body(body)?;
    if whole.is_at_end() {
        return Err(whole.error("the body is empty").of_whole_body());
    }
    let text = std::str::from_utf8(body).unwrap_or_default();
    let mut events = NativeEvents::new(source, sink);
    for (index, line) in text.lines().enumerate() {
        let mut reader = JsonReader::new(line);
        if reader.is_at_end() {
            continue;
        }
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        // The syntax of the whole line is checked first, so that a malformed line is rejected alone and as a whole.
        let mut ahead = reader;
        if let Err(error) = ahead.skip().and_then(|_| ahead.end()) {
            events.room()?;
            events.report.reject();
            events.report.describe(number, None, || {
                format!("{} at byte {}", error.what, error.at)
            });
            continue;
        }
        events.one(&mut reader, number)?;
    }
    events.finish()
}

/// Decodes the events of a request.
struct NativeEvents<'a, 's> {
    source: &'a Source,
    report: ReportBuilder,
    sink: Option<&'s mut dyn Sink>,
}

impl<'a, 's> NativeEvents<'a, 's> {
    fn new(source: &'a Source, sink: Option<&'s mut dyn Sink>) -> Self {
        Self {
            source,
            report: ReportBuilder::default(),
            sink,
        }
    }

    fn finish(self) -> Result<DecodeReport, DecodeError> {
        if self.source.partial {
            Ok(self.report.finish_partial())
        } else {
            self.report.finish_unit()
        }
    }

    /// Fails if the request has reached its limit of events.
    fn room(&self) -> Result<(), DecodeError> {
        let limit = self.source.limits.events;
        if self.report.items() >= limit {
            return Err(DecodeError::TooManyEvents { limit });
        }
        Ok(())
    }

    /// Accepts or rejects the next value of `reader`.
    fn one(&mut self, reader: &mut JsonReader<'a>, index: u32) -> Result<(), DecodeError> {
        self.room()?;
        let kind = reader.peek()?;
        if kind != JsonType::Object {
            reader.skip()?;
            self.report.reject();
            self.report.describe(index, None, || {
                let what = "an event is a JSON object";
                match (kind, self.source.encoding) {
                    (JsonType::Array, Encoding::NdJson) => {
                        format!("{what}: send an array as application/json")
                    }
                    _ => what.to_owned(),
                }
            });
            return Ok(());
        }
        let mut envelope = NativeEvent::read(reader, self.source)?;
        if envelope.problems.is_empty() && !self.report.add_expansion(envelope.swell_bytes) {
            envelope.problem("metadata", TOO_EXPANDED);
        }
        if !envelope.problems.is_empty() {
            self.report.reject();
            for (field, reason) in envelope.problems {
                self.report.describe(index, Some(field), || reason);
            }
            return Ok(());
        }
        envelope.join_unknown(&self.source.limits, &mut self.report)?;
        let time = envelope.timestamp_ms;
        self.report
            .accept(time.map(|ms| ms.saturating_mul(NANOS_PER_MS)));
        self.report.sanitized(&envelope.seen);
        if let Some(sink) = &mut self.sink {
            let write = |out: &mut JsonText<'_>| {
                Normalizer::default()
                    .joined(envelope.metadata(), envelope.joining(), out)
                    .expect("the metadata was read before");
            };
            let event = envelope.event(self.source);
            let bytes = envelope.written_bytes();
            if hand_on(*sink, &event, &write, bytes) != Ok(true) {
                return Err(DecodeError::Malformed {
                    message: SINK_IS_FULL.to_owned(),
                    offset: None,
                });
            }
        }
        Ok(())
    }
}
