//! Settings: their names, defaults and meanings are defined in one table ([`settings`]). Flags win over the
//! environment, the environment over the file, the file over defaults.
//!
//! **Invariant:** [`Config::load`] depends on [`Inputs`] alone, so that the same inputs always make the same
//! configuration.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::telemetry::{logging, own_traces};
use crate::{journal, query, receive, store, write};

/// Warnings of risky settings, logged at the start and shown in `/health`.
pub mod warnings;

/// The table of settings.
pub mod settings;

/// Parses values.
mod value;

/// The filter of log lines.
mod log_filter;

/// Values with their sources.
mod sources;

/// The settings file.
mod file;

/// The environment, without the variables that Kubernetes injects.
mod environment;

/// The settings' values, before they are checked against each other.
mod raw_config;

/// The choice of the store.
mod database;

/// Rules between settings.
mod check;

/// Facts about the machine.
mod machine;

/// Prints the effective configuration and the table.
mod print;

#[cfg(test)]
mod tests;

pub use machine::Machine;
pub use print::reference;
pub use sources::{SettingSource, SettingValue};
pub use value::PortSetting;

use raw_config::{RawConfig, RetentionSetting};
use sources::SettingValues;

/// The settings of one process, checked against each other.
#[derive(Clone, Debug)]
pub struct Config {
    pub service_port: PortSetting,
    pub otlp_http_port: PortSetting,
    pub otlp_grpc_port: PortSetting,
    /// Addresses to listen on; at least one.
    pub bind: Vec<IpAddr>,
    /// Holds the journal, under `journal/`, and SQLite's file.
    pub data_dir: PathBuf,
    /// Memory that the process may use; `None` = no limit is known.
    pub memory_bytes: Option<u64>,
    /// Options of ingestion. `inflight_bytes` is always set, and no body limit is over half of it.
    pub receive: receive::Options,
    pub journal: journal::Options,
    pub write: write::Options,
    pub store: store::Options,
    /// The store is PostgreSQL and retention is not set: nothing is ever removed, although nobody chose that.
    pub retention_unset: bool,
    /// No setting names the store, so it is SQLite.
    pub store_unnamed: bool,
    /// The way in which the settings choose the store: explicit or implied.
    pub store_naming: store::kind_note::Naming,
    pub query: query::Options,
    /// Time after SIGTERM for which requests are still accepted.
    pub shutdown_delay: Duration,
    /// Time for which a stop continues to write to the database.
    pub grace: Duration,
    pub log_format: logging::LogFormat,
    /// Filter in the form that [`logging::init`] accepts.
    pub log_filter: String,
    /// Export of the service's own traces; `None` = off.
    pub own_traces: Option<own_traces::Options>,
}

/// A configuration with its warnings and the sources of its values.
pub struct LoadedConfig {
    pub config: Config,
    /// Mistakes that somebody should correct, one sentence each; logged at the start and shown in `/health`.
    pub warnings: Vec<String>,
    /// Variables that are rightly ignored, one sentence each; logged at the start.
    pub notes: Vec<String>,
    values: SettingValues,
}

/// All variables of the process, by name.
pub type Environment = BTreeMap<String, String>;

/// Reads a settings file, or a file with a secret.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// The inputs that determine a configuration.
pub struct Inputs<'a> {
    /// Key and text of each flag on the command line.
    pub flags: Vec<(&'static str, String)>,
    pub environment: Environment,
    pub read_file: ReadFile<'a>,
    pub machine: Machine,
}

/// All errors of the settings, one sentence each, with the place of each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl From<String> for ConfigError {
    fn from(problem: String) -> Self {
        Self(vec![problem])
    }
}

/// Sentences about the environment.
#[derive(Default)]
struct Findings {
    /// Variables that are rightly ignored.
    notes: Vec<String>,
    /// Variables that somebody should correct.
    warnings: Vec<String>,
    /// Errors that end the start.
    problems: Vec<String>,
}

impl Config {
    /// Merges flags, environment, file and defaults, and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem, not only the first.
    pub fn load(inputs: &Inputs<'_>) -> Result<LoadedConfig, ConfigError> {
        let mut findings = Findings::default();
        let environment = environment::values(inputs, &mut findings);
        let Findings {
            notes,
            mut warnings,
            mut problems,
        } = findings;
        let values = gather(inputs, environment, &mut problems);
        let mut raw = RawConfig::default();
        apply(settings::all(), &values, &mut raw, &mut problems);
        check::fit_memory(&mut raw, &values, &inputs.machine, &mut warnings);
        let target = match database::target(&raw, &values, inputs.read_file, &mut warnings) {
            Ok(target) if problems.is_empty() => target,
            target => {
                problems.extend(target.err().into_iter().flat_map(|error| error.0));
                return Err(ConfigError(problems));
            }
        };
        let problems = check::problems(&raw);
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        Ok(LoadedConfig {
            config: raw.finish(target, &inputs.machine),
            warnings,
            notes,
            values,
        })
    }
}

