//! The table of recent requests without a receiver: the window, the bound, and requests in flight.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::decode::DecodeReport;
use crate::event::{ContentEncoding, Encoding, Limits, Source, StreamId};
use crate::receive::ingest::dedup::*;
use crate::receive::ingest::dedup_key::{DedupBy, DedupKey};

const SECOND: i64 = 1_000_000_000;

fn duplicates(most: usize) -> Arc<RecentRequests> {
    Arc::new(RecentRequests::new(&Options {
        duplicate_window: Some(Duration::from_secs(10)),
        duplicate_requests: most,
        ..Options::default()
    }))
}

fn at(n: u64) -> Position {
    let stream = StreamId([7; 16]);
    Position { stream, n }
}

fn request(number: u8) -> DedupKey {
    DedupKey {
        digest: [number; 16],
        fingerprint: None,
    }
}

fn key() -> Option<IdempotencyKey> {
    let name = HeaderName::from_static("idempotency-key");
    let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("k"))]);
    IdempotencyKey::of(&headers).unwrap()
}

/// Polls a claim once; `None` if it has to wait.
fn claim_now(duplicates: &Arc<RecentRequests>, identity: DedupKey, received: i64) -> Option<Claim> {
    let claiming = pin!(duplicates.claim(Some(identity), received));
    match claiming.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(claim) => Some(claim),
        Poll::Pending => None,
    }
}

fn first(duplicates: &Arc<RecentRequests>, identity: DedupKey, received: i64) -> ClaimGuard {
    match claim_now(duplicates, identity, received) {
        Some(Claim::First(Some(first))) => first,
        _ => panic!("an identical request precedes it"),
    }
}

/// Settles the request as synced at the position of the same number.
fn accept(duplicates: &Arc<RecentRequests>, number: u8, received: i64) {
    let first = first(duplicates, request(number), received);
    first.settle(Ok(at(u64::from(number))));
}

fn is_known(duplicates: &Arc<RecentRequests>, number: u8, received: i64) -> bool {
    match claim_now(duplicates, request(number), received) {
        Some(Claim::Duplicate(position)) => {
            assert_eq!(position, at(u64::from(number)));
            true
        }
        Some(Claim::First(Some(first))) => {
            first.settle(Err(AppendError::Full));
            false
        }
        _ => panic!("a request is in flight"),
    }
}

#[test]
fn what_is_synced_is_known_until_the_window_has_passed() {
    let duplicates = duplicates(100);
    assert!(!is_known(&duplicates, 1, 0));
    accept(&duplicates, 1, 0);
    assert!(is_known(&duplicates, 1, 0));
    assert!(is_known(&duplicates, 1, 10 * SECOND - 1));
    assert!(!is_known(&duplicates, 2, 10 * SECOND - 1));
    assert!(!is_known(&duplicates, 1, 10 * SECOND));
}

#[test]
fn a_request_that_comes_again_after_its_window_has_a_window_of_its_own() {
    let duplicates = duplicates(100);
    accept(&duplicates, 1, 0);
    accept(&duplicates, 1, 12 * SECOND);
    // Evicts the first of the two.
    accept(&duplicates, 2, 15 * SECOND);
    assert!(is_known(&duplicates, 1, 15 * SECOND));
    assert_eq!(duplicates.memory().order.len(), 2);
}

#[test]
fn the_oldest_go_first_and_no_more_are_kept_than_the_setting_says() {
    let duplicates = duplicates(3);
    for number in 1..=200 {
        accept(&duplicates, number, i64::from(number));
    }
    let memory = duplicates.memory();
    assert_eq!((memory.order.len(), memory.known.len()), (3, 3));
    drop(memory);
    let known = (1..=200).filter(|number| is_known(&duplicates, *number, 200));
    assert_eq!(known.collect::<Vec<_>>(), [198, 199, 200]);
}

#[test]
fn what_is_past_the_window_takes_no_memory() {
    let duplicates = duplicates(100);
    for number in 1..=50 {
        accept(&duplicates, number, 0);
    }
    accept(&duplicates, 51, 10 * SECOND);
    let memory = duplicates.memory();
    assert_eq!((memory.order.len(), memory.known.len()), (1, 1));
}

