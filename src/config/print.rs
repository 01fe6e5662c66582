//! The effective configuration as a settings file that reads back, and the table of settings for the documents.
//!
//! **Invariant:** no password and no token is ever part of either.

use std::fmt::Write;

use super::layers::{Source, Value};
use super::settings::{STAGES, Secrecy, Setting};
use super::value::show_size;
use super::{Config, Loaded, database};
use crate::store::Target;

impl Config {
    /// What requests may hold, for the start's log lines: it depends on the machine.
    #[must_use]
    pub fn room(&self) -> String {
        let receive = &self.receive;
        let size = |bytes: usize| show_size(bytes as u64);
        format!(
            "requests may hold {} together; one may have {} sent and {} decompressed as OTLP, {} and {} at /ingest",
            receive
                .inflight_bytes
                .map_or_else(|| "auto".to_owned(), size),
            size(receive.otlp_wire_bytes),
            size(receive.otlp_decoded_bytes),
            size(receive.ingest_wire_bytes),
            size(receive.ingest_decoded_bytes),
        )
    }
}

impl Loaded {
    /// Every setting with its value and where that comes from, as TOML.
    #[must_use]
    pub fn effective(&self) -> String {
        let mut out = String::new();
        for (stage, settings) in STAGES {
            let _ = writeln!(out, "# {stage}");
            for setting in settings.iter().filter(|setting| setting.key != "config") {
                self.line(setting, &mut out);
            }
            out.push('\n');
        }
        out
    }

    fn line(&self, setting: &Setting, out: &mut String) {
        let Some(value) = self.values.get(setting.key) else {
            let store = match self.config.store.target {
                Target::Postgres { .. } => ": it is PostgreSQL",
                Target::Sqlite { .. } => ": it is SQLite",
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
        // A hidden value would not read back.
        let hidden = if setting.secrecy == Secrecy::Public {
            ""
        } else {
            "# "
        };
        let assignment = format!("{hidden}{} = {shown}", setting.key);
        let source = match &value.source {
            Source::Default => "default".to_owned(),
            source => format!("from {source}"),
        };
        let _ = write!(out, "{assignment:<40} # {source}");
        if let Some(means) = self.means(setting, value) {
            let _ = write!(out, ": {means}");
        }
        out.push('\n');
    }

    /// What a value comes to, where that is not what it says.
    fn means(&self, setting: &Setting, value: &Value) -> Option<String> {
        let config = &self.config;
        let size = |bytes: usize| show_size(bytes as u64);
        let means = match (setting.key, &config.store.target) {
            ("database_url", Target::Postgres { options, .. }) => database::describe(options),
            (
                "database_read_url",
                Target::Postgres {
                    read: Some(read), ..
                },
            ) => database::describe(read),
            ("sqlite_path", Target::Sqlite { path }) => path.display().to_string(),
            ("sqlite_path", Target::Postgres { .. }) => "the store is PostgreSQL".to_owned(),
            ("retention_days", _) => match config.store.retention_days {
                Some(days) => format!("{days} days"),
                None => "for ever".to_owned(),
            },
            ("collector", _) => config.store.collector.clone(),
            ("inflight_bytes", _) => config.receive.inflight_bytes.map(size)?,
            ("otlp_wire_bytes", _) => size(config.receive.otlp_wire_bytes),
            ("otlp_decoded_bytes", _) => size(config.receive.otlp_decoded_bytes),
            ("ingest_wire_bytes", _) => size(config.receive.ingest_wire_bytes),
            ("ingest_decoded_bytes", _) => size(config.receive.ingest_decoded_bytes),
            _ => return None,
        };
        (means != value.text).then_some(means)
    }
}

/// A value as TOML: numbers and booleans bare, all else in quotes.
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

/// The table of all settings in Markdown, for the documents.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    for (stage, settings) in STAGES {
        let _ = writeln!(
            out,
            "## {stage}\n\n| setting | variable | default | meaning |\n| --- | --- | --- | --- |"
        );
        for setting in settings {
            let default = match setting.default {
                "" => "not set".to_owned(),
                text => format!("`{text}`"),
            };
            let _ = writeln!(
                out,
                "| `{}` | `{}` | {default} | {} ({}) |",
                setting.key,
                setting.variable(),
                setting.help.replace('|', "\\|"),
                setting.value.replace('|', "\\|"),
            );
        }
        out.push('\n');
    }
    out
}
