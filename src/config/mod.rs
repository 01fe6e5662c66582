//! Every setting: its name, default and meaning stand in one table ([`settings`]); flags over environment over file over
//! defaults.
//!
//! **Invariant:** [`Config::load`] touches nothing outside but what [`Inputs`] holds, so that the same inputs always make
//! the same configuration.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::telemetry::{logging, own_traces};
use crate::{journal, query, receive, store, write};

/// What about the set-up may lose or fill something, said at the start and in `/health`.
pub mod warnings;

/// The table.
pub mod settings;

/// Text to values.
mod value;

/// The filter of log lines.
mod log_filter;

/// Values with their sources.
mod sources;

/// The settings file.
mod file;

/// The environment, without what Kubernetes puts there.
mod environment;

/// The settings' values, before they are put together.
mod raw_config;

/// Which store.
mod database;

/// What settings must be to each other.
mod check;

/// What is asked of the machine.
mod machine;

/// The effective configuration and the table, for people.
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
    /// At least one.
    pub bind: Vec<IpAddr>,
    /// Holds the journal, under `journal/`, and SQLite's file.
    pub data_dir: PathBuf,
    /// Memory that the process may use; `None` = nothing names a limit.
    pub memory_bytes: Option<u64>,
    /// `inflight_bytes` is always set, and no body limit is over half of it.
    pub receive: receive::Options,
    pub journal: journal::Options,
    pub write: write::Options,
    pub store: store::Options,
    /// No retention was set, so that nothing is ever removed from PostgreSQL without anybody having said so.
    pub retention_unset: bool,
    /// Nothing said which store, and so it is SQLite.
    pub store_unnamed: bool,
    /// The way in which the settings choose the store: by name, or by implication.
    pub store_naming: store::kind_note::Naming,
    pub query: query::Options,
    /// After SIGTERM, how long requests are still taken.
    pub shutdown_delay: Duration,
    /// How long a stop goes on writing to the database.
    pub grace: Duration,
    pub log_format: logging::LogFormat,
    /// As [`trace::init`] takes it.
    pub log_filter: String,
    /// `None` = off.
    pub own_traces: Option<own_traces::Options>,
}

/// A configuration, and how it came about.
pub struct LoadedConfig {
    pub config: Config,
    /// What somebody should mend, one sentence each; logged at the start and shown in `/health`.
    pub warnings: Vec<String>,
    /// What was ignored rightly; logged at the start.
    pub notes: Vec<String>,
    values: SettingValues,
}

/// All variables of the process, by name.
pub type Environment = BTreeMap<String, String>;

/// Reads a settings file, or a file with a secret.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// All that a configuration depends on.
pub struct Inputs<'a> {
    /// Key and text of each flag given.
    pub flags: Vec<(&'static str, String)>,
    pub environment: Environment,
    pub read_file: ReadFile<'a>,
    pub machine: Machine,
}

/// Why there is no configuration: all that is wrong, one sentence a line, each with where it stands.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// Puts flags, environment, file and defaults together and checks the whole.
    ///
    /// # Errors
    /// With every problem there is, not just the first.
    pub fn load(inputs: &Inputs<'_>) -> Result<LoadedConfig, ConfigError> {
        let (mut notes, mut warnings, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        let environment = environment::values(
            &inputs.environment,
            inputs.read_file,
            &mut notes,
            &mut warnings,
            &mut problems,
        );
        let values = gather(inputs, environment, &mut problems);

        let mut draft = RawConfig::default();
        apply(settings::all(), &values, &mut draft, &mut problems);
        check::fit_memory(&mut draft, &values, &inputs.machine, &mut warnings);
        let target = database::target(
            &draft,
            &values,
            inputs.read_file,
            &mut warnings,
            &mut problems,
        );
        if problems.is_empty() {
            problems = check::problems(&draft);
        }
        match target {
            Some(target) if problems.is_empty() => Ok(LoadedConfig {
                config: draft.finish(target, &inputs.machine),
                warnings,
                notes,
                values,
            }),
            _ => Err(ConfigError(problems)),
        }
    }
}

/// Where the service listens, for who asks it from the same machine.
#[derive(Debug)]
pub struct ListenAddress {
    pub service_port: PortSetting,
    /// At least one.
    pub bind: Vec<IpAddr>,
}

impl ListenAddress {
    /// Puts together these settings alone: whoever asks needs no secrets, and what the environment lacks of them or has
    /// wrong is not in the way.
    ///
    /// # Errors
    /// As [`Config::load`], but for the environment's other settings.
    pub fn load(inputs: &Inputs<'_>) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let environment = environment::values(
            &inputs.environment,
            inputs.read_file,
            &mut Vec::new(),
            &mut Vec::new(),
            &mut Vec::new(),
        );
        let values = gather(inputs, environment, &mut problems);
        let mut draft = RawConfig::default();
        let own = settings::all().filter(|setting| ["service_port", "bind"].contains(&setting.key));
        apply(own, &values, &mut draft, &mut problems);
        if problems.is_empty() {
            Ok(Self {
                service_port: draft.service_port,
                bind: draft.bind,
            })
        } else {
            Err(ConfigError(problems))
        }
    }
}

/// Reads the values of `settings` into the draft.
fn apply<'a>(
    settings: impl Iterator<Item = &'a settings::Setting>,
    values: &SettingValues,
    draft: &mut RawConfig,
    problems: &mut Vec<String>,
) {
    for setting in settings {
        let Some(value) = values.get(setting.key) else {
            continue;
        };
        if let Err(problem) = (setting.apply)(draft, &value.text) {
            problems.push(format!("{} {problem}", value.place(setting)));
        }
    }
}

/// The layers, the weakest first.
fn gather(
    inputs: &Inputs<'_>,
    environment: SettingValues,
    problems: &mut Vec<String>,
) -> SettingValues {
    let mut values: SettingValues = settings::all()
        .filter(|setting| !setting.default.is_empty())
        .map(|setting| {
            (
                setting.key,
                SettingValue::new(setting.default, SettingSource::Default),
            )
        })
        .collect();
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
    /// The configuration; what depends on the store or the machine is settled here.
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
