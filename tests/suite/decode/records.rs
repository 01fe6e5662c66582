//! Journals that earlier builds wrote: each record keeps its meaning, however a later decoder reads the same bytes.
//!
//! `tests/records/make.py` wrote them: requests of every signal, encoding and content encoding, among them partially
//! rejected, repaired and cut ones and messages in pieces, with the rows that the build of that time stored.
//!
//! **Invariant:** every column of every row is compared, except its id and its time of storage.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ruvvector_service::decode::decompress::decompress;
use ruvvector_service::decode::{EventMetadata, Sink, check, events};
use ruvvector_service::event::{Event, EventFlags, Resource, ResourceId};
use ruvvector_service::journal::disk::OsDisk;
use ruvvector_service::journal::{Journal, JournalEntry, Options, Record};
use serde_json::{Map, Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Connection, Row as _, SqliteConnection};

use crate::support::service::{Launch, PATIENCE};

const COLUMNS: [&str; 16] = [
    "timestamp",
    "time_unix_nano",
    "duration_ns",
    "kind",
    "flags",
    "correlation_id",
    "integration",
    "provider",
    "event_type",
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "status",
    "resource_id",
    "metadata",
];

/// A directory of `tests/records`: the data directory that a build left, and the rows that it stored.
struct Recorded {
    /// A copy of the data directory's parent.
    dir: tempfile::TempDir,
    resources: Vec<Value>,
    rows: Vec<Value>,
}

/// The records of every version.
fn recorded() -> Vec<Recorded> {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records");
    let entries = std::fs::read_dir(records).expect("the fixtures are there");
    let paths = entries.map(|entry| entry.expect("a directory entry").path());
    let mut versions: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    versions.sort();
    assert!(!versions.is_empty());
    versions
        .iter()
        .map(|version| Recorded::copy(version))
        .collect()
}

impl Recorded {
    fn copy(version: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let copied = Command::new("cp")
            .arg("-R")
            .arg(version.join("data"))
            .arg(dir.path())
            .status();
        assert!(copied.expect("cp runs").success());
        let lines = std::fs::read_to_string(version.join("rows.jsonl")).expect("the rows");
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("a row"));
        let (resources, rows) = lines.partition(|line: &Value| line["event_type"].is_null());
        Self {
            dir,
            resources,
            rows,
        }
    }

    /// Every record, in the order of the journal.
    async fn records(&self) -> Vec<Record> {
        let dir = self.dir.path().join("data/journal");
        std::fs::rename(self.dir.path().join("data/log"), &dir).expect("it is renamed");
        let options = Options {
            dir,
            budget_bytes: None,
            segment_bytes: Some(64 << 10),
            free_floor_bytes: Some(0),
            keep_stored: Duration::from_secs(3600),
            ..Options::default()
        };
        let journal = Journal::open(Arc::new(OsDisk), &options).expect("the journal opens");
        let mut records = Vec::new();
        for stream in journal.streams() {
            let mut from = stream.first;
            while from <= stream.last {
                for entry in journal
                    .read(stream.id, from, 1 << 20)
                    .await
                    .expect("it is read")
                {
                    let JournalEntry::Record(record) = entry else {
                        panic!("{entry:?}");
                    };
                    from = record.position.n + 1;
                    records.push(record);
                }
            }
        }
        journal.close().await;
        records
    }
}

/// Rows in the form of the lines: without NULL and empty columns.
#[derive(Default)]
struct Rows {
    resources: Vec<Value>,
    rows: Vec<Value>,
}

impl Sink for Rows {
    fn resource(&mut self, resource: Resource) {
        let line = json!({
            "id": hex(resource.id), "resource": resource.resource, "scope": resource.scope,
        });
        if !self.resources.contains(&line) {
            self.resources.push(line);
        }
    }

    fn event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>) {
        let event = metadata.of(event);
        let values = [
            json!(event.timestamp_ms),
            json!(event.time_unix_nano),
            json!(event.duration_ns),
            json!(event.kind),
            json!((!event.flags.is_empty()).then_some(event.flags.0)),
            json!(event.correlation_id),
            json!(event.integration),
            json!(event.provider),
            json!(event.event_type),
            json!(event.trace_id),
            json!(event.span_id),
            json!(event.parent_span_id),
            json!(event.name),
            json!(event.status),
            json!(event.resource_id.map(hex)),
            json!(event.metadata),
        ];
        self.rows.push(line(values));
    }
}

