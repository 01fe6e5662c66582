//! The queries' data set: spans of 20 services and 200 names over many days, and a native event in every 1,000 rows.
//!
//! Values follow from a row's number, so that every run has the same data: see `Row`.
//!
//! **Invariant:** rows are sorted by time, and a row's time of receipt is one second after its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::bodies::scatter;
use crate::copy::copy_batch;

const BATCH: u64 = 10_000;
const DAY_MS: u64 = 86_400_000;
/// 2000-01-01 UTC, from which PostgreSQL counts, in Unix milliseconds.
const POSTGRES_EPOCH_MS: u64 = 946_684_800_000;
const FIELDS: i16 = 17;

/// The whole data set.
#[derive(Clone)]
struct DataSet {
    count: u64,
    days: u64,
    /// The first row's time, in Unix milliseconds.
    from_ms: u64,
}

/// One row. Services and names are drawn by `scatter`, which does not depend on the row's time; the last service sends
/// nothing in the last two days.
struct Row {
    n: u64,
    random: u64,
    timestamp_ms: u64,
    service: u64,
}

impl DataSet {
    fn row(&self, n: u64) -> Row {
        let span_ms = self.days * DAY_MS;
        let offset = u128::from(n) * u128::from(span_ms) / u128::from(self.count);
        let offset = u64::try_from(offset).expect("within the days");
        // A trace's ten spans have one service.
        let service = scatter(n / 10) % 20;
        let has_stopped = service == 19 && offset + 2 * DAY_MS > span_ms;
        Row {
            n,
            random: scatter(!n),
            timestamp_ms: self.from_ms + offset,
            service: if has_stopped { 0 } else { service },
        }
    }
}

fn field(out: &mut Vec<u8>, value: &[u8]) {
    let length = i32::try_from(value.len()).expect("values are short");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value);
}

fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1_i32).to_be_bytes());
}

fn integer(out: &mut Vec<u8>, value: u64) {
    let value = i64::try_from(value).expect("values are small");
    field(out, &value.to_be_bytes());
}

impl Row {
    /// Adds the tuple, in the order of the columns of `frozen.COLUMNS` in `scripts/bench/`.
    fn encode(&self, out: &mut Vec<u8>) {
        let is_native = self.n % 1_000 == 999;
        let duration_ns = 1_000
            * (1 + self.random % 5_000)
            * if self.random.is_multiple_of(2_000) {
                1_000
            } else {
                1
            };
        let trace = scatter(self.n / 10 + 1);
        let trace_id = format!("{trace:016x}{:016x}", scatter(trace));
        let name = self.random / 5_000 % 200;
        out.extend_from_slice(&FIELDS.to_be_bytes());
        integer(out, self.timestamp_ms);
        if is_native {
            null(out);
            null(out);
        } else {
            integer(out, self.timestamp_ms * 1_000_000);
            integer(out, duration_ns);
        }
        integer(out, (self.timestamp_ms + 1_000 - POSTGRES_EPOCH_MS) * 1_000);
        if is_native {
            null(out);
        } else {
            field(out, &2_i32.to_be_bytes());
        }
        null(out);
        field(out, trace_id.as_bytes());
        field(out, format!("service-{}", self.service).as_bytes());
        null(out);
        if is_native {
            field(out, b"order.paid");
            for _ in 0..6 {
                null(out);
            }
        } else {
            self.encode_span(out, &trace_id, name);
        }
        let metadata = self.metadata(name);
        field(out, &[&[1], metadata.as_bytes()].concat());
    }

    fn encode_span(&self, out: &mut Vec<u8>, trace_id: &str, name: u64) {
        field(out, b"span");
        field(out, trace_id.as_bytes());
        field(
            out,
            format!("{:016x}", scatter(self.n | 1 << 63)).as_bytes(),
        );
        if self.n.is_multiple_of(10) {
            null(out);
        } else {
            let root = self.n / 10 * 10;
            field(out, format!("{:016x}", scatter(root | 1 << 63)).as_bytes());
        }
        field(out, format!("GET /resource/{name}").as_bytes());
        let status: &[u8] = if self.random % 100 < 4 {
            b"ERROR"
        } else {
            b"UNSET"
        };
        field(out, status);
        let resource = scatter(self.service).to_be_bytes();
        field(out, &[resource, resource].concat());
    }

    fn metadata(&self, name: u64) -> String {
        format!(
            r#"{{"attributes": {{"retry": false, "url.path": "/resource/{name}/{}", "customer": "c-{}", "server.port": 8080, "client.address": "10.0.{}.{}", "server.address": "shop.internal", "user_agent.original": "okhttp/4.12.0", "http.request.method": "GET", "http.response.status_code": 200}}}}"#,
            self.n % 100_000,
            scatter(self.n) % 1_000_000,
            self.n % 200,
            self.n % 250
        )
    }
}

/// Copies all rows over several connections.
pub(crate) async fn fill(arguments: &Arguments) -> String {
    let data = DataSet {
        count: arguments.number("count"),
        days: arguments.number("days"),
        from_ms: arguments.number("from_ms"),
    };
    let statement: Arc<str> = arguments.text("statement").into();
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut filling = JoinSet::new();
    for _ in 0..arguments.number::<u32>("connections") {
        let connection = PgConnection::connect(arguments.text("url")).await;
        let mut connection = connection.expect("the server answers");
        let (data, statement, next) = (data.clone(), statement.clone(), next.clone());
        filling.spawn(async move {
            let mut copied = 0;
            loop {
                let first = next.fetch_add(BATCH, Ordering::Relaxed);
                if first >= data.count {
                    return copied;
                }
                let mut tuples = Vec::new();
                for n in first..data.count.min(first + BATCH) {
                    data.row(n).encode(&mut tuples);
                }
                copied += copy_batch(&mut connection, &statement, &tuples).await;
            }
        });
    }
    let copied: u64 = filling.join_all().await.into_iter().sum();
    format!(
        r#"{{"rows":{copied},"seconds":{:.3}}}"#,
        began.elapsed().as_secs_f64()
    )
}
