//! Notes in the data directory the kind of store that it serves. Without the note, a forgotten `DATABASE_URL` would
//! drain the journal of a PostgreSQL into a new SQLite file.
//!
//! The file `store` holds one line, `postgres` or `sqlite`. A directory of an earlier version has no note: then the
//! journal and SQLite's file show which store it served.
//!
//! **Invariant:** the kind changes only if `store` is set, or if no events exist that the change could duplicate or
//! hide.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use crate::event::StreamId;
use crate::store::StoreTarget;

const FILE: &str = "store";

/// The two kinds of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    Postgres,
    Sqlite,
}

impl StoreKind {
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Sqlite];

    /// Returns the value of the setting `store`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }

    const fn of(target: &StoreTarget) -> Self {
        match target {
            StoreTarget::Postgres { .. } => Self::Postgres,
            StoreTarget::Sqlite { .. } => Self::Sqlite,
        }
    }
}

/// The way in which the settings determine a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `store` names it, which confirms a change.
    Explicit,
    /// Other settings, or their absence, imply it.
    Implied,
}

/// The contents of the journal at the start.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    /// Number of events in the journal's records. Only the store that received them knows which of them are stored.
    pub events: u64,
    /// The streams with records in the journal.
    pub streams: Vec<StreamId>,
}

/// The directory served the other kind of store. Holds a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OtherKind(String);

/// Compares the store of these settings with the one that `data_dir` served, and updates the note. Returns a warning if
/// the kind changed. The caller holds the journal's lock.
///
/// # Errors
/// [`OtherKind`] as [`compare`].
pub async fn check(
    data_dir: &Path,
    target: &StoreTarget,
    naming: Naming,
    backlog: &Backlog,
) -> Result<Option<String>, OtherKind> {
    let warning = compare(data_dir, target, naming, backlog).await?;
    let kind = StoreKind::of(target);
    if read(data_dir) != Some(kind)
        && let Err(error) = write(data_dir, kind)
    {
        tracing::warn!(
            path = %data_dir.join(FILE).display(), %error,
            "the kind of store cannot be noted: a later start with another one goes unnoticed"
        );
    }
    Ok(warning)
}

/// Compares the store of these settings with the one that `data_dir` served, and changes nothing. Returns a warning if
/// a start would change the kind.
///
/// # Errors
/// [`OtherKind`] if the kind would change, nothing confirms that, and the journal holds events or there is a SQLite
/// file with events.
pub async fn compare(
    data_dir: &Path,
    target: &StoreTarget,
    naming: Naming,
    backlog: &Backlog,
) -> Result<Option<String>, OtherKind> {
    let kind = StoreKind::of(target);
    // With PostgreSQL, a file from earlier may be at the default path.
    let default_file = data_dir.join("telemetry.db");
    let chosen = match target {
        StoreTarget::Sqlite { path } => Some(path.as_path()),
        StoreTarget::Postgres { .. } => None,
    };
    let served = match read(data_dir) {
        Some(kind) => Some(kind),
        None => infer(&default_file, chosen, backlog).await,
    };
    let Some(before) = served.filter(|before| *before != kind) else {
        return Ok(None);
    };
    let (dir, was, is) = (data_dir.display(), before.as_str(), kind.as_str());
    let mut found = Vec::new();
    if backlog.events > 0 {
        let end = if backlog.events == 1 { "" } else { "s" };
        found.push(format!(
            "its journal holds {} event{end} that may not be stored",
            backlog.events
        ));
    }
    let chosen = chosen.filter(|path| *path != default_file);
    for path in [default_file.as_path()].into_iter().chain(chosen) {
        if has_events(path).await {
            found.push(format!("{} holds events", path.display()));
        }
    }
    if naming == Naming::Explicit || found.is_empty() {
        return Ok(Some(format!(
            "{dir} served the store {was} until now, and serves {is} from now on: what {was} holds is not copied, and what the \
             journal holds is written to {is}"
        )));
    }
    let forgotten = match kind {
        StoreKind::Sqlite => "If a setting was forgotten, set DATABASE_URL or POSTGRES_HOST",
        StoreKind::Postgres => "If this is a mistake, unset DATABASE_URL and POSTGRES_HOST",
    };
    Err(OtherKind(format!(
        "{dir} served the store {was}, and the settings lead to {is}, while {}. {forgotten}. To change to {is}, start once with \
         store={is} (RUVVECTOR_STORE={is}): what the journal holds is then written to {is}, and what {was} holds stays there",
        found.join(" and ")
    )))
}

