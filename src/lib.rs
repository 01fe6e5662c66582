//! RuvVector Service: an OTLP-compatible collector that is durable before it answers.
//!
//! The modules stand in the order of the data's way:
//! `receive -> decode -> log (append, group sync) -> 200 … log -> write -> store -> query`.
//!
//! **Invariant:** a client's success, the log's sync and the database's commit are told apart everywhere, and happen in
//! this order.

/// The command line.
pub mod cli;

/// What each subcommand does.
pub mod commands;

/// Every setting: name, default, meaning.
pub mod config;

/// The values that travel.
pub mod event;

/// The HTTP error, and its status.
pub mod error;

/// The process's bound, and each stage's share of it.
pub mod memory;

/// Connections and bodies under limits, and the answers.
pub mod receive;

/// Bytes to events.
pub mod decode;

/// Durable before the answer.
pub mod log;

/// Log to store, exactly once.
pub mod write;

/// PostgreSQL and SQLite.
pub mod store;

/// Parameters to SQL to a page.
pub mod query;

/// Health, metrics, log lines.
pub mod observe;

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use config::Config;
use log::Log;
use log::disk::OsDisk;
use observe::{Readiness, Supervisor};
use receive::listeners::Listener;
use receive::{Drain, Places, Receiver};
use store::Store;
use store::kind_note::Backlog;
use write::Progress;

/// What stops the service, from the first signal to the second.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Finish in order, after the drain delay.
    pub drain: CancellationToken,
    /// Finish in order, with no delay.
    pub at_once: CancellationToken,
}

/// The sockets of the service, bound by [`listen`].
#[derive(Debug)]
pub struct Listeners {
    pub main: Option<Listener>,
    pub otlp_http: Option<Listener>,
    pub otlp_grpc: Option<Listener>,
}

/// Why the service ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Log(#[from] log::OpenError),
    /// Nothing was accepted or written yet.
    #[error(transparent)]
    OtherKind(#[from] store::kind_note::OtherKind),
    /// After a failed write or sync only a new start, which recovers from disk, knows what the disk holds.
    #[error("the log could not be written or synced; start again to recover from disk")]
    LogBroken,
    /// Without it the log would fill unseen; nothing is lost, and a new start writes on.
    #[error("the writer ended by itself{}; start again", .0.as_ref().map(|error| format!(": {error}")).unwrap_or_default())]
    Writer(Option<tokio::task::JoinError>),
}

