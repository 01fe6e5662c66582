//! Ready-made requests. Each is a copy of a template into which new ids and times are written, because encoding every request
//! would cost more than the server's own work.
//!
//! **Invariant:** no two requests of a run are equal, since the service answers a repeated one as a duplicate; requests that are
//! written to a table have a different id in every span.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::timing::now_unix_nano;

/// Native events and OTLP's JSON.
mod json;

/// OTLP's protobuf.
mod spans;

/// Number of templates, each with another service.
const TEMPLATES: u64 = 20;

/// The kind of a run's requests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Protobuf with eight attributes a span, five a resource, ten spans a trace.
    Spans,
    /// The same, with half of all spans in one trace.
    OneTrace,
    /// The same, in requests of a twentieth to the whole of the number of spans.
    Mixed,
    /// Protobuf, compressed. The ids repeat; the gzip header differs.
    Gzip,
    /// OTLP's JSON. The first trace id differs.
    Json,
    /// Native events of 450 bytes. The first correlation id differs.
    Native,
}

impl Kind {
    pub(crate) fn read(text: Option<&str>) -> Self {
        match text {
            None | Some("spans") => Self::Spans,
            Some("one-trace") => Self::OneTrace,
            Some("mixed") => Self::Mixed,
            Some("gzip") => Self::Gzip,
            Some("json") => Self::Json,
            Some("native") => Self::Native,
            Some(other) => panic!("{other} is no kind of body"),
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Native => "application/json",
            Self::Spans | Self::OneTrace | Self::Mixed | Self::Gzip => "application/x-protobuf",
        }
    }
}

/// The part of a template that differs in every request.
enum Serial {
    /// Ids and times of every span.
    Spans(Vec<spans::SpanPlace>),
    /// Sixteen hexadecimal digits.
    Hex(usize),
    /// Four bytes: the time of modification in gzip's header.
    GzipTime,
}

struct Template {
    bytes: Vec<u8>,
    items: u64,
    serial: Serial,
}

/// One request.
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    pub(crate) items: u64,
}

pub(crate) struct Bodies {
    templates: Vec<Template>,
    kind: Kind,
    spans: u64,
    /// Makes the ids of one run different from another's; a multiple of ten, as traces have ten spans.
    run: u64,
    /// Bytes before each message: the head of a gRPC frame.
    head_bytes: usize,
}

impl Bodies {
    /// Requests with `spans` items each.
    pub(crate) fn new(kind: Kind, spans: u64) -> Self {
        let now = now_unix_nano();
        let templates = (0..TEMPLATES).map(|n| template(kind, n, spans, now));
        Self {
            templates: templates.collect(),
            kind,
            spans,
            run: scatter(now) / 100 * 10,
            head_bytes: 0,
        }
    }

    /// The same requests in gRPC frames.
    pub(crate) fn framed(mut self) -> Self {
        self.head_bytes = 5;
        for template in &mut self.templates {
            let length = u32::try_from(template.bytes.len()).expect("below 4 GiB");
            let head = [&[0], &length.to_be_bytes()[..]].concat();
            template.bytes.splice(0..0, head);
        }
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The templates, for parsers that are measured alone.
    pub(crate) fn templates(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.templates
            .iter()
            .map(|template| (template.bytes.as_slice(), template.items))
    }

    /// The request with the number `n`.
    pub(crate) fn body(&self, n: u64) -> Body {
        let at = usize::try_from(n % TEMPLATES).expect("below twenty");
        let template = &self.templates[at];
        let mut bytes = Vec::with_capacity(template.bytes.len());
        bytes.extend_from_slice(&template.bytes);
        let message = &mut bytes[self.head_bytes..];
        let serial = self.run.wrapping_add(n);
        match &template.serial {
            Serial::Spans(places) => {
                let one_trace = self.kind == Kind::OneTrace;
                let first = self.run.wrapping_add(n * self.spans);
                spans::renew(message, places, first, now_unix_nano(), |trace| {
                    if one_trace && trace % 2 == 0 {
                        self.run
                    } else {
                        trace
                    }
                });
            }
            Serial::Hex(at) => {
                write!(&mut message[*at..*at + 16], "{:016x}", scatter(serial))
                    .expect("sixteen digits");
            }
            Serial::GzipTime => message[4..8].copy_from_slice(&serial.to_le_bytes()[..4]),
        }
        Body {
            bytes: bytes.into(),
            items: template.items,
        }
    }
}

fn template(kind: Kind, n: u64, spans: u64, now_unix_nano: u64) -> Template {
    let items = match kind {
        Kind::Mixed => spans * (n + 1) / TEMPLATES,
        Kind::Spans | Kind::OneTrace | Kind::Gzip | Kind::Json | Kind::Native => spans,
    };
    let (bytes, serial) = match kind {
        Kind::Spans | Kind::OneTrace | Kind::Mixed => {
            let (bytes, places) = spans::message(n, n * spans, items, now_unix_nano);
            (bytes, Serial::Spans(places))
        }
        Kind::Gzip => {
            let (bytes, _) = spans::message(n, n * spans, items, now_unix_nano);
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(&bytes).expect("memory takes it");
            (gzip.finish().expect("memory takes it"), Serial::GzipTime)
        }
        Kind::Json => {
            let (bytes, at) = json::spans(n, n * spans, items, now_unix_nano);
            (bytes, Serial::Hex(at))
        }
        Kind::Native => {
            let (bytes, at) = json::events(n, n * spans, items, now_unix_nano);
            (bytes, Serial::Hex(at))
        }
    };
    Template {
        bytes,
        items,
        serial,
    }
}

/// Spreads a counter over 64 bits, as random ids are spread (SplitMix64).
pub(crate) fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The names of spans.
const NAMES: [&str; 5] = [
    "GET /orders",
    "POST /orders",
    "SELECT orders",
    "publish",
    "charge",
];

fn name(n: u64) -> &'static str {
    NAMES[usize::try_from(n % 5).expect("below five")]
}
