//! First contact: version, encoding, shape, migrations.
//!
//! **Invariant:** nothing is written into a table whose shape is unknown. All changes are made in one transaction under
//! one advisory lock, so that two collectors that start at the same moment both find them done.

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection, Row};

use crate::store::postgres::connection::{BEGIN, within};
use crate::store::postgres::error::{from_sqlx, retry};
use crate::store::postgres::{Postgres, import_v0, lock, partitions};
use crate::store::{FailureClass, StoreError};

/// The oldest supported server, which introduced multiranges and `DETACH CONCURRENTLY`.
const OLDEST_SERVER: i32 = 14;

/// Timeout of the migrations, which may build indexes on large tables.
const MIGRATION_LIMIT: Duration = Duration::from_secs(600);

/// The advisory lock of migrations. The collector's other locks have the numbers after it.
pub(super) const MIGRATION_LOCK: i64 = 0x7275_7676_0001;

/// A format string: PostgreSQL inserts `search_path` and the role.
const NO_SCHEMA: &str = "no schema to keep the tables in: search_path is %1$L, and the role %2$I finds none of its schemas (missing, or \
     without the right USAGE). Make one and lead the role there: CREATE SCHEMA telemetry AUTHORIZATION %2$I; ALTER ROLE %2$I \
     SET search_path = telemetry; a search_path in the database's URL comes before the role's";

/// The columns of `telemetry_events` that the writer needs.
const COLUMNS: [(&str, &str); 18] = [
    ("id", "bigint"),
    ("timestamp", "bigint"),
    ("time_unix_nano", "bigint"),
    ("duration_ns", "bigint"),
    ("created_at", "timestamp with time zone"),
    ("kind", "integer"),
    ("flags", "smallint"),
    ("correlation_id", "text"),
    ("integration", "text"),
    ("provider", "text"),
    ("event_type", "text"),
    ("trace_id", "text"),
    ("span_id", "text"),
    ("parent_span_id", "text"),
    ("name", "text"),
    ("status", "text"),
    ("resource_id", "bytea"),
    ("metadata", "jsonb"),
];

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("migrations/postgres");
    migrator.dangerous_set_table_name("ruvvector_migrations");
    // A session's lock fails behind a pooler, so the transaction takes one.
    migrator.set_locking(false);
    // A newer schema is checked below.
    migrator.set_ignore_missing(true);
    migrator
}

/// The newest schema that this version may write to: one beyond its own, as each is compatible one version back.
static MAXIMUM: LazyLock<i64> = LazyLock::new(|| {
    let newest_own = migrator().iter().map(|migration| migration.version).max();
    newest_own.map_or(0, |version| version + 1)
});

/// Refuses a schema that is newer than this version may write to.
///
/// # Errors
/// [`StoreError::Schema`] if the newest applied migration is newer than that.
pub(super) fn refuse_newer(newest: i64) -> Result<(), StoreError> {
    let maximum = *MAXIMUM;
    if newest <= maximum {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "the database's schema has version {newest}, this binary knows versions up to {maximum}: update it"
    )))
}

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

/// A table according to the catalogue.
pub(super) struct FoundTable {
    pub(super) partitioned: bool,
    /// Names and types.
    pub(super) columns: Vec<(String, String)>,
}

impl Postgres {
    /// Makes the first contact. Cheap if there is nothing to do.
    pub(in crate::store) async fn prepare(&self) -> Result<(), StoreError> {
        self.prepare_schema(self.shared.migrate).await
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
        let migrator = migrator();
        let mut lease = self.lease().await?;
        let mut begun = self.begin_anywhere(&mut lease).await?;
        let found = self.read_schema(&mut lease).await?;
        found.check_server()?;
        if found.is_current(&migrator)? {
            found.check_shape()?;
        } else {
            if !may_migrate {
                return Err(StoreError::Schema(
                    "the database's schema is missing or older than this version: run `ruvvector-service migrate`"
                        .into(),
                ));
            }
            self.roll_back(lease).await?;
            self.apply(&migrator).await?;
            lease = self.lease().await?;
            begun = self.begin_anywhere(&mut lease).await?;
        }
        let covered = partitions::covered(&mut lease, self.limit()).await?;
        self.commit(lease).await?;
        self.shared.partitions.learn(covered);
        *lock(&self.shared.server) = Some(begun.server);
        Ok(())
    }

