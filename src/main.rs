//! The binary: arguments, settings, log lines, run, exit code.
//!
//! **Invariant:** the exit code is 0 after success, 1 if something failed while the process ran, 2 if arguments or
//! settings are wrong, so that another try would fail too, and 130 after a second signal.

use std::io::{self, Write};
use std::process::ExitCode;

use ruvvector_service::cli::{self, Arguments, Task};
use ruvvector_service::commands::{self, CommandFailure};
use ruvvector_service::config::{self, LoadedConfig};

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
    // These tasks need no settings, and so work when settings are wrong.
    let text = match task {
        Task::Settings => Some(config::reference()),
        Task::Completions(shell) => Some(cli::completions(shell)),
        Task::Man => Some(commands::man::page()),
        _ => None,
    };
    if let Some(text) = text {
        print_stdout(&text);
        return ExitCode::SUCCESS;
    }
    let done = match &task {
        Task::Healthcheck { url } => commands::load_listen_address(flags).map(|address| {
            let sentence = commands::healthcheck::run(&address, url.as_deref())?;
            print_stdout(&format!("{sentence}\n"));
            Ok(())
        }),
        _ => commands::load(flags.clone()).map(|loaded| run_task(&task, flags, loaded)),
    };
    let (problems, code) = match done {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(CommandFailure::Run(problem))) => (vec![problem], ExitCode::FAILURE),
        Ok(Err(CommandFailure::Settings(problem))) => (vec![problem], ExitCode::from(USAGE)),
        Err(error) => (error.0, ExitCode::from(USAGE)),
    };
    for problem in problems {
        print_stderr(&format!("error: {problem}"));
    }
    code
}

fn run_task(task: &Task, flags: FlagValues, loaded: LoadedConfig) -> Result<(), CommandFailure> {
    if *task != Task::Serve {
        for warning in loaded.notes.iter().chain(&loaded.warnings) {
            print_stderr(&format!("warning: {warning}"));
        }
    }
    match task {
        Task::Serve => serve(flags, loaded),
        Task::Settings | Task::Completions(_) | Task::Man | Task::Healthcheck { .. } => Ok(()),
        Task::Validate => {
            logging::init(&loaded.config.log_filter, loaded.config.log_format, None)?;
            check_store_kind(&loaded)?;
            print_stdout(&loaded.effective(commands::journal_sizes(&loaded.config)));
            Ok(())
        }
        Task::Migrate(rows) => {
            logging::init(&loaded.config.log_filter, loaded.config.log_format, None)?;
            check_store_kind(&loaded)?;
            let done = runtime()?
                .block_on(commands::migrate(&loaded.config, *rows))
                .map_err(|error| commands::explain(&loaded.config, &error))?;
            print_stdout(&done);
            Ok(())
        }
        Task::ConfirmClock => {
            logging::init(&loaded.config.log_filter, loaded.config.log_format, None)?;
            check_store_kind(&loaded)?;
            let done = runtime()?
                .block_on(commands::confirm_clock(&loaded.config))
                .map_err(|error| commands::explain(&loaded.config, &error))?;
            print_stdout(&done);
            Ok(())
        }
        Task::JournalDrain => {
            logging::init(&loaded.config.log_filter, loaded.config.log_format, None)?;
            let done = runtime()?.block_on(commands::drain::run(&loaded.config))?;
            print_stdout(&done);
            Ok(())
        }
        Task::JournalList | Task::JournalVerify => {
            let (report, problems) = commands::journal_report(&loaded.config)?;
            print_stdout(&report);
            match (task, problems) {
                (Task::JournalVerify, 1..) => {
                    Err(CommandFailure::Run("the journal is damaged".to_owned()))
                }
                _ => Ok(()),
            }
        }
    }
}

/// Refuses the settings that a start on the same data directory would refuse.
fn check_store_kind(loaded: &LoadedConfig) -> Result<(), CommandFailure> {
    let changed = runtime()?.block_on(commands::check_store_kind(&loaded.config))?;
    if let Some(warning) = changed {
        print_stderr(&format!("warning: {warning}"));
    }
    Ok(())
}

fn serve(flags: FlagValues, loaded: LoadedConfig) -> Result<(), CommandFailure> {
    let runtime = runtime()?;
    let own_traces = match &loaded.config.own_traces {
        Some(options) => {
            let _on = runtime.enter();
            Some(OwnTraces::start(options)?)
        }
        None => None,
    };
    logging::init(
        &loaded.config.log_filter,
        loaded.config.log_format,
        own_traces.as_ref(),
    )?;
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
