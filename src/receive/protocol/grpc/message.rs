//! The one message of a unary call's body: a flag, four bytes of length, and the message ("Length-Prefixed-Message").
//!
//! **Invariant:** the length is only a claim: the bytes that arrive must match it exactly, and no memory is allocated
//! for it.

use axum::body::Body;
use bytes::Bytes;

use crate::error::Error;
use crate::event::ContentEncoding;
use crate::receive::ingest::body::{self, BodyLimits, UnreadBody};

const PREFIX_BYTES: usize = 5;

/// Returns the message as a body of the announced length, and its compression, which is `encoding` if the flag is 1.
///
/// # Errors
/// [`Error::Malformed`] if the prefix is cut short or its flag is invalid; [`Error::SlowBody`] or [`Error::SlowExport`]
/// if a time limit passes.
pub(crate) async fn open(
    mut body: Body,
    encoding: ContentEncoding,
    limits: &BodyLimits,
) -> Result<(UnreadBody, ContentEncoding), Error> {
    let mut prefix = [0; PREFIX_BYTES];
    let mut missing = &mut prefix[..];
    let mut piece = Bytes::new();
    while !missing.is_empty() {
        piece = body::next(&mut body, limits)
            .await?
            .ok_or_else(|| Error::malformed("the body ends before its message begins"))?;
        let come = piece.split_to(missing.len().min(piece.len()));
        missing[..come.len()].copy_from_slice(&come);
        missing = &mut missing[come.len()..];
    }
    let [flag, length @ ..] = prefix;
    let length = u64::from(u32::from_be_bytes(length));
    let encoding = match (flag, encoding) {
        (0, _) => ContentEncoding::Identity,
        (1, ContentEncoding::Identity) => {
            return Err(Error::malformed(
                "the message is marked as compressed, but grpc-encoding does not say how",
            ));
        }
        (1, encoding) => encoding,
        _ => {
            return Err(Error::malformed(
                "the message's first byte is neither 0 nor 1",
            ));
        }
    };
    let message = UnreadBody {
        first: piece,
        rest: body,
        announced_bytes: Some(length),
    };
    Ok((message, encoding))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use futures_util::stream;
    use tokio::time::Instant;

    use super::{Body, BodyLimits, Bytes, ContentEncoding, Error, body, open};
    use crate::event::Signal;
    use crate::memory::budget::Budget;

    fn limits() -> BodyLimits {
        BodyLimits {
            signal: Signal::Span,
            wire_bytes: 1000,
            decoded_bytes: 1000,
            end: Instant::now() + Duration::from_secs(30),
            client_end: None,
            idle: Duration::from_secs(10),
        }
    }

    /// Returns the message and its compression; the message is `None` if it does not match its length.
    async fn read(
        pieces: &[&'static [u8]],
        encoding: ContentEncoding,
    ) -> Result<(Option<Bytes>, ContentEncoding), Error> {
        let limits = limits();
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece)))
            .collect();
        let body = Body::from_stream(stream::iter(pieces));
        let (message, encoding) = open(body, encoding, &limits).await?;
        let mut held = Arc::new(Budget::new(4000, 2000, metrics::Gauge::noop())).reservation();
        let whole = body::read(message, &limits, &mut held, &metrics::Counter::noop()).await;
        Ok((whole.ok(), encoding))
    }

    #[tokio::test]
    async fn a_message_is_found_however_its_bytes_are_cut_into_pieces() {
        let sent = b"\x01\0\0\0\x03abc";
        for at in 0..=sent.len() {
            let pieces = [&sent[..at], b"", &sent[at..]];
            let (message, encoding) = read(&pieces, ContentEncoding::Gzip).await.unwrap();
            assert_eq!(message.unwrap(), "abc");
            assert_eq!(encoding, ContentEncoding::Gzip);
        }
        let single: Vec<&'static [u8]> = sent.chunks(1).collect();
        let (message, _) = read(&single, ContentEncoding::Zstd).await.unwrap();
        assert_eq!(message.unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_message_that_is_not_marked_is_not_compressed() {
        let sent = read(&[b"\0\0\0\0\0"], ContentEncoding::Gzip);
        let (message, encoding) = sent.await.unwrap();
        assert_eq!(message.unwrap(), "");
        assert_eq!(encoding, ContentEncoding::Identity);
    }

    #[tokio::test]
    async fn a_message_must_fit_its_length_and_be_alone() {
        for sent in [
            &b"\0\0\0\0\x03ab"[..],
            b"\0\0\0\0\x03abcd",
            b"\0\0\0\0\x03abc\0\0\0\0\x03abc",
            b"\0\0\0\0\0\0\0\0\0\0",
            b"\0\xff\xff\xff\xffabc",
        ] {
            let (message, _) = read(&[sent], ContentEncoding::Identity).await.unwrap();
            assert_eq!(message, None, "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_prefix_that_is_none_is_malformed() {
        for sent in [&b""[..], b"\0\0\0\0", b"\x02\0\0\0\0", b"\x01\0\0\0\0"] {
            let result = read(&[sent], ContentEncoding::Identity).await;
            assert!(matches!(result, Err(Error::Malformed { .. })), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn the_claimed_length_is_known_before_the_message_comes() {
        let limits = limits();
        let body = Body::from(&b"\0\xff\xff\xff\xff"[..]);
        let opened = open(body, ContentEncoding::Identity, &limits).await;
        assert_eq!(opened.unwrap().0.announced_bytes, Some(u64::from(u32::MAX)));
    }
}
