//! The subcommands: their work, their output, their success or failure.
//!
//! **Invariant:** results go to standard output, all else to standard error.

use crate::journal::JournalSizes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cli::ImportRows;
use crate::commands::rotation::Rotation;
use crate::config::{
    Config, ConfigError, Environment, Inputs, ListenAddress, LoadedConfig, Machine, settings,
};
use crate::event::StreamId;
use crate::journal::disk::OsDisk;
use crate::journal::{Journal, OpenError, SegmentReport};
use crate::store::kind_note::{self, Backlog};

use crate::store::{self, Store, StoreError};
use crate::telemetry::own_traces::ExportHeaders;

/// Runs the service until a signal.
pub mod serve;

/// Reads changed secrets again while the service runs.
pub mod rotation;

/// Empties the journal of a data directory into the store.
pub mod drain;

/// The manual page.
pub mod man;

/// Asks the running service whether it is ready.
pub mod healthcheck;

/// The reason for which a command ended without success.
#[derive(Debug)]
pub enum CommandFailure {
    /// Settings must be changed; without that, another try would fail too. One sentence for each problem.
    Settings(Vec<String>),
    /// Any other failure.
    Run(String),
}

impl From<String> for CommandFailure {
    fn from(reason: String) -> Self {
        Self::Run(reason)
    }
}

impl From<ConfigError> for CommandFailure {
    fn from(error: ConfigError) -> Self {
        Self::Settings(error.0)
    }
}

