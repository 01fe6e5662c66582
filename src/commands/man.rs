//! `man`: the manual page, ruvvector-service(8), in roff.
//!
//! **Invariant:** commands come from [`cli::command`] and settings from their table. Only files, signals, exit codes
//! and examples are written here.

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use crate::cli;
use crate::config::settings::{STAGES, by_key};

/// Returns the whole page.
#[must_use]
pub fn page() -> String {
    let command = cli::command().override_usage(
        "ruvvector-service [serve] [SETTINGS]\nruvvector-service COMMAND [SETTINGS]",
    );
    let head = Man::new(command.clone())
        .section("8")
        .manual("System administration");
    let mut page = Vec::new();
    head.render_title(&mut page)
        .and_then(|()| head.render_name_section(&mut page))
        .and_then(|()| head.render_synopsis_section(&mut page))
        .expect("memory takes what is written");
    let mut page = String::from_utf8_lossy(&page).into_owned();
    page.push_str(&body(&command).render());
    page
}

fn body(command: &Command) -> Roff {
    let mut roff = Roff::new();
    section(
        &mut roff,
        "DESCRIPTION",
        &[
            "Accepts telemetry events, as its own JSON on POST /ingest and as OpenTelemetry's OTLP over HTTP and gRPC, makes each \
             request durable on the local disk before it answers, moves the events in batches into the table telemetry_events \
             of PostgreSQL or of an embedded SQLite file, and answers queries, /health and /metrics.",
            "Without a setting it listens on this machine alone: port 3100 for everything, 4318 for OTLP over HTTP, 4317 for \
             OTLP over gRPC; it keeps its journal and SQLite's file in ./data.",
        ],
    );
    commands(&mut roff, command);
    settings(&mut roff);
    environment(&mut roff);
    terms(&mut roff, "FILES", &FILES);
    terms(&mut roff, "SIGNALS", &SIGNALS);
    terms(&mut roff, "EXIT STATUS", &EXIT_STATUS);
    examples(&mut roff);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("systemd.service"),
        roman("(5), "),
        bold("sd_notify"),
        roman("(3), "),
        bold("psql"),
        roman("(1), "),
        bold("curl"),
        roman("(1)"),
    ]);
    roff
}

const FILES: [(&str, &str); 5] = [
    (
        "/etc/ruvvector/ruvvector.env",
        "Variables for the service, one NAME=value a line, as the systemd unit reads them. May be missing.",
    ),
    (
        "/var/lib/ruvvector",
        "The data directory under the systemd unit; otherwise ./data, or the path in data_dir.",
    ),
    (
        "<data_dir>/journal",
        "The journal: requests that were answered and are not all in the database yet. `journal list` shows its contents.",
    ),
    (
        "<data_dir>/telemetry.db",
        "SQLite's file, if no PostgreSQL is set.",
    ),
    ("~/.pgpass", "The database's password, if the URL has none."),
];

const SIGNALS: [(&str, &str); 3] = [
    (
        "SIGTERM",
        "Stops in order: no longer ready, requests are still accepted for shutdown_delay, those in flight are finished, and \
         the journal is written to the database for up to shutdown_grace. The rest stays in the journal for the next start.",
    ),
    ("SIGINT", "The same without the shutdown delay."),
    (
        "a second of these signals",
        "Ends at once. Acknowledged events are on the disk.",
    ),
];

const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "All went well."),
    (
        "1",
        "Something failed while it ran: a port is taken, the journal cannot be opened or written, the service is not ready \
         (healthcheck), the journal is damaged (journal verify) or a part of it is left (journal drain).",
    ),
    (
        "2",
        "A flag, a setting or the settings file is wrong. Starting again does not help.",
    ),
    ("130", "A second signal ended it."),
];

fn section(roff: &mut Roff, title: &str, paragraphs: &[&str]) {
    roff.control("SH", [title]);
    for (n, paragraph) in paragraphs.iter().enumerate() {
        if n > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*paragraph)]);
    }
}

fn terms(roff: &mut Roff, title: &str, terms: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (term, meaning) in terms {
        one(roff, vec![bold(*term)], meaning);
    }
}

fn one(roff: &mut Roff, term: Vec<Inline>, meaning: &str) {
    roff.control("TP", []);
    roff.text(term);
    roff.text([roman(meaning)]);
}

fn commands(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["COMMANDS"]);
    roff.text([roman("Each command accepts the settings it needs; ")]);
    roff.text([bold("--help"), roman(" after a command shows them.")]);
    command_list(roff, command, "");
}