    /// Brings the schema up to date in one transaction, on a connection that is not used again: sqlx's migrator names
    /// its statements, which a pooler may keep for the next client.
    async fn apply(&self, migrator: &Migrator) -> Result<(), StoreError> {
        const DOING: &str = "migrating";
        let mut connection = self.connect().await?;
        let mut transaction = within(self.limit(), DOING, connection.begin_with(BEGIN)).await?;
        within(
            MIGRATION_LIMIT,
            "waiting for another collector's migration",
            sqlx::query("SELECT pg_advisory_xact_lock($1)")
                .bind(MIGRATION_LOCK)
                .persistent(false)
                .execute(&mut *transaction),
        )
        .await?;
        // A long wait for a lock would stall every session that waits behind it.
        within(
            self.limit(),
            DOING,
            sqlx::raw_sql("SET LOCAL lock_timeout = 10000; SET LOCAL statement_timeout = 600000")
                .execute(&mut *transaction),
        )
        .await?;
        // Another collector may have migrated the schema in the meantime.
        let found = self.read_schema(&mut transaction).await?;
        let keep_v0 = found.applied.is_empty() && found.table.is_some();
        if keep_v0 {
            let table = found.table.as_ref().expect("looked at above");
            import_v0::check_shape(table)?;
            within(
                MIGRATION_LIMIT,
                DOING,
                import_v0::rename_v0_table(&mut transaction),
            )
            .await?;
        }
        match tokio::time::timeout(
            MIGRATION_LIMIT,
            migrator.run_direct(None, &mut *transaction, false),
        )
        .await
        {
            Ok(result) => result.map_err(|error| from_migration(&error))?,
            Err(_) => {
                return Err(retry(
                    FailureClass::Timeout,
                    None,
                    "migrating took more than ten minutes: another transaction may hold a lock, see pg_stat_activity",
                ));
            }
        }
        if keep_v0 {
            within(
                MIGRATION_LIMIT,
                DOING,
                import_v0::start_ids_above(&mut transaction),
            )
            .await?;
        }
        within(
            self.limit(),
            DOING,
            sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *transaction),
        )
        .await?;
        within(MIGRATION_LIMIT, DOING, transaction.commit()).await?;
        let _ = within(self.limit(), "closing", connection.close()).await;
        Ok(())
    }

    /// Reads the state of the database.
    async fn read_schema(&self, connection: &mut PgConnection) -> Result<FoundSchema, StoreError> {
        const DOING: &str = "looking at the schema";
        let read = |error| from_sqlx(DOING, &error);
        let row = within(
            self.limit(),
            DOING,
            sqlx::query(
                "SELECT current_setting('server_version_num')::int / 10000 AS version, \
                        current_setting('server_encoding') AS encoding, \
                        CASE WHEN current_schema() IS NULL THEN format($1, current_setting('search_path'), current_user) \
                             END AS no_schema, \
                        to_regclass('ruvvector_migrations') IS NOT NULL AS migrated, \
                        to_regclass('telemetry_events') IS NOT NULL AS has_table",
            )
            .bind(NO_SCHEMA)
            .persistent(false)
            .fetch_one(&mut *connection),
        )
        .await?;
        let applied = if row.try_get("migrated").map_err(read)? {
            within(
                self.limit(),
                DOING,
                sqlx::query_as(
                    "SELECT version, checksum FROM ruvvector_migrations WHERE success ORDER BY version",
                )
                .persistent(false)
                .fetch_all(&mut *connection),
            )
            .await?
        } else {
            Vec::new()
        };
        let table = if row.try_get("has_table").map_err(read)? {
            Some(within(self.limit(), DOING, describe(connection)).await?)
        } else {
            None
        };
        Ok(FoundSchema {
            server_version: row.try_get("version").map_err(read)?,
            encoding: row.try_get("encoding").map_err(read)?,
            no_schema: row.try_get("no_schema").map_err(read)?,
            applied,
            table,
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

    /// Returns whether every migration of this version was applied.
    fn is_current(&self, migrator: &Migrator) -> Result<bool, StoreError> {
        refuse_newer(self.applied.last().map_or(0, |(newest, _)| *newest))?;
        for migration in migrator.iter() {
            match self
                .applied
                .iter()
                .find(|(version, _)| *version == migration.version)
            {
                None => return Ok(false),
                Some((version, checksum)) if **checksum != *migration.checksum => {
                    return Err(changed_migration(*version));
                }
                Some(_) => {}
            }
        }
        Ok(true)
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
        let mut differences = Vec::new();
        if !table.partitioned {
            differences.push("it is not partitioned".to_owned());
        }
        for (name, expected) in COLUMNS {
            match table.columns.iter().find(|(column, _)| column == name) {
                None => differences.push(format!("column {name} is missing")),
                Some((_, found)) if found != expected => {
                    differences.push(format!("column {name} is {found}, not {expected}"));
                }
                Some(_) => {}
            }
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

/// Reads the columns of `telemetry_events` in order.
async fn describe(connection: &mut PgConnection) -> Result<FoundTable, sqlx::Error> {
    let partitioned = sqlx::query_scalar(
        "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('telemetry_events')",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await?;
    let columns = sqlx::query_as(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
         WHERE attrelid = to_regclass('telemetry_events') AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    Ok(FoundTable {
        partitioned,
        columns,
    })
}

fn changed_migration(version: i64) -> StoreError {
    StoreError::Schema(format!(
        "migration {version} was applied to this database with another text than this binary has: the tables are of \
         another project or of a build before the first release. Nothing was changed; name an empty database, or run the \
         build that made these tables"
    ))
}

fn from_migration(error: &MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => from_sqlx("migrating", error),
        MigrateError::ExecuteMigration(error, version) => {
            let error = from_sqlx("migrating", error);
            match &error {
                // An object of the same name exists, which an operator has to resolve.
                StoreError::Retry {
                    class: FailureClass::Schema,
                    message,
                    ..
                } => {
                    StoreError::Schema(format!("migration {version} cannot be applied: {message}"))
                }
                _ => error,
            }
        }
        MigrateError::VersionMismatch(version) => changed_migration(*version),
        _ => StoreError::Schema(format!("migrating: {error}")),
    }
}
