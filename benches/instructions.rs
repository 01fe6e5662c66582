//! The work whose instructions `scripts/check/instructions.sh` counts: `instructions NAME REPETITIONS` does it so many times.
//!
//! **Invariant:** two runs with the same arguments do the same work; between N and 2N repetitions lie N, and nothing else.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use ruvvector_service::decode::{self, EventMetadata, Sink};
use ruvvector_service::event::{Encoding, Event, Limits, Position, Signal, Source, StreamId};
use ruvvector_service::journal::disk::OsDisk;
use ruvvector_service::journal::{self, Journal};
use ruvvector_service::lifecycle::Lifecycle;
use ruvvector_service::receive::{self, ConnectionLimit, Receiver};
use ruvvector_service::router;
use ruvvector_service::store::row_encoding::EncodedRows;
use ruvvector_service::write::Progress;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The requests.
mod messages;

const RECEIVED_UNIX_NANO: i64 = 1_800_000_000_000_000_000;

/// Bytes of the journal: enough for every run, in few segments.
const JOURNAL_BYTES: u64 = 256 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(repetitions)) = (arguments.next(), arguments.next()) else {
        panic!(
            "the arguments are a name of scripts/check/instructions.txt and a number of repetitions"
        );
    };
    let repetitions: u64 = repetitions.parse().expect("a number");
    if let Some(spans) = match name.as_str() {
        "request" => Some(messages::ITEMS),
        "one-span" => Some(1),
        _ => None,
    } {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        return runtime.block_on(send_requests(repetitions, spans));
    }
    let (work, kind) = name.split_once('-').expect("a work and a kind of request");
    let request = Request::of(kind);
    for _ in 0..repetitions {
        match work {
            "check" => request.check(),
            "rows" => request.write_rows(decode::clean_events),
            "validated" => request.write_rows(decode::events),
            other => panic!("{other} is no kind of work"),
        }
    }
}

/// A decoder that passes rows to a sink.
type Decoder = fn(
    &[u8],
    &Source,
    Position,
    &mut dyn Sink,
) -> Result<decode::DecodeReport, decode::DecodeError>;

struct Request {
    source: Source,
    body: Vec<u8>,
    items: usize,
}

impl Request {
    fn of(kind: &str) -> Self {
        let spans = messages::request();
        let (signal, encoding, body) = match kind {
            "spans" => (Signal::Span, Encoding::Protobuf, spans.encode_to_vec()),
            "logs" => (
                Signal::Log,
                Encoding::Protobuf,
                messages::logs(&spans).encode_to_vec(),
            ),
            "points" => (
                Signal::Metric,
                Encoding::Protobuf,
                messages::metrics(&spans).encode_to_vec(),
            ),
            "json" => (
                Signal::Span,
                Encoding::Json,
                messages::request_json(&spans).into_bytes(),
            ),
            "events" => (
                Signal::Event,
                Encoding::Json,
                messages::native_events().into_bytes(),
            ),
            other => panic!("{other} is no kind of request"),
        };
        let source = Source {
            signal,
            encoding,
            partial: false,
            received_unix_nano: RECEIVED_UNIX_NANO,
            limits: Limits::default(),
            version: decode::VERSION,
        };
        let items = if kind == "events" {
            messages::NATIVE_EVENTS
        } else {
            messages::ITEMS
        };
        Self {
            source,
            body,
            items,
        }
    }

    fn check(&self) {
        let report = decode::check(black_box(&self.body), &self.source);
        let report = report.expect("the request is valid");
        assert_eq!(report.accepted as usize, self.items);
        assert!(
            self.source.signal == Signal::Event || report.is_clean,
            "a request of OTLP is clean"
        );
    }

    fn write_rows(&self, decoder: Decoder) {
        let position = Position {
            stream: StreamId([0; 16]),
            n: 1,
        };
        let mut rows = Rows::default();
        decoder(black_box(&self.body), &self.source, position, &mut rows)
            .expect("the request is valid");
        assert_eq!(rows.0.len(), self.items);
        black_box(rows.0.as_bytes());
    }
}

/// Encodes each row for COPY, as the writer does.
#[derive(Default)]
struct Rows(EncodedRows);

impl Sink for Rows {
    fn resource(&mut self, resource: ruvvector_service::event::Resource) {
        black_box(resource);
    }

    fn event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>) {
        self.0
            .push_with(event, RECEIVED_UNIX_NANO, |row| metadata.append_to(row));
    }
}

/// Sends requests, each with another id, one after another, through a socket into a journal on disk.
async fn send_requests(requests: u64, spans: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let journal_options = journal::Options {
        dir: directory.path().to_owned(),
        budget_bytes: Some(JOURNAL_BYTES),
        segment_bytes: Some(JOURNAL_BYTES / 4),
        free_floor_bytes: Some(0),
        keep_stored: Duration::ZERO,
        ..journal::Options::default()
    };
    let journal = Journal::open(Arc::new(OsDisk), &journal_options).expect("a new journal opens");
    let options = receive::Options::default();
    let receiver = Receiver::new(journal.clone(), Progress::default(), options.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let limit = ConnectionLimit::new(&options);
    let router = router::otlp_http_port(receiver);
    tokio::spawn(receive::serve(
        listener,
        router,
        options,
        limit,
        Lifecycle::default(),
    ));
    send(address, requests, spans).await;
    assert_eq!(journal.status().queue_events, requests * spans as u64);
    journal.close().await;
}

async fn send(address: SocketAddr, requests: u64, spans: usize) {
    let mut request = messages::request();
    request.resource_spans[0].scope_spans[0]
        .spans
        .truncate(spans);
    let mut body = request.encode_to_vec();
    let first_id = &request.resource_spans[0].scope_spans[0].spans[0].trace_id;
    let place = body
        .windows(first_id.len())
        .position(|bytes| bytes == first_id)
        .expect("the first trace id");
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address)
        .await
        .expect("the service listens");
    let mut answer = vec![0; 4 << 10];
    for n in 0..requests {
        body[place..place + 8].copy_from_slice(&(n + 1_000_000).to_be_bytes());
        stream.write_all(head.as_bytes()).await.expect("sent");
        stream.write_all(&body).await.expect("sent");
        let read = stream.read(&mut answer).await.expect("answered");
        let answer = &answer[..read];
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(answer)
        );
    }
}
