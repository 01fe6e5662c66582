//! Latency of GET requests, sent at a fixed pace that the server can keep.
//!
//! **Invariant:** every answer is 200 and is read to its end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::send::Http;
use crate::timing::{percentile_ms, wait_until};

/// Requests before the clock starts: caches are warm then, and the pace is known.
const WARM_UP: usize = 10;
/// A request is due after this many times the usual duration of an answer.
const PACE: u32 = 3;
const LEAST_PACE: Duration = Duration::from_millis(5);
/// A slow query is asked less often, within this time, but at least [`LEAST_COUNT`] times.
const TIME: Duration = Duration::from_secs(20);
const LEAST_COUNT: u32 = 20;

async fn get(http: Http, url: String) -> usize {
    let request = Request::get(&url).body(Full::new(Bytes::new()));
    let answer = http
        .request(request.expect("the URL is valid"))
        .await
        .expect("the server answers");
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("it is whole");
    let body = body.to_bytes();
    assert!(
        status.is_success(),
        "{url}: {status} {}",
        String::from_utf8_lossy(&body)
    );
    body.len()
}

/// Asks for the paths, one a line in the file `paths`, in turn.
pub(crate) async fn measure(arguments: &Arguments) -> String {
    let url = arguments.text("url");
    let paths = std::fs::read_to_string(arguments.text("paths")).expect("the file can be read");
    let urls: Vec<String> = paths.lines().map(|path| format!("{url}{path}")).collect();
    let http: Http =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .build_http();
    let mut warm = Vec::new();
    let mut bytes = 0;
    for url in urls.iter().cycle().take(WARM_UP) {
        let began = Instant::now();
        bytes = get(http.clone(), url.clone()).await;
        warm.push(began.elapsed());
    }
    warm.sort_unstable();
    let every = (warm[WARM_UP / 2] * PACE).max(LEAST_PACE);
    let in_time = u32::try_from(TIME.as_millis() / every.as_millis()).expect("few");
    let count = arguments
        .number::<u32>("count")
        .min(in_time.max(LEAST_COUNT));
    let runtime = tokio::runtime::Handle::current();
    let began = Instant::now();
    let asking = tokio::task::spawn_blocking(move || {
        let mut asked = JoinSet::new();
        for (n, url) in (0..count).zip(urls.iter().cycle()) {
            let due = began + every * n;
            wait_until(due);
            let answer = get(http.clone(), url.clone());
            asked.spawn_on(
                async move {
                    answer.await;
                    due.elapsed()
                },
                &runtime,
            );
        }
        asked
    });
    let mut took = asking.await.expect("the pace is kept").join_all().await;
    format!(
        r#"{{"answers":{},"bytes":{bytes},"every_ms":{:.1},"p50_ms":{:.3},"p99_ms":{:.3}}}"#,
        took.len(),
        every.as_secs_f64() * 1e3,
        percentile_ms(&mut took, 50),
        percentile_ms(&mut took, 99)
    )
}
