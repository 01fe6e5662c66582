//! A statement that is being written, with its bound values, in the dialect of a store.
//!
//! **Invariant:** a statement's text consists of this crate's literals and placeholders; every value from outside is
//! bound.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Encode, Postgres, Sqlite, Type};

use crate::store::row_encoding::POSTGRES_EPOCH_US;

/// The SQL dialect of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Sqlite,
}

/// A bound value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SqlValue {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// A receive time in Unix µs.
    Micros(i64),
}

/// The text of a statement with its bound values.
#[derive(Clone, Debug)]
pub(super) struct SqlStatement {
    pub(super) dialect: Dialect,
    pub(super) text: String,
    values: Vec<SqlValue>,
}

impl SqlStatement {
    pub(super) fn new(dialect: Dialect, text: &str) -> Self {
        Self {
            dialect,
            text: text.to_owned(),
            values: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Binds a value and returns its placeholder for the text; both stores use the same syntax.
    pub(super) fn keep(&mut self, value: SqlValue) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// Binds a value and appends its placeholder to the text.
    pub(super) fn bind(&mut self, value: SqlValue) {
        let placeholder = self.keep(value);
        self.text.push_str(&placeholder);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.bind(SqlValue::Text(value.to_owned()));
    }

    pub(super) fn int(&mut self, value: i64) {
        self.bind(SqlValue::Int(value));
    }

    pub(super) fn micros(&mut self, value: i64) {
        self.bind(SqlValue::Micros(value));
    }

    /// Makes the query for PostgreSQL. It is unnamed, so that a pooler in transaction mode may be used.
    pub(super) fn for_postgres(self) -> Query<'static, Postgres, PgArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text)).persistent(false);
        let values = self.values.into_iter();
        values.fold(query, |query, value| match value {
            SqlValue::Int(value) => query.bind(value),
            SqlValue::Text(value) => query.bind(value),
            SqlValue::Bytes(value) => query.bind(value),
            SqlValue::Micros(value) => query.bind(TimestampTz(value)),
        })
    }

    /// Makes the query for SQLite.
    pub(super) fn for_sqlite(self) -> Query<'static, Sqlite, SqliteArguments> {
        let query = sqlx::query(AssertSqlSafe(self.text)).persistent(false);
        let values = self.values.into_iter();
        values.fold(query, |query, value| match value {
            SqlValue::Int(value) | SqlValue::Micros(value) => query.bind(value),
            SqlValue::Text(value) => query.bind(value),
            SqlValue::Bytes(value) => query.bind(value),
        })
    }
}

/// A `timestamptz` from Unix µs, bound as a constant so that the planner chooses the partitions.
struct TimestampTz(i64);

impl Type<Postgres> for TimestampTz {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl Encode<'_, Postgres> for TimestampTz {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // PostgreSQL counts from 2000-01-01. It reads the ends of the range as infinity, which has the same effect
        // here.
        let since_2000 = self.0.saturating_sub(POSTGRES_EPOCH_US);
        buffer.extend_from_slice(&since_2000.to_be_bytes());
        Ok(IsNull::No)
    }
}
