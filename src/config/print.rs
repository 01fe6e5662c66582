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
            let means = match (setting.key, &self.config.store.target) {
                ("store", StoreTarget::Postgres { .. }) => ": it is PostgreSQL",
                ("store", StoreTarget::Sqlite { .. }) => ": it is SQLite",
                _ => "",
            };
            let _ = writeln!(out, "# {} is not set{means}", setting.key);
            return;
        };
        let assignment = match setting.secrecy {
            Secrecy::Public => format!("{} = {}", setting.key, literal(&value.text)),
            // A comment: the masked value could not be loaded again.
            Secrecy::Url | Secrecy::Secret => format!("# {} = \"***\"", setting.key),
        };
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
    match text.parse::<i64>() {
        Ok(number) if number.to_string() == text => text.to_owned(),
        _ if matches!(text, "true" | "false") => text.to_owned(),
        _ => toml::Value::from(text).to_string(),
    }
}

/// Returns the page of all settings in Markdown, `docs/settings.md`.
#[must_use]
pub fn reference() -> String {
    let mut tables = String::new();
    let mut files = Vec::new();
    for (stage, settings) in STAGES {
        let _ = writeln!(
            tables,
            "\n## {stage}\n\n| key | variable | value | default | |\n| --- | --- | --- | --- | --- |"
        );
        for setting in settings {
            let default = match setting.default {
                "" => String::new(),
                text => format!("`{text}`"),
            };
            let _ = writeln!(
                tables,
                "| `{}` | `{}` | {} | {default} | {} |",
                setting.key,
                setting.variable(),
                setting.value.replace('|', " or "),
                setting.help,
            );
            files.extend(setting.file_variable().map(|name| format!("`{name}`")));
        }
    }
    let (last, others) = files.split_last().expect("some settings hold passwords");
    include_str!("settings_page.md")
        .replace("{tables}", &tables)
        .replace("{files}", &format!("{} and {last}", others.join(", ")))
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
