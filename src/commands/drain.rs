//! `journal drain`: writes the journal of a data directory without a running service into the store, and removes it.
//!
//! **Invariant:** the command succeeds only if the journal is empty and all of it is in the store. A directory without
//! a journal stays unchanged.

use std::convert::Infallible;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::Shutdown;
use crate::commands::CommandFailure;
use crate::commands::serve::{Hangup, Signals};
use crate::config::Config;
use crate::journal::disk::OsDisk;
use crate::journal::{Journal, OpenError};
use crate::store::{self, Store, StoreTarget};
use crate::write::{self, Progress, Unfinished, Written};

/// Interval between two reports of the progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Number of intervals without progress after which a log line is written all the same.
const QUIET_TICKS: u32 = 6;

/// Drains the data directory of `config`, and returns a summary of what was written.
///
/// The command fails on a schema that is too new or of an unknown shape: only a person can mend it, and a failed job is
/// noticed sooner than one that waits. All other errors of the store are retried for ever.
///
/// # Errors
/// [`CommandFailure::Settings`] if the settings imply another kind of store than the directory served, and name none;
/// [`CommandFailure::Run`] if there is no journal, if a service holds it, or if a part of it is left, with the number
/// of events.
pub async fn run(config: &Config) -> Result<String, CommandFailure> {
    let stop = stopped_by_signals()?;
    check_target(config)?;
    // No warning of a change that the settings name: a drain may serve any store, and leaves the directory's note
    // unchanged.
    super::check_store_kind(config).await?;
    Ok(Box::pin(drain(config, stop)).await?)
}

async fn drain(config: &Config, stop: CancellationToken) -> Result<String, String> {
    let began = Instant::now();
    let journal = open(config).await?;
    let start = journal.status();
    let streams = journal.streams().len() - 1;
    let dir = config.data_dir.display();
    if streams == 0 {
        drop(journal);
        nothing_unreadable(config)?;
        return Ok(format!("{dir}: the journal is empty: nothing to drain\n"));
    }
    let store = Store::new(&config.store);
    tracing::info!(
        dir = %dir, streams, events = start.queue_events, bytes = start.queue_bytes, store = store.kind(),
        "draining; the store may hold some of it already"
    );
    let progress = Progress::default();
    let outcome = tokio::select! {
        outcome = write::drain_to_empty(
            journal.clone(), store.clone(), config.write.clone(), progress.clone(), stop, config.grace,
        ) => outcome,
        never = report_progress(&journal, &progress) => match never {},
    };
    store.close(store::CLOSE_TIMEOUT).await;
    let left = journal.status();
    let gone = journal.streams().len() == 1;
    let left_in_dir = format!(
        "{} of {} left in {dir}",
        count(left.queue_events, "event"),
        count(left.undrained_streams, "stream")
    );
    match outcome {
        Ok(()) if gone => {}
        Ok(()) => {
            return Err(format!(
                "{dir}: all is stored, but files of the journal could not be removed, as the log lines above report; run it again"
            ));
        }
        Err(Unfinished::Stopped) if gone => tracing::warn!(
            "all is stored and removed; stopped before the release of these streams was recorded in the database"
        ),
        Err(Unfinished::Schema(error)) if gone => tracing::warn!(
            "all is stored and removed; the release of these streams was not recorded in the database: {error}"
        ),
        Err(Unfinished::Stopped) if left.undrained_streams == 0 => {
            return Err(format!(
                "stopped: all is stored, but not yet removed from {dir}; nothing is lost, run it again"
            ));
        }
        Err(Unfinished::Stopped) => {
            return Err(format!(
                "stopped: {left_in_dir}; nothing is lost, run it again"
            ));
        }
        Err(Unfinished::Schema(error)) => {
            return Err(format!(
                "{error}. {left_in_dir}; nothing is lost, run it again after that"
            ));
        }
        Err(Unfinished::Shared(text)) => {
            return Err(format!(
                "{text}. {left_in_dir}, besides records that cannot be read; nothing is lost: run it again once that collector has \
                 stored them, or has sent no heartbeat for 5 minutes"
            ));
        }
    }
    drop(journal);
    nothing_unreadable(config)?;
    let mut written = progress.written();
    // Adds the backlog's events that were already in the stored positions when this process would have read them.
    written.stored_before += start
        .backlog_at_start_events
        .saturating_sub(left.backlog_at_start_events);
    let accounted = written.events + written.dead_events + written.stored_before;
    let unreadable = start.queue_events.saturating_sub(accounted);
    let summary = summary(&config.data_dir, written, unreadable, began.elapsed());
    if start.cut_segments > 0 {
        return Err(format!(
            "{} of the journal had lost its end, and the records there are lost; check the disk, and keep the copies (.damaged) in \
             {dir}/journal. The rest: {summary}",
            count(start.cut_segments, "file")
        ));
    }
    if left.missing_records > 0 {
        let verb = if left.missing_records == 1 {
            "is"
        } else {
            "are"
        };
        return Err(format!(
            "{} of the journal {verb} in no file and not in the database; restore the files from a backup of {dir}/journal, if any, \
             and run it again. The rest: {summary}",
            count(left.missing_records, "record"),
        ));
    }
    Ok(summary)
}

