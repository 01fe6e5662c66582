//! The values that travel from a request's bytes to the table: events and the resources they refer to.
//!
//! **Invariant:** what is in an [`Event`] or a [`Resource`], both stores accept as it is: no NUL, valid UTF-8, every
//! column within its limit, JSON already normalised.

use std::borrow::Cow;

/// The kinds of telemetry, as metrics and record headers name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// A native event of `POST /ingest`.
    Event,
    Span,
    Log,
    Metric,
}

impl Signal {
    /// What comes over OTLP; [`Self::as_str`] is also its rows' `event_type`.
    pub const OTLP: [Self; 3] = [Self::Span, Self::Log, Self::Metric];

    /// The value of the metric label `signal`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Span => "span",
            Self::Log => "log",
            Self::Metric => "metric",
        }
    }
}

/// How a request's items are written, once any content encoding is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One JSON text: the native object or array, or OTLP's JSON.
    Json,
    /// One JSON object a line; native events only.
    NdJson,
    /// OTLP's protobuf.
    Protobuf,
}

/// One row-to-be: a native event, a span, a log record or a metric point. Borrows from the request where it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// At most 255 characters, as are `integration` and the other texts within their columns' limits.
    pub correlation_id: Cow<'a, str>,
    pub integration: Cow<'a, str>,
    pub provider: Option<Cow<'a, str>>,
    pub event_type: Cow<'a, str>,
    /// Unix time in milliseconds, never negative.
    pub timestamp_ms: i64,
    /// One normalised JSON object.
    pub metadata: Cow<'a, str>,
    /// Lower-case hex for what came as an OTLP id.
    pub trace_id: Option<Cow<'a, str>>,
    pub span_id: Option<Cow<'a, str>>,
    pub parent_span_id: Option<Cow<'a, str>>,
    pub name: Option<Cow<'a, str>>,
    /// Unix time in nanoseconds as sent; `None` where it does not fit.
    pub time_unix_nano: Option<i64>,
    pub duration_ns: Option<i64>,
    pub kind: Option<i32>,
    pub status: Option<Cow<'a, str>>,
    pub resource_id: Option<ResourceId>,
    pub flags: EventFlags,
}

impl Event<'_> {
    /// Empty texts, the time 0, and no value in any other column: what names the columns that it has begins with this.
    pub const EMPTY: Self = Self {
        correlation_id: Cow::Borrowed(""),
        integration: Cow::Borrowed(""),
        provider: None,
        event_type: Cow::Borrowed(""),
        timestamp_ms: 0,
        metadata: Cow::Borrowed("{}"),
        trace_id: None,
        span_id: None,
        parent_span_id: None,
        name: None,
        time_unix_nano: None,
        duration_ns: None,
        kind: None,
        status: None,
        resource_id: None,
        flags: EventFlags(0),
    };
}

/// What was changed about an event on its way; the column `flags`, NULL when empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFlags(pub i16);

impl EventFlags {
    /// The event's own time could not be used (absent, absurd, or plainly in another unit); the receive time stands in.
    pub const TIME_REPLACED: Self = Self(1);
    /// The end was before the start, absent, or beyond the range of `time_unix_nano`.
    pub const END_INVALID: Self = Self(2);
    /// A text was cut to its column, or an attribute by a limit.
    pub const CUT: Self = Self(4);
    /// `created_at` is the database's time: the receive time was implausible.
    pub const RECEIVE_TIME_REPLACED: Self = Self(8);
    /// Fault UTF-8, a NUL or a lone surrogate was replaced.
    pub const TEXT_REPAIRED: Self = Self(16);

    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The first 16 bytes of SHA-256 over a version byte and the resource's canonical JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(pub [u8; 16]);

/// An OTLP resource with its instrumentation scope, stored once and referred to by each row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub id: ResourceId,
    /// `{"attributes": {…}, "droppedAttributesCount": n, "entityRefs": […], "schemaUrl": "…"}`, defaults left out.
    pub resource: String,
    /// `{"name": "…", "version": "…", "attributes": {…}, "droppedAttributesCount": n, "schemaUrl": "…"}`, likewise.
    pub scope: String,
}

/// All records of one opening of the log; random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub [u8; 16]);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A record's place: counts from 1 in its stream, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub stream: StreamId,
    pub n: u64,
}

/// The content encodings that are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentEncoding {
    Identity,
    Gzip,
    Zstd,
    Deflate,
}

/// What decoding needs beside the bytes. A record's header keeps all of it, so that today's settings never change what
/// was accepted under yesterday's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub signal: Signal,
    pub encoding: Encoding,
    /// Native only: valid events of a batch are taken though others are not (`?partial=true`).
    pub partial: bool,
    /// Unix time of receipt in nanoseconds.
    pub received_unix_nano: i64,
    pub limits: Limits,
    pub version: u16,
}

/// The limits that shape rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels of AnyValue.
    pub depth: u8,
    /// Levels of native JSON.
    pub native_depth: u8,
    /// Messages and elements in one item, counted before it is decoded.
    pub nodes: u32,
    /// Attributes an item; 0 = no limit.
    pub attributes: u32,
    /// Bytes an attribute's text or bytes value; 0 = no limit.
    pub value_bytes: u32,
    /// Native events a request.
    pub events: u32,
    /// OTLP JSON: only the specification's lowerCamelCase keys.
    pub strict_json: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 24,
            native_depth: 32,
            nodes: 100_000,
            attributes: 0,
            value_bytes: 0,
            events: 50_000,
            strict_json: false,
        }
    }
}

/// How often something was changed so that it can be stored; the labels of `ruvvector_sanitized_total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sanitized {
    pub nul: u32,
    pub utf8: u32,
    pub time: u32,
    pub cut: u32,
    pub string_reference: u32,
}

impl Sanitized {
    /// The labels, in the order of [`Self::counts`].
    pub const REASONS: [&str; 5] = ["nul", "utf8", "time", "cut", "string_reference"];

    /// How often each was done, in the order of [`Self::REASONS`].
    #[must_use]
    pub const fn counts(self) -> [u32; 5] {
        let Self {
            nul,
            utf8,
            time,
            cut,
            string_reference,
        } = self;
        [nul, utf8, time, cut, string_reference]
    }
}
