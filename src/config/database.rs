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

use crate::config::sources::SettingSource;
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use secrecy::ExposeSecret;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::config::ReadFile;
use crate::config::raw_config::RawConfig;
use crate::config::settings::by_key;
use crate::config::sources::SettingValues;
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

/// Returns the store to use; `None` if the settings do not determine it, with the reason in `problems`.
pub(super) fn target(
    draft: &RawConfig,
    values: &SettingValues,
    read_file: ReadFile<'_>,
    warnings: &mut Vec<String>,
    problems: &mut Vec<String>,
) -> Option<StoreTarget> {
    let database = &draft.database;
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
    if draft.store == Some(StoreKind::Sqlite) {
        let beside = [urls, parts].concat();
        if !beside.is_empty() {
            warnings.push(format!(
                "the store is SQLite, as set; ignored: {}",
                beside.join(", ")
            ));
        }
        return Some(sqlite(draft));
    }
    let options = if let Some(url) = &database.url {
        if !parts.is_empty() {
            warnings.push(format!(
                "{} names the database; ignored: {}",
                urls[0],
                parts.join(", ")
            ));
        }
        from_url(
            "database_url",
            url.expose_secret(),
            values,
            warnings,
            problems,
        )?
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
        options
    } else if !parts.is_empty() {
        problems.push(format!(
            "{} set, but neither {} nor {}: which database?",
            are(&parts),
            name("postgres_host"),
            name("database_url"),
        ));
        return None;
    } else if draft.store == Some(StoreKind::Postgres) {
        problems.push(format!(
            "the store is to be PostgreSQL, but neither {} nor {} is set",
            name("database_url"),
            name("postgres_host")
        ));
        return None;
    } else {
        if !urls.is_empty() {
            problems.push(format!(
                "{} set without {}: queries would read a database that nothing is written to",
                are(&urls),
                name("database_url")
            ));
            return None;
        }
        return Some(sqlite(draft));
    };
    let read = match &database.read_url {
        Some(url) => Some(from_url(
            "database_read_url",
            url.expose_secret(),
            values,
            warnings,
            problems,
        )?),
        None => None,
    };
    let key = if database.url.is_some() {
        "database_url"
    } else {
        "postgres_host"
    };
    read_certificates(&name(key), &options, read_file, problems);
    if let Some(read) = &read {
        read_certificates(&name("database_read_url"), read, read_file, problems);
    }
    Some(StoreTarget::Postgres {
        options: Box::new(named(options)),
        read: read.map(named).map(Box::new),
    })
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

/// Reads the files that a connection needs for TLS, and adds a problem for each that cannot be read. The driver reads
/// them only when it connects, and its error does not name the file.
fn read_certificates(
    place: &str,
    options: &PgConnectOptions,
    read_file: ReadFile<'_>,
    problems: &mut Vec<String>,
) {
    let mode = options.get_ssl_mode();
    // The driver's options also hold the values of the variables PGSSLROOTCERT, ….
    for (name, value) in options.to_url_lossy().query_pairs() {
        let is_read = match &*name {
            "sslrootcert" => matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull),
            "sslcert" | "sslkey" => !matches!(mode, PgSslMode::Disable | PgSslMode::Allow),
            _ => false,
        };
        let Some(path) = value.strip_prefix("file: ").filter(|_| is_read) else {
            continue;
        };
        match read_file(Path::new(path)) {
            // A file that is not UTF-8 may be a certificate in DER: the TLS library checks its contents.
            Err(error) if error.kind() != ErrorKind::InvalidData => {
                problems.push(format!("{place}: {name}: {path}: {error}"));
            }
            _ => {}
        }
    }
}

fn sqlite(draft: &RawConfig) -> StoreTarget {
    StoreTarget::Sqlite {
        path: draft
            .sqlite_path
            .clone()
            .unwrap_or_else(|| draft.data_dir.join("telemetry.db")),
    }
}

fn named(options: PgConnectOptions) -> PgConnectOptions {
    match options.get_application_name() {
        Some(_) => options,
        None => options.application_name(APPLICATION_NAME),
    }
}

fn from_url(
    key: &'static str,
    url: &str,
    values: &SettingValues,
    warnings: &mut Vec<String>,
    problems: &mut Vec<String>,
) -> Option<PgConnectOptions> {
    let place = match (values.get(key), by_key(key)) {
        (Some(value), Some(setting)) => value.place(setting),
        _ => key.to_owned(),
    };
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        let hint = if url.starts_with("sqlite:") {
            "; for SQLite set RUVVECTOR_STORE=sqlite and RUVVECTOR_SQLITE_PATH instead"
        } else {
            ""
        };
        problems.push(format!(
            "{place} does not begin with postgres:// or postgresql://{hint}"
        ));
        return None;
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
    if has_password(url)
        && values
            .get(key)
            .is_some_and(|value| matches!(value.source, SettingSource::Flag(_)))
    {
        warnings.push(format!(
            "the password in {place} can be read by others in the list of processes: give the URL by {variable}, or by a file \
             that {variable}_FILE names",
            variable = name(key)
        ));
    }
    match PgConnectOptions::from_str(url) {
        Ok(options) => Some(options),
        Err(error) => {
            problems.push(format!(
                "{place} is not a URL of PostgreSQL ({error}); in a password, characters such as \
                 # / ? @ : % are written as %23 %2F %3F %40 %3A %25"
            ));
            None
        }
    }
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
        .filter_map(|key| Some((key, values.get(key)?)))
        .filter(|(_, value)| value.source != SettingSource::Default)
        .map(|(key, value)| match &value.source {
            SettingSource::Default | SettingSource::File { .. } => {
                format!("{key} ({})", value.source)
            }
            SettingSource::Environment(_) | SettingSource::Flag(_) => value.source.to_string(),
        })
        .collect()
}

fn are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

/// Returns the name of a setting's variable, the spelling that most people use.
fn name(key: &str) -> String {
    by_key(key).map_or_else(
        || key.to_owned(),
        crate::config::settings::Setting::variable,
    )
}
