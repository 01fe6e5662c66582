//! The addresses of the service, on machines with and without IPv6.
//!
//! A kernel without IPv6 is one whose socket(2) answers EAFNOSUPPORT for it. The service binds before it opens any other
//! socket, so `strace` can answer in its place, call by call.
//!
//! **Invariant:** only addresses that the machine lacks are left out; a named address is listened on or is an error.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::support::service::{Launch, PATIENCE};

/// The service on a kernel that refuses these socket calls: `2+2` is every second one.
fn without_ipv6(launch: &Launch, turns: &str) -> Launch {
    let inject = format!("inject=socket:error=EAFNOSUPPORT:when={turns}");
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null"];
    let what = ["-e", "trace=socket", "-e", &inject];
    launch.clone().under(&[&strace[..], &what[..]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_of_a_machine_without_ipv6_is_every_one_of_ipv4() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let all = Launch::sqlite(dir.path()).with("RUVVECTOR_BIND", "[::]");
    let service = without_ipv6(&all, "1+2").start().await;
    assert_eq!(service.address().ip(), Ipv4Addr::UNSPECIFIED);
    let lines = service.lines();
    for name in ["main", "otlp_http", "otlp_grpc"] {
        let line = format!("no IPv6 here: {name} listens on 0.0.0.0 instead of [::]");
        assert_eq!(lines.matches(&line).count(), 1, "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_of_a_machine_with_ipv6_is_both() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let all = Launch::sqlite(dir.path()).with("RUVVECTOR_BIND", "[::]");
    let service = all.start().await;
    let port = service.address().port();
    for host in ["127.0.0.1", "[::1]"] {
        let answer = service
            .http
            .get(&format!("http://{host}:{port}/health/live"))
            .await;
        assert_eq!(answer.expect(host).status.as_u16(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loopbacks_of_a_machine_without_ipv6_are_the_one_of_ipv4() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let both = Launch::sqlite(dir.path()).with("RUVVECTOR_BIND", "127.0.0.1,::1");
    let service = without_ipv6(&both, "2+2").start().await;
    assert_eq!(service.address().ip(), Ipv4Addr::LOCALHOST);
    assert!(service.lines().contains("main listens without ::1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_of_ipv6_is_an_error_without_it() {
    for address in ["2001:db8::1", "::1"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let named = Launch::sqlite(dir.path()).with("RUVVECTOR_BIND", address);
        let mut service = without_ipv6(&named, "1+").spawn();
        let status = service.ended(PATIENCE.min(Duration::from_secs(60))).await;
        assert_eq!(status.code(), Some(1));
        let said = format!("cannot listen on [{address}]:0");
        assert!(service.lines().contains(&said), "{}", service.lines());
    }
}