#[tokio::test]
async fn one_like_it_that_is_under_way_is_waited_for() {
    let duplicates = duplicates(100);
    let going = first(&duplicates, request(1), 0);
    let mut waiting = pin!(duplicates.claim(Some(request(1)), 1));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(claim_now(&duplicates, request(2), 1).is_some());
    going.settle(Ok(at(5)));
    assert!(matches!(waiting.await, Claim::Duplicate(position) if position == at(5)));
}

#[tokio::test]
async fn after_a_refused_one_the_next_request_replaces_it_and_the_others_wait_for_that() {
    let duplicates = duplicates(100);
    for refusal in [
        AppendError::Full,
        AppendError::DiskFull,
        AppendError::TooLarge,
        AppendError::Closed,
    ] {
        let going = first(&duplicates, request(1), 0);
        let mut second = pin!(duplicates.claim(Some(request(1)), 1));
        let mut third = pin!(duplicates.claim(Some(request(1)), 1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
        going.settle(Err(refusal));
        let Claim::First(Some(next)) = second.await else {
            panic!("the place is free")
        };
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(next);
        assert!(matches!(third.await, Claim::Unknown));
        assert!(!is_known(&duplicates, 1, 1));
    }
}

#[tokio::test]
async fn of_one_whose_outcome_is_unknown_those_that_wait_learn_just_that() {
    let duplicates = duplicates(100);
    let going = first(&duplicates, request(1), 0);
    let mut waiting = pin!(duplicates.claim(Some(request(1)), 1));
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    going.settle(Err(AppendError::Unknown));
    assert!(matches!(waiting.await, Claim::Unknown));
    assert!(!is_known(&duplicates, 1, 1), "nobody may be told accepted");
}

#[test]
fn an_abandoned_claim_leaves_nothing() {
    let duplicates = duplicates(100);
    drop(first(&duplicates, request(1), 0));
    assert!(!is_known(&duplicates, 1, 0));
    assert!(duplicates.memory().known.is_empty());
}

#[test]
fn requests_under_way_are_not_let_go_for_others() {
    let duplicates = duplicates(1);
    let going = first(&duplicates, request(1), 0);
    for number in 2..20 {
        accept(&duplicates, number, i64::from(number) * SECOND);
    }
    assert!(claim_now(&duplicates, request(1), 30 * SECOND).is_none());
    going.settle(Ok(at(1)));
    assert!(is_known(&duplicates, 1, SECOND));
}

#[test]
fn a_key_is_of_one_body() {
    let duplicates = duplicates(100);
    let source = Source {
        signal: Signal::Event,
        encoding: Encoding::Json,
        partial: false,
        received_unix_nano: 0,
        limits: Limits::default(),
        version: 1,
    };
    let known_by = duplicates.dedup_by(Signal::Event, key());
    let identity = |body: &[u8]| {
        known_by
            .identity(
                body,
                &source,
                ContentEncoding::Identity,
                &DecodeReport::default(),
            )
            .unwrap()
    };
    let going = first(&duplicates, identity(b"one"), 0);
    for settled in [None, Some(going)] {
        if let Some(going) = settled {
            going.settle(Ok(at(1)));
            let again = claim_now(&duplicates, identity(b"one"), 1);
            assert!(matches!(again, Some(Claim::Duplicate(_))));
        }
        let other = claim_now(&duplicates, identity(b"two"), 1);
        assert!(matches!(other, Some(Claim::KeyReused)));
    }
    let later = claim_now(&duplicates, identity(b"two"), 10 * SECOND);
    assert!(matches!(later, Some(Claim::First(_))));
}

#[test]
fn what_is_not_asked_for_is_known_by_nothing() {
    let off = RecentRequests::new(&Options {
        duplicate_window: None,
        ..Options::default()
    });
    assert_eq!(off.dedup_by(Signal::Span, None), DedupBy::Nothing);
    assert_eq!(off.dedup_by(Signal::Event, key()), DedupBy::Nothing);
    let usual = RecentRequests::new(&Options::default());
    assert_eq!(usual.dedup_by(Signal::Span, None), DedupBy::Body);
    for signal in [Signal::Event, Signal::Log, Signal::Metric] {
        assert_eq!(usual.dedup_by(signal, None), DedupBy::Nothing);
    }
}