/// The addresses on which the service listens, for a command on the same machine.
#[derive(Debug)]
pub struct ListenAddress {
    pub service_port: PortSetting,
    /// Addresses to listen on; at least one.
    pub bind: Vec<IpAddr>,
}

impl ListenAddress {
    /// Loads these settings alone: the command needs no secrets, and succeeds although the environment's secrets are
    /// missing or wrong.
    ///
    /// # Errors
    /// [`ConfigError`] if a flag is empty, the file is not valid, or one of these settings is wrong.
    pub fn load(inputs: &Inputs<'_>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let environment = environment::values(inputs, &mut Findings::default());
        let values = gather(inputs, environment, &mut problems);
        let mut raw = RawConfig::default();
        let own = settings::all().filter(|setting| ["service_port", "bind"].contains(&setting.key));
        apply(own, &values, &mut raw, &mut problems);
        if problems.is_empty() {
            Ok(Self {
                service_port: raw.service_port,
                bind: raw.bind,
            })
        } else {
            Err(ConfigError(problems))
        }
    }
}

/// Parses the values of `settings` into the raw configuration.
fn apply<'a>(
    settings: impl Iterator<Item = &'a settings::Setting>,
    values: &SettingValues,
    raw: &mut RawConfig,
    problems: &mut Vec<String>,
) {
    for setting in settings {
        let Some(value) = values.get(setting.key) else {
            continue;
        };
        if let Err(problem) = (setting.apply)(raw, &value.text) {
            problems.push(format!("{} {problem}", value.place(setting)));
        }
    }
}

/// Merges the values of all sources; a stronger source replaces the value of a weaker one.
fn gather(
    inputs: &Inputs<'_>,
    environment: SettingValues,
    problems: &mut Vec<String>,
) -> SettingValues {
    let mut values = SettingValues::new();
    for setting in settings::all().filter(|setting| !setting.default.is_empty()) {
        let value = SettingValue::new(setting.default, SettingSource::Default);
        values.insert(setting.key, value);
    }
    let mut stronger = environment;
    for (key, text) in &inputs.flags {
        let flag = key.replace('_', "-");
        if text.is_empty() {
            problems.push(format!(
                "--{flag}: is empty; leave it out to have its default"
            ));
        } else {
            stronger.insert(key, SettingValue::new(text, SettingSource::Flag(flag)));
        }
    }
    if let Some(config) = stronger.get("config") {
        let path = Path::new(&config.text);
        match (inputs.read_file)(path) {
            Ok(text) => values.extend(file::values(path, &text, problems)),
            Err(error) => problems.push(format!("{}: {}: {error}", config.source, path.display())),
        }
    }
    values.extend(stronger);
    values
}

impl RawConfig {
    /// Returns the configuration, with the defaults that depend on the store or the machine.
    fn finish(self, target: store::StoreTarget, machine: &Machine) -> Config {
        let retention_days = match (self.retention, &target) {
            (RetentionSetting::Days(days), _) => Some(days),
            (RetentionSetting::Auto, store::StoreTarget::Sqlite { .. }) => Some(7),
            (RetentionSetting::Auto | RetentionSetting::Off, _) => None,
        };
        let retention_unset = self.retention == RetentionSetting::Auto && retention_days.is_none();
        let sqlite = matches!(target, store::StoreTarget::Sqlite { .. });
        let store_unnamed = sqlite && self.store.is_none() && self.sqlite_path.is_none();
        let store_naming = match self.store {
            Some(_) => store::kind_note::Naming::Explicit,
            None => store::kind_note::Naming::Implied,
        };
        let collector = self.collector.unwrap_or_else(|| {
            let dir = std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
            format!("{}:{}", machine.host_name, dir.display())
        });
        let (sample_ratio, headers) = (self.traces_sample_ratio, self.traces_headers);
        let own_traces = self.traces_endpoint.map(|endpoint| own_traces::Options {
            endpoint,
            sample_ratio,
            headers,
            instance: collector.clone(),
        });
        Config {
            service_port: self.service_port,
            otlp_http_port: self.otlp_http_port,
            otlp_grpc_port: self.otlp_grpc_port,
            bind: self.bind,
            memory_bytes: self.memory_bytes,
            receive: self.receive,
            journal: journal::Options {
                dir: self.data_dir.join("journal"),
                ..self.journal
            },
            data_dir: self.data_dir,
            write: self.write,
            store: store::Options {
                target,
                migrate: self.migrate,
                retention_days,
                connect_timeout: self.connect_timeout,
                statement_timeout: self.statement_timeout,
                write_connections: self.write_connections,
                read_connections: self.read_connections,
                collector,
            },
            retention_unset,
            store_unnamed,
            store_naming,
            query: self.query,
            shutdown_delay: self.shutdown_delay,
            grace: self.grace,
            log_format: self.log_format,
            log_filter: self.log_filter,
            own_traces,
        }
    }
}