/// The life of the process: recover, serve, write, and on `stop` finish in order. `rotation` starts to replace the store's
/// credentials when they change.
///
/// # Errors
/// When the log cannot be opened, or breaks; when the data directory served the other kind of store; and when the writer ends
/// by itself.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: PrometheusHandle,
    mut warnings: Vec<String>,
    stop: Stop,
    supervisor: Supervisor,
    rotation: impl FnOnce(Store) -> std::io::Result<()>,
) -> Result<(), RunError> {
    // First, as it raises the limit of open files, for all that follows.
    let places = Places::new(&config.receive);
    let options = config.log.clone();
    let starting = supervisor.starting(&format!("recovering the log in {}", options.dir.display()));
    let log = tokio::task::spawn_blocking(move || Log::open(Arc::new(OsDisk), &options))
        .await
        .expect("opening the log does not panic")?;
    let backlog = backlog(&log);
    let changed = store::kind_note::check(
        &config.data_dir,
        &config.store.target,
        config.store_naming,
        &backlog,
    )
    .await?;
    let store = Store::starting(&config.store, &start(&log));
    if let Err(error) = rotation(store.clone()) {
        tracing::warn!(
            "changed secrets take a restart, as there is no thread to read them: {error}"
        );
    }
    let progress = Progress::default();
    let readiness = Readiness::default();
    for warning in observe::warnings::at_start(&config)
        .into_iter()
        .chain(changed)
    {
        tracing::warn!("{warning}");
        warnings.push(warning);
    }

    let receiver = Receiver::new(log.clone(), progress.clone(), config.receive.clone());
    receiver.recall().await;
    let sources = observe::Sources {
        connections: places.counts(),
        log: log.clone(),
        store: store.clone(),
        progress: progress.clone(),
        readiness: readiness.clone(),
        warnings,
    };
    let health = observe::Watch::start(sources, metrics);
    let drain = Drain::default();
    let otlp_http = receive::otlp_router(receiver.clone());
    let otlp_grpc = receive::otlp_grpc_router(&receiver, readiness.clone(), &drain);
    let queries = query::router(store.clone(), config.query.clone());
    let everything = receive::router(receiver)
        .merge(receive::authenticated(queries, &config.receive))
        .merge(observe::router(health.clone()))
        .method_not_allowed_fallback(receive::read_only);

    let place = place(&listeners, &config);
    let url = listeners
        .main
        .as_ref()
        .and_then(|main| main.urls().into_iter().next());
    let mut servers = JoinSet::new();
    let mut serve = |listener: Option<Listener>, router: axum::Router, places: Places| {
        let Some(listener) = listener else {
            return;
        };
        tracing::info!(listener = listener.name, address = %listener, "listening");
        for socket in listener.sockets {
            let (router, options) = (router.clone(), config.receive.clone());
            let (places, drain) = (places.clone(), drain.clone());
            servers.spawn(async move {
                receive::serve(socket, router, &options, places, drain).await;
            });
        }
    };
    serve(listeners.main, everything, places.with_reserved());
    serve(listeners.otlp_http, otlp_http, places.clone());
    serve(listeners.otlp_grpc, otlp_grpc, places);
    let draining = CancellationToken::new();
    let mut writer = tokio::spawn(write::run(
        log.clone(),
        store.clone(),
        config.write.clone(),
        progress,
        draining.clone(),
        config.grace,
    ));
    readiness.ready();
    let mut running = starting.ready(place, &health, &log).await;
    if let Some(url) = url.filter(|_| config.log_format.is_text()) {
        for line in hint(&url, &config.receive.auth_tokens) {
            tracing::info!("{line}");
        }
    }

    tokio::select! {
        () = stop.drain.cancelled() => {}
        () = stop.at_once.cancelled() => {}
        () = broken(&log) => {
            writer.abort();
            store.close(store::GOODBYE.min(config.grace)).await;
            return Err(RunError::LogBroken);
        }
        ended = &mut writer => {
            store.close(store::GOODBYE.min(config.grace)).await;
            return Err(RunError::Writer(ended.err()));
        }
    }
    tracing::info!("stopping: no longer ready");
    readiness.draining();
    running.stopping(config.drain_delay, config.grace);
    drain.closing.cancel();
    tokio::select! {
        () = tokio::time::sleep(config.drain_delay) => {}
        () = stop.at_once.cancelled() => {}
        // Nothing more is taken.
        () = broken(&log) => {}
    }
    drain.stop.cancel();
    while servers.join_next().await.is_some() {}
    log.close().await;
    draining.cancel();
    writer
        .await
        .map_err(|error| RunError::Writer(Some(error)))?;
    let left = log.status();
    tracing::info!(left_in_log = left.queue_events, "stopped");
    if left.broken {
        return Err(RunError::LogBroken);
    }
    Ok(())
}

/// The facts about this start that retention needs. For each segment the log knows the receive time of its first record.
fn start(log: &Log) -> store::Start {
    let streams = log.streams().into_iter();
    let parts = streams.flat_map(|stream| log.parts(stream.id));
    store::Start {
        newest_journaled_unix_nano: parts.map(|part| part.first_received_unix_nano).max(),
        ..store::Start::default()
    }
}

/// The records of earlier starts.
fn backlog(log: &Log) -> Backlog {
    let held = log.streams().into_iter().filter(|stream| stream.last > 0);
    Backlog {
        events: log.status().queue_events,
        streams: held.map(|stream| stream.id).collect(),
    }
}

/// Where events come in and where they go, for `systemctl status`.
fn place(listeners: &Listeners, config: &Config) -> String {
    let Listeners {
        main,
        otlp_http,
        otlp_grpc,
    } = listeners;
    let open: Vec<_> = [main, otlp_http, otlp_grpc]
        .into_iter()
        .flatten()
        .map(|listener| format!("{} at {listener}", listener.name))
        .collect();
    format!("{}; stored in {}", open.join(", "), config.stored_in())
}

/// Two lines to paste. A token is never shown: the header names a variable for it.
fn hint(url: &str, tokens: &receive::Tokens) -> [String; 2] {
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

/// Returns when the log is broken; never for a log that is closed in order.
async fn broken(log: &Log) {
    log.synced_past(u64::MAX).await;
    if !log.status().broken {
        std::future::pending::<()>().await;
    }
}
