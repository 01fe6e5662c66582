//! The identity of a request, by which its retry is recognised: its bytes, or its idempotency key.
//!
//! **Invariant:** nobody can craft a request with another's identity: a digest is cryptographic and covers all that
//! shapes the rows.

use axum::http::HeaderMap;

use crate::decode::DecodeReport;
use crate::error::Error;
use crate::event::{ContentEncoding, Signal, Source};
use crate::journal::RequestDigest;

/// Maximum length of an `Idempotency-Key`, without its quotes.
const KEY_BYTES: usize = 255;

/// The identity of a request; two requests with the same one are one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DedupKey {
    /// Digest of the body or of the key, as stored in the record's header.
    pub(crate) digest: [u8; 16],
    /// Fingerprint of the body, if the digest is of a key.
    pub(crate) fingerprint: Option<Fingerprint>,
}

/// Detects a key that a client reuses, by mistake, for another body. Not cryptographic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    bytes: u32,
    checksum: u32,
}

/// The digest of an `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdempotencyKey([u8; 16]);

/// The property that identifies a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DedupBy {
    /// No property: every request is a separate one.
    Nothing,
    /// All bytes of the body as sent, with its content encoding: a client that retries sends the same bytes.
    Body,
    Key(IdempotencyKey),
}

impl DedupBy {
    /// Returns the request's identity; `None` if it is not deduplicated.
    ///
    /// Equal bodies of log records or data points are separate requests if some items have no usable time: spans have
    /// ids, but those signals are distinguished by their times alone.
    pub(crate) fn identity(
        self,
        wire: &[u8],
        source: &Source,
        content_encoding: ContentEncoding,
        checked: &DecodeReport,
    ) -> Option<DedupKey> {
        match self {
            Self::Nothing => None,
            Self::Key(IdempotencyKey(digest)) => Some(DedupKey {
                digest,
                fingerprint: Some(Fingerprint::of(wire)),
            }),
            Self::Body if source.signal != Signal::Span && checked.sanitized.time > 0 => None,
            Self::Body => {
                let shape = [
                    source.signal as u8,
                    source.encoding as u8,
                    content_encoding as u8,
                ];
                Some(DedupKey {
                    digest: digest(b"body", &shape, wire),
                    fingerprint: None,
                })
            }
        }
    }
}

impl Fingerprint {
    fn of(wire: &[u8]) -> Self {
        Self {
            bytes: u32::try_from(wire.len()).unwrap_or(u32::MAX),
            checksum: crc32c::crc32c(wire),
        }
    }

    /// Returns the fingerprint of a journal record's payload, if it is of native events: only those can have keys.
    pub(crate) fn of_record(record: &RequestDigest) -> Option<Self> {
        (record.signal == Signal::Event).then_some(Self {
            bytes: record.payload_bytes,
            checksum: record.payload_checksum,
        })
    }
}

impl IdempotencyKey {
    /// Reads the `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): 1 to 255 printable ASCII characters,
    /// with or without the quotes that the draft requires.
    ///
    /// # Errors
    /// [`Error::IdempotencyKey`] if the header is repeated, empty, longer than 255 bytes, or not printable ASCII.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let value = value.as_bytes();
        let quoted = value
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""));
        let key = quoted.unwrap_or(value);
        let printable = key.iter().all(|byte| (b' '..=b'~').contains(byte));
        if values.next().is_some() || !printable || !(1..=KEY_BYTES).contains(&key.len()) {
            return Err(Error::IdempotencyKey);
        }
        Ok(Some(Self(digest(b"key", &[Signal::Event as u8], key))))
    }
}

