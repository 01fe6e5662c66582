//! A connection's life: protocols, timeouts, age, drain.

use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::routing::any;
use bytes::Bytes;
use futures_util::future::{join_all, select_all};
use http_body_util::Full;
use ruvvector_service::lifecycle::{Lifecycle, Phase};
use ruvvector_service::receive::{ConnectionLimit, Options, serve};
use tokio::net::{TcpListener, TcpStream};

use super::{EVENT, Served, head};
use crate::support::http::{Raw, RawAnswer, http2};

fn event_request() -> String {
    head("/ingest", "", EVENT.len()) + EVENT
}

async fn exchange(raw: &mut Raw) -> RawAnswer {
    raw.send(event_request()).await;
    raw.answer().await.expect("an answer")
}

fn http2_request(served: &Served) -> Request<Full<Bytes>> {
    Request::post(served.url("/ingest"))
        .body(Full::from(EVENT))
        .expect("well formed")
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_on_one_port() {
    let served = Served::start().await;
    let client = http2();
    let many = join_all((0..200).map(|_| client.request(http2_request(&served)))).await;
    assert!(
        many.into_iter()
            .all(|answer| answer.expect("an answer").status() == 200)
    );
    let mut raw = served.raw().await;
    assert_eq!(exchange(&mut raw).await.status, 200);
    served.assert_unharmed(201).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_turn() {
    let served = Served::start().await;
    let mut raw = served.raw().await;
    raw.send(event_request().repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(raw.answer().await.expect("an answer").status, 200);
    }
    served.assert_unharmed(3).await;
}

#[tokio::test]
async fn a_head_that_drips_is_cut_while_others_are_served() {
    let served = Served::start_with(Options {
        header_timeout: Duration::from_millis(200),
        keep_alive_idle: Duration::from_secs(3600),
        ..Options::default()
    })
    .await;
    let mut silent = served.raw().await;
    let mut first = served.raw().await;
    first.send("POST /ingest HT").await;
    let mut second = served.raw().await;
    assert_eq!(exchange(&mut second).await.status, 200);
    second.send("POST /ingest HT").await;
    for raw in [&mut silent, &mut first, &mut second] {
        raw.closed().await;
    }
    served.assert_unharmed(1).await;
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout_and_ends_at_its_own() {
    let served = Served::start_with(Options {
        header_timeout: Duration::from_millis(50),
        keep_alive_idle: Duration::from_secs(2),
        ..Options::default()
    })
    .await;
    let mut raw = served.raw().await;
    assert_eq!(exchange(&mut raw).await.status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(exchange(&mut raw).await.status, 200);
    raw.closed().await;
}

/// A connection kept the deadline of its earlier activity: an idle one ended as late as a slow first head would have,
/// and a head that arrived slowly after an idle time had as long as that idle time may last.
#[tokio::test]
async fn a_connection_ends_in_time_whatever_it_did_before() {
    // Longer than the time after which the service decides if a new connection gets a reserved slot.
    let while_nothing_happens = Duration::from_secs(6);
    let options = |header_timeout, keep_alive_idle| Options {
        header_timeout,
        keep_alive_idle,
        ..Options::default()
    };
    let (short, long) = (Duration::from_millis(200), Duration::from_secs(3600));
    let rests_shortly = Served::start_with(options(long, short)).await;
    let rests_long = Served::start_with(options(short, long)).await;
    let mut silent = rests_shortly.raw().await;
    let mut rested = rests_long.raw().await;
    assert_eq!(exchange(&mut rested).await.status, 200);
    tokio::time::sleep(while_nothing_happens).await;

    assert_eq!(exchange(&mut silent).await.status, 200);
    silent.closed().await;
    rested.send("POST /ingest HT").await;
    rested.closed().await;
}

#[tokio::test]
async fn a_connection_of_age_ends_with_an_answer_that_says_so() {
    let served = Served::start_with(Options {
        connection_age: Duration::from_millis(100),
        ..Options::default()
    })
    .await;
    let mut raw = served.raw().await;
    let mut sent = 0;
    loop {
        let answer = exchange(&mut raw).await;
        assert_eq!(answer.status, 200);
        sent += 1;
        if answer.header("connection") == Some("close") {
            break;
        }
    }
    raw.closed().await;
    served.assert_unharmed(sent).await;
}

#[tokio::test]
async fn no_request_of_http1_is_lost_to_a_connections_age() {
    let served = Served::start_with(Options {
        connection_age: Duration::from_millis(20),
        ..Options::default()
    })
    .await;
    let client = async || {
        let (mut sent, mut closings) = (0, 0);
        while closings < 10 {
            let mut raw = served.raw().await;
            loop {
                sent += 1;
                // A client without an announcement may send at any time, and is answered.
                let answer = exchange(&mut raw).await;
                assert_eq!(answer.status, 200);
                if answer.header("connection") == Some("close") {
                    break;
                }
            }
            raw.closed().await;
            closings += 1;
        }
        sent
    };
    let sent = join_all((0..4).map(|_| client())).await;
    assert_eq!(served.logged_events().await, sent.iter().sum::<u32>());
}

#[tokio::test]
async fn no_request_of_http2_is_lost_to_a_connections_age() {
    let served = Served::start_with(Options {
        connection_age: Duration::from_millis(20),
        ..Options::default()
    })
    .await;
    let client = http2();
    let mut sent = 0;
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        let answers = join_all((0..8).map(|_| client.request(http2_request(&served)))).await;
        for answer in answers {
            assert_eq!(answer.expect("an answer").status(), 200);
            sent += 1;
        }
    }
    assert_eq!(served.logged_events().await, sent);
}

#[tokio::test]
async fn draining_finishes_what_is_under_way_and_takes_no_more() {
    let served = Served::start().await;
    let mut idle = served.raw().await;
    assert_eq!(exchange(&mut idle).await.status, 200);
    let mut half_head = served.raw().await;
    half_head.send(&event_request()[..20]).await;
    let mut half_body = served.raw().await;
    // The 100 shows that the server has begun to process it.
    half_body
        .send(head("/ingest", "Expect: 100-continue\r\n", EVENT.len()))
        .await;
    assert_eq!(half_body.answer().await.expect("an answer").status, 100);
    half_body.send(&EVENT[..10]).await;

    served.lifecycle.advance(Phase::Closing);
    idle.closed().await;
    half_head.send(&event_request()[20..]).await;
    half_body.send(&EVENT[10..]).await;
    for raw in [&mut half_head, &mut half_body] {
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), Some("close"));
        raw.closed().await;
    }
    served.server.await.expect("it returns");
    assert!(TcpStream::connect(served.address).await.is_err());
    assert_eq!(served.journal.status().appended, 3);
}

/// nginx connected just when an instance stopped. Its connection was reset in the listener's queue, or closed before
/// its first request, and nginx answered 502 to a client whose event nobody had refused.
#[tokio::test]
async fn who_has_connected_when_the_stop_comes_is_served_and_who_says_nothing_is_not_waited_for_long()
 {
    let served = Served::start().await;
    let mut accepted = served.raw().await;
    // The server runs on this thread: it does not run between these connections and the stop.
    assert_eq!(served.post_event().await.status, 200);
    let sockets =
        [(); 20].map(|()| std::net::TcpStream::connect(served.address).expect("it listens"));
    served.lifecycle.advance(Phase::Closing);
    let mut queued: Vec<Raw> = sockets.into_iter().map(Raw::of).collect();
    let mut silent = queued.pop().expect("20");

    // The listener closes immediately all the same.
    while TcpStream::connect(served.address).await.is_ok() {}
    tokio::time::sleep(Duration::from_millis(100)).await;
    for raw in queued.iter_mut().chain([&mut accepted]) {
        let answer = exchange(raw).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), Some("close"));
        raw.closed().await;
    }
    silent.closed().await;
    served.server.await.expect("it returns");
    assert_eq!(served.journal.status().appended, 21);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_places_that_do_not_come_free() {
    let served = Served::start_with(Options {
        connections: 1,
        ..Options::default()
    })
    .await;
    let mut busy = served.raw().await;
    busy.send(head("/ingest", "Expect: 100-continue\r\n", EVENT.len()))
        .await;
    assert_eq!(busy.answer().await.expect("an answer").status, 100);
    let _queued = [served.raw().await, served.raw().await];
    served.lifecycle.advance(Phase::Closing);
    let closed = async { while TcpStream::connect(served.address).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), closed)
        .await
        .expect("no more connections are taken");
    busy.send(EVENT).await;
    assert_eq!(busy.answer().await.expect("an answer").status, 200);
    served.server.await.expect("it returns");
}

