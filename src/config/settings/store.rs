//! Settings of the store.
//!
//! **Invariant:** which database is written to can be read off them without connecting to anything.

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
        "Which store. Not set: PostgreSQL if database_url or postgres_host is, else SQLite. Set, it also confirms a change on a \
         data directory that served the other kind",
        |draft, text| {
            let names = [("postgres", StoreKind::Postgres), ("sqlite", StoreKind::Sqlite)];
            put(&mut draft.store, one_of(text, &names).map(Some))
        },
    )
    .common(),
    Setting::new(
        "database_url",
        "URL",
        "",
        "PostgreSQL: postgres://user:password@host:5432/database?sslmode=require",
        |draft, text| put(&mut draft.database.url, Ok(Some(SecretString::from(text)))),
    )
    .secrecy(Secrecy::Url)
    .common(),
    Setting::new(
        "database_read_url",
        "URL",
        "",
        "A replica for queries; not set: the same database",
        |draft, text| put(&mut draft.database.read_url, Ok(Some(SecretString::from(text)))),
    )
    .secrecy(Secrecy::Url),
    Setting::new(
        "postgres_host",
        "HOST",
        "",
        "PostgreSQL in parts, where database_url is not set: host name, address, or directory of the socket",
        |draft, text| put(&mut draft.database.host, Ok(Some(text.to_owned()))),
    ),
    Setting::new(
        "postgres_port",
        "PORT",
        "",
        "Its port; not set: 5432",
        |draft, text| put(&mut draft.database.port, count(text, 1).map(Some)),
    ),
    Setting::new(
        "postgres_user",
        "NAME",
        "",
        "The role to log in as; not set: postgres",
        |draft, text| put(&mut draft.database.user, Ok(Some(text.to_owned()))),
    ),
    Setting::new(
        "postgres_password",
        "PASSWORD",
        "",
        "The role's password",
        |draft, text| put(&mut draft.database.password, Ok(Some(SecretString::from(text)))),
    )
    .secrecy(Secrecy::Secret),
    Setting::new(
        "postgres_db",
        "NAME",
        "",
        "The database; not set: the one called like the role",
        |draft, text| put(&mut draft.database.name, Ok(Some(text.to_owned()))),
    ),
    Setting::new(
        "sqlite_path",
        "PATH",
        "auto",
        "SQLite's file. `auto`: telemetry.db in data_dir",
        |draft, text| put(&mut draft.sqlite_path, auto(text, |path| Ok(PathBuf::from(path)))),
    ),
    Setting::new(
        "retention_days",
        "DAYS|off",
        "auto",
        "Days that events are kept, by their time of receipt. `auto`: 7 in SQLite, off (for ever) in PostgreSQL",
        |draft, text| put(&mut draft.retention, retention(text)),
    )
    .common(),
    Setting::new(
        "auto_migrate",
        "true|false",
        "true",
        "Bring the schema up to date on first contact; else that is for `migrate` to do",
        |draft, text| put(&mut draft.migrate, switch(text)),
    ),
    Setting::new(
        "connect_timeout",
        "DURATION",
        "10s",
        "For a connection to the database",
        |draft, text| put(&mut draft.connect_timeout, timeout(text)),
    ),
    Setting::new(
        "statement_timeout",
        "DURATION",
        "60s",
        "For every statement of a batch's transaction",
        |draft, text| put(&mut draft.statement_timeout, timeout(text)),
    ),
    Setting::new(
        "write_connections",
        "NUMBER",
        "4",
        "Connections to the database for writing and upkeep; SQLite has one",
        // Upkeep holds one in an open transaction while a second works.
        |draft, text| put(&mut draft.write_connections, count(text, 2)),
    ),
    Setting::new(
        "read_connections",
        "NUMBER",
        "8",
        "Connections to the database for queries",
        |draft, text| put(&mut draft.read_connections, count(text, 1)),
    ),
    Setting::new(
        "collector",
        "NAME",
        "auto",
        "What the database knows this collector by. `auto`: host name and data directory",
        |draft, text| put(&mut draft.collector, auto(text, |name| Ok(name.to_owned()))),
    ),
];

fn retention(text: &str) -> Result<RetentionSetting, String> {
    match text {
        "auto" => Ok(RetentionSetting::Auto),
        // As easily meant as the opposite: keep nothing.
        "0" => Err(
            "would keep nothing: write off to keep events for ever, or a number of days".to_owned(),
        ),
        text if is_off(text) => Ok(RetentionSetting::Off),
        _ => count(text, 1)
            .map(RetentionSetting::Days)
            .map_err(|_| "is neither a number of days, nor off, nor auto".to_owned()),
    }
}