/// Returns the first 16 bytes of BLAKE3 over `of` (the kind of identity), `shape` and `bytes`, in this order.
fn digest(of: &[u8], shape: &[u8], bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(of).update(shape).update(bytes);
    let mut half = [0; 16];
    hasher.finalize_xof().fill(&mut half);
    half
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;
    use crate::event::{Encoding, Limits, Position, Sanitized, StreamId};

    fn keyed(values: &[&'static str]) -> Result<Option<IdempotencyKey>, Error> {
        let mut headers = HeaderMap::new();
        for value in values {
            let name = HeaderName::from_static("idempotency-key");
            headers.append(name, HeaderValue::from_static(value));
        }
        IdempotencyKey::of(&headers)
    }

    #[test]
    fn a_key_is_the_same_with_and_without_quotes() {
        assert_eq!(keyed(&[]).unwrap(), None);
        let bare = keyed(&["8e03978e-40d5"]).unwrap();
        assert!(bare.is_some());
        assert_eq!(keyed(&["\"8e03978e-40d5\""]).unwrap(), bare);
        assert_ne!(keyed(&["8e03978e-40d6"]).unwrap(), bare);
    }

    #[test]
    fn a_key_is_one_short_printable_text() {
        for refused in [&[""][..], &["\"\""], &["a\tb"], &["a", "a"], &[LONG]] {
            let refusal = keyed(refused);
            assert!(matches!(refusal, Err(Error::IdempotencyKey)), "{refused:?}");
        }
        assert!(keyed(&[&LONG[1..]]).unwrap().is_some());
    }

    const LONG: &str = match str::from_utf8(&[b'x'; KEY_BYTES + 1]) {
        Ok(text) => text,
        Err(_) => "",
    };

    fn source(signal: Signal, encoding: Encoding) -> Source {
        Source {
            signal,
            encoding,
            partial: true,
            received_unix_nano: 0,
            limits: Limits::default(),
            version: 1,
        }
    }

    #[test]
    fn every_byte_and_all_that_says_how_to_read_them_tells_requests_apart() {
        let identity = |wire: &[u8], signal, encoding, content_encoding| {
            let source = source(signal, encoding);
            let identity =
                DedupBy::Body.identity(wire, &source, content_encoding, &DecodeReport::default());
            identity.expect("equal bytes are one request").digest
        };
        let plain = ContentEncoding::Identity;
        let one = || identity(b"body", Signal::Span, Encoding::Protobuf, plain);
        assert_eq!(one(), one());
        for other in [
            identity(b"bodY", Signal::Span, Encoding::Protobuf, plain),
            identity(b"body ", Signal::Span, Encoding::Protobuf, plain),
            identity(b"body", Signal::Log, Encoding::Protobuf, plain),
            identity(b"body", Signal::Span, Encoding::Json, plain),
            identity(
                b"body",
                Signal::Span,
                Encoding::Protobuf,
                ContentEncoding::Gzip,
            ),
        ] {
            assert_ne!(one(), other);
        }
    }

    #[test]
    fn equal_lines_without_a_time_of_their_own_are_two() {
        let identity = |signal, time| {
            let source = source(signal, Encoding::Protobuf);
            let checked = DecodeReport {
                accepted: 2,
                sanitized: Sanitized {
                    time,
                    ..Sanitized::default()
                },
                ..DecodeReport::default()
            };
            DedupBy::Body.identity(b"lines", &source, ContentEncoding::Identity, &checked)
        };
        assert!(identity(Signal::Log, 0).is_some());
        assert_eq!(identity(Signal::Log, 1), None);
        assert!(identity(Signal::Span, 1).is_some());
    }

    #[test]
    fn a_records_fingerprint_is_its_requests_own() {
        let record = RequestDigest {
            position: Position {
                stream: StreamId([1; 16]),
                n: 1,
            },
            digest: [1; 16],
            signal: Signal::Event,
            received_unix_nano: 0,
            payload_bytes: 4,
            payload_checksum: crc32c::crc32c(b"body"),
        };
        let of_request = Some(Fingerprint::of(b"body"));
        assert_eq!(Fingerprint::of_record(&record), of_request);
        let spans = RequestDigest {
            signal: Signal::Span,
            ..record
        };
        assert_eq!(Fingerprint::of_record(&spans), None);
    }
}
