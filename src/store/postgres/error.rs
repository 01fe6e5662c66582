//! Classifies the database's errors, and advises the operator.
//!
//! **Invariant:** only an error that can be a row's own fault is [`StoreError::Refused`]; every other error, known or
//! unknown, is tried again.
//!
//! Source: PostgreSQL, Appendix A, "PostgreSQL Error Codes".

use std::io::ErrorKind;

use sqlx::postgres::PgDatabaseError;

use crate::store::FailureClass::{
    self, Conflict, Connection, Other, Permission, Resources, Schema, Timeout,
};
use crate::store::StoreError;

/// Builds a [`StoreError::Retry`] without a SQLSTATE.
pub(super) fn retry(class: FailureClass, message: impl Into<String>) -> StoreError {
    StoreError::Retry {
        class,
        sqlstate: None,
        message: message.into(),
    }
}

const SEE_SERVER: &str = "see that the database runs and can be reached";
const SEE_TLS: &str = "see the server's certificate, and sslmode, sslrootcert and the host's name in the database's URL";
const SEE_TRIGGERS: &str = "a trigger or function that somebody added to the database raised this, and its rows wait: change or drop it \
                            (\\d telemetry_events lists triggers)";
const SEE_FILES: &str = "see the files that the database's URL names: the server's socket, or sslrootcert, sslcert, sslkey";

/// Converts an error of any statement except a COPY of rows.
pub(super) fn from_sqlx(doing: &str, error: &sqlx::Error) -> StoreError {
    let (class, text) = match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => return from_database(doing, error),
            None => (Other, error.to_string()),
        },
        sqlx::Error::Io(error) => {
            let advice = match error.kind() {
                // The driver wraps errors of TLS in this kind.
                ErrorKind::InvalidData => SEE_TLS,
                ErrorKind::NotFound | ErrorKind::PermissionDenied => SEE_FILES,
                _ => SEE_SERVER,
            };
            (Connection, format!("{error}: {advice}"))
        }
        sqlx::Error::Tls(error) => (Connection, format!("TLS: {error}: {SEE_TLS}")),
        sqlx::Error::PoolTimedOut => (Resources, "no connection became free in time".to_owned()),
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed => {
            (Connection, error.to_string())
        }
        _ => (Other, error.to_string()),
    };
    retry(class, format!("{doing}: {text}"))
}

/// Converts an error of a COPY of rows.
pub(super) fn from_copy(error: &sqlx::Error) -> StoreError {
    const DOING: &str = "copying rows";
    if let sqlx::Error::Database(database) = error
        && let Some(database) = database.try_downcast_ref::<PgDatabaseError>()
        && may_be_the_rows_fault(database.code(), database.constraint())
    {
        return StoreError::Refused {
            sqlstate: database.code().to_owned(),
            row: database.r#where().and_then(row_in_context),
            message: database.message().to_owned(),
            detail: database.detail().map(str::to_owned),
        };
    }
    from_sqlx(DOING, error)
}

/// Returns whether a row may be at fault: class 22 except mistakes of our own encoder, class 54, and class 23 except a
/// missing partition, which is a check violation without a constraint's name.
fn may_be_the_rows_fault(sqlstate: &str, constraint: Option<&str>) -> bool {
    match sqlstate.get(..2) {
        Some("22") => !matches!(sqlstate, "22P03" | "22P04"),
        Some("23") => sqlstate != "23514" || constraint.is_some(),
        Some("54") => true,
        _ => false,
    }
}

/// Returns whether the error may be that of a row without a partition.
pub(super) fn is_missing_partition(error: &StoreError) -> bool {
    matches!(error, StoreError::Retry { sqlstate: Some(code), class: Schema, .. } if code == "23514")
}

/// Returns the row's index in a COPY, from the error's context: `COPY telemetry_events, line N`, N from 1, in any
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

/// Returns advice for an error that the server itself sent; `None` for any other.
pub(super) fn advice(error: &sqlx::Error) -> Option<&'static str> {
    let sqlx::Error::Database(error) = error else {
        return None;
    };
    let error = error.try_downcast_ref::<PgDatabaseError>()?;
    let (_, advice) = class_and_advice(error);
    (!advice.is_empty()).then_some(advice)
}

fn class_and_advice(error: &PgDatabaseError) -> (FailureClass, &'static str) {
    let code = error.code();
    poolers(error.message())
        .or_else(|| in_routine(code, error.routine()))
        .unwrap_or_else(|| meaning(code))
}

fn from_database(doing: &str, error: &PgDatabaseError) -> StoreError {
    let code = error.code();
    let message = error.message();
    let (class, advice) = class_and_advice(error);
    let separator = if advice.is_empty() { "" } else { ": " };
    StoreError::Retry {
        class,
        sqlstate: Some(code.to_owned()),
        message: format!("{doing}: {message} (SQLSTATE {code}){separator}{advice}"),
    }
}

/// Classifies PgBouncer's own errors, which share one code that PostgreSQL uses for others.
fn poolers(message: &str) -> Option<(FailureClass, &'static str)> {
    if message.starts_with("unsupported startup parameter") {
        Some((
            Permission,
            "the pooler takes no such parameter: leave it out of the database's URL (search_path can be set on the role), or \
             name it in PgBouncer's ignore_startup_parameters",
        ))
    } else if message.starts_with("query_wait_timeout") || message.contains("max_client_conn") {
        Some((
            Resources,
            "the pooler has no connection free: raise default_pool_size or max_client_conn in PgBouncer, or use fewer \
             connections here",
        ))
    } else {
        None
    }
}