/// Returns whether the note in `data_dir` names the kind of `target`. Then [`compare`] returns no warning.
#[must_use]
pub fn is_noted(data_dir: &Path, target: &StoreTarget) -> bool {
    read(data_dir) == Some(StoreKind::of(target))
}

/// Derives the kind that a directory without a note served, if possible, from the SQLite file at the default path or at
/// the path that the settings choose.
async fn infer(default_file: &Path, chosen: Option<&Path>, backlog: &Backlog) -> Option<StoreKind> {
    let knows_any = |known: &[StreamId]| backlog.streams.iter().any(|id| known.contains(id));
    let Some(chosen) = chosen else {
        let known = streams_in(default_file).await?;
        let serves = backlog.streams.is_empty() || knows_any(&known);
        return serves.then_some(StoreKind::Sqlite);
    };
    if backlog.events == 0 {
        return None;
    }
    // SQLite's file is made before anything is stored. A file that holds events, but none of any stream in the journal,
    // is left from a trial.
    let file = [chosen, default_file]
        .into_iter()
        .find(|path| path.exists());
    let is_foreign = match file {
        None => true,
        Some(path) => {
            has_events(path).await
                && streams_in(path)
                    .await
                    .is_some_and(|known| !knows_any(&known))
        }
    };
    is_foreign.then_some(StoreKind::Postgres)
}

/// Returns whether the file holds events. A file that cannot be read counts as holding some.
async fn has_events(path: &Path) -> bool {
    if !std::fs::metadata(path).is_ok_and(|found| found.len() > 0) {
        return false;
    }
    let asked = async {
        let mut connection = open(path).await?;
        let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'telemetry_events'";
        let table: i64 = sqlx::query_scalar(table).fetch_one(&mut connection).await?;
        if table == 0 {
            return Ok(false);
        }
        let any = "SELECT EXISTS (SELECT 1 FROM telemetry_events)";
        sqlx::query_scalar(any).fetch_one(&mut connection).await
    };
    asked.await.unwrap_or_else(|error: sqlx::Error| {
        tracing::warn!(path = %path.display(), %error, "the SQLite file cannot be read; it is taken to hold events");
        true
    })
}

/// Returns the streams that have stored positions in the file; `None` if there is no such file, or it cannot be read.
async fn streams_in(path: &Path) -> Option<Vec<StreamId>> {
    if !path.exists() {
        return None;
    }
    let mut connection = open(path).await.ok()?;
    let streams: Vec<Vec<u8>> = sqlx::query_scalar("SELECT stream FROM ingest_streams")
        .fetch_all(&mut connection)
        .await
        .ok()?;
    let streams = streams
        .iter()
        .filter_map(|id| Some(StreamId(id.as_slice().try_into().ok()?)));
    Some(streams.collect())
}

async fn open(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    // `read_only` is not set, since the first reader after a crash has to recover the WAL.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .pragma("query_only", "ON")
        .disable_statement_logging();
    SqliteConnection::connect_with(&options).await
}

fn read(data_dir: &Path) -> Option<StoreKind> {
    let path = data_dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the note of the store's kind cannot be read; it is made again");
            return None;
        }
    };
    let named = |kind: &StoreKind| kind.as_str() == text.trim_end();
    let kind = StoreKind::ALL.into_iter().find(named);
    if kind.is_none() {
        tracing::warn!(path = %path.display(), "the note of the store's kind says neither postgres nor sqlite; it is made again");
    }
    kind
}

/// Replaces the note. After a crash it is the old one or the new one, never a part.
fn write(data_dir: &Path, kind: StoreKind) -> io::Result<()> {
    let new = data_dir.join("store.new");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    writeln!(file, "{}", kind.as_str())?;
    file.sync_all()?;
    std::fs::rename(&new, data_dir.join(FILE))?;
    File::open(data_dir)?.sync_all()
}
