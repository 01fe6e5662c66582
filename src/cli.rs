//! The command line: subcommands, and a flag for every setting.
//!
//! **Invariant:** flags and their help come from the table of settings alone.

use std::ffi::OsString;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;

use crate::config::settings::{STAGES, Setting, all, by_key};
use crate::telemetry;

/// A parsed command line: the subcommand and the flags of settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    pub task: Task,
    /// Key and text of each flag, in the order of the command line: the last of a key wins.
    pub flags: Vec<(&'static str, String)>,
}

/// The rows that a migration copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportRows {
    None,
    ImportV0,
}

/// The subcommands.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    Serve,
    Validate,
    Migrate(ImportRows),
    Healthcheck {
        /// URL to ask; `None` = the service port on this machine.
        url: Option<String>,
    },
    JournalList,
    JournalVerify,
    JournalDrain,
    /// `retention confirm-clock`.
    ConfirmClock,
    /// Prints the table of settings.
    Settings,
    Completions(Shell),
    Man,
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// [`clap::Error`] if the command line is not valid; also for `--help` and `--version`, whose text it holds.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let mut matches = command().try_get_matches_from(args)?;
    let mut flags = setting_flags(&mut matches);
    let mut names = Vec::new();
    while let Some((name, below)) = matches.remove_subcommand() {
        names.push(name);
        matches = below;
        flags.extend(setting_flags(&mut matches));
    }
    let task = match names.join(" ").as_str() {
        "validate" => Task::Validate,
        "settings" => Task::Settings,
        "migrate" if matches.get_flag("import-v0") => Task::Migrate(ImportRows::ImportV0),
        "migrate" => Task::Migrate(ImportRows::None),
        "healthcheck" => Task::Healthcheck {
            url: matches.remove_one("url"),
        },
        "journal list" => Task::JournalList,
        "journal verify" => Task::JournalVerify,
        "journal drain" => Task::JournalDrain,
        "retention confirm-clock" => Task::ConfirmClock,
        "completions" => matches
            .remove_one("shell")
            .map_or(Task::Serve, Task::Completions),
        "man" => Task::Man,
        // `serve`, or no command.
        _ => Task::Serve,
    };
    Ok(Arguments { task, flags })
}

/// Removes the flags of settings from the matches.
fn setting_flags(matches: &mut ArgMatches) -> Vec<(&'static str, String)> {
    all()
        .filter_map(|setting| {
            let text = matches.try_remove_one::<String>(setting.key).ok()??;
            Some((setting.key, text))
        })
        .collect()
}

/// The whole command line.
#[must_use]
pub fn command() -> Command {
    let version = format!("{} ({})", env!("CARGO_PKG_VERSION"), telemetry::REVISION);
    Command::new("ruvvector-service")
        .version(version)
        .about(
            "An OTLP-compatible collector: durable on disk before it answers, exactly once in PostgreSQL or SQLite",
        )
        .after_help(after_help())
        .args(settings(|_, _| true))
        .subcommand(
            Command::new("serve")
                .about("Run the service; the default without a subcommand")
                .args(settings(|_, _| true)),
        )
        .subcommand(
            Command::new("validate")
                .about("Check the settings, and print the effective value and the source of each")
                .args(settings(|_, _| true)),
        )
        .subcommand(
            Command::new("settings")
                .about("Print all settings with their meaning, as Markdown"),
        )
        .subcommand(
            Command::new("migrate")
                .about("Bring the database's schema up to date, then end")
                .arg(
                    Arg::new("import-v0")
                        .long("import-v0")
                        .action(ArgAction::SetTrue)
                        .help("Copy the rows of the original service's table too; may be stopped and run again"),
                )
                .args(settings(|stage, setting| stage == "The store" || general(setting))),
        )
        .subcommand(
            Command::new("healthcheck")
                .about("Ask the running service whether it is ready; ends with 0 if it is")
                .arg(
                    Arg::new("url")
                        .long("url")
                        .value_name("URL")
                        .help("URL to ask instead of the service port, such as http://127.0.0.1:3100/health/ready"),
                )
                .args(settings(|stage, setting| stage == "Listeners" || setting.key == "config")),
        )
        .subcommand(
            Command::new("journal")
                .about("Inspect the journal on disk, or drain it into the store")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    Command::new("list")
                        .about("List the journal's files with their positions, events and bytes")
                        .args(settings(|stage, setting| stage == "The journal" || setting.key == "config")),
                )
                .subcommand(
                    Command::new("verify")
                        .about("Read and check every record; ends with 1 if one is damaged")
                        .args(settings(|stage, setting| stage == "The journal" || setting.key == "config")),
                )
                .subcommand(
                    Command::new("drain")
                        .about(
                            "Write the journal of a data directory without a running service into the store, remove it, and end; \
                             ends with 1 if a part of it is left",
                        )
                        .args(settings(|stage, setting| {
                            matches!(stage, "The journal" | "From the journal to the store" | "The store")
                                || general(setting)
                                || setting.key == "shutdown_grace"
                        })),
                ),
        )
        .subcommand(
            Command::new("retention")
                .about("Manage the removal of old events")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    Command::new("confirm-clock")
                        .about(
                            "Confirm that the clock is right if /health reports that retention doubts it; the running service \
                             trusts it from its next round of maintenance on",
                        )
                        .args(settings(|stage, setting| stage == "The store" || general(setting))),
                ),
        )
        .subcommand(
            Command::new("completions")
                .about("Print the script by which a shell completes this command line")
                .arg(
                    Arg::new("shell")
                        .required(true)
                        .value_name("SHELL")
                        .value_parser(value_parser!(Shell))
                        .help("Shell to complete in"),
                ),
        )
        .subcommand(Command::new("man").about("Print the manual page, for `man -l` or /usr/share/man/man8"))
}

