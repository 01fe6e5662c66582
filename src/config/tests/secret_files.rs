//! Tests of `DATABASE_URL_FILE` and the other `…_FILE` variables.
//!
//! **Invariant:** a file's contents are never part of any output.

use crate::config::tests::{load, postgres, problems};

#[test]
fn what_may_hold_a_password_can_stand_in_a_file_of_its_own() {
    let loaded = load(&[], &[("DATABASE_URL_FILE", "/secret")], "").expect("a configuration");
    assert_eq!(postgres(&loaded).get_username(), "u");
    let shown = loaded.effective(None);
    assert!(
        shown.contains("from DATABASE_URL_FILE: u@db:5432/events"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2"), "{shown}");

    // Its precedence is that of its variable: below a flag, above the settings file.
    let flag = [("database_url", "postgres://flag/events")];
    let file = "database_url = 'postgres://file/events'";
    let loaded = load(&flag, &[("DATABASE_URL_FILE", "/secret")], "").expect("a configuration");
    assert_eq!(postgres(&loaded).get_host(), "flag");
    let loaded = load(&[], &[("DATABASE_URL_FILE", "/secret")], file).expect("a configuration");
    assert_eq!(postgres(&loaded).get_host(), "db");

    let loaded = load(&[], &[("RUVVECTOR_AUTH_TOKENS_FILE", "/secret")], "").expect("tokens");
    assert_eq!(loaded.config.receive.auth_tokens.len(), 1);
    assert_eq!(loaded.warnings, [""; 0]);
}

#[test]
fn a_secret_s_file_that_says_nothing_or_too_much_is_an_error_and_never_shown() {
    for (variables, said) in [
        (
            vec![("DATABASE_URL_FILE", "/empty")],
            "DATABASE_URL_FILE: /empty is empty",
        ),
        (
            vec![("POSTGRES_PASSWORD_FILE", "/two")],
            "/two has more than one line",
        ),
        (
            vec![("DATABASE_URL_FILE", "/away")],
            "DATABASE_URL_FILE: /away: ",
        ),
        (
            vec![
                ("DATABASE_URL_FILE", "/secret"),
                ("DATABASE_URL", "postgres://db/x"),
            ],
            "DATABASE_URL and DATABASE_URL_FILE are both set",
        ),
    ] {
        let problems = problems(&variables);
        assert!(
            problems.iter().any(|problem| problem.contains(said)),
            "{problems:?}"
        );
        assert!(!problems.concat().contains("hunter2"), "{problems:?}");
    }
    let unknown = load(&[], &[("RUVVECTOR_STORE_FILE", "/secret")], "").expect("a warning");
    assert!(
        unknown.warnings[0].contains("unknown variable"),
        "{:?}",
        unknown.warnings
    );
}
