//! The store that the settings choose, and the connection options of its database.
//!
//! | set | store |
//! | --- | --- |
//! | `store = "sqlite"` | SQLite; database settings beside it are ignored with a warning |
//! | `database_url` | that PostgreSQL; `postgres_…` beside it are ignored with a warning |
//! | `postgres_host` | the PostgreSQL of `postgres_host`, `_port`, `_user`, `_password`, `_db` |
//! | any of these without the host | an error |
//! | `store = "postgres"` and nothing else | an error |
//! | nothing | SQLite |
//!
//! **Invariant:** if any setting names PostgreSQL, SQLite never replaces it without a warning. No password is ever
//! shown.

use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::raw_config::RawConfig;
use crate::config::settings::{Setting, by_key};
use crate::config::sources::{SettingSource, SettingValues};
use crate::config::{ConfigError, ReadFile};
use crate::store::{StoreKind, StoreTarget};

/// Name of our connections in `pg_stat_activity`, before the colon.
const APPLICATION_NAME: &str = "ruvvector-service";

/// Parameters of a connection URL that the driver knows; it ignores all others.
const URL_PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "application_name",
    "options",
];

/// Returns the store to use.
///
/// # Errors
/// [`ConfigError`] if the settings do not determine it, or a file that its connections need cannot be read.
pub(super) fn target(
    raw: &RawConfig,
    values: &SettingValues,
    read_file: ReadFile<'_>,
    warnings: &mut Vec<String>,
) -> Result<StoreTarget, ConfigError> {
    let database = &raw.database;
    let parts = set(
        values,
        &[
            "postgres_host",
            "postgres_port",
            "postgres_user",
            "postgres_password",
            "postgres_db",
        ],
    );
    let urls = set(values, &["database_url", "database_read_url"]);
    let [url_name, host_name] = ["database_url", "postgres_host"].map(name);
    let sqlite = || StoreTarget::Sqlite {
        path: raw
            .sqlite_path
            .clone()
            .unwrap_or_else(|| raw.data_dir.join("telemetry.db")),
    };
    if raw.store == Some(StoreKind::Sqlite) {
        let beside = [urls, parts].concat();
        if !beside.is_empty() {
            warnings.push(format!(
                "the store is SQLite, as set; ignored: {}",
                beside.join(", ")
            ));
        }
        return Ok(sqlite());
    }
    let (place, options) = if let Some(url) = &database.url {
        if !parts.is_empty() {
            warnings.push(format!(
                "{} names the database; ignored: {}",
                urls[0],
                parts.join(", ")
            ));
        }
        (url_name, from_url("database_url", url, values, warnings)?)
    } else if let Some(host) = &database.host {
        let user = database.user.as_deref().unwrap_or("postgres");
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(host)
            .port(database.port.unwrap_or(5432))
            .username(user)
            .database(database.name.as_deref().unwrap_or(user));
        if let Some(password) = &database.password {
            options = options.password(password.expose_secret());
        }
        (host_name, options)
    } else if !parts.is_empty() {
        let parts = are(&parts);
        let problem =
            format!("{parts} set, but neither {host_name} nor {url_name}: which database?");
        return Err(problem.into());
    } else if raw.store == Some(StoreKind::Postgres) {
        let problem =
            format!("the store is to be PostgreSQL, but neither {url_name} nor {host_name} is set");
        return Err(problem.into());
    } else if !urls.is_empty() {
        let problem = format!(
            "{} set without {url_name}: queries would read a database that nothing is written to",
            are(&urls)
        );
        return Err(problem.into());
    } else {
        return Ok(sqlite());
    };
    let mut problems = missing_certificates(&place, &options, read_file);
    let mut read = None;
    if let Some(url) = &database.read_url {
        let options = from_url("database_read_url", url, values, warnings)?;
        let place = name("database_read_url");
        problems.extend(missing_certificates(&place, &options, read_file));
        read = Some(Box::new(named(options)));
    }
    if !problems.is_empty() {
        return Err(ConfigError(problems));
    }
    let options = Box::new(named(options));
    Ok(StoreTarget::Postgres { options, read })
}