/// Returns the script by which `shell` completes the command line: names of settings, and the values of those that are
/// a closed list.
#[must_use]
pub fn completions(shell: Shell) -> String {
    let mut command = with_values(command());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "ruvvector-service", &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        // clap_complete 4.6 uses two names for a program with a dash in its name, and then completes nothing after a
        // command.
        Shell::Bash => script.replace("ruvvector__subcmd__service", "ruvvector__service"),
        _ => script.into_owned(),
    }
}

/// Names the values that a shell may offer. The command line itself leaves their check to the settings, whose errors
/// are clearer.
fn with_values(command: Command) -> Command {
    command
        .mut_args(|arg| {
            let Some(setting) = by_key(arg.get_id().as_str()) else {
                return arg;
            };
            let is_closed_list = !setting.value.contains(|c: char| c.is_ascii_uppercase());
            if is_closed_list {
                arg.value_parser(PossibleValuesParser::new(setting.value.split('|')))
            } else if setting.value == "PATH" {
                arg.value_hint(ValueHint::AnyPath)
            } else {
                arg.value_hint(ValueHint::Other)
            }
        })
        .mut_subcommands(with_values)
}

fn after_help() -> String {
    let secrets: Vec<_> = all()
        .filter(|setting| setting.flag().is_none())
        .map(Setting::variable)
        .collect();
    format!(
        "Every setting is a flag, a variable and a key of the settings file; flags win over variables, variables over \
         the file. Secrets have no flag: {}; a variable with _FILE after its name names the file that holds one. A password in \
         --database-url can be read by others in the list of processes: set DATABASE_URL instead. Sizes are written 64MiB, 20 MB or 4096, durations 200ms, 8s, 5m or 1h. \
         `--help` shows all settings, `validate` their effective values.",
        secrets.join(", ")
    )
}

/// Returns whether most commands need this setting.
fn general(setting: &Setting) -> bool {
    matches!(
        setting.key,
        "config" | "data_dir" | "log_level" | "log_format"
    )
}

/// Returns the flags of the settings that `wanted` selects, grouped by stage.
fn settings(wanted: impl Fn(&str, &Setting) -> bool) -> Vec<Arg> {
    STAGES
        .iter()
        .flat_map(|(stage, settings)| settings.iter().map(move |setting| (*stage, setting)))
        .filter(|(stage, setting)| wanted(stage, setting))
        .filter_map(|(stage, setting)| Some(argument(stage, setting, setting.flag()?)))
        .collect()
}

fn argument(stage: &'static str, setting: &'static Setting, flag: String) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        text => format!(" [default: {text}]"),
    };
    let variable = setting.variable();
    Arg::new(setting.key)
        .long(flag)
        .value_name(setting.value)
        .help_heading(stage)
        .hide_short_help(!setting.common)
        .action(ArgAction::Set)
        .overrides_with(setting.key)
        .allow_hyphen_values(false)
        .help(format!("{}{default} [env: {variable}]", setting.help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        parse(line.split(' ').map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn without_a_subcommand_it_serves() {
        for line in ["r --service-port 3200", "r serve --service-port=3200"] {
            assert_eq!(
                read(line),
                Ok(Arguments {
                    task: Task::Serve,
                    flags: vec![("service_port", "3200".to_owned())],
                })
            );
        }
    }

    #[test]
    fn flags_stand_before_or_after_the_subcommand_and_the_last_wins() {
        let read = read("r --data-dir a journal verify --data-dir b").unwrap();
        assert_eq!(read.task, Task::JournalVerify);
        assert_eq!(read.flags.last(), Some(&("data_dir", "b".to_owned())));
    }

    #[test]
    fn a_directory_is_drained_under_the_settings_of_the_journal_the_writer_and_the_store() {
        let read = read("r journal drain --data-dir a --store postgres --retry-max 1s").unwrap();
        assert_eq!(read.task, Task::JournalDrain);
        assert_eq!(read.flags.len(), 3);
    }

    #[test]
    fn a_misspelt_flag_is_an_error_with_the_near_miss() {
        let error = read("r --journal-max-byte 1GiB").unwrap_err();
        assert!(error.contains("--journal-max-bytes"), "{error}");
    }

    #[test]
    fn secrets_have_no_flag() {
        for line in ["r --postgres-password x", "r --auth-tokens x"] {
            assert!(read(line).is_err());
        }
    }

    #[test]
    fn help_shows_every_setting_with_its_default_and_variable() {
        let help = read("r --help").unwrap_err();
        for setting in all() {
            assert!(
                help.contains(&setting.variable()) || setting.flag().is_none(),
                "{}",
                setting.key
            );
        }
        assert!(help.contains("[default: 3100] [env: RUVVECTOR_SERVICE_PORT]"));
        let short = read("r -h").unwrap_err();
        assert!(short.contains("--data-dir") && !short.contains("--max-events"));
    }
}