fn hex(id: ResourceId) -> String {
    format!("{:032X}", u128::from_be_bytes(id.0))
}

fn line(values: [Value; COLUMNS.len()]) -> Value {
    let members = COLUMNS.iter().map(ToString::to_string).zip(values);
    let given = members.filter(|(_, value)| !value.is_null() && *value != "");
    Value::Object(given.collect::<Map<_, _>>())
}

fn stored(row: &SqliteRow) -> Value {
    line(COLUMNS.map(|column| {
        if column == "flags" {
            // A record that is older than the retention is stored under the time of its storage.
            let flags = row.get::<Option<i64>, _>(column).unwrap_or(0);
            let flags = flags & !i64::from(EventFlags::RECEIVE_TIME_REPLACED.0);
            return json!((flags != 0).then_some(flags));
        }
        row.try_get::<Option<i64>, _>(column)
            .map(|number| json!(number))
            .unwrap_or_else(|_| json!(row.get::<Option<String>, _>(column)))
    }))
}

fn assert_same(found: &[Value], expected: &[Value]) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "row {index}");
    }
    assert_eq!(found.len(), expected.len());
}

/// A change of the mapping was once applied to records that had been accepted under the earlier one. Their count no
/// longer matched the header's, and acknowledged events became dead letters.
#[tokio::test]
async fn a_record_of_an_earlier_version_decodes_to_the_rows_it_was_accepted_as() {
    for recorded in recorded() {
        let mut rows = Rows::default();
        for record in recorded.records().await {
            let limit = usize::try_from(record.decoded_bytes).unwrap();
            let body = decompress(record.content_encoding, &record.payload, limit, &mut |_| {
                true
            });
            let body = body.unwrap();
            let checked = check(&body, &record.source).unwrap();
            let counts = (checked.accepted, checked.rejected);
            assert_eq!(counts, (record.accepted, record.rejected));
            let again = events(&body, &record.source, record.position, &mut rows).unwrap();
            assert_eq!(checked, again);
        }
        assert_same(&rows.rows, &recorded.rows);
        rows.resources
            .sort_by_key(|resource| resource["id"].to_string());
        assert_same(&rows.resources, &recorded.resources);
    }
}

/// The same through the whole process: a binary was replaced while records of the earlier one were not stored yet, and
/// the folder still had its earlier name. No command may ignore that folder, because it would begin an empty journal
/// beside it.
#[tokio::test]
async fn a_data_directory_of_an_earlier_version_is_drained_to_the_same_rows() {
    for recorded in recorded() {
        let launch = Launch::sqlite(recorded.dir.path()).with("RUVVECTOR_RETENTION_DAYS", "off");
        let (earlier, dir) = (
            launch.data_dir().join("log"),
            launch.data_dir().join("journal"),
        );
        let mv = format!("`mv {} {}`", earlier.display(), dir.display());
        for command in [&[][..], &["journal", "list"], &["journal", "drain"]] {
            let mut refused = launch.clone().command(command).spawn();
            assert!(!refused.ended(PATIENCE).await.success(), "{command:?}");
            assert!(refused.lines().contains(&mv), "{}", refused.lines());
            assert!(!dir.exists(), "{command:?}");
        }
        std::fs::rename(earlier, dir).expect("it is renamed");
        let mut drain = launch.clone().command(&["journal", "drain"]).spawn();
        assert!(drain.ended(PATIENCE).await.success(), "{}", drain.lines());

        let file = SqliteConnectOptions::new().filename(launch.sqlite_file());
        let mut database = SqliteConnection::connect_with(&file).await.unwrap();
        let letters = sqlx::query("SELECT * FROM telemetry_dead_letters")
            .fetch_all(&mut database)
            .await;
        assert!(letters.unwrap().is_empty());
        let columns = COLUMNS
            .join(", ")
            .replace("resource_id", "hex(resource_id) AS resource_id");
        let rows = format!("SELECT {columns} FROM telemetry_events ORDER BY id");
        let rows = sqlx::query(AssertSqlSafe(rows));
        let rows = rows.fetch_all(&mut database).await.unwrap();
        let rows: Vec<_> = rows.iter().map(stored).collect();
        assert_same(&rows, &recorded.rows);
    }
}
