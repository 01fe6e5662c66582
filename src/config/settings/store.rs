//! Settings of the store: the database, connections, time limits, retention.
//!
//! **Invariant:** these values alone decide which database is written to; no connection is made to find out.

use std::path::PathBuf;

use secrecy::SecretString;

use crate::config::raw_config::RetentionSetting;
use crate::config::settings::{Secrecy, Setting, put};
use crate::config::value::{auto, count, is_off, one_of, switch, timeout};
use crate::store::StoreKind;

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "store",
        "postgres|sqlite",
        "",
        "The store. Not set: PostgreSQL if database_url or postgres_host is set, otherwise SQLite. Set: it also confirms a change for \
         a data directory that served the other kind",
        |raw, text| {
            let names = [("postgres", StoreKind::Postgres), ("sqlite", StoreKind::Sqlite)];
            put(&mut raw.store, one_of(text, &names).map(Some))
        },
    )
    .common(),
    Setting::new(
        "database_url",
        "URL",
        "",
        "PostgreSQL: postgres://user:password@host:5432/database?sslmode=require",
        |raw, text| put(&mut raw.database.url, Ok(Some(SecretString::from(text)))),
    )
    .secrecy(Secrecy::Url)
    .common(),
    Setting::new(
        "database_read_url",
        "URL",
        "",
        "URL of a replica for queries; not set: the same database",
        |raw, text| put(&mut raw.database.read_url, Ok(Some(SecretString::from(text)))),
    )
    .secrecy(Secrecy::Url),
    Setting::new(
        "postgres_host",
        "HOST",
        "",
        "PostgreSQL in parts, if database_url is not set: host name, address, or directory of the socket",
        |raw, text| put(&mut raw.database.host, Ok(Some(text.to_owned()))),
    ),
    Setting::new(
        "postgres_port",
        "PORT",
        "",
        "Port of that host; not set: 5432",
        |raw, text| put(&mut raw.database.port, count(text, 1).map(Some)),
    ),
    Setting::new(
        "postgres_user",
        "NAME",
        "",
        "Role to log in as; not set: postgres",
        |raw, text| put(&mut raw.database.user, Ok(Some(text.to_owned()))),
    ),
    Setting::new(
        "postgres_password",
        "PASSWORD",
        "",
        "Password of the role",
        |raw, text| put(&mut raw.database.password, Ok(Some(SecretString::from(text)))),
    )
    .secrecy(Secrecy::Secret),
    Setting::new(
        "postgres_db",
        "NAME",
        "",
        "Name of the database; not set: the role's name",
        |raw, text| put(&mut raw.database.name, Ok(Some(text.to_owned()))),
    ),
    Setting::new(
        "sqlite_path",
        "PATH",
        "auto",
        "SQLite's file. `auto`: telemetry.db in data_dir",
        |raw, text| put(&mut raw.sqlite_path, auto(text, |path| Ok(PathBuf::from(path)))),
    ),
    Setting::new(
        "retention_days",
        "DAYS|off",
        "auto",
        "Number of days that events are kept, by their time of receipt. `auto`: 7 in SQLite, off (for ever) in PostgreSQL",
        |raw, text| put(&mut raw.retention, retention(text)),
    )
    .common(),
    Setting::new(
        "auto_migrate",
        "true|false",
        "true",
        "`true`: bring the schema up to date on first contact. `false`: only `migrate` does",
        |raw, text| put(&mut raw.migrate, switch(text)),
    ),
    Setting::new(
        "connect_timeout",
        "DURATION",
        "10s",
        "Time limit for a connection to the database",
        |raw, text| put(&mut raw.connect_timeout, timeout(text)),
    ),
    Setting::new(
        "statement_timeout",
        "DURATION",
        "60s",
        "Time limit for each statement of a batch's transaction",
        |raw, text| put(&mut raw.statement_timeout, timeout(text)),
    ),
    Setting::new(
        "write_connections",
        "NUMBER",
        "4",
        "Connections to the database for writing and maintenance: all but two write batches, at most 8 at the same time; SQLite has one",
        // Maintenance holds one in an open transaction while a second one works.
        |raw, text| put(&mut raw.write_connections, count(text, 2)),
    ),
    Setting::new(
        "read_connections",
        "NUMBER",
        "8",
        "Connections to the database for queries",
        |raw, text| put(&mut raw.read_connections, count(text, 1)),
    ),
    Setting::new(
        "collector",
        "NAME",
        "auto",
        "Name that identifies this collector in the database. `auto`: host name and data directory",
        |raw, text| put(&mut raw.collector, auto(text, |name| Ok(name.to_owned()))),
    ),
];

fn retention(text: &str) -> Result<RetentionSetting, String> {
    match text {
        "auto" => Ok(RetentionSetting::Auto),
        // Ambiguous: it may mean "keep nothing" or "keep for ever".
        "0" => Err(
            "would keep nothing: write off to keep events for ever, or a number of days".to_owned(),
        ),
        text if is_off(text) => Ok(RetentionSetting::Off),
        _ => count(text, 1)
            .map(RetentionSetting::Days)
            .map_err(|_| "is neither a number of days, nor off, nor auto".to_owned()),
    }
}
