//! First contact: version, encoding, shape, migrations.
//!
//! **Invariant:** nothing is written into a table whose shape is unknown. All changes are made in one transaction under
//! one advisory lock, so that two collectors that start at the same moment both find them done.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection};

use crate::store::postgres::connection::within;
use crate::store::postgres::error::retry;
use crate::store::postgres::migrations::{MIGRATION_LOCK, from_migration, is_current, migrator};
use crate::store::postgres::table_shape::{Columns, FoundTable};
use crate::store::postgres::transaction::{BEGIN, Transaction};
use crate::store::postgres::{Postgres, import_v0, lock};
use crate::store::{FailureClass, StoreError};

/// The oldest supported server, which introduced multiranges and `DETACH CONCURRENTLY`.
const OLDEST_SERVER: i32 = 14;

/// Timeout of the migrations, which may build indexes on large tables.
const MIGRATION_LIMIT: Duration = Duration::from_secs(600);

/// A format string: PostgreSQL inserts `search_path` and the role.
const NO_SCHEMA: &str = "no schema to keep the tables in: search_path is %1$L, and the role %2$I finds none of its schemas (missing, or \
     without the right USAGE). Make one and lead the role there: CREATE SCHEMA telemetry AUTHORIZATION %2$I; ALTER ROLE %2$I \
     SET search_path = telemetry; a search_path in the database's URL comes before the role's";

/// The columns of `telemetry_events` that the writer needs.
const COLUMNS: &Columns = &[
    ("id", &["bigint"]),
    ("timestamp", &["bigint"]),
    ("time_unix_nano", &["bigint"]),
    ("duration_ns", &["bigint"]),
    ("created_at", &["timestamp with time zone"]),
    ("kind", &["integer"]),
    ("flags", &["smallint"]),
    ("correlation_id", &["text"]),
    ("integration", &["text"]),
    ("provider", &["text"]),
    ("event_type", &["text"]),
    ("trace_id", &["text"]),
    ("span_id", &["text"]),
    ("parent_span_id", &["text"]),
    ("name", &["text"]),
    ("status", &["text"]),
    ("resource_id", &["bytea"]),
    ("metadata", &["jsonb"]),
];

/// The state of the database at first contact.
struct FoundSchema {
    server_version: i32,
    encoding: String,
    /// A sentence, if `search_path` names no existing schema.
    no_schema: Option<String>,
    /// Versions and checksums of the applied migrations, in order.
    applied: Vec<(i64, Vec<u8>)>,
    /// The table `telemetry_events`, if there is one.
    table: Option<FoundTable>,
}

impl Postgres {
    /// Makes the first contact. Cheap if there is nothing to do.
    pub(in crate::store) async fn prepare(&self) -> Result<(), StoreError> {
        self.prepare_schema(self.shared.options.migrate).await
    }

