//! What the database's errors mean and what to do about them.
//!
//! **Invariant:** only what can be a row's own fault is [`StoreError::Refused`]; everything else, and everything
//! unlisted, is tried again.
//!
//! Source: PostgreSQL, Appendix A, "PostgreSQL Error Codes".

use sqlx::postgres::PgDatabaseError;

use crate::store::StoreError;

/// A `Retry`.
pub(super) fn retry(
    class: &'static str,
    sqlstate: Option<&str>,
    message: impl Into<String>,
) -> StoreError {
    StoreError::Retry {
        class,
        sqlstate: sqlstate.map(str::to_owned),
        message: message.into(),
    }
}

/// The meaning of an error of any statement but a COPY of rows.
pub(super) fn from_sqlx(doing: &str, error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => from_database(doing, error),
            None => retry("other", None, format!("{doing}: {error}")),
        },
        sqlx::Error::Io(error) => retry(
            "connection",
            None,
            format!("{doing}: {error}: see that the database runs and can be reached"),
        ),
        sqlx::Error::Tls(error) => retry(
            "connection",
            None,
            format!(
                "{doing}: TLS: {error}: see the server's certificate and sslmode in the database's URL"
            ),
        ),
        sqlx::Error::PoolTimedOut => retry(
            "resources",
            None,
            format!("{doing}: no connection became free in time"),
        ),
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed => {
            retry("connection", None, format!("{doing}: {error}"))
        }
        _ => retry("other", None, format!("{doing}: {error}")),
    }
}

/// The meaning of an error of a COPY of rows.
pub(super) fn from_copy(error: &sqlx::Error) -> StoreError {
    const DOING: &str = "copying rows";
    if let sqlx::Error::Database(database) = error
        && let Some(database) = database.try_downcast_ref::<PgDatabaseError>()
        && may_be_the_rows_fault(database.code(), database.constraint())
    {
        return StoreError::Refused {
            sqlstate: database.code().to_owned(),
            row: database.r#where().and_then(row_in_context),
            message: match database.detail() {
                Some(detail) => format!("{}: {detail}", database.message()),
                None => database.message().to_owned(),
            },
        };
    }
    from_sqlx(DOING, error)
}

/// Class 22 without our own encoder's mistakes, class 54, and class 23 but for the missing partition, which is a check
/// violation without a constraint's name.
fn may_be_the_rows_fault(sqlstate: &str, constraint: Option<&str>) -> bool {
    match sqlstate.get(..2) {
        Some("22") => !matches!(sqlstate, "22P03" | "22P04"),
        Some("23") => sqlstate != "23514" || constraint.is_some(),
        Some("54") => true,
        _ => false,
    }
}

/// Whether it is the error for a row that no partition takes.
pub(super) fn is_missing_partition(error: &StoreError) -> bool {
    matches!(error, StoreError::Retry { sqlstate: Some(code), .. } if code == "23514")
}

/// The row's index in a COPY, from the error's context: `COPY telemetry_events, line N`, N from 1, in whatever
/// language. JSON's own lines come before it.
fn row_in_context(context: &str) -> Option<usize> {
    let line = context.lines().rfind(|line| line.contains("COPY "))?;
    let after = &line[line.find("telemetry_events")?..];
    let number: String = after
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    number.parse::<usize>().ok()?.checked_sub(1)
}

fn from_database(doing: &str, error: &PgDatabaseError) -> StoreError {
    let code = error.code();
    let (class, advice) = meaning(code);
    let message = error.message();
    let text = if advice.is_empty() {
        format!("{doing}: {message} (SQLSTATE {code})")
    } else {
        format!("{doing}: {message} (SQLSTATE {code}): {advice}")
    };
    retry(class, Some(code), text)
}

/// The class of an error and what to do.
fn meaning(sqlstate: &str) -> (&'static str, &'static str) {
    match sqlstate {
        "23514" => (
            "schema",
            "the partition of a row's day is missing and is made again",
        ),
        "25006" => (
            "permission",
            "the server is read-only: point the database's URL at the primary",
        ),
        "25P03" => ("timeout", "the transaction was idle for too long"),
        "28000" | "28P01" => (
            "permission",
            "see the user, the password and the server's pg_hba.conf",
        ),
        "3D000" => (
            "permission",
            "create the database, or name another in the database's URL",
        ),
        "42501" => (
            "permission",
            "grant the user what it lacks: CREATE and USAGE on the schema, and ownership of the tables",
        ),
        "40001" | "40P01" | "55006" => ("conflict", ""),
        "53100" => ("resources", "free space on the database's disk"),
        "53200" => ("resources", "the database is out of memory"),
        "53300" => (
            "resources",
            "raise max_connections on the server or use fewer connections here",
        ),
        "55P03" => (
            "timeout",
            "another transaction holds a lock for too long: see pg_stat_activity",
        ),
        "57014" => (
            "timeout",
            "the database is too slow for the statement timeout",
        ),
        "57P01" | "57P02" | "57P03" | "57P05" => (
            "connection",
            "the server stops, starts or ended the connection",
        ),
        "22P03" | "22P04" => (
            "schema",
            "the table's columns are not of the types that this version writes",
        ),
        _ => match sqlstate.get(..2) {
            Some("08") => (
                "connection",
                "see that the database runs and can be reached",
            ),
            Some("53") => ("resources", "the server lacks resources"),
            Some("58" | "XX") => ("other", "the server failed: see its log"),
            Some("42" | "3F") => (
                "schema",
                "the schema is not what this version expects: run `ruvvector-service migrate`",
            ),
            _ => ("other", ""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{may_be_the_rows_fault, meaning, row_in_context};

    #[test]
    fn the_row_is_read_from_the_last_line_of_the_context() {
        for (context, row) in [
            ("COPY telemetry_events, line 1", Some(0)),
            (
                "COPY telemetry_events, line 5017, column metadata",
                Some(5016),
            ),
            (
                "JSON data, line 7: {\nCOPY telemetry_events, line 3, column metadata",
                Some(2),
            ),
            ("COPY telemetry_events, ligne 12", Some(11)),
            ("JSON data, line 7: {", None),
            ("", None),
        ] {
            assert_eq!(row_in_context(context), row, "{context}");
        }
    }

    #[test]
    fn only_what_a_row_can_cause_is_a_rows_fault() {
        for code in ["22021", "22P02", "22P05", "54001", "23502", "23505"] {
            assert!(may_be_the_rows_fault(code, None), "{code}");
        }
        assert!(may_be_the_rows_fault("23514", Some("a_check")));
        for code in [
            "23514", "22P03", "22P04", "42501", "53100", "57014", "40P01", "08006", "XX000",
            "99999", "",
        ] {
            assert!(!may_be_the_rows_fault(code, None), "{code}");
        }
    }

    #[test]
    fn an_unlisted_code_is_of_class_other() {
        assert_eq!(meaning("99999").0, "other");
        assert_eq!(meaning("").0, "other");
    }
}