/// Describes a connection's target without its password.
pub(super) fn describe(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or_else(
        || options.get_host().to_owned(),
        |path| path.display().to_string(),
    );
    let (user, port) = (options.get_username(), options.get_port());
    let database = options.get_database().unwrap_or(user);
    let mode = match options.get_ssl_mode() {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    };
    format!("{user}@{host}:{port}/{database}, sslmode {mode}")
}

/// Reads the files that a connection needs for TLS, and returns a problem for each that cannot be read. The driver
/// reads them only when it connects, and its error does not name the file.
fn missing_certificates(
    place: &str,
    options: &PgConnectOptions,
    read_file: ReadFile<'_>,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mode = options.get_ssl_mode();
    // The driver's options also hold the values of the variables PGSSLROOTCERT, ….
    for (name, value) in options.to_url_lossy().query_pairs() {
        let is_read = match &*name {
            "sslrootcert" => matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull),
            "sslcert" | "sslkey" => !matches!(mode, PgSslMode::Disable | PgSslMode::Allow),
            _ => false,
        };
        if let Some(path) = value.strip_prefix("file: ")
            && is_read
            && let Err(error) = read_file(Path::new(path))
            // A file that is not UTF-8 may be a certificate in DER: the TLS library checks its contents.
            && error.kind() != ErrorKind::InvalidData
        {
            problems.push(format!("{place}: {name}: {path}: {error}"));
        }
    }
    problems
}

fn named(options: PgConnectOptions) -> PgConnectOptions {
    match options.get_application_name() {
        Some(_) => options,
        None => options.application_name(APPLICATION_NAME),
    }
}

fn from_url(
    key: &'static str,
    url: &SecretString,
    values: &SettingValues,
    warnings: &mut Vec<String>,
) -> Result<PgConnectOptions, String> {
    let (value, url) = (&values[key], url.expose_secret());
    let place = by_key(key).map_or_else(String::new, |setting| value.place(setting));
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        let hint = if url.starts_with("sqlite:") {
            "; for SQLite set RUVVECTOR_STORE=sqlite and RUVVECTOR_SQLITE_PATH instead"
        } else {
            ""
        };
        return Err(format!(
            "{place} does not begin with postgres:// or postgresql://{hint}"
        ));
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for parameter in query.split('&').filter(|part| !part.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        if name != "password" && !name.starts_with("options[") && !URL_PARAMETERS.contains(&name) {
            warnings.push(format!(
                "{place} has the parameter {name:?}, which is ignored"
            ));
        }
    }
    if has_password(url) && matches!(value.source, SettingSource::Flag(_)) {
        warnings.push(format!(
            "the password in {place} can be read by others in the list of processes: give the URL by {variable}, or by a file \
             that {variable}_FILE names",
            variable = name(key)
        ));
    }
    PgConnectOptions::from_str(url).map_err(|error| {
        format!(
            "{place} is not a URL of PostgreSQL ({error}); in a password, characters such as \
             # / ? @ : % are written as %23 %2F %3F %40 %3A %25"
        )
    })
}

/// Returns whether a URL holds a password, behind the user's name or as a parameter.
fn has_password(url: &str) -> bool {
    let (before, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = before.split('/').nth(2).unwrap_or_default();
    let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
    user.contains(':')
        || query
            .split('&')
            .any(|parameter| parameter.starts_with("password="))
}

/// Returns the names, in their sources' spelling, of the settings in `keys` that are set.
fn set(values: &SettingValues, keys: &[&str]) -> Vec<String> {
    keys.iter()
        .filter_map(|key| match &values.get(key)?.source {
            SettingSource::Default => None,
            source @ SettingSource::File { .. } => Some(format!("{key} ({source})")),
            source => Some(source.to_string()),
        })
        .collect()
}

fn are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

/// Returns the name of a setting's variable, the spelling that most people use.
fn name(key: &str) -> String {
    by_key(key).map_or_else(|| key.to_owned(), Setting::variable)
}
