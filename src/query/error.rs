//! The errors of queries, and their answers.
//!
//! **Invariant:** an answer is JSON, under 4 KiB, and echoes at most 64 escaped characters of the request.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sqlx::postgres::PgDatabaseError;

use crate::decode::export::Unreadable;
use crate::error::retry_after;
use crate::telemetry::own_traces;
use crate::text::shown;

/// The reason for which a query has no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// 400: the request is at fault; names the parameter.
    #[error("{reason}")]
    Parameter { parameter: String, reason: String },
    /// 404: no event has the id.
    #[error("no event has the id {0}")]
    NoSuchEvent(i64),
    /// 406: `Accept` allows neither encoding of OTLP.
    #[error(
        "OTLP is written as application/json or application/x-protobuf, and Accept allows neither"
    )]
    NotAcceptable,
    /// 503: the maximum number of queries is running.
    #[error("{0} queries are running, the maximum; try again in a moment")]
    Busy(usize),
    /// 503: other answers hold the memory.
    #[error("other answers use up the memory for answers; try again in a moment, or ask for less")]
    NoMemory,
    /// 507: the event does not fit into any answer.
    #[error(
        "event {id} has about {bytes} bytes, and no answer may hold more than {limit_bytes} while it is read: give the \
         service more memory (memory_bytes, or its control group's limit), or read it in the database"
    )]
    TooLarge {
        id: i64,
        bytes: usize,
        limit_bytes: usize,
    },
    /// 503: the database is unavailable.
    #[error("{0}")]
    Unavailable(&'static str),
    /// 504: the query took too long.
    #[error(
        "the query took longer than {0:?}; narrow it, for example by from and to or by integration"
    )]
    Timeout(Duration),
    /// 500: the database refused the statement; logged.
    #[error("the database could not run the query; the service's log lines name the reason")]
    Database(#[source] sqlx::Error),
    /// 500: a row was changed in the database and is no longer an OTLP item; logged.
    #[error("event {0} is not what was stored, and cannot be written as OTLP: {1}")]
    Unreadable(i64, Unreadable),
}

impl QueryError {
    pub(super) fn parameter(parameter: &str, reason: impl Into<String>) -> Self {
        Self::Parameter {
            parameter: shown(parameter),
            reason: reason.into(),
        }
    }

    /// Classifies a database's error; `timeout` is the time limit of the query.
    pub(super) fn from_database(error: sqlx::Error, timeout: Duration) -> Self {
        let fault = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => QueryFault::Away,
            sqlx::Error::Database(database) => {
                match database.try_downcast_ref::<PgDatabaseError>() {
                    Some(postgres) => of_sqlstate(postgres.code()),
                    None => of_sqlite(&database.code().unwrap_or_default(), database.message()),
                }
            }
            _ => QueryFault::Other,
        };
        match fault {
            QueryFault::Away => {
                Self::Unavailable("the database does not answer; try again in a moment")
            }
            QueryFault::NotReady => {
                Self::Unavailable("the database is not set up yet; try again in a moment")
            }
            QueryFault::Slow => Self::Timeout(timeout),
            QueryFault::Other => Self::Database(error),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Parameter { .. } => StatusCode::BAD_REQUEST,
            Self::NoSuchEvent(_) => StatusCode::NOT_FOUND,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Busy(_) | Self::NoMemory | Self::Unavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::TooLarge { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Self::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Database(_) | Self::Unreadable(..) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl own_traces::SpanError for QueryError {
    fn error_type(&self) -> Option<&'static str> {
        match self {
            Self::Parameter { .. } | Self::NoSuchEvent(_) | Self::NotAcceptable => None,
            Self::Busy(_) | Self::NoMemory | Self::TooLarge { .. } => Some("busy"),
            Self::Unavailable(_) => Some("unavailable"),
            Self::Timeout(_) => Some("timeout"),
            Self::Database(_) | Self::Unreadable(..) => Some("other"),
        }
    }
}

/// The reason for which a search ended without a page.
#[derive(Debug)]
pub(super) enum QueryHalted {
    /// An error of the database, not yet classified.
    Database(sqlx::Error),
    /// An error that is the answer.
    Answered(QueryError),
}

impl QueryHalted {
    /// Returns the answer; `timeout` is the time limit of the query.
    pub(super) fn into_answer(self, timeout: Duration) -> QueryError {
        match self {
            Self::Database(error) => QueryError::from_database(error, timeout),
            Self::Answered(error) => error,
        }
    }
}

impl From<sqlx::Error> for QueryHalted {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<QueryError> for QueryHalted {
    fn from(error: QueryError) -> Self {
        Self::Answered(error)
    }
}

/// The meaning of a database's error for a client.
enum QueryFault {
    Away,
    NotReady,
    Slow,
    Other,
}

/// Classifies a SQLSTATE (PostgreSQL, appendix A).
fn of_sqlstate(code: &str) -> QueryFault {
    // Connection exceptions, authorisation, no such database, conflicts with a replica's recovery, resources, operator.
    const AWAY: [&str; 6] = ["08", "28", "3D", "40", "53", "57"];
    match code {
        // query_canceled
        "57014" => QueryFault::Slow,
        // undefined_table
        "42P01" => QueryFault::NotReady,
        _ if AWAY.iter().any(|class| code.starts_with(class)) => QueryFault::Away,
        _ => QueryFault::Other,
    }
}

/// Classifies a SQLite result code, whose low byte is the primary code.
fn of_sqlite(code: &str, message: &str) -> QueryFault {
    match code.parse::<i32>().map(|code| code & 0xff) {
        // SQLITE_INTERRUPT
        Ok(9) => QueryFault::Slow,
        // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_CANTOPEN
        Ok(5 | 6 | 14) => QueryFault::Away,
        // SQLITE_ERROR
        Ok(1) if message.starts_with("no such table") => QueryFault::NotReady,
        _ => QueryFault::Other,
    }
}

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        let status = self.status();
        match &self {
            Self::Database(error) => tracing::error!(%error, "a query failed"),
            Self::Unreadable(..) => tracing::error!(error = %self, "an export failed"),
            _ => {}
        }
        let error = self.to_string();
        let body = match self {
            Self::Parameter { parameter, .. } => {
                serde_json::json!({ "error": error, "parameter": parameter })
            }
            _ => serde_json::json!({ "error": error }),
        };
        let json = HeaderValue::from_static("application/json");
        let headers = [(header::CONTENT_TYPE, json)];
        let mut response = (status, headers, body.to_string()).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(
                header::RETRY_AFTER,
                u16::from(retry_after::retry_after_s()).into(),
            );
        }
        response
    }
}