/// Loads the configuration of this process from its flags, its environment and the file that they name.
///
/// # Errors
/// As [`Config::load`], and if the value of one of our variables is not UTF-8.
pub fn load(flags: Vec<(&'static str, String)>) -> Result<LoadedConfig, ConfigError> {
    Config::load(&inputs(flags)?)
}

/// Prepares the rotation of this process's secrets; `config` is the configuration in use.
#[must_use]
pub fn rotation(
    flags: Vec<(&'static str, String)>,
    config: &Config,
    headers: Option<ExportHeaders>,
) -> Rotation {
    let files = settings::all()
        .filter_map(settings::Setting::file_variable)
        .filter_map(std::env::var_os)
        .map(PathBuf::from)
        .collect();
    let load = Box::new(move || load(flags.clone()).map(|loaded| loaded.config));
    Rotation::new(load, files, config.receive.auth_tokens.clone(), headers)
}

/// Loads only the addresses on which the service listens.
///
/// # Errors
/// As [`ListenAddress::load`], and if the value of one of our variables is not UTF-8.
pub fn load_listen_address(
    flags: Vec<(&'static str, String)>,
) -> Result<ListenAddress, ConfigError> {
    ListenAddress::load(&inputs(flags)?)
}

fn inputs(flags: Vec<(&'static str, String)>) -> Result<Inputs<'static>, ConfigError> {
    Ok(Inputs {
        flags,
        environment: environment()?,
        read_file: &|path| std::fs::read_to_string(path),
        machine: Machine::here(),
    })
}

fn environment() -> Result<Environment, ConfigError> {
    let ours: Vec<String> = settings::all()
        .flat_map(|setting| [Some(setting.variable()), setting.file_variable()])
        .flatten()
        .collect();
    let mut environment = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => {
                environment.insert(name, value);
            }
            (Ok(name), Err(_)) if ours.contains(&name) => {
                return Err(ConfigError(vec![format!("{name}: its value is not UTF-8")]));
            }
            _ => {}
        }
    }
    Ok(environment)
}

/// Compares the store of the settings with the one that the data directory served, as the start does, and changes
/// nothing. Returns the warning that a start would log, if any. The journal is read only if the directory's note does
/// not name the same kind of store. A failure to read it is a warning, as the service may be able to read it.
///
/// # Errors
/// [`CommandFailure::Settings`] if a start would be refused.
pub async fn check_store_kind(config: &Config) -> Result<Option<String>, CommandFailure> {
    let (dir, target) = (&config.data_dir, &config.store.target);
    if kind_note::is_noted(dir, target) {
        return Ok(None);
    }
    let backlog = match backlog(config) {
        Ok(backlog) => backlog,
        Err(error) => {
            return Ok(Some(format!(
                "the kind of store that {} served is not compared with the settings, as the journal cannot be read: {error}",
                dir.display()
            )));
        }
    };
    kind_note::compare(dir, target, config.store_naming, &backlog)
        .await
        .map_err(|error| CommandFailure::Settings(vec![error.to_string()]))
}

/// Returns the contents of the journal on disk; a missing directory has none.
fn backlog(config: &Config) -> Result<Backlog, OpenError> {
    if !config.journal.dir.exists() {
        return Ok(Backlog::default());
    }
    let segments = Journal::inspect(Arc::new(OsDisk), &config.journal)?;
    let held = segments.iter().filter(|segment| segment.records > 0);
    let streams: BTreeSet<StreamId> = held.map(|segment| segment.stream).collect();
    Ok(Backlog {
        events: segments.iter().map(|segment| segment.events).sum(),
        streams: streams.into_iter().collect(),
    })
}

/// Brings the database's schema up to date and, for [`ImportRows::ImportV0`], copies the original service's rows and
/// logs the progress. Returns a summary.
///
/// # Errors
/// A sentence if the schema is of an unknown shape, the rows are to be imported into SQLite, there are none to import,
/// or the database is unavailable.
pub async fn migrate(config: &Config, rows: ImportRows) -> Result<String, String> {
    let mut options = config.store.clone();
    options.migrate = true;
    let store = Store::new(&options);
    let done = migrate_in(&store, rows).await;
    store.close(store::CLOSE_TIMEOUT).await;
    done.map_err(|error| explain(config, &error))
}

async fn migrate_in(store: &Store, rows: ImportRows) -> Result<String, StoreError> {
    store.prepare().await?;
    let mut done = format!("{}: the schema is up to date\n", store.kind());
    if rows == ImportRows::ImportV0 {
        let Store::Postgres(postgres) = store else {
            return Err(StoreError::Schema(
                "only PostgreSQL can hold a table of the original service".to_owned(),
            ));
        };
        let import = postgres
            .import_v0(|import| {
                tracing::info!(
                    rows = import.rows,
                    up_to_id = import.up_to_id,
                    last_id = import.last_id,
                    "imported"
                );
            })
            .await?;
        let _ = writeln!(
            done,
            "{} rows of telemetry_events_v0 are imported",
            import.rows
        );
    }
    Ok(done)
}

/// Records in the store, for every collector that uses it, that the clocks are right. Returns a sentence on the
/// consequence.
///
/// # Errors
/// A sentence if the store is unavailable, or its clock and this machine's differ.
pub async fn confirm_clock(config: &Config) -> Result<String, String> {
    let store = Store::new(&config.store);
    let done = store.confirm_clock().await;
    store.close(store::CLOSE_TIMEOUT).await;
    let kind = store.kind();
    Ok(match done.map_err(|error| explain(config, &error))? {
        Some(reason) => format!(
            "{kind}: the clock is confirmed, which ends this doubt: {}. A running service trusts it from its next round of \
             maintenance on\n",
            reason.sentence()
        ),
        None => format!(
            "{kind}: the clock was not doubted; its confirmation is recorded all the same\n"
        ),
    })
}

/// Returns the journal's effective sizes on its volume; `None` if the volume's size is unknown. The directory need not
/// exist yet.
#[must_use]
pub fn journal_sizes(config: &Config) -> Option<JournalSizes> {
    let dir = std::path::absolute(&config.journal.dir).ok()?;
    let there = dir.ancestors().find(|path| path.is_dir())?;
    Journal::sizes(&OsDisk, &config.journal, there).ok()
}

/// Returns the text of an error of the store, with the settings to change if none names the store.
fn explain(config: &Config, error: &StoreError) -> String {
    if !config.store_unnamed {
        return error.to_string();
    }
    format!(
        "{error}. No database is set, so this is SQLite in {}: set DATABASE_URL for PostgreSQL, or name the service's data \
         directory by --data-dir (RUVVECTOR_DATA_DIR)",
        config.data_dir.display()
    )
}

/// The journal's files as a table, and how many problems there are.
///
/// # Errors
/// A sentence if the directory is missing, holds no journal, or the journal cannot be read.
pub fn journal_report(config: &Config) -> Result<(String, usize), String> {
    drain::check_directory(&config.data_dir)?;
    let inspected = Journal::inspect(Arc::new(OsDisk), &config.journal);
    let segments = inspected.map_err(|error| match error {
        OpenError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
            drain::sentence(&OpenError::NoJournal(config.journal.dir.clone()))
        }
        error => drain::sentence(&error),
    })?;
    Ok(report(&segments))
}

fn report(segments: &[SegmentReport]) -> (String, usize) {
    let mut out = String::from(
        "stream                            records            events       bytes  file\n",
    );
    let (mut records, mut events, mut bytes, mut problems) = (0, 0, 0, 0);
    for segment in segments {
        let range = format!("{}-{}", segment.first, segment.last);
        let open = if segment.sealed { "" } else { " (not sealed)" };
        let _ = writeln!(
            out,
            "{}  {range:<17} {:>7} {:>11}  {}{open}",
            segment.stream,
            segment.events,
            segment.bytes,
            segment.path.display()
        );
        for problem in &segment.problems {
            let _ = writeln!(out, "    problem: {problem}");
        }
        for unconfirmed in segment.unconfirmed.ranges() {
            let (first, last) = (unconfirmed.start(), unconfirmed.end());
            let _ = writeln!(out, "    unconfirmed: positions {first} to {last}");
        }
        records += segment.records;
        events += segment.events;
        bytes += segment.bytes;
        problems += segment.problems.len();
    }
    let _ = writeln!(
        out,
        "{}, {}, {}, {}, {}",
        drain::count(segments.len() as u64, "file"),
        drain::count(records, "record"),
        drain::count(events, "event"),
        drain::count(bytes, "byte"),
        drain::count(problems as u64, "problem")
    );
    (out, problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::StreamId;
    use crate::position_set::PositionSet;

    #[test]
    fn the_journals_report_names_each_problem_under_its_file() {
        let segment = SegmentReport {
            path: "data/journal/0001.seg".into(),
            stream: StreamId([0xab; 16]),
            bytes: 4096,
            first: 1,
            last: 9,
            records: 8,
            events: 80,
            sealed: false,
            problems: vec!["record 4: checksum".to_owned()],
            unconfirmed: PositionSet::new([6..=7]),
        };
        let (text, problems) = report(&[segment.clone(), segment]);
        assert_eq!(problems, 2);
        assert!(
            text.contains(&"ab".repeat(16)) && text.contains("1-9"),
            "{text}"
        );
        assert!(
            text.contains(
                "0001.seg (not sealed)\n    problem: record 4: checksum\n    unconfirmed: positions 6 to 7\n"
            ),
            "{text}"
        );
        assert!(
            text.ends_with("2 files, 16 records, 160 events, 8192 bytes, 2 problems\n"),
            "{text}"
        );
    }
}
