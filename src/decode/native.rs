//! Native events: one JSON object, an array of them, or one a line.
//!
//! **Invariant:** an event that is taken is complete and within its limits; nothing is cut or guessed but a missing time.

use super::normal::Normaliser;
use super::scan::{Kind, Scanner};
use super::tally::{SWOLLEN, Tally};
use super::{Checked, DecodeError, SINK_IS_FULL, Sink, Source};
use crate::event::Encoding;

/// One event as it is sent.
mod envelope;

/// Members that are no fields.
mod unknown;

use envelope::Envelope;

const NANOS_PER_MS: i64 = 1_000_000;

/// The texts of an event, in the order of `Envelope::texts`.
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
        return Err(scanner.error("the body is empty").of_whole_body());
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
    if !scanner.is_at_end() && scanner.peek() == Ok(Kind::Object) {
        const LINES: &str =
            "another object follows: send one a line as application/x-ndjson, or an array of them";
        return Err(scanner.error(LINES).into());
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
        return Err(whole.error("the body is empty").of_whole_body());
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
        let kind = scanner.peek()?;
        if kind != Kind::Object {
            scanner.skip()?;
            self.tally.reject();
            self.tally.describe(index, None, || {
                let what = "an event is a JSON object";
                match (kind, self.source.encoding) {
                    (Kind::Array, Encoding::NdJson) => {
                        format!("{what}: send an array as application/json")
                    }
                    _ => what.to_owned(),
                }
            });
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
        envelope.join_unknown(&self.source.limits, &mut self.tally)?;
        let time = envelope.timestamp_ms;
        self.tally
            .accept(time.map(|ms| ms.saturating_mul(NANOS_PER_MS)));
        self.tally.sanitized(&envelope.seen);
        if let Some(sink) = &mut self.sink {
            self.metadata.clear();
            self.normaliser
                .joined(envelope.metadata(), envelope.joining(), &mut self.metadata)?;
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