fn command_list(roff: &mut Roff, command: &Command, before: &str) {
    for sub in command.get_subcommands() {
        let name = format!("{before}{}", sub.get_name());
        if sub.has_subcommands() {
            command_list(roff, sub, &format!("{name} "));
            continue;
        }
        let mut term = vec![bold(name)];
        // The flags of settings have a separate section.
        let own = sub
            .get_arguments()
            .filter(|arg| by_key(arg.get_id().as_str()).is_none());
        let mut meaning = sub.get_about().map(ToString::to_string).unwrap_or_default();
        meaning.push('.');
        for arg in own {
            let value = arg.get_value_names().unwrap_or_default().join(" ");
            let takes = !value.is_empty() && arg.get_action().takes_values();
            match arg.get_long() {
                Some(long) if takes => term.extend([
                    roman(" ["),
                    bold(format!("--{long}")),
                    roman(" "),
                    italic(value),
                    roman("]"),
                ]),
                Some(long) => {
                    term.extend([roman(" ["), bold(format!("--{long}")), roman("]")]);
                }
                None => term.extend([roman(" "), italic(value)]),
            }
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let named = arg
                .get_long()
                .map_or_else(String::new, |long| format!("--{long}: "));
            let values: Vec<_> = arg
                .get_possible_values()
                .iter()
                .map(|value| value.get_name().to_owned())
                .collect();
            let values = match takes && !values.is_empty() {
                true => format!(": {}", values.join(", ")),
                false => String::new(),
            };
            meaning.push_str(&format!(" {named}{help}{values}."));
        }
        one(roff, term, &meaning);
    }
}

fn settings(roff: &mut Roff) {
    section(
        roff,
        "SETTINGS",
        &[
            "Every setting is a flag, a variable and a key of the file that --config names: the flag's name with _ for -. Flags \
             win over variables, variables over the file. Sizes are written 64MiB, 20 MB or 4096, durations 200ms, 8s, 5m or 1h.",
            "ruvvector-service validate prints the effective value and the source of each setting.",
        ],
    );
    for (stage, settings) in STAGES {
        roff.control("SS", [stage]);
        for setting in settings {
            let term = match setting.flag() {
                Some(flag) => vec![
                    bold(format!("--{flag}")),
                    roman(" "),
                    italic(setting.value),
                    roman(", "),
                    bold(setting.variable()),
                ],
                None => vec![bold(setting.variable())],
            };
            let default = match setting.default {
                "" => String::new(),
                text => format!(" Default: {text}."),
            };
            one(roff, term, &format!("{}.{default}", setting.help));
        }
    }
}

fn environment(roff: &mut Roff) {
    roff.control("SH", ["ENVIRONMENT"]);
    roff.text([roman(
        "Beside the variables of the settings, where an empty variable counts as not set:",
    )]);
    for setting in STAGES.iter().flat_map(|(_, settings)| *settings) {
        if let Some(variable) = setting.file_variable() {
            let meaning = format!("A file of one line that holds {}.", setting.variable());
            one(roff, vec![bold(variable)], &meaning);
        }
    }
    for (variables, meaning) in [
        (
            "PGPASSWORD, PGSSLMODE, PGSSLROOTCERT, …",
            "Parts that a database's URL leaves out, as psql(1) reads them.",
        ),
        (
            "SSL_CERT_FILE, SSL_CERT_DIR",
            "Certificate authorities instead of the system's, for TLS to the database.",
        ),
        (
            "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
            "Set by systemd: the socket for readiness, status and watchdog messages, and the watchdog's interval.",
        ),
    ] {
        one(roff, vec![bold(variables)], meaning);
    }
}

fn examples(roff: &mut Roff) {
    roff.control("SH", ["EXAMPLES"]);
    for (what, line) in [
        (
            "With SQLite, on this machine alone:",
            "ruvvector-service --data-dir /var/tmp/telemetry",
        ),
        (
            "With PostgreSQL, for the whole network:",
            "DATABASE_URL=postgres://ruvvector:secret@db/events ruvvector-service --bind '[::]'",
        ),
        (
            "Sending an event and reading it back:",
            "curl -d '{\"correlationId\":\"order-1\",\"integration\":\"shop\",\"eventType\":\"order.created\"}' \
             http://127.0.0.1:3100/ingest\ncurl 'http://127.0.0.1:3100/query?correlationId=order-1'",
        ),
        (
            "Installing completions and this page:",
            "ruvvector-service completions bash >/usr/share/bash-completion/completions/ruvvector-service\n\
             ruvvector-service completions zsh >/usr/share/zsh/vendor-completions/_ruvvector-service\n\
             ruvvector-service completions fish >/usr/share/fish/vendor_completions.d/ruvvector-service.fish\n\
             ruvvector-service man >/usr/share/man/man8/ruvvector-service.8",
        ),
    ] {
        roff.control("PP", []);
        roff.text([roman(what)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        for line in line.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
        roff.control("RE", []);
    }
}

#[cfg(test)]
mod tests {
    use crate::cli;
    use crate::config::settings::all;

    #[test]
    fn the_page_names_every_command_and_every_setting() {
        let page = super::page();
        let escaped = |text: &str| text.replace('-', "\\-");
        for setting in all() {
            assert!(
                page.contains(&escaped(&setting.variable())),
                "{}",
                setting.key
            );
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
