//! The settings' values, before they are checked against each other.
//!
//! **Invariant:** each setting of the table but `config` fills one field, and each field has one setting.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::config::value::PortSetting;
use crate::store::StoreKind;
use crate::telemetry::logging::LogFormat;
use crate::{journal, query, receive, write};

/// The values of all settings. The table's defaults replace those of [`Default`] before anything reads them.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetentionSetting {
    /// 7 days in SQLite, off in PostgreSQL.
    Auto,
    Off,
    Days(u32),
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            service_port: PortSetting::Off,
            otlp_http_port: PortSetting::Off,
            otlp_grpc_port: PortSetting::Off,
            bind: Vec::new(),
            receive: receive::Options::default(),
            memory_bytes: None,
            data_dir: PathBuf::new(),
            journal: journal::Options {
                dir: PathBuf::new(),
                budget_bytes: None,
                segment_bytes: None,
                free_floor_bytes: None,
                keep_stored: Duration::ZERO,
            },
            write: write::Options::default(),
            store: None,
            database: RawDatabase::default(),
            sqlite_path: None,
            retention: RetentionSetting::Auto,
            migrate: true,
            connect_timeout: Duration::ZERO,
            statement_timeout: Duration::ZERO,
            write_connections: 0,
            read_connections: 0,
            collector: None,
            query: query::Options::default(),
            log_filter: String::new(),
            log_format: LogFormat::Auto,
            shutdown_delay: Duration::ZERO,
            grace: Duration::ZERO,
            traces_endpoint: None,
            traces_sample_ratio: 0.0,
            traces_headers: Vec::new(),
        }
    }
}
