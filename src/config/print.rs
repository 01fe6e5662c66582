//! The effective configuration as a settings file that reads back, and the table of settings for the documents.
//!
//! **Invariant:** neither ever contains a password or a token.

use crate::journal::JournalSizes;
use std::fmt::Write;

use crate::config::settings::{STAGES, Secrecy, Setting};
use crate::config::sources::{SettingSource, SettingValue};
use crate::config::value::show_size;
use crate::config::{Config, LoadedConfig, database};
use crate::memory::MemoryShares;
use crate::store::StoreTarget;

impl Config {
    /// Describes the store and its address or path, without a password.
    #[must_use]
    pub fn stored_in(&self) -> String {
        match &self.store.target {
            StoreTarget::Postgres { options, .. } => {
                format!("PostgreSQL {}", database::describe(options))
            }
            StoreTarget::Sqlite { path } => format!("SQLite {}", path.display()),
        }
    }

    /// Describes the store and the data directory, without a password, for a log line at the start.
    #[must_use]
    pub fn places(&self) -> String {
        let dir = std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        format!(
            "events are stored in {}; the data directory, with the journal, is {}",
            self.stored_in(),
            dir.display()
        )
    }

    /// Describes each stage's share of memory, which depends on the machine, for a log line at the start.
    #[must_use]
    pub fn room(&self) -> String {
        let receive = &self.receive;
        let size = |bytes: usize| show_size(bytes as u64);
        format!(
            "of {} of memory requests may hold {} together, records on their way to the database {}, answers to queries {}; \
             one request may have {} sent and {} decompressed as OTLP, {} and {} at /ingest; one answer {}",
            self.memory_bytes
                .map_or_else(|| "any amount".to_owned(), show_size),
            receive
                .inflight_bytes
                .map_or_else(|| "auto".to_owned(), size),
            size(MemoryShares::of(self.memory_bytes).write_bytes),
            size(self.query.memory_bytes),
            size(receive.otlp_wire_bytes),
            size(receive.otlp_decoded_bytes),
            size(receive.ingest_wire_bytes),
            size(receive.ingest_decoded_bytes),
            size(self.query.answer_bytes),
        )
    }
}

impl LoadedConfig {
    /// Returns every setting with its value and source as TOML, and the journal's effective sizes if its volume is
    /// known.
    #[must_use]
    pub fn effective(&self, journal: Option<JournalSizes>) -> String {
        let mut out = String::new();
        for (stage, settings) in STAGES {
            let _ = writeln!(out, "# {stage}");
            for setting in settings.iter().filter(|setting| setting.key != "config") {
                self.line(setting, journal, &mut out);
            }
            out.push('\n');
        }
        out
    }

    fn line(&self, setting: &Setting, journal: Option<JournalSizes>, out: &mut String) {
        let Some(value) = self.values.get(setting.key) else {
            let store = match self.config.store.target {
                StoreTarget::Postgres { .. } => ": it is PostgreSQL",
                StoreTarget::Sqlite { .. } => ": it is SQLite",
            };
            let means = if setting.key == "store" { store } else { "" };
            let _ = writeln!(out, "# {} is not set{means}", setting.key);
            return;
        };
        let shown = if setting.secrecy == Secrecy::Public {
            literal(&value.text)
        } else {
            "\"***\"".to_owned()
        };
        // A comment: the masked value could not be loaded again.
        let hidden = if setting.secrecy == Secrecy::Public {
            ""
        } else {
            "# "
        };
        let assignment = format!("{hidden}{} = {shown}", setting.key);
        let source = match &value.source {
            SettingSource::Default => "default".to_owned(),
            source => format!("from {source}"),
        };
        let _ = write!(out, "{assignment:<40} # {source}");
        if let Some(means) = self.means(setting, value, journal) {
            let _ = write!(out, ": {means}");
        }
        out.push('\n');
    }

    /// Returns the effective value if it differs from the text.
    fn means(
        &self,
        setting: &Setting,
        value: &SettingValue,
        journal: Option<JournalSizes>,
    ) -> Option<String> {
        let config = &self.config;
        let size = |bytes: usize| show_size(bytes as u64);
        let means = match (setting.key, &config.store.target) {
            ("database_url", StoreTarget::Postgres { options, .. }) => database::describe(options),
            (
                "database_read_url",
                StoreTarget::Postgres {
                    read: Some(read), ..
                },
            ) => database::describe(read),
            ("sqlite_path", StoreTarget::Sqlite { path }) => path.display().to_string(),
            ("sqlite_path", StoreTarget::Postgres { .. }) => "the store is PostgreSQL".to_owned(),
            ("retention_days", _) => match config.store.retention_days {
                Some(days) => format!("{days} days"),
                None => "for ever".to_owned(),
            },
            ("collector", _) => config.store.collector.clone(),
            ("journal_max_bytes", _) => show_size(journal?.budget_bytes),
            ("journal_segment_bytes", _) => show_size(journal?.segment_bytes),
            ("journal_free_floor_bytes", _) => show_size(journal?.free_floor_bytes),
            ("inflight_bytes", _) => config.receive.inflight_bytes.map(size)?,
            ("otlp_wire_bytes", _) => size(config.receive.otlp_wire_bytes),
            ("otlp_decoded_bytes", _) => size(config.receive.otlp_decoded_bytes),
            ("ingest_wire_bytes", _) => size(config.receive.ingest_wire_bytes),
            ("ingest_decoded_bytes", _) => size(config.receive.ingest_decoded_bytes),
            ("query_answer_bytes", _) => size(config.query.answer_bytes),
            ("memory_bytes", _) => config.memory_bytes.map(|limit| {
                format!(
                    "{}: {} for requests, {} for records on their way to the database, {} for answers",
                    show_size(limit),
                    size(config.receive.inflight_bytes.unwrap_or_default()),
                    size(MemoryShares::of(config.memory_bytes).write_bytes),
                    size(config.query.memory_bytes)
                )
            })?,
            _ => return None,
        };
        (means != value.text).then_some(means)
    }
}