/// Distinguishes errors with the same SQLSTATE by the server's function that raised them. Messages are translated,
/// names of functions are not.
fn in_routine(sqlstate: &str, routine: Option<&str>) -> Option<(FailureClass, &'static str)> {
    match (sqlstate, routine?) {
        ("23514", "ExecFindPartition") => Some((
            Schema,
            "the partition of a row's day is missing and is made again",
        )),
        ("53300", "InitializeSessionUserId") => Some((
            Resources,
            "the role has used up its CONNECTION LIMIT: raise it by ALTER ROLE, or lower RUVVECTOR_WRITE_CONNECTIONS and \
             RUVVECTOR_READ_CONNECTIONS",
        )),
        ("53300", "CheckMyDatabase") => Some((
            Resources,
            "the database has used up its CONNECTION LIMIT: raise it by ALTER DATABASE, or lower \
             RUVVECTOR_WRITE_CONNECTIONS and RUVVECTOR_READ_CONNECTIONS",
        )),
        _ => None,
    }
}

/// Returns the class of an error, and advice.
fn meaning(sqlstate: &str) -> (FailureClass, &'static str) {
    match sqlstate {
        // It has no constraint's name and is not from the search for a partition: a trigger raised it, perhaps a
        // deferred one.
        "23514" => (Other, SEE_TRIGGERS),
        // `cause.rs` finds the reason.
        "25006" => (Permission, ""),
        "25P03" => (Timeout, "the transaction was idle for too long"),
        "28000" | "28P01" => (
            Permission,
            "see the user, the password and the server's pg_hba.conf",
        ),
        "3D000" => (
            Permission,
            "create the database, or name another in the database's URL",
        ),
        "42501" => (
            Permission,
            "grant the user what it lacks: CREATE and USAGE on the schema, and ownership of the tables",
        ),
        "40001" | "40P01" | "55006" => (Conflict, ""),
        "53100" => (Resources, "free space on the database's disk"),
        "53200" => (Resources, "the database is out of memory"),
        "53300" => (
            Resources,
            "every connection that the server may give to this role is in use: end some (pg_stat_activity lists them), raise \
             max_connections, or lower RUVVECTOR_WRITE_CONNECTIONS and RUVVECTOR_READ_CONNECTIONS",
        ),
        "55P03" => (
            Timeout,
            "another transaction holds a lock for too long: see pg_stat_activity",
        ),
        "57014" => (
            Timeout,
            "the database is too slow for the statement timeout",
        ),
        "57P01" | "57P02" | "57P03" | "57P05" => (
            Connection,
            "the server stops, starts or ended the connection",
        ),
        "22P03" | "22P04" => (
            Schema,
            "the table's columns are not of the types that this version writes",
        ),
        "3F000" => (
            Schema,
            "no schema of the role's search_path exists: create it, or set another by ALTER ROLE … SET search_path",
        ),
        _ => match sqlstate.get(..2) {
            // PL/pgSQL, triggered actions and routines in other languages raise these.
            Some("P0" | "09" | "27" | "2F" | "38" | "39") => (Other, SEE_TRIGGERS),
            Some("08") => (Connection, SEE_SERVER),
            Some("53") => (Resources, "the server lacks resources"),
            Some("58" | "XX") => (Other, "the server failed: see its log"),
            Some("42" | "3F") => (
                Schema,
                "the schema is not what this version expects: run `ruvvector-service migrate`",
            ),
            _ => (Other, ""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// Whatever failed in TLS or at a pooler, the advice was "see that the database runs".
    #[test]
    fn advice_is_about_what_went_wrong() {
        let of = |kind: ErrorKind, text: &str| {
            let error = sqlx::Error::Io(std::io::Error::new(kind, text.to_owned()));
            from_sqlx("connecting", &error).to_string()
        };
        let tls = of(
            ErrorKind::InvalidData,
            "invalid peer certificate: UnknownIssuer",
        );
        assert!(tls.ends_with(SEE_TLS), "{tls}");
        assert!(of(ErrorKind::NotFound, "gone").ends_with(SEE_FILES));
        assert!(of(ErrorKind::ConnectionRefused, "refused").ends_with(SEE_SERVER));
        for (message, class, advice) in [
            (
                "unsupported startup parameter: options",
                FailureClass::Permission,
                "ignore_startup_parameters",
            ),
            (
                "unsupported startup parameter in options: search_path",
                FailureClass::Permission,
                "on the role",
            ),
            (
                "query_wait_timeout",
                FailureClass::Resources,
                "default_pool_size",
            ),
            (
                "no more connections allowed (max_client_conn)",
                FailureClass::Resources,
                "max_client_conn",
            ),
        ] {
            let (found, text) = poolers(message).expect(message);
            assert!(found == class && text.contains(advice), "{message}: {text}");
        }
        assert_eq!(poolers("the database system is shutting down"), None);
    }

    /// A trigger's exception had no advice, and its check violation was called a missing partition.
    #[test]
    fn a_triggers_exception_is_distinguished_from_a_missing_partition() {
        for code in ["P0001", "23514", "39000"] {
            assert_eq!(in_routine(code, Some("exec_stmt_raise")), None);
            let (class, advice) = meaning(code);
            assert!(
                class == FailureClass::Other && advice.contains("trigger"),
                "{code}"
            );
        }
        let partition = in_routine("23514", Some("ExecFindPartition"));
        assert!(partition.is_some_and(
            |(class, advice)| class == FailureClass::Schema && advice.contains("partition")
        ));
        assert_eq!(in_routine("23514", None), None);
    }

    #[test]
    fn an_unlisted_code_is_of_class_other() {
        assert_eq!(meaning("99999").0, FailureClass::Other);
        assert_eq!(meaning("").0, FailureClass::Other);
    }
}
