//! Pages in a real browser: the JavaScript exporters as a web application uses them, under the rules of CORS.
//!
//! **Invariant:** only the browser and the service decide on a page's requests.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Protocol, Sent, assert_stored, directory};
use crate::support::postgres::Database;
use crate::support::programs::{brought, start};
use crate::support::service::{Launch, Service};

/// Chromium, and pages for it on two origins.
struct Browser {
    child: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// The pages' console output, and errors.
    complaints: tempfile::NamedTempFile,
    /// The origin that tests put on the service's list.
    listed: String,
    /// An origin that is not on the list.
    other: String,
}

/// The origin of a page.
#[derive(Clone, Copy, Debug)]
enum Page {
    Listed,
    Other,
}

impl Browser {
    fn start() -> Self {
        let complaints = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = brought("target/sdk/javascript/browser");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints.reopen().expect("a file can be opened again"));
        let mut child = start(&mut command);
        let jobs = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let mut browser = Self {
            child,
            jobs,
            answers,
            complaints,
            listed: String::new(),
            other: String::new(),
        };
        let origins = browser.line();
        let origin = |name: &str| origins[name].as_str().expect("an origin").to_owned();
        (browser.listed, browser.other) = (origin("listed"), origin("other"));
        browser
    }

    /// The browser's answer to a job.
    fn answer(&mut self, job: &Value) -> Value {
        writeln!(self.jobs, "{job}").expect("the browser is there");
        tokio::task::block_in_place(|| self.line())
    }

    /// The data that a page has sent by the exporters, all at their defaults.
    fn send(
        &mut self,
        page: Page,
        service: &Service,
        protocol: Protocol,
        token: Option<&str>,
    ) -> Sent {
        let headers = token.map(|token| json!({"authorization": format!("Bearer {token}")}));
        let answer = self.answer(&json!({
            "origin": match page {
                Page::Listed => &self.listed,
                Page::Other => &self.other,
            },
            "endpoint": protocol.endpoint(service),
            "protocol": protocol.name(),
            "count": COUNT,
            "headers": headers,
        }));
        serde_json::from_value(answer).expect("what was sent")
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .expect("the browser is there");
        serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: the browser said {line:?}"))
    }
}

impl Drop for Browser {
    #[expect(clippy::print_stderr, reason = "what a failed test shows")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let complaints = std::fs::read_to_string(self.complaints.path()).unwrap_or_default();
            eprintln!("--- the browser said:\n{complaints}");
        }
        // Its driver ends Chromium with itself.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

const COUNT: usize = 50;
const PROTOCOLS: [Protocol; 2] = [Protocol::HttpProtobuf, Protocol::HttpJson];

/// Puts the listed origin on the list.
fn launch(browser: &Browser, dir: &tempfile::TempDir, database: &Database) -> Launch {
    Launch::postgres(dir.path(), &database.url).with("RUVVECTOR_CORS_ORIGINS", &browser.listed)
}

async fn requests(service: &Service, method: &str) -> f64 {
    let label = format!("http_request_method=\"{method}\"");
    let page = service.metrics().await;
    page.sum_where("http_server_request_duration_seconds_count", &label)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_page_of_a_listed_origin_sends_arrives() {
    let mut browser = Browser::start();
    for protocol in PROTOCOLS {
        let (database, dir) = (Database::new().await, directory());
        let service = launch(&browser, &dir, &database).start().await;
        let sent = browser.send(Page::Listed, &service, protocol, None);
        assert_stored(&service, &database, "javascript", COUNT, &sent).await;
        assert!(
            requests(&service, "OPTIONS").await >= 1.0,
            "a browser asks first"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_asked_for_the_token_but_not_in_the_question_that_its_browser_asks_first() {
    let mut browser = Browser::start();
    let (database, dir) = (Database::new().await, directory());
    let launch = launch(&browser, &dir, &database).with("RUVVECTOR_AUTH_TOKENS", "page-token");
    let service = launch.start().await;
    let sent = browser.send(
        Page::Listed,
        &service,
        Protocol::HttpJson,
        Some("page-token"),
    );
    assert_eq!(sent.failures, Vec::<String>::new());
    let refused = browser.send(Page::Listed, &service, Protocol::HttpJson, Some("another"));
    assert_ne!(refused.failures, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_page_of_another_origin_sends_is_stored() {
    let mut browser = Browser::start();
    let (database, dir) = (Database::new().await, directory());
    let service = launch(&browser, &dir, &database).start().await;
    for protocol in PROTOCOLS {
        let sent = browser.send(Page::Other, &service, protocol, None);
        assert_ne!(sent.failures, Vec::<String>::new());
    }
    assert!(
        requests(&service, "OPTIONS").await >= 6.0,
        "three signals, two protocols"
    );

    // A form's request needs no preflight: the browser sends it from any page.
    let event = json!({"correlationId": "forged", "integration": "page", "eventType": "forged"});
    for (path, body) in [
        ("/ingest", event),
        ("/v1/traces", json!({"resourceSpans": []})),
    ] {
        let job =
            json!({"origin": browser.other, "url": service.url(path), "body": body.to_string()});
        assert_eq!(browser.answer(&job), json!({"sent": true}));
    }
    assert_eq!(requests(&service, "POST").await, 2.0);

    service.until_drained().await;
    let page = service.metrics().await;
    let accepted = page.sum_where("ruvvector_receive_events_total", r#"outcome="accepted""#);
    assert_eq!(accepted, 0.0);
    assert_eq!(service.get("/query").await.json(), json!([]));
}
