//! RuvVector Service: an OTLP-compatible collector that is durable before it answers.
//!
//! The modules follow the order in which data passes through them:
//! `receive -> decode -> journal (append, group sync) -> 200 … journal -> write -> store -> query`.
//!
//! **Invariant:** the journal's sync, the client's success and the database's commit are distinct steps. Neither the
//! success nor the commit comes before the sync.

/// The phases of the process: starting, ready, the steps of a stop, broken.
pub mod lifecycle;

/// Sets of positions.
pub mod position_set;

/// Metrics, log lines, and the service's own traces.
pub mod telemetry;

/// The state of the process for its operators: `/health`, `/metrics`, systemd.
pub mod health;

/// The command line.
pub mod cli;

/// The subcommands.
pub mod commands;

/// Settings: their names, defaults and meanings.
pub mod config;

/// Events and the values that pass between the modules.
pub mod event;

/// Texts cut to a limit and escaped.
mod text;

/// Numbers of durations, for percentiles.
mod duration_sketch;

/// The error of HTTP and gRPC answers, with its status.
pub mod error;

/// The process's memory limit, and each stage's share of it.
pub mod memory;

/// Ingestion: connections and bodies under limits, and the answers.
pub mod receive;

/// Decodes request bodies into events.
pub mod decode;

/// The journal, which makes each request durable before it is answered.
pub mod journal;

/// The writer: moves the journal's records into the store, exactly once.
pub mod write;

/// The store: PostgreSQL or SQLite.
pub mod store;

/// Queries: turns parameters into SQL, and rows into a page.
pub mod query;

/// Every route of the service, by port.
pub mod router;

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use config::Config;
use health::Systemd;
use journal::Journal;
use journal::disk::OsDisk;
use lifecycle::{Lifecycle, Phase};
use query::Queries;
use receive::connection::listener::Listener;
use receive::{ConnectionLimit, Receiver};
use store::Store;
use store::kind_note::Backlog;
use write::WriteLoop;

/// Requests to stop the service; the first signal cancels one of them.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Stops in order after the shutdown delay.
    pub drain: CancellationToken,
    /// Stops in order without the delay.
    pub at_once: CancellationToken,
}

/// The sockets of the service, bound by the caller of [`run`]; `None` = the port is off.
#[derive(Debug)]
pub struct Listeners {
    pub main: Option<Listener>,
    pub otlp_http: Option<Listener>,
    pub otlp_grpc: Option<Listener>,
}

/// The reason for which [`run`] ended without a request to stop, or a stop failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    /// The data directory served the other kind of store. Nothing was accepted or written yet.
    #[error(transparent)]
    OtherKind(#[from] store::kind_note::OtherKind),
    /// A write or sync of the journal failed. Only a new start, which recovers from disk, can find out the disk's
    /// contents.
    #[error("the journal could not be written or synced; start again to recover from disk")]
    JournalBroken,
    /// The writer's task ended or panicked. The service ends too, as the journal would fill unnoticed; a new start goes
    /// on writing.
    #[error("the writer ended unexpectedly{}; start again", .0.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    Writer(Option<tokio::task::JoinError>),
}

