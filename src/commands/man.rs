//! `man`: the manual page, ruvvector-service(8), in roff.
//!
//! **Invariant:** commands and settings come from [`cli::command`] and the table of settings. Files, signals, exit codes
//! and examples are in `man_sections.roff`.

use std::io::Write;

use clap::Command;
use clap::builder::{PossibleValue, StyledStr};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli;
use crate::config::settings::{all, by_key};

const USAGE: &str = "ruvvector-service [serve] [SETTINGS]\nruvvector-service COMMAND [SETTINGS]";

const DESCRIPTION: &str = "\
Accepts telemetry events, as its own JSON on POST /ingest and as OpenTelemetry's OTLP over HTTP and gRPC, makes each request \
durable on the local disk before it answers, moves the events in batches into the table telemetry_events of PostgreSQL or of an \
embedded SQLite file, and answers queries, /health and /metrics.

Without a setting it listens on this machine alone: port 3100 for everything, 4318 for OTLP over HTTP, 4317 for OTLP over gRPC; \
it keeps its journal and SQLite's file in ./data.";

/// Returns the whole page.
#[must_use]
pub fn page() -> String {
    let mut command = cli::command()
        .override_usage(USAGE)
        .long_about(DESCRIPTION)
        .mut_args(|arg| arg.hide_short_help(false));
    command.build();
    let man = Man::new(command.clone())
        .section("8")
        .manual("System administration");
    let mut page = Vec::new();
    man.render_title(&mut page)
        // No hyphenation: a variable's name must be found by a search.
        .and_then(|()| page.write_all(b".nh\n.ad l\n"))
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| commands_and_settings(&command).to_writer(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| environment().to_writer(&mut page))
        .expect("memory accepts every byte");
    // groff without preconv reads ASCII alone.
    String::from_utf8_lossy(&page).replace('…', r"\[u2026]") + include_str!("man_sections.roff")
}

fn commands_and_settings(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    roff.text([roman(
        "Each command accepts the settings that it needs; --help after a command shows them.",
    )]);
    add_commands(&mut roff, command, "");
    roff.control("SH", ["SETTINGS"]);
    roff.text([roman(text(command.get_after_help()))]);
    roff
}

/// Adds the commands below `command`, whose name is `parent`, each with its arguments that are not settings. `help` is
/// left out: SETTINGS and OPTIONS describe the flag.
fn add_commands(roff: &mut Roff, command: &Command, parent: &str) {
    for command in command.get_subcommands() {
        if command.get_name() == "help" {
            continue;
        }
        let mut usage = format!("{parent}{}", command.get_name());
        if command.has_subcommands() {
            add_commands(roff, command, &format!("{usage} "));
            continue;
        }
        let mut meaning = text(command.get_about()) + ".";
        for arg in command.get_arguments() {
            if arg.get_id() == "help" || by_key(arg.get_id().as_str()).is_some() {
                continue;
            }
            let (open, close) = if arg.is_required_set() {
                ("", "")
            } else {
                ("[", "]")
            };
            usage += &format!(" {open}{arg}{close}");
            let values = arg.get_possible_values();
            let values: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
            let colon = if values.is_empty() { "" } else { ": " };
            meaning += &format!(" {}{colon}{}.", text(arg.get_help()), values.join(", "));
        }
        add_term(roff, usage, meaning);
    }
}

/// Returns the variables that are not beside a flag in another section, without those in `man_sections.roff`.
fn environment() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["ENVIRONMENT"]);
    roff.text([roman(
        "Beside the variables of the flags, where an empty variable counts as not set:",
    )]);
    for setting in all() {
        if setting.flag().is_none() {
            add_term(&mut roff, setting.variable(), format!("{}.", setting.help));
        }
        if let Some(variable) = setting.file_variable() {
            let meaning = format!("A file of one line that holds {}.", setting.variable());
            add_term(&mut roff, variable, meaning);
        }
    }
    roff
}

fn add_term(roff: &mut Roff, term: String, meaning: String) {
    roff.control("TP", []);
    roff.text([bold(term)]);
    roff.text([roman(meaning)]);
}

fn text(styled: Option<&StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::cli;
    use crate::config::settings::all;

    #[test]
    fn the_page_names_every_command_and_every_setting() {
        let page = super::page();
        assert!(page.is_ascii());
        let escaped = |text: &str| {
            let text = text.replace('-', "\\-").replace('\'', "\\*(Aq");
            text.replace('…', "\\[u2026]")
        };
        for setting in all() {
            assert!(
                page.contains(&escaped(&setting.variable())),
                "{}",
                setting.key
            );
            assert!(page.contains(&escaped(setting.help)), "{}", setting.key);
            if let Some(flag) = setting.flag() {
                assert!(page.contains(&escaped(&format!("--{flag}"))), "{flag}");
            }
            if let Some(file) = setting.file_variable() {
                assert!(page.contains(&file), "{file}");
            }
        }
        for command in cli::command().get_subcommands() {
            let name = command.get_name();
            for below in command.get_subcommands() {
                let both = format!("{name} {}", below.get_name());
                assert!(page.contains(&format!("\\fB{}", escaped(&both))), "{both}");
            }
            let is_there = page.contains(&format!("\\fB{name}"));
            assert!(is_there || command.has_subcommands(), "{name}");
        }
    }
}
