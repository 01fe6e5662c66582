//! Tests of the choice of the store, and of its description.
//!
//! **Invariant:** a test that names PostgreSQL never ends with SQLite and no message.

use crate::config::tests::*;

#[test]
fn the_database_comes_from_a_url_or_in_parts() {
    let loaded = load(
        &[],
        &[("DATABASE_URL", "postgres://ruv:p%40ss@db:6543/events")],
        "",
    )
    .unwrap();
    let options = postgres(&loaded);
    assert_eq!((options.get_host(), options.get_port()), ("db", 6543));
    assert_eq!(
        (options.get_username(), options.get_database()),
        ("ruv", Some("events"))
    );
    assert_eq!(loaded.config.store.retention_days, None);
    assert!(loaded.config.retention_unset);

    let parts = [
        ("POSTGRES_HOST", "db"),
        ("POSTGRES_PASSWORD", "p@ss/?#"),
        ("POSTGRES_USER", "ruv"),
    ];
    let loaded = load(&[], &parts, "").unwrap();
    let options = postgres(&loaded);
    assert_eq!((options.get_host(), options.get_port()), ("db", 5432));
    assert_eq!(
        (options.get_username(), options.get_database()),
        ("ruv", Some("ruv"))
    );
}

#[test]
fn the_url_wins_over_the_parts_and_says_so() {
    let variables = [
        ("DATABASE_URL", "postgresql://one/db"),
        ("POSTGRES_HOST", "two"),
        ("POSTGRES_PASSWORD", "x"),
    ];
    let loaded = load(&[], &variables, "").unwrap();
    assert_eq!(postgres(&loaded).get_host(), "one");
    assert_eq!(
        loaded.warnings,
        ["DATABASE_URL names the database; ignored: POSTGRES_HOST, POSTGRES_PASSWORD"]
    );
}

#[test]
fn a_postgres_that_was_meant_never_becomes_sqlite_in_silence() {
    let password = problems(&[("POSTGRES_PASSWORD", "x"), ("POSTGRES_DB", "events")]);
    assert!(
        password[0].contains("POSTGRES_PASSWORD, POSTGRES_DB are set, but neither"),
        "{password:?}"
    );
    let named = problems(&[("RUVVECTOR_STORE", "postgres"), ("DATABASE_URL", "")]);
    assert!(
        named[0].contains("neither DATABASE_URL nor POSTGRES_HOST is set"),
        "{named:?}"
    );
    let read = problems(&[("RUVVECTOR_DATABASE_READ_URL", "postgres://replica/db")]);
    assert!(
        read[0].contains("RUVVECTOR_DATABASE_READ_URL is set without DATABASE_URL"),
        "{read:?}"
    );
    let misspelt = problems(&[("RUVVECTOR_STORE", "postgress")]);
    assert!(
        misspelt[0].contains("is not one of postgres, sqlite"),
        "{misspelt:?}"
    );
}

#[test]
fn sqlite_by_name_wins_over_a_database_and_says_so() {
    let variables = [
        ("RUVVECTOR_STORE", "sqlite"),
        ("DATABASE_URL", "postgres://db/x"),
    ];
    let loaded = load(&[], &variables, "").unwrap();
    assert!(matches!(
        loaded.config.store.target,
        StoreTarget::Sqlite { .. }
    ));
    assert_eq!(
        loaded.warnings,
        ["the store is SQLite, as set; ignored: DATABASE_URL"]
    );
}

#[test]
fn a_url_of_another_kind_is_refused_without_its_password() {
    for (url, expected) in [
        ("mysql://u:hunter2@db/x", "does not begin with postgres://"),
        ("sqlite://hunter2.db", "RUVVECTOR_STORE=sqlite"),
        ("postgres://u:hunter2#@db/x", "written as %23"),
        ("postgres://u:hunter2@db/x?sslmode=perhaps", "sslmode"),
    ] {
        let found = problems(&[("DATABASE_URL", url)]).join("\n");
        assert!(
            found.contains("DATABASE_URL") && !found.contains("hunter2"),
            "{found}"
        );
        assert!(
            found.contains(expected) || found.contains("ssl"),
            "{url}: {found}"
        );
    }
}

/// `validate` printed `sslmode verifyfull`, and a database's name in small letters.
#[test]
fn a_place_is_shown_as_it_would_be_written() {
    for mode in [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ] {
        let url = format!("postgres://Ann@Db.example/Events?sslmode={mode}");
        let loaded = load(&[], &[("DATABASE_URL", &url)], "").unwrap();
        assert_eq!(
            loaded.config.stored_in(),
            format!("PostgreSQL Ann@Db.example:5432/Events, sslmode {mode}")
        );
    }
}

/// A mount was forgotten: `validate` and the start succeeded, and then `/health` reported "No such file or directory"
/// without the file's name.
#[test]
fn a_certificate_that_cannot_be_read_is_named_before_the_start() {
    let path = "/missing ca.pem";
    let url = |rest: &str| format!("postgres://u:hunter2@db/events?{rest}=%2Fmissing%20ca.pem");
    for (url, name) in [
        (url("sslmode=verify-full&sslrootcert"), "sslrootcert"),
        (url("sslmode=verify-ca&ssl-ca"), "sslrootcert"),
        (url("sslcert"), "sslcert"),
        (url("sslmode=require&ssl-key"), "sslkey"),
    ] {
        let found = problems(&[("DATABASE_URL", &url)]);
        assert_eq!(found.len(), 1, "{url}: {found:?}");
        let expected = format!("DATABASE_URL: {name}: {path}: ");
        assert!(found[0].starts_with(&expected), "{url}: {found:?}");
    }
    let read = problems(&[
        ("DATABASE_URL", "postgres://db/events"),
        ("RUVVECTOR_DATABASE_READ_URL", &url("sslcert")),
    ]);
    assert!(
        read[0].starts_with("RUVVECTOR_DATABASE_READ_URL: sslcert: "),
        "{read:?}"
    );
    // A file that is never read may be missing; one that is not UTF-8 counts as readable.
    for fine in [
        url("sslmode=require&sslrootcert"),
        url("sslmode=disable&sslkey"),
        "postgres://db/events?sslmode=verify-full&sslrootcert=/secret".to_owned(),
        "postgres://db/events?sslmode=verify-full&sslrootcert=/binary".to_owned(),
    ] {
        assert!(load(&[], &[("DATABASE_URL", &fine)], "").is_ok(), "{fine}");
    }
}

/// A password in a flag was visible in the list of processes, although the help says that secrets have no flag.
#[test]
fn a_password_in_a_flag_is_a_warning_that_does_not_repeat_it() {
    for url in [
        "postgres://u:hunter2@db/events",
        "postgres://u@db/events?password=hunter2",
    ] {
        let loaded = load(&[("database_url", url)], &[], "").unwrap();
        assert!(
            matches!(&loaded.warnings[..], [warning] if warning.contains("DATABASE_URL_FILE") && !warning.contains("hunter2")),
            "{:?}",
            loaded.warnings
        );
        let variable = load(&[], &[("DATABASE_URL", url)], "").unwrap();
        assert!(variable.warnings.is_empty(), "{:?}", variable.warnings);
    }
    let without = load(&[("database_url", "postgres://u@db:5432/events")], &[], "").unwrap();
    assert!(without.warnings.is_empty(), "{:?}", without.warnings);
}
