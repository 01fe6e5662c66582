//! The two stores with the same events in them, and one request to both.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use ruvvector_service::query::{Options, Queries};
use ruvvector_service::router::reads;
use ruvvector_service::store::{self, Store, StoreTarget};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tower::ServiceExt;

use crate::support::postgres::Database;

/// 2026-01-01, noon.
pub(super) const NOON: i64 = 1_767_268_800_000;

/// The migrations of PostgreSQL that concern the events.
pub(super) const MIGRATIONS: [&str; 2] = [
    include_str!("../../../migrations/postgres/0001_telemetry.sql"),
    include_str!("../../../migrations/postgres/0003_block_ranges.sql"),
];

/// One row as the stores hold it; columns that a test does not set have the default.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) timestamp: i64,
    pub(super) created_at_micros: i64,
    pub(super) correlation_id: &'static str,
    pub(super) integration: &'static str,
    pub(super) event_type: &'static str,
    pub(super) provider: Option<&'static str>,
    pub(super) trace_id: Option<&'static str>,
    pub(super) span_id: Option<&'static str>,
    pub(super) parent_span_id: Option<&'static str>,
    pub(super) name: Option<&'static str>,
    pub(super) status: Option<&'static str>,
    pub(super) time_unix_nano: Option<i64>,
    pub(super) duration_ns: Option<i64>,
    pub(super) kind: Option<i64>,
    pub(super) flags: Option<i64>,
    /// The last byte of the resource's id.
    pub(super) resource: Option<u8>,
    pub(super) metadata: &'static str,
}

impl Default for Event {
    fn default() -> Self {
        Self {
            timestamp: NOON,
            created_at_micros: NOON * 1000,
            correlation_id: "c",
            integration: "i",
            event_type: "event",
            provider: None,
            trace_id: None,
            span_id: None,
            parent_span_id: None,
            name: None,
            status: None,
            time_unix_nano: None,
            duration_ns: None,
            kind: None,
            flags: None,
            resource: None,
            metadata: "{}",
        }
    }
}

/// An answer, which was the same from both stores.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) link: Option<String>,
    pub(super) retry_after: Option<u64>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("an answer is JSON")
    }

    /// The ids of the events, in their order.
    pub(super) fn ids(&self) -> Vec<i64> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        let json = self.json();
        let events = json.as_array().expect("an array").iter();
        events.map(|e| e["id"].as_i64().expect("an id")).collect()
    }

    /// The target of the link to the next page.
    pub(super) fn next(&self) -> Option<&str> {
        let link = self.link.as_deref()?;
        let target = link.strip_prefix('<').expect("a link");
        Some(target.strip_suffix(">; rel=\"next\"").expect("a next link"))
    }
}

/// Both stores, with the same events under the ids 1, 2, 3, ….
pub(super) struct Both {
    pub(super) postgres: Store,
    pub(super) sqlite: Store,
    pub(super) database: Database,
    options: Options,
    file: SqliteConnectOptions,
    _dir: tempfile::TempDir,
}

/// The settings of a store that only queries.
pub(super) fn reading(target: StoreTarget) -> store::Options {
    store::Options {
        target,
        migrate: false,
        retention_days: None,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
        write_connections: 1,
        read_connections: 8,
        collector: "test".to_owned(),
    }
}

pub(super) fn postgres(options: PgConnectOptions) -> Store {
    Store::new(&reading(StoreTarget::Postgres {
        options: Box::new(options),
        read: None,
    }))
}

impl Both {
    pub(super) async fn with(events: &[Event]) -> Self {
        Self::under(Options::default(), events).await
    }

    pub(super) async fn under(options: Options, events: &[Event]) -> Self {
        let database = Database::new().await;
        let mut admin = database.connect().await;
        for migration in MIGRATIONS {
            admin.execute(migration).await.expect("a valid migration");
        }
        // Days of receipt are in one partition for each day around NOON, and in two that have the rest.
        let partitions = "
            CREATE TABLE before PARTITION OF telemetry_events FOR VALUES FROM (MINVALUE) TO ('2025-12-31 00:00+00');
            CREATE TABLE d1231 PARTITION OF telemetry_events FOR VALUES FROM ('2025-12-31 00:00+00') TO ('2026-01-01 00:00+00');
            CREATE TABLE d0101 PARTITION OF telemetry_events FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-01-02 00:00+00');
            CREATE TABLE after PARTITION OF telemetry_events FOR VALUES FROM ('2026-01-02 00:00+00') TO (MAXVALUE);";
        admin.execute(partitions).await.expect("valid");

        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("events.sqlite");
        let sqlite = Store::new(&reading(StoreTarget::Sqlite { path: path.clone() }));
        let file = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&file).await.expect("a file");
        let schema = include_str!("../../../migrations/sqlite/0001_telemetry.sql");
        connection
            .execute(schema)
            .await
            .expect("the schema is valid");

