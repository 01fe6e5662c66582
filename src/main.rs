//! The binary: arguments, settings, log lines, run, exit code.
//!
//! **Invariant:** the exit code is 0 after success, 1 if something failed while the process ran, 2 if arguments or
//! settings are wrong, so that another try would fail too, and 130 after a second signal.

use std::io::{self, Write};
use std::process::ExitCode;

use ruvvector_service::cli::{self, Arguments, Task};
use ruvvector_service::commands::{self, CommandFailure};
use ruvvector_service::config::{self, Config, LoadedConfig};
use ruvvector_service::memory::allocator;
use ruvvector_service::telemetry::logging;
use ruvvector_service::telemetry::own_traces::OwnTraces;

/// Keys of settings with their texts.
type FlagValues = Vec<(&'static str, String)>;

/// Exit code for wrong arguments or settings.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    allocator::give_back_freed();
    let _last_lines = match logging::start_lines() {
        Ok(end) => end,
        Err(error) => {
            print_stderr(&format!(
                "error: the thread for log lines cannot be started: {error}"
            ));
            return ExitCode::FAILURE;
        }
    };
    let Arguments { task, flags } = match cli::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() => {
            logging::write_plain(&error.to_string());
            return ExitCode::from(USAGE);
        }
        // `--help` and `--version`.
        Err(error) => error.exit(),
    };
    let (problems, code) = match run_task(task, flags) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(CommandFailure::Run(problem)) => (vec![problem], ExitCode::FAILURE),
        Err(CommandFailure::Settings(problems)) => (problems, ExitCode::from(USAGE)),
    };
    for problem in problems {
        print_stderr(&format!("error: {problem}"));
    }
    code
}

fn run_task(task: Task, flags: FlagValues) -> Result<(), CommandFailure> {
    let result = match task {
        // These tasks need no settings, and so work when settings are wrong.
        Task::Settings => config::reference(),
        Task::Completions(shell) => cli::completions(shell),
        Task::Man => commands::man::page(),
        Task::Healthcheck { url } => {
            let address = commands::load_listen_address(flags)?;
            commands::healthcheck::run(&address, url.as_deref())? + "\n"
        }
        Task::Serve => return serve(flags),
        Task::JournalList => commands::journal_report(&load(flags)?.config)?.0,
        Task::JournalVerify => {
            let (report, problems) = commands::journal_report(&load(flags)?.config)?;
            print_stdout(&report);
            return match problems {
                0 => Ok(()),
                _ => Err("the journal is damaged".to_owned().into()),
            };
        }
        Task::JournalDrain => {
            let loaded = load(flags)?;
            start_logging(&loaded.config, None)?;
            runtime()?.block_on(commands::drain::run(&loaded.config))?
        }
        Task::Validate => {
            let loaded = load_for_store(flags)?;
            loaded.effective(commands::journal_sizes(&loaded.config))
        }
        Task::Migrate(rows) => {
            let loaded = load_for_store(flags)?;
            runtime()?.block_on(commands::migrate(&loaded.config, rows))?
        }
        Task::ConfirmClock => {
            let loaded = load_for_store(flags)?;
            runtime()?.block_on(commands::confirm_clock(&loaded.config))?
        }
    };
    print_stdout(&result);
    Ok(())
}

/// Loads the settings of a command, and prints their warnings.
fn load(flags: FlagValues) -> Result<LoadedConfig, CommandFailure> {
    let loaded = commands::load(flags)?;
    for warning in loaded.notes.iter().chain(&loaded.warnings) {
        print_stderr(&format!("warning: {warning}"));
    }
    Ok(loaded)
}

/// Does the same, starts logging, and refuses the settings that a start on the same data directory would refuse.
fn load_for_store(flags: FlagValues) -> Result<LoadedConfig, CommandFailure> {
    let loaded = load(flags)?;
    start_logging(&loaded.config, None)?;
    let changed = runtime()?.block_on(commands::check_store_kind(&loaded.config))?;
    if let Some(warning) = changed {
        print_stderr(&format!("warning: {warning}"));
    }
    Ok(loaded)
}

fn start_logging(config: &Config, own_traces: Option<&OwnTraces>) -> Result<(), String> {
    logging::init(&config.log_filter, config.log_format, own_traces)
}

fn serve(flags: FlagValues) -> Result<(), CommandFailure> {
    let loaded = commands::load(flags.clone())?;
    let runtime = runtime()?;
    let own_traces = match &loaded.config.own_traces {
        Some(options) => {
            let _on = runtime.enter();
            Some(OwnTraces::start(options)?)
        }
        None => None,
    };
    start_logging(&loaded.config, own_traces.as_ref())?;
    for note in &loaded.notes {
        tracing::info!("{note}");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!("{}", loaded.config.places());
    tracing::info!("{}", loaded.config.room());
    let headers = own_traces.as_ref().map(OwnTraces::headers);
    let rotation = commands::rotation(flags, &loaded.config, headers);
    let service = commands::serve::run(loaded.config, loaded.warnings, rotation);
    let ended = runtime.block_on(service);
    // Stopped last, so that spans of the writer's last batches are exported.
    if let Some(own_traces) = own_traces {
        runtime.block_on(own_traces.stop());
    }
    ended
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Runtime::new()
        .map_err(|error| format!("the async runtime cannot be started: {error}"))
}

/// Prints a command's result. A closed pipe is not an error.
fn print_stdout(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Prints warnings and errors of commands that write no log lines.
fn print_stderr(text: &str) {
    logging::write_plain(&format!("{text}\n"));
}
