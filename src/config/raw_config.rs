//! The settings' values, before they are checked against each other.
//!
//! **Invariant:** each setting of the table except `config` fills one field. Fields without a setting are derived when
//! the values are checked.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::value::PortSetting;
use crate::store::StoreKind;
use crate::telemetry::logging::LogFormat;
use crate::{journal, query, receive, write};

/// The values of all settings. The table's defaults replace those of [`Default`] before anything reads them.
#[derive(Default)]
pub(super) struct RawConfig {
    pub(super) service_port: PortSetting,
    pub(super) otlp_http_port: PortSetting,
    pub(super) otlp_grpc_port: PortSetting,
    pub(super) bind: Vec<IpAddr>,
    pub(super) receive: receive::Options,
    /// Memory that the process may use; `None` = as detected.
    pub(super) memory_bytes: Option<u64>,
    pub(super) data_dir: PathBuf,
    pub(super) journal: journal::Options,
    pub(super) write: write::Options,
    pub(super) store: Option<StoreKind>,
    pub(super) database: RawDatabase,
    pub(super) sqlite_path: Option<PathBuf>,
    pub(super) retention: RetentionSetting,
    pub(super) migrate: bool,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
    pub(super) write_connections: u32,
    pub(super) read_connections: u32,
    pub(super) collector: Option<String>,
    pub(super) query: query::Options,
    pub(super) log_filter: String,
    pub(super) log_format: LogFormat,
    pub(super) shutdown_delay: Duration,
    pub(super) grace: Duration,
    pub(super) traces_endpoint: Option<String>,
    pub(super) traces_sample_ratio: f64,
    pub(super) traces_headers: Vec<(String, SecretString)>,
}

/// The settings that name a PostgreSQL database; `None` = not set.
#[derive(Default)]
pub(super) struct RawDatabase {
    pub(super) url: Option<SecretString>,
    pub(super) read_url: Option<SecretString>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) name: Option<String>,
}

/// Retention as set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RetentionSetting {
    /// 7 days in SQLite, off in PostgreSQL.
    #[default]
    Auto,
    Off,
    Days(u32),
}