/// Runs the service: recovers the journal, serves, writes to the store, and stops in order on `stop`. `rotation` starts
/// the thread that replaces the store's credentials when they change.
///
/// # Errors
/// [`RunError::Journal`] if the journal cannot be opened, [`RunError::JournalBroken`] if a write or sync of it fails,
/// [`RunError::OtherKind`] if the data directory served the other kind of store, [`RunError::Writer`] if the writer
/// ends unexpectedly.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: PrometheusHandle,
    mut warnings: Vec<String>,
    stop: Shutdown,
    supervisor: Systemd,
    rotation: impl FnOnce(Store) -> std::io::Result<()>,
) -> Result<(), RunError> {
    // First: it raises the limit of open files, which all that follows needs.
    let connection_limit = ConnectionLimit::new(&config.receive);
    let options = config.journal.clone();
    let starting = supervisor.starting(&format!(
        "recovering the journal in {}",
        options.dir.display()
    ));
    let journal = tokio::task::spawn_blocking(move || Journal::open(Arc::new(OsDisk), &options))
        .await
        .expect("opening the journal does not panic")?;
    let backlog = backlog(&journal);
    let changed = store::kind_note::check(
        &config.data_dir,
        &config.store.target,
        config.store_naming,
        &backlog,
    )
    .await?;
    let store = Store::starting(&config.store, &start(&journal));
    if let Err(error) = rotation(store.clone()) {
        tracing::warn!(
            "changed secrets need a restart, as the thread that reads them cannot be started: {error}"
        );
    }
    let writer = WriteLoop::new(journal.clone(), store.clone(), config.write.clone());
    let lifecycle = Lifecycle::default();
    for warning in config::warnings::at_start(&config)
        .into_iter()
        .chain(changed)
    {
        tracing::warn!("{warning}");
        warnings.push(warning);
    }

    let receiver = Receiver::new(
        journal.clone(),
        writer.progress.clone(),
        config.receive.clone(),
    );
    receiver.recall().await;
    let sources = health::HealthSources {
        connections: connection_limit.counts(),
        journal: journal.clone(),
        store: store.clone(),
        problems: writer.problems.clone(),
        lifecycle: lifecycle.clone(),
        warnings,
    };
    let health = health::HealthMonitor::start(sources, metrics);
    let queries = Queries::new(store.clone(), config.query.clone());
    let otlp_http = router::otlp_http_port(receiver.clone());
    let otlp_grpc = router::otlp_grpc_port(&receiver, lifecycle.clone());
    let main = router::main_port(receiver, queries, health.clone(), &config.receive);

    let place = status_line(&listeners, &config);
    let url = listeners
        .main
        .as_ref()
        .and_then(|main| main.urls().into_iter().next());
    let mut servers = JoinSet::new();
    let mut serve = |listener: Option<Listener>, router: axum::Router, limit: ConnectionLimit| {
        let Some(listener) = listener else {
            return;
        };
        tracing::info!(listener = listener.name, address = %listener, "listening");
        for socket in listener.sockets {
            servers.spawn(receive::serve(
                socket,
                router.clone(),
                config.receive.clone(),
                limit.clone(),
                lifecycle.clone(),
            ));
        }
    };
    serve(listeners.main, main, connection_limit.with_reserved());
    serve(listeners.otlp_http, otlp_http, connection_limit.clone());
    serve(listeners.otlp_grpc, otlp_grpc, connection_limit);
    let draining = CancellationToken::new();
    let mut writer = tokio::spawn(writer.run(draining.clone(), config.grace));
    lifecycle.advance(Phase::Ready);
    let mut running = starting.ready(place, &health, &journal).await;
    if let Some(url) = url.filter(|_| config.log_format.is_text()) {
        for line in log_usage_hint(&url, &config.receive.auth_tokens) {
            tracing::info!("{line}");
        }
    }

    let failure = tokio::select! {
        () = stop.drain.cancelled() => None,
        () = stop.at_once.cancelled() => None,
        () = journal.broken() => Some(RunError::JournalBroken),
        ended = &mut writer => Some(RunError::Writer(ended.err())),
    };
    if let Some(failure) = failure {
        writer.abort();
        store.close(store::CLOSE_TIMEOUT.min(config.grace)).await;
        return Err(failure);
    }
    tracing::info!("stopping: no longer ready");
    lifecycle.advance(Phase::Announcing);
    running.stopping(config.shutdown_delay, config.grace);
    tokio::select! {
        () = tokio::time::sleep(config.shutdown_delay) => {}
        () = stop.at_once.cancelled() => {}
        // Nothing more is accepted.
        () = journal.broken() => {}
    }
    lifecycle.advance(Phase::Closing);
    while servers.join_next().await.is_some() {}
    journal.close().await;
    draining.cancel();
    writer
        .await
        .map_err(|error| RunError::Writer(Some(error)))?;
    let left = journal.status();
    tracing::info!(left_in_journal = left.queue_events, "stopped");
    if left.broken {
        return Err(RunError::JournalBroken);
    }
    Ok(())
}

/// Returns the facts about this start that retention needs. The journal has the receive time of each segment's first
/// record.
fn start(journal: &Journal) -> store::ProcessStart {
    let streams = journal.streams().into_iter();
    let parts = streams.flat_map(|stream| journal.parts(stream.id));
    store::ProcessStart {
        newest_journaled_unix_nano: parts.map(|part| part.first_received_unix_nano).max(),
        ..store::ProcessStart::default()
    }
}

/// Returns the journal's contents from earlier processes.
fn backlog(journal: &Journal) -> Backlog {
    let held = journal
        .streams()
        .into_iter()
        .filter(|stream| stream.last > 0);
    Backlog {
        events: journal.status().queue_events,
        streams: held.map(|stream| stream.id).collect(),
    }
}

/// Returns the listeners' addresses and the store, for `systemctl status`.
fn status_line(listeners: &Listeners, config: &Config) -> String {
    let all = [&listeners.main, &listeners.otlp_http, &listeners.otlp_grpc];
    let open = all.into_iter().flatten();
    let open: Vec<_> = open
        .map(|listener| format!("{} at {listener}", listener.name))
        .collect();
    format!("{}; stored in {}", open.join(", "), config.stored_in())
}

/// Returns two commands to paste: one sends an event, the other reads it. A token is never shown: the header names a
/// variable.
fn log_usage_hint(url: &str, tokens: &receive::AuthTokens) -> [String; 2] {
    let event = r#"{"correlationId":"order-1","integration":"shop","eventType":"order.created"}"#;
    let header = if tokens.is_empty() {
        ""
    } else {
        r#" -H "Authorization: Bearer $TOKEN""#
    };
    [
        format!("send an event:  curl{header} -d '{event}' {url}/ingest"),
        format!("read it back:   curl{header} '{url}/query?correlationId=order-1'"),
    ]
}
