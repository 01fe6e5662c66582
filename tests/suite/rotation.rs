//! Secrets that change while the service runs, and SIGHUP.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::Method;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::support::ports::free_port;
use crate::support::postgres::Cluster;
use crate::support::service::{Launch, Service};

const EVENT: &str = r#"{"correlationId":"c","integration":"shop","eventType":"sent"}"#;

/// A file that is replaced as Kubernetes and systemd do it: another file gets its name.
fn put(file: &Path, text: &str) {
    let next = file.with_extension("next");
    std::fs::write(&next, text).expect("it can be written");
    std::fs::rename(&next, file).expect("it can be renamed");
}

async fn status(service: &Service, token: &str) -> u16 {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    let answer = service
        .http
        .send(Method::POST, &service.url("/ingest"), &headers, EVENT)
        .await;
    answer.expect("an answer").status.as_u16()
}

/// A token was rotated in its file; the service refused the new one and accepted the old one until it was restarted.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_counts_without_a_restart_and_the_old_one_no_longer() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("tokens");
    put(&file, "one\n");
    let launch = Launch::sqlite(dir.path())
        .with("RUVVECTOR_AUTH_TOKENS_FILE", file.to_str().expect("UTF-8"));
    let service = launch.start().await;
    assert_eq!(
        (status(&service, "one").await, status(&service, "two").await),
        (200, 401)
    );

    put(&file, "two\n");
    service
        .until("the new token is accepted", async |service: &Service| {
            status(service, "two").await == 200
        })
        .await;
    assert_eq!(status(&service, "one").await, 401);

    // An unusable file changes nothing and is reported.
    put(&file, "");
    service
        .until(
            "an empty file is complained of",
            async |service: &Service| service.lines().contains("the earlier one stays in use"),
        )
        .await;
    assert_eq!(
        (status(&service, "two").await, status(&service, "").await),
        (200, 401)
    );
}

/// The database's password was rotated in its file. Once its connections had ended, nothing was written until a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_is_used_by_the_next_connection() {
    let cluster = Cluster::start();
    let mut admin = PgConnection::connect(&cluster.url())
        .await
        .expect("it answers");
    demand_passwords(&mut admin).await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("password");
    put(&file, "one");
    let url = cluster.url();
    let (_, place) = url.rsplit_once('@').expect("a user");
    let (_, port) = place
        .trim_end_matches("/postgres")
        .rsplit_once(':')
        .expect("a port");
    let launch = Launch::sqlite(dir.path())
        .with("RUVVECTOR_STORE", "postgres")
        .with("POSTGRES_HOST", "127.0.0.1")
        .with("POSTGRES_PORT", port)
        .with("POSTGRES_USER", "app")
        .with("POSTGRES_DB", "postgres")
        .with("POSTGRES_PASSWORD_FILE", file.to_str().expect("UTF-8"));
    let service = launch.start().await;
    assert_eq!(status(&service, "").await, 200);
    service.until_drained().await;

    for password in ["two", "three"] {
        put(&file, password);
        let change = format!("ALTER ROLE app PASSWORD '{password}'");
        admin
            .execute(sqlx::AssertSqlSafe(change))
            .await
            .expect("a new password");
        admin
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await
            .expect("its connections end");
        assert_eq!(status(&service, "").await, 200);
        service.until_drained().await;
        assert_eq!(service.get("/query?integration=shop").await.status, 200);
    }
}

/// Makes a role `app` that owns the database and has to give the password `one`.
async fn demand_passwords(admin: &mut PgConnection) {
    admin
        .execute("CREATE ROLE app LOGIN PASSWORD 'one'; ALTER DATABASE postgres OWNER TO app")
        .await
        .expect("a role");
    let row = admin.fetch_one("SHOW hba_file").await.expect("a path");
    let file = PathBuf::from(row.get::<String, _>(0));
    let rules = "host all app 127.0.0.1/32 scram-sha-256\nhost all postgres 127.0.0.1/32 trust\n";
    std::fs::write(file, rules).expect("it can be written");
    admin
        .execute("SELECT pg_reload_conf()")
        .await
        .expect("it reads them");
}

/// `systemctl reload` and the end of a login session sent SIGHUP, which killed the process without a shutdown.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_secrets_again_and_ends_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut service = Launch::sqlite(dir.path()).start().await;
    let said = |service: &Service| {
        service
            .lines()
            .matches("there was nothing to read again")
            .count()
    };
    for times in 1..=2 {
        service.signal(Signal::HUP);
        service
            .until("the secrets are read", async |service: &Service| {
                said(service) == times
            })
            .await;
    }
    assert_eq!(status(&service, "").await, 200);
    service.signal(Signal::TERM);
    let ended = service.ended(Duration::from_secs(60)).await;
    assert_eq!(ended.code(), Some(0), "{ended}");
}

