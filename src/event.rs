//! The values that travel from a request's bytes to the table: events and the resources they refer to.
//!
//! **Invariant:** both stores accept every [`Event`] and [`Resource`] unchanged: no NUL, valid UTF-8, every column
//! within its limit, JSON already normalised.

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
    /// The signals of OTLP; for these, [`Self::as_str`] is also the rows' `event_type`.
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

/// The format of a request's items once any content encoding is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One JSON text: the native object or array, or OTLP's JSON.
    Json,
    /// One JSON object per line; native events only.
    NdJson,
    /// OTLP's protobuf.
    Protobuf,
}

impl Encoding {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::NdJson => "ndjson",
            Self::Protobuf => "protobuf",
        }
    }
}

/// One row before it is stored: a native event, a span, a log record or a metric point. Texts borrow from the request
/// where possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// At most 255 characters. Every other text is within its column's limit, too.
    pub correlation_id: Cow<'a, str>,
    pub integration: Cow<'a, str>,
    pub provider: Option<Cow<'a, str>>,
    pub event_type: Cow<'a, str>,
    /// Unix time in milliseconds, never negative.
    pub timestamp_ms: i64,
    /// One normalised JSON object.
    pub metadata: Cow<'a, str>,
    /// Lower-case hex if it was an OTLP id.
    pub trace_id: Option<Cow<'a, str>>,
    pub span_id: Option<Cow<'a, str>>,
    pub parent_span_id: Option<Cow<'a, str>>,
    pub name: Option<Cow<'a, str>>,
    /// Unix time in nanoseconds as sent; `None` if absent or too large for the column.
    pub time_unix_nano: Option<i64>,
    /// Nanoseconds from start to end.
    pub duration_ns: Option<i64>,
    /// A span's kind, a log record's severity number, or the number of a metric's data type, as in OTLP.
    pub kind: Option<i32>,
    /// A span's status, a log record's severity range, or the name of a metric's data type.
    pub status: Option<Cow<'a, str>>,
    pub resource_id: Option<ResourceId>,
    pub flags: EventFlags,
}

impl Event<'_> {
    /// An event with empty texts, the time 0, the metadata `{}`, and no value in any other column, for struct-update
    /// syntax.
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

/// The changes that were made to an event before it was stored; the column `flags`, NULL if empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFlags(pub i16);

impl EventFlags {
    /// The event's own time is unusable (absent, implausible, or in another unit), and the receive time replaces it.
    pub const TIME_REPLACED: Self = Self(1);
    /// The end was before the start, absent, or beyond the range of `time_unix_nano`.
    pub const END_INVALID: Self = Self(2);
    /// A text was cut to its column's length, or attributes were cut by a limit.
    pub const CUT: Self = Self(4);
    /// The receive time was implausible, so `created_at` is the database's time.
    pub const RECEIVE_TIME_REPLACED: Self = Self(8);
    /// Invalid UTF-8, a NUL or a lone surrogate was replaced.
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
    /// `{"attributes": {…}, "droppedAttributesCount": n, "entityRefs": […], "schemaUrl": "…"}`, without members that
    /// have their default value.
    pub resource: String,
    /// `{"name": "…", "version": "…", "attributes": {…}, "droppedAttributesCount": n, "schemaUrl": "…"}`, likewise.
    pub scope: String,
}

/// The random id of a stream: the records that one opening of the journal appends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub [u8; 16]);

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The position of a record, which identifies it; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub stream: StreamId,
    /// Number of the record in its stream, from 1.
    pub n: u64,
}

/// The content encodings that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentEncoding {
    Identity,
    Gzip,
    Zstd,
    Deflate,
}

impl ContentEncoding {
    /// Returns the name in the header `Content-Encoding`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        }
    }
}

/// The inputs of decoding besides the bytes. A record's header keeps all of them, so that a later change of settings
/// never changes the events that were accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub signal: Signal,
    pub encoding: Encoding,
    /// Native only: valid events of a batch are accepted even if others are invalid (`?partial=true`).
    pub partial: bool,
    /// Unix time of receipt in nanoseconds.
    pub received_unix_nano: i64,
    pub limits: Limits,
    /// Version of the mapping from bytes to rows under which the request was accepted.
    pub version: u16,
}

/// The limits that affect the rows of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of nested levels of an OTLP `AnyValue`. No setting: decoding recurses once per level, and a
    /// record must decode by the limit under which it was accepted.
    pub depth: u8,
    /// Maximum number of nested levels of native JSON. No setting, for the same reason.
    pub native_depth: u8,
    /// Maximum number of messages and list elements in one OTLP item, counted before it is decoded. No setting: it
    /// bounds the row of one item, which is far smaller in practice.
    pub nodes: u32,
    /// Maximum number of attributes per item; 0 = no limit.
    pub attributes: u32,
    /// Maximum number of bytes per attribute's text or bytes value; 0 = no limit.
    pub value_bytes: u32,
    /// Maximum number of native events per request.
    pub events: u32,
    /// OTLP JSON: accept only the specification's lowerCamelCase keys.
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

/// Numbers of changes that were made so that events can be stored, by reason; the labels of
/// `ruvvector_sanitized_total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sanitized {
    /// Texts with a NUL, which was replaced.
    pub nul: u32,
    /// Texts with invalid UTF-8 or a lone surrogate, which was replaced.
    pub utf8: u32,
    /// Events whose own time was unusable.
    pub time: u32,
    /// Texts, values and attributes beyond a limit.
    pub cut: u32,
    /// References to a string table, which are treated as absent.
    pub string_reference: u32,
}

impl Sanitized {
    /// The labels, in the order of [`Self::counts`].
    pub const REASONS: [&str; 5] = ["nul", "utf8", "time", "cut", "string_reference"];

    /// Returns the numbers in the order of [`Self::REASONS`].
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