/// Returns a value as TOML: integers and booleans bare, all else in quotes.
fn literal(text: &str) -> String {
    if text
        .parse::<i64>()
        .is_ok_and(|number| number.to_string() == text)
        || matches!(text, "true" | "false")
    {
        text.to_owned()
    } else {
        toml::Value::from(text).to_string()
    }
}

/// Sections of the page below the table.
const BEYOND_THE_TABLE: &str = "
## Choice of the database

| set | store |
| --- | --- |
| `RUVVECTOR_STORE=sqlite` | SQLite; database settings beside it are ignored with a warning |
| `DATABASE_URL` | that PostgreSQL; `POSTGRES_…` beside it are ignored with a warning |
| `POSTGRES_HOST` | the PostgreSQL of `POSTGRES_HOST`, `_PORT`, `_USER`, `_PASSWORD` and `_DB` |
| other `POSTGRES_…`, or `RUVVECTOR_DATABASE_READ_URL`, alone | an error: which database? |
| `RUVVECTOR_STORE=postgres` alone | an error |
| nothing | SQLite |

**A data directory keeps to its kind of store**, which the file `store` in it names. While the journal or a SQLite file holds
events, a start with the other kind is an error, with exit code 2: otherwise a forgotten `DATABASE_URL` would write the journal
into a new SQLite file. `validate`, `migrate`, `retention confirm-clock` and `journal drain` return the same error.
`RUVVECTOR_STORE` confirms the change. The journal's events are then written to the new store, including the stored ones that it
still keeps (`journal_keep_stored`). The events in the old store stay there. A start records the new kind in the data directory;
a command does not. Another PostgreSQL is not a change.

Parts that a URL leaves out come from libpq's variables (`PGPASSWORD`, `PGSSLMODE`, …); a missing password also from `~/.pgpass`.

## Secrets in files

A setting that may hold a password can be read from a file instead, such as a systemd credential, a Docker secret or a mounted
Kubernetes Secret: {files}
name a file of one line. A variable together with its `_FILE` is an error, and so is a file that is empty or cannot be read.

The service reads these files again once a second: a changed token counts from the next request on, a changed user or password of a
database from the next connection on, changed headers from the next export on. Each connection reads the certificates of its
database. Secrets that cannot be read, or a URL that names another database, change nothing and are a warning. After SIGHUP the
service reads the secrets at once, those of the settings file too; all other settings need a restart. If standard error is a
terminal, SIGHUP means that the terminal is closed, and the service stops in order.

## Mistakes

An unknown key, an unknown flag and a bad value end the start with exit code 2 and a line for each problem, with its place. An
unknown variable `RUVVECTOR_…` is a warning, as another program may have set it.

## Kubernetes

For a Service called `ruvvector-service`, `ruvvector` or `postgres`, Kubernetes sets variables in every pod that have
names of settings (`RUVVECTOR_SERVICE_PORT=tcp://10.96.3.7:3100`, `POSTGRES_PORT=tcp://…`, `…_SERVICE_HOST`, `…_PORT_3100_TCP`).
They are ignored, with one log line. So is a plain `RUVVECTOR_SERVICE_PORT` that equals the port in a
`RUVVECTOR_PORT=tcp://…` beside it: there, set the port by flag or file, or set `enableServiceLinks: false` in the pod.
";

/// The page of all settings in Markdown, `docs/settings.md`.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         Printed by `ruvvector-service settings`. Each setting is a flag (`--journal-max-bytes 1GiB`), a variable \
         (`RUVVECTOR_JOURNAL_MAX_BYTES=1GiB`)\nand a key of the TOML file that `--config` names (`journal_max_bytes = \"1GiB\"`); \
         flags win over variables, variables over the file.\n`ruvvector-service validate` prints the effective value and \
         the source of each.\n\n\
         Sizes are written `64MiB`, `20 MB` or `4096`, durations `200ms`, `8s`, `5m` or `1h`. An empty variable is not \
         set. Secrets have no flag. \
         A password in `--database-url` is visible to others on the machine in the list of processes: a start warns of \
         it.\n",
    );
    for (stage, settings) in STAGES {
        let _ = writeln!(
            out,
            "\n## {stage}\n\n| key | variable | value | default | |\n| --- | --- | --- | --- | --- |"
        );
        for setting in settings {
            let default = match setting.default {
                "" => String::new(),
                text => format!("`{text}`"),
            };
            let _ = writeln!(
                out,
                "| `{}` | `{}` | {} | {default} | {} |",
                setting.key,
                setting.variable(),
                setting.value.replace('|', " or "),
                setting.help,
            );
        }
    }
    let files: Vec<_> = STAGES
        .iter()
        .flat_map(|(_, settings)| *settings)
        .filter_map(Setting::file_variable)
        .map(|name| format!("`{name}`"))
        .collect();
    let (last, others) = files.split_last().expect("some settings hold passwords");
    let files = format!("{} and {last}", others.join(", "));
    out.push_str(&BEYOND_THE_TABLE.replace("{files}", &files));
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_of_settings_is_the_table() {
        assert!(
            super::reference() == include_str!("../../docs/settings.md"),
            "docs/settings.md is out of date: `cargo run -- settings > docs/settings.md`"
        );
    }
}