fn summary(dir: &Path, written: Written, unreadable: u64, took: Duration) -> String {
    let Written {
        events,
        records,
        dead_letters,
        dead_events,
        stored_before,
        gaps,
    } = written;
    let mut out = format!(
        "{}: drained in {:.1} s: {} of {} written, {stored_before} stored before; {}",
        dir.display(),
        took.as_secs_f64(),
        count(events, "event"),
        count(records, "record"),
        count(dead_letters, "dead letter")
    );
    if dead_letters > 0 {
        let events = count(dead_events, "event");
        let _ = write!(out, " ({events}, see telemetry_dead_letters)");
    }
    if unreadable > 0 {
        let events = count(unreadable, "event");
        let _ = write!(out, "; {events} in records that cannot be read");
    }
    let _ = write!(out, "; {}", count(gaps, "gap"));
    if gaps > 0 {
        out.push_str(
            " (positions that neither the database nor this journal holds, as the log lines above report)",
        );
    }
    out.push_str("; the journal is empty\n");
    out
}

pub(super) fn count(n: u64, one: &str) -> String {
    let end = if n == 1 { "" } else { "s" };
    format!("{n} {one}{end}")
}

/// Returns a token that the first signal cancels; the second signal ends the process.
fn stopped_by_signals() -> Result<CancellationToken, String> {
    let signals =
        Signals::listen().map_err(|error| format!("signals cannot be listened to: {error}"))?;
    let stop = Shutdown::default();
    tokio::spawn(signals.watch(stop.clone(), Hangup::Stops));
    let stopped = CancellationToken::new();
    let stops = stopped.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.drain.cancelled() => {}
            () = stop.at_once.cancelled() => {}
        }
        tracing::info!("stopping after the commits in flight");
        stops.cancel();
    });
    Ok(stopped)
}

/// Returns an error that names the setting to change if `dir` is not a directory.
pub(super) fn check_directory(dir: &Path) -> Result<(), String> {
    match std::fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(format!("{} is not a directory", dir.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(format!(
            "{}: there is no such directory; --data-dir, or RUVVECTOR_DATA_DIR, must name the one that the service had",
            dir.display()
        )),
        Err(error) => Err(format!("{}: {error}", dir.display())),
    }
}

/// Returns an error if the data directory is missing, or the settings do not name the store to drain it into.
fn check_target(config: &Config) -> Result<(), String> {
    let dir = &config.data_dir;
    check_directory(dir)?;
    let own = dir.join("telemetry.db");
    let StoreTarget::Sqlite { path } = &config.store.target else {
        return Ok(());
    };
    // Unnamed store and no SQLite file: the cause is mostly a forgotten DATABASE_URL.
    if config.store_unnamed && !own.exists() {
        return Err(format!(
            "the store is not named: set DATABASE_URL or POSTGRES_HOST, or RUVVECTOR_STORE=sqlite for {}",
            path.display()
        ));
    }
    if *path != own && own.exists() {
        tracing::warn!(
            "{} stays unchanged: its events are not copied to {}, except those that the journal still holds",
            own.display(),
            path.display()
        );
    }
    Ok(())
}

async fn open(config: &Config) -> Result<Journal, String> {
    let options = config.journal.clone();
    let opened =
        tokio::task::spawn_blocking(move || Journal::open_to_empty(Arc::new(OsDisk), &options));
    let opened = opened
        .await
        .map_err(|error| format!("the journal cannot be opened: {error}"))?;
    opened.map_err(|error| match error {
        OpenError::Locked(_) => format!(
            "{error}: a service that runs there drains it automatically; to drain it here, stop that service first"
        ),
        _ => sentence(&error),
    })
}

/// Returns the error's text, with the setting to change if there is no journal.
pub(super) fn sentence(error: &OpenError) -> String {
    match error {
        OpenError::NoJournal(_) => format!(
            "{error}; --data-dir, or RUVVECTOR_DATA_DIR, must name the directory above journal/"
        ),
        _ => error.to_string(),
    }
}

/// Returns an error if files are left that recovery did not recognise as segments; recovery does not move or remove
/// them.
fn nothing_unreadable(config: &Config) -> Result<(), String> {
    let left =
        Journal::inspect(Arc::new(OsDisk), &config.journal).map_err(|error| error.to_string())?;
    if left.is_empty() {
        return Ok(());
    }
    let paths: Vec<_> = left
        .iter()
        .map(|segment| segment.path.display().to_string())
        .collect();
    Err(format!(
        "all that can be read is stored, but not {}: keep the rest of the directory, and check its disk",
        paths.join(", ")
    ))
}

/// Logs the progress at intervals, for ever.
async fn report_progress(journal: &Journal, progress: &Progress) -> Infallible {
    let (mut reported, mut reported_at) = (Written::default(), Instant::now());
    let mut quiet = 0;
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        let written = progress.written();
        quiet += 1;
        if written != reported || quiet >= QUIET_TICKS {
            let events = written.events - reported.events;
            let left = journal.status();
            tracing::info!(
                events_left = left.queue_events,
                streams_left = left.undrained_streams,
                events_written = written.events,
                events_per_second = events / reported_at.elapsed().as_secs().max(1),
                "draining"
            );
            (reported, reported_at, quiet) = (written, Instant::now(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_names_what_is_no_success_only_where_there_is_some() {
        let written = Written {
            events: 20,
            records: 2,
            stored_before: 3,
            ..Written::default()
        };
        let took = Duration::from_millis(1_240);
        assert_eq!(
            summary(Path::new("/mnt/old"), written, 0, took),
            "/mnt/old: drained in 1.2 s: 20 events of 2 records written, 3 stored before; 0 dead letters; 0 gaps; \
             the journal is empty\n"
        );
        let harmed = Written {
            dead_letters: 1,
            dead_events: 5,
            gaps: 1,
            ..written
        };
        let text = summary(Path::new("/mnt/old"), harmed, 7, took);
        assert!(
            text.contains("1 dead letter (5 events, see telemetry_dead_letters); 7 events in records that cannot be read; 1 gap (positions"),
            "{text}"
        );
    }
}