#[tokio::test]
async fn before_the_stop_clients_are_served_and_asked_to_disconnect() {
    let served = Served::start().await;
    let mut old = served.raw().await;
    assert_eq!(exchange(&mut old).await.header("connection"), None);
    let client = http2();
    let answer = client
        .request(http2_request(&served))
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);

    served.lifecycle.advance(Phase::Announcing);
    let mut new = served.raw().await;
    for raw in [&mut old, &mut new] {
        // If the close was announced in time is a race that costs one more request.
        while exchange(raw).await.header("connection").is_none() {}
        raw.closed().await;
    }
    for _ in 0..10 {
        let answer = client
            .request(http2_request(&served))
            .await
            .expect("an answer");
        assert_eq!(answer.status(), 200);
    }
    assert!(!served.server.is_finished());
}

#[tokio::test]
async fn a_connection_over_the_limit_waits_for_a_place() {
    let served = Served::start_with(Options {
        connections: 2,
        ..Options::default()
    })
    .await;
    let mut first = served.raw().await;
    let mut second = served.raw().await;
    assert_eq!(exchange(&mut first).await.status, 200);
    assert_eq!(exchange(&mut second).await.status, 200);
    let mut third = served.raw().await;
    third.send(event_request()).await;
    let unanswered = tokio::time::timeout(Duration::from_millis(200), third.answer()).await;
    assert!(unanswered.is_err(), "there is no place");
    drop(first);
    assert_eq!(third.answer().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn all_sockets_share_the_places_and_one_without_clients_keeps_none() {
    let options = Options {
        connections: 1,
        ..Options::default()
    };
    let places = ConnectionLimit::new(&options);
    let lifecycle = Lifecycle::default();
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        addresses.push(listener.local_addr().expect("bound"));
        let router = Router::new().route("/", any(async || "here"));
        let (options, places, lifecycle) = (options.clone(), places.clone(), lifecycle.clone());
        tokio::spawn(serve(listener, router, options, places, lifecycle));
    }
    let mut waiting = Vec::new();
    for address in addresses.iter().rev() {
        let mut raw = Raw::connect(*address).await;
        raw.send(head("/", "", 0)).await;
        waiting.push(raw);
    }
    let mut served = 0;
    while !waiting.is_empty() {
        let answers = waiting.iter_mut().map(|raw| Box::pin(raw.answer()));
        let (answer, index, _) = select_all(answers).await;
        assert_eq!(answer.expect("an answer").status, 200);
        let others = waiting.len() - 1;
        let first = waiting.remove(index);
        let more = waiting.iter_mut().map(|raw| Box::pin(raw.answer()));
        if others > 0 {
            let more = tokio::time::timeout(Duration::from_millis(100), select_all(more));
            assert!(more.await.is_err(), "only one has a place");
        }
        drop(first);
        served += 1;
    }
    assert_eq!(served, 3);
    lifecycle.advance(Phase::Closing);
}

#[tokio::test]
async fn slow_connections_do_not_stand_in_the_way_of_others() {
    let served = Served::start().await;
    let mut slow = Vec::new();
    for n in 0..300 {
        let mut raw = served.raw().await;
        match n % 3 {
            0 => {}
            1 => assert!(raw.send("POST /ing").await),
            _ => assert!(raw.send(&event_request()[..100]).await),
        }
        slow.push(raw);
    }
    for _ in 0..20 {
        assert_eq!(served.post_event().await.status, 200);
    }
    assert_eq!(served.logged_events().await, 20);
}
