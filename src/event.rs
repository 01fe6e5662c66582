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
    pub flags: Flags,
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
        flags: Flags(0),
    };
}

/// What was changed about an event on its way; the column `flags`, NULL when empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub i16);

impl Flags {
    /// The event's own time could not be used (absent, absurd, or plainly in another unit); the receive time stands in.
    pub const TIME_REPLACED: Self = Self(1);
    /// The end was before the start, absent, or beyond the range of `time_unix_nano`.
    pub const END_INVALID: Self = Self(2);
    /// A text was cut to its column, or an attribute by a limit.
    pub const CUT: Self = Self(4);
    /// `created_at` is the database's time: the receive time was implausible.
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
    /// `{"attributes": {…}, "droppedAttributesCount": n, "entityRefs": […], "schemaUrl": "…"}`, defaults left out.
    pub resource: String,
    /// `{"name": "…", "version": "…", "attributes": {…}, "droppedAttributesCount": n, "schemaUrl": "…"}`, likewise.
    pub scope: String,
}
