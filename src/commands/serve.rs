//! `serve`: binds the ports, listens to signals, runs the service.
//!
//! **Invariant:** every port is bound before the data directory or the store is touched. A second signal ends the
//! process at once.

use std::io::IsTerminal;
use std::sync::mpsc::Sender;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::commands::CommandFailure;
use crate::commands::rotation::Rotation;

use crate::config::{Config, PortSetting};
use crate::health::Systemd;
use crate::receive::connection::listener::{BindError, Listener};
use crate::telemetry::logging;
use crate::telemetry::metrics::recorder;
use crate::{Listeners, RunError, Shutdown};

/// The exit code after a second signal: the one that a shell reports for a process ended by SIGINT.
const INTERRUPTED: i32 = 130;

/// Runs the service until a signal.
///
/// # Errors
/// [`CommandFailure::Settings`] if the data directory served the other kind of store; [`CommandFailure::Run`] if a port
/// is in use, signals cannot be listened to, or for the other errors of [`crate::run`].
pub async fn run(
    config: Config,
    warnings: Vec<String>,
    rotation: Rotation,
) -> Result<(), CommandFailure> {
    let metrics = recorder::install()?;
    crate::store::seed_metrics();
    let listeners = listen(&config).map_err(|error| error.to_string())?;
    let stop = Shutdown::default();
    let signals =
        Signals::listen().map_err(|error| format!("signals cannot be listened to: {error}"))?;
    let hangup = if std::io::stderr().is_terminal() {
        Hangup::Stops
    } else {
        Hangup::ReadsSecrets(rotation.trigger())
    };
    tokio::spawn(signals.watch(stop.clone(), hangup));
    let supervisor = Systemd::from_environment();
    let with_store = |store| rotation.start(store);
    crate::run(
        config, listeners, metrics, warnings, stop, supervisor, with_store,
    )
    .await
    .map_err(|error| match error {
        RunError::OtherKind(error) => CommandFailure::Settings(vec![error.to_string()]),
        error => CommandFailure::Run(error.to_string()),
    })
}

/// Binds the ports that are not off.
fn listen(config: &Config) -> Result<Listeners, BindError> {
    let bind = |name, setting, port| match port {
        PortSetting::Off => Ok(None),
        PortSetting::On(port) => Listener::bind(name, setting, &config.bind, port).map(Some),
    };
    Ok(Listeners {
        main: bind("main", "RUVVECTOR_SERVICE_PORT", config.service_port)?,
        otlp_http: bind(
            "otlp_http",
            "RUVVECTOR_OTLP_HTTP_PORT",
            config.otlp_http_port,
        )?,
        otlp_grpc: bind(
            "otlp_grpc",
            "RUVVECTOR_OTLP_GRPC_PORT",
            config.otlp_grpc_port,
        )?,
    })
}

/// The signals that the service listens to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// The meaning of SIGHUP.
pub(super) enum Hangup {
    /// The terminal is closed: the service stops in order.
    Stops,
    /// The secrets are read again from their files.
    ReadsSecrets(Sender<()>),
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Stops in order after the first signal, at once after the second: acknowledged events are on disk.
    pub(super) async fn watch(mut self, stop: Shutdown, hangup: Hangup) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break stop.drain.cancel(),
                _ = self.interrupt.recv() => break stop.at_once.cancel(),
                _ = self.hangup.recv() => match &hangup {
                    Hangup::Stops => break stop.at_once.cancel(),
                    // Sending cannot fail: the thread that receives lives as long as the process.
                    Hangup::ReadsSecrets(now) => drop(now.send(())),
                },
            }
        }
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        tracing::warn!("a second signal: ending at once; the journal keeps acknowledged events");
        logging::flush();
        std::process::exit(INTERRUPTED);
    }
}