/// The number of spans of the service's own traces with that result.
async fn own_spans(service: &Service, outcome: &str) -> f64 {
    let label = format!(r#"outcome="{outcome}""#);
    let page = service.metrics().await;
    page.sum_where("ruvvector_own_spans_total", &label)
}

/// Sends requests whose caller asks for a trace, until more spans than `before` have that result.
async fn until_own_spans(service: &Service, outcome: &str, before: f64) {
    let traced = [(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )];
    service
        .until("spans are exported or lost", async |service: &Service| {
            let url = service.url("/ingest");
            let answer = service.http.send(Method::POST, &url, &traced, EVENT).await;
            assert_eq!(answer.expect("an answer").status, 200);
            own_spans(service, outcome).await > before
        })
        .await;
}

/// After the token of own traces was rotated in its file, every span was lost until a restart.
#[tokio::test(flavor = "multi_thread")]
async fn rotated_headers_of_own_traces_are_sent_from_the_next_export_on() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (tokens, headers) = (dir.path().join("tokens"), dir.path().join("headers"));
    put(&tokens, "one\n");
    let endpoint = Launch::sqlite(&dir.path().join("endpoint"))
        .with(
            "RUVVECTOR_AUTH_TOKENS_FILE",
            tokens.to_str().expect("UTF-8"),
        )
        .start()
        .await;
    put(&headers, "authorization=Bearer one\n");
    let service = Launch::sqlite(&dir.path().join("service"))
        .with("RUVVECTOR_TRACES_ENDPOINT", &endpoint.otlp_grpc())
        .with("RUVVECTOR_TRACES_SAMPLE_RATIO", "0")
        .with(
            "RUVVECTOR_TRACES_HEADERS_FILE",
            headers.to_str().expect("UTF-8"),
        )
        .start()
        .await;
    until_own_spans(&service, "exported", 0.0).await;
    assert_eq!(own_spans(&service, "failed").await, 0.0);

    put(&tokens, "two\n");
    endpoint
        .until("the new token is accepted", async |service: &Service| {
            status(service, "two").await == 200
        })
        .await;
    until_own_spans(&service, "failed", 0.0).await;
    let exported = own_spans(&service, "exported").await;

    put(&headers, "authorization=Bearer two\n");
    until_own_spans(&service, "exported", exported).await;
}

/// A terminal: the reader's side, and the side of the programs on it.
fn terminal() -> (File, File) {
    let reader = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&reader).expect("it is ours");
    unlockpt(&reader).expect("it is ours");
    let name = ptsname(&reader, Vec::new()).expect("it has a name");
    let name = name.into_string().expect("a path in ASCII");
    let programs = OpenOptions::new().read(true).write(true).open(name);
    (reader.into(), programs.expect("it can be opened"))
}

/// All that is written on a terminal, until its last program has ended: reading then fails (EIO).
fn shown(mut reader: File) -> String {
    let mut shown = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = reader.read(&mut piece) {
        shown.extend_from_slice(&piece[..length]);
    }
    String::from_utf8(shown).expect("lines are text")
}

/// A user who closes the window of a terminal wants to end the service on it, not to reload its secrets.
#[tokio::test(flavor = "multi_thread")]
async fn sighup_on_a_terminal_stops_in_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ports = [free_port(), free_port(), free_port()];
    let launch = Launch::sqlite(dir.path())
        .with("RUVVECTOR_SERVICE_PORT", &ports[0].to_string())
        .with("RUVVECTOR_OTLP_HTTP_PORT", &ports[1].to_string())
        .with("RUVVECTOR_OTLP_GRPC_PORT", &ports[2].to_string());
    let (reader, programs) = terminal();
    let mut service = launch.spawn_unheard(programs.into(), ports);
    let shown = std::thread::spawn(move || shown(reader));
    service.until_ready().await;
    assert_eq!(status(&service, "").await, 200);
    service.signal(Signal::HUP);
    let ended = service.ended(Duration::from_secs(60)).await;
    assert_eq!(ended.code(), Some(0), "{ended}");
    let shown = shown.join().expect("it reads");
    assert!(
        shown.contains(" stopped ") && !shown.contains("were read again"),
        "{shown}"
    );
}
