//! A request's path without sockets: panics in decoding, and the memory that a waiting request holds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use tokio::sync::oneshot;
use tower::ServiceExt;

use crate::journal::disk::OsDisk;
use crate::journal::{self, Journal};
use crate::receive::ingest::pipeline::{
    DECODED_IN_PLACE_BYTES, DecodeError, DecodeReport, Source, decode,
};
use crate::receive::protocol::native;
use crate::receive::{Options, Receiver};
use crate::write::Progress;

fn check(body: &[u8], source: &Source) -> Result<DecodeReport, DecodeError> {
    assert!(!body.ends_with(b"  "), "a fault in decoding");
    decode::check(body, source)
}

fn open(dir: &Path) -> Journal {
    let options = journal::Options {
        dir: dir.to_owned(),
        budget_bytes: Some(64 << 20),
        segment_bytes: Some(4 << 20),
        free_floor_bytes: Some(0),
        keep_stored: Duration::ZERO,
        ..journal::Options::default()
    };
    Journal::open(Arc::new(OsDisk), &options).unwrap()
}

/// The same body would panic again, so the answer must not be retryable: the client would send it for ever.
#[tokio::test]
async fn a_panic_in_decoding_is_answered_400_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let mut receiver = Receiver::new(journal.clone(), Progress::default(), Options::default());
    Arc::get_mut(&mut receiver).expect("not shared yet").check = check;
    let router = Router::new().route("/ingest", native::ingest(&receiver));
    let send = async |end: &str, spaces: usize| {
        let event = r#"{"correlationId":"c","integration":"i","eventType":"e"}"#;
        let body = format!("{event}{}{end}", " ".repeat(spaces));
        let request = Request::post("/ingest").body(Body::from(body)).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    };
    for round in 1..=4 {
        for spaces in [0, DECODED_IN_PLACE_BYTES] {
            assert_eq!(send("  ", spaces).await, StatusCode::BAD_REQUEST);
        }
        assert_eq!(send("\n", DECODED_IN_PLACE_BYTES).await, StatusCode::OK);
        assert_eq!(journal.status().synced, round);
    }
    let mut all = receiver.budget.reservation();
    let half = receiver.budget.most_bytes();
    assert_eq!(all.grow(half), Ok(()), "no memory is left reserved");
}

/// A body whose drop closes a channel.
struct Told {
    bytes: Vec<u8>,
    _held: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bodies were held for five seconds after their reservation was released: clients that waited for an unavailable
/// database could use up all memory.
#[tokio::test]
async fn a_client_that_waits_for_the_database_holds_no_body_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::new(open(dir.path()), Progress::default(), Options::default());
    let router = Router::new().route("/ingest", native::ingest(&receiver));
    for first in [true, false] {
        let (held, gone) = oneshot::channel();
        let event = br#"{"correlationId":"c","integration":"i","eventType":"e"}"#;
        let body = Bytes::from_owner(Told {
            bytes: event.to_vec(),
            _held: held,
        });
        let request = Request::post("/ingest?wait=stored")
            .header("idempotency-key", "k")
            .body(Body::from(body))
            .unwrap();
        let answering = router.clone().oneshot(request);
        tokio::select! {
            biased;
            _ = gone => {}
            _ = answering => panic!("the body was held to the end; first: {first}"),
        }
    }
}
