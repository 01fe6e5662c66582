//! The binary: arguments, settings, log lines, run, exit code.
//!
//! **Invariant:** it ends with 0 when all went well, 1 when something failed while it ran, 2 when it was asked wrongly.

use std::io::{self, Write};
use std::process::ExitCode;

use ruvvector_service::cli::{self, Arguments, Task};
use ruvvector_service::commands;
use ruvvector_service::config::{Config, Loaded};
use ruvvector_service::observe::trace;

/// Wrong arguments or settings.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Arguments { task, flags } = match cli::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let loaded = match commands::load(flags) {
        Ok(loaded) => loaded,
        Err(error) => {
            error
                .0
                .iter()
                .for_each(|problem| complain(&format!("error: {problem}")));
            return ExitCode::from(USAGE);
        }
    };
    match perform(&task, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            complain(&format!("error: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn perform(task: &Task, loaded: Loaded) -> Result<(), String> {
    if *task != Task::Serve {
        loaded
            .warnings
            .iter()
            .for_each(|warning| complain(&format!("warning: {warning}")));
    }
    match task {
        Task::Serve => serve(loaded),
        Task::Validate => {
            say(&loaded.effective());
            Ok(())
        }
        Task::Migrate { import_v0 } => migrate(&loaded.config, *import_v0),
        Task::Healthcheck { url } => {
            let sentence = commands::healthcheck::run(&loaded.config, url.as_deref())?;
            say(&format!("{sentence}\n"));
            Ok(())
        }
        Task::LogList | Task::LogVerify => {
            let (report, problems) =
                commands::log_report(&loaded.config).map_err(|error| error.to_string())?;
            say(&report);
            match (task, problems) {
                (Task::LogVerify, 1..) => Err("the log is damaged".to_owned()),
                _ => Ok(()),
            }
        }
    }
}

/// Runs the service until a signal.
fn serve(loaded: Loaded) -> Result<(), String> {
    trace::init(&loaded.config.log_filter, loaded.config.log_format)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    runtime()?.block_on(run(loaded.config))
}

/// The one thing to wire: the service's own `run`.
#[expect(
    clippy::unused_async,
    clippy::needless_pass_by_value,
    reason = "not written yet"
)]
async fn run(config: Config) -> Result<(), String> {
    let _ = config;
    Err("this build has no service to run".to_owned())
}

fn migrate(config: &Config, import_v0: bool) -> Result<(), String> {
    trace::init(&config.log_filter, config.log_format)?;
    let sentence = runtime()?
        .block_on(commands::migrate(config))
        .map_err(|error| error.to_string())?;
    say(&sentence);
    if import_v0 {
        return Err("this build imports nothing".to_owned());
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Runtime::new().map_err(|error| format!("no runtime: {error}"))
}

/// What a command was asked for. A reader that has gone is no error.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// All else, where there are no log lines.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