    /// Applies the migrations, whatever the settings are: for the command `migrate`.
    ///
    /// # Errors
    /// [`StoreError::Retry`] or [`StoreError::Schema`].
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.prepare_schema(true).await
    }

    async fn prepare_schema(&self, may_migrate: bool) -> Result<(), StoreError> {
        self.forget();
        let mut transaction = self.begin_anywhere().await?;
        let found = transaction.read_schema().await?;
        found.check_server()?;
        if is_current(&found.applied)? {
            found.check_shape()?;
        } else {
            if !may_migrate {
                return Err(StoreError::Schema(
                    "the database's schema is missing or older than this version: run `ruvvector-service migrate`"
                        .into(),
                ));
            }
            transaction.roll_back().await?;
            self.apply_migrations().await?;
            transaction = self.begin_anywhere().await?;
        }
        let covered = transaction.covered_days().await?;
        let server = transaction.server.clone();
        transaction.commit().await?;
        self.shared.partitions.learn(covered);
        *lock(&self.shared.server) = Some(server);
        Ok(())
    }

    /// Brings the schema up to date in one transaction, on a connection that is not used again: sqlx's migrator names
    /// its statements, which a pooler may keep for the next client.
    async fn apply_migrations(&self) -> Result<(), StoreError> {
        const DOING: &str = "migrating";
        let mut connection = self.connect().await?;
        let mut begun = within(self.limit(), DOING, connection.begin_with(BEGIN)).await?;
        let mut transaction = self.join(&mut begun).await?;
        transaction.limit = MIGRATION_LIMIT;
        // Only another collector's migration is waited for. A long wait for a lock on a table would stall every session
        // that waits behind it.
        let take_turn = format!(
            "SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0; \
             SELECT pg_advisory_xact_lock({MIGRATION_LOCK}); \
             SET LOCAL lock_timeout = 10000; SET LOCAL statement_timeout = 600000"
        );
        transaction
            .run_all(
                "waiting for another collector's migration",
                AssertSqlSafe(take_turn),
            )
            .await?;
        // Another collector may have migrated the schema in the meantime.
        let found = transaction.read_schema().await?;
        let v0_table = found.table.filter(|_| found.applied.is_empty());
        if let Some(table) = &v0_table {
            import_v0::check_shape(table)?;
            transaction.rename_v0_table(DOING).await?;
        }
        let migrator = migrator();
        let migrating = migrator.run_direct(None, transaction.connection(), false);
        match tokio::time::timeout(MIGRATION_LIMIT, migrating).await {
            Ok(result) => result.map_err(|error| from_migration(&error))?,
            Err(_) => {
                return Err(retry(
                    FailureClass::Timeout,
                    "migrating took more than ten minutes: another transaction may hold a lock, see pg_stat_activity",
                ));
            }
        }
        if v0_table.is_some() {
            transaction.start_ids_above_v0(DOING).await?;
        }
        transaction.run_all(DOING, "DEALLOCATE ALL").await?;
        within(MIGRATION_LIMIT, DOING, begun.commit()).await?;
        self.close_connection(connection).await;
        Ok(())
    }
}

impl Transaction<'_> {
    /// Reads the state of the database.
    async fn read_schema(&mut self) -> Result<FoundSchema, StoreError> {
        const DOING: &str = "reading the schema";
        let facts = sqlx::query_as(
            "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'), \
                    CASE WHEN current_schema() IS NULL THEN format($1, current_setting('search_path'), current_user) END, \
                    to_regclass('ruvvector_migrations') IS NOT NULL",
        );
        let (server_version, encoding, no_schema, is_migrated) =
            self.one(DOING, facts.bind(NO_SCHEMA)).await?;
        let applied = if is_migrated {
            let applied =
                "SELECT version, checksum FROM ruvvector_migrations WHERE success ORDER BY version";
            self.rows(DOING, sqlx::query_as(applied)).await?
        } else {
            Vec::new()
        };
        Ok(FoundSchema {
            server_version,
            encoding,
            no_schema,
            applied,
            table: self.table_shape(DOING).await?,
        })
    }
}

impl FoundSchema {
    fn check_server(&self) -> Result<(), StoreError> {
        if self.server_version < OLDEST_SERVER {
            return Err(StoreError::Schema(format!(
                "the server is PostgreSQL {}: {OLDEST_SERVER} or later is needed",
                self.server_version
            )));
        }
        if self.encoding != "UTF8" {
            return Err(StoreError::Schema(format!(
                "the database's encoding is {}: create it with ENCODING 'UTF8'",
                self.encoding
            )));
        }
        match &self.no_schema {
            Some(sentence) => Err(StoreError::Schema(sentence.clone())),
            None => Ok(()),
        }
    }

    /// Checks that the table still has the shape of the migrations, so that a column changed by hand is named before
    /// COPY fails.
    fn check_shape(&self) -> Result<(), StoreError> {
        let Some(table) = &self.table else {
            return Err(StoreError::Schema(
                "the migrations were applied but the table telemetry_events is not there: restore it, or drop \
                 ruvvector_migrations to start anew"
                    .into(),
            ));
        };
        let mut differences = table.differences(COLUMNS);
        if !table.partitioned {
            differences.insert(0, "it is not partitioned".to_owned());
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(StoreError::Schema(format!(
            "the table telemetry_events was changed by hand: {}",
            differences.join("; ")
        )))
    }
}
