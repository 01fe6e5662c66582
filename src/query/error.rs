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

    /// Classifies a database's error, if it is one; `timeout` is the time limit of the query.
    pub(super) fn classified(self, timeout: Duration) -> Self {
        let known = match &self {
            Self::Database(error) => of_driver(error, timeout),
            _ => None,
        };
        known.unwrap_or(self)
    }

    const fn facts(&self) -> QueryErrorFacts {
        match self {
            Self::Parameter { .. } => row(StatusCode::BAD_REQUEST, None),
            Self::NoSuchEvent(_) => row(StatusCode::NOT_FOUND, None),
            Self::NotAcceptable => row(StatusCode::NOT_ACCEPTABLE, None),
            Self::Busy(_) => row(StatusCode::SERVICE_UNAVAILABLE, Some("busy")),
            Self::NoMemory => row(StatusCode::SERVICE_UNAVAILABLE, Some("busy")),
            Self::TooLarge { .. } => row(StatusCode::INSUFFICIENT_STORAGE, Some("busy")),
            Self::Unavailable(_) => row(StatusCode::SERVICE_UNAVAILABLE, Some("unavailable")),
            Self::Timeout(_) => row(StatusCode::GATEWAY_TIMEOUT, Some("timeout")),
            Self::Database(_) => row(StatusCode::INTERNAL_SERVER_ERROR, Some("other")),
            Self::Unreadable(..) => row(StatusCode::INTERNAL_SERVER_ERROR, Some("other")),
        }
    }
}

/// The facts about an error that its answer and its span need.
struct QueryErrorFacts {
    status: StatusCode,
    error_type: Option<&'static str>,
}

const fn row(status: StatusCode, error_type: Option<&'static str>) -> QueryErrorFacts {
    QueryErrorFacts { status, error_type }
}

impl own_traces::SpanError for QueryError {
    fn error_type(&self) -> Option<&'static str> {
        self.facts().error_type
    }
}

impl From<sqlx::Error> for QueryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

const AWAY: QueryError =
    QueryError::Unavailable("the database does not answer; try again in a moment");
const NOT_READY: QueryError =
    QueryError::Unavailable("the database is not set up yet; try again in a moment");

/// Returns the meaning of an error of the driver for a client; `None` if it has none.
fn of_driver(error: &sqlx::Error, timeout: Duration) -> Option<QueryError> {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Some(AWAY),
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => of_sqlstate(error.code(), timeout),
            None => of_sqlite(&error.code()?, error.message(), timeout),
        },
        _ => None,
    }
}

/// Classifies a SQLSTATE (PostgreSQL, appendix A).
fn of_sqlstate(code: &str, timeout: Duration) -> Option<QueryError> {
    match code {
        // query_canceled
        "57014" => Some(QueryError::Timeout(timeout)),
        // undefined_table
        "42P01" => Some(NOT_READY),
        _ => match code.get(..2)? {
            // Connection exceptions, authorisation, no such database, conflicts with a replica's recovery, resources,
            // operator.
            "08" | "28" | "3D" | "40" | "53" | "57" => Some(AWAY),
            _ => None,
        },
    }
}

/// Classifies a SQLite result code, whose low byte is the primary code.
fn of_sqlite(code: &str, message: &str, timeout: Duration) -> Option<QueryError> {
    match code.parse::<i32>().ok()? & 0xff {
        // SQLITE_INTERRUPT
        9 => Some(QueryError::Timeout(timeout)),
        // SQLITE_BUSY, SQLITE_LOCKED, SQLITE_CANTOPEN
        5 | 6 | 14 => Some(AWAY),
        // SQLITE_ERROR
        1 if message.starts_with("no such table") => Some(NOT_READY),
        _ => None,
    }
}

impl IntoResponse for QueryError {
    fn into_response(self) -> Response {
        let status = self.facts().status;
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