        let both = Self {
            postgres: postgres(database.options()),
            sqlite,
            database,
            options,
            file,
            _dir: dir,
        };
        both.insert(1, events).await;
        both
    }

    /// Adds one event under the next id.
    pub(super) async fn add(&self, event: &Event) {
        let next = self.get("/query?limit=10000").await.ids().len() + 1;
        self.insert(next, std::slice::from_ref(event)).await;
    }

    /// Adds a resource and its scope under an id with that last byte.
    pub(super) async fn add_resource(&self, id: u8, resource: &str, scope: &str) {
        let insert = |dialect| {
            format!(
                "INSERT INTO telemetry_resources (id, resource, scope, last_seen) VALUES ({}, {}, {}, {})",
                blob(id, dialect),
                literal(Some(resource)),
                literal(Some(scope)),
                time(0, dialect)
            )
        };
        self.run(insert).await;
    }

    /// Removes the events that match a condition.
    pub(super) async fn remove(&self, condition: &str) {
        self.run(|_| format!("DELETE FROM telemetry_events WHERE {condition}"))
            .await;
    }

    pub(super) async fn insert(&self, first: usize, events: &[Event]) {
        let numbered: Vec<_> = (first..).zip(events).collect();
        for chunk in numbered.chunks(500) {
            self.run(|dialect| insert(chunk, dialect)).await;
        }
    }

    async fn run(&self, sql: impl Fn(Dialect) -> String) {
        let mut postgres = self.database.connect().await;
        let done = postgres
            .execute(AssertSqlSafe(sql(Dialect::Postgres)))
            .await;
        done.expect("PostgreSQL takes it");
        let mut sqlite = SqliteConnection::connect_with(&self.file)
            .await
            .expect("the file");
        let done = sqlite.execute(AssertSqlSafe(sql(Dialect::Sqlite))).await;
        done.expect("SQLite takes it");
    }

    /// Asks both; they must answer alike.
    pub(super) async fn get(&self, uri: &str) -> Answer {
        let postgres = get(
            &reads(Queries::new(self.postgres.clone(), self.options.clone())),
            uri,
        )
        .await;
        let sqlite = get(
            &reads(Queries::new(self.sqlite.clone(), self.options.clone())),
            uri,
        )
        .await;
        assert_eq!(postgres, sqlite, "PostgreSQL and SQLite on {uri}");
        postgres
    }

    /// Follows the links from `uri` to the end; the ids of each page, the same from both stores.
    pub(super) async fn walk(&self, uri: &str) -> Vec<Vec<i64>> {
        let mut pages = Vec::new();
        let mut next = Some(uri.to_owned());
        while let Some(uri) = next {
            let answer = self.get(&uri).await;
            pages.push(answer.ids());
            next = answer.next().map(str::to_owned);
            assert!(pages.len() < 100, "{uri} leads nowhere");
        }
        pages
    }
}

pub(super) async fn get(router: &Router, uri: &str) -> Answer {
    let request = Request::get(uri).body(Body::empty()).expect("a URI");
    let response = router.clone().oneshot(request).await.expect("infallible");
    let (head, body) = response.into_parts();
    let header = |name: &str| {
        let value = head.headers.get(name)?;
        Some(value.to_str().expect("ASCII").to_owned())
    };
    let (status, link) = (head.status, header("link"));
    let retry_after = header("retry-after").map(|s| s.parse().expect("seconds"));
    assert_eq!(header("content-type").as_deref(), Some("application/json"));
    assert_eq!(header("vary").as_deref(), Some("Accept"), "{uri}");
    let body = body.collect().await.expect("a body");
    let body = String::from_utf8(body.to_bytes().to_vec()).expect("UTF-8");
    Answer {
        status,
        link,
        retry_after,
        body,
    }
}

#[derive(Clone, Copy)]
enum Dialect {
    Postgres,
    Sqlite,
}

fn insert(events: &[(usize, &Event)], dialect: Dialect) -> String {
    let rows: Vec<String> = events
        .iter()
        .map(|(id, e)| values(*id, e, dialect))
        .collect();
    format!(
        "INSERT INTO telemetry_events (id, timestamp, created_at, correlation_id, integration, event_type, provider, \
         trace_id, span_id, parent_span_id, name, status, time_unix_nano, duration_ns, kind, flags, resource_id, metadata) \
         VALUES {}",
        rows.join(", ")
    )
}

fn values(id: usize, event: &Event, dialect: Dialect) -> String {
    let number = |value: Option<i64>| value.map_or("NULL".to_owned(), |n| n.to_string());
    let values = [
        id.to_string(),
        event.timestamp.to_string(),
        time(event.created_at_micros, dialect),
        literal(Some(event.correlation_id)),
        literal(Some(event.integration)),
        literal(Some(event.event_type)),
        literal(event.provider),
        literal(event.trace_id),
        literal(event.span_id),
        literal(event.parent_span_id),
        literal(event.name),
        literal(event.status),
        number(event.time_unix_nano),
        number(event.duration_ns),
        number(event.kind),
        number(event.flags),
        event
            .resource
            .map_or("NULL".to_owned(), |id| blob(id, dialect)),
        literal(Some(event.metadata)),
    ];
    format!("({})", values.join(", "))
}

fn literal(text: Option<&str>) -> String {
    text.map_or("NULL".to_owned(), |text| {
        format!("'{}'", text.replace('\'', "''"))
    })
}

fn blob(id: u8, dialect: Dialect) -> String {
    match dialect {
        Dialect::Postgres => format!("'\\x{id:032x}'::bytea"),
        Dialect::Sqlite => format!("x'{id:032x}'"),
    }
}

fn time(micros: i64, dialect: Dialect) -> String {
    match dialect {
        Dialect::Postgres => format!("'epoch'::timestamptz + {micros} * interval '1 microsecond'"),
        Dialect::Sqlite => micros.to_string(),
    }
}
