//! The migrations of the schema, and the versions of it that this binary may write to.
//!
//! **Invariant:** a schema that is newer than this version knows is never written to.

use std::sync::LazyLock;

use sqlx::migrate::{MigrateError, Migrator};

use crate::store::postgres::error::from_sqlx;
use crate::store::{FailureClass, StoreError};

/// The advisory lock of migrations. The collector's other locks have the numbers after it.
pub(super) const MIGRATION_LOCK: i64 = 0x7275_7676_0001;

pub(super) fn migrator() -> Migrator {
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

/// Returns whether every migration of this version is among the `applied` versions and checksums, which are in order.
///
/// # Errors
/// [`StoreError::Schema`] if the schema is newer than this version may write to, or a migration was applied with
/// another text.
pub(super) fn is_current(applied: &[(i64, Vec<u8>)]) -> Result<bool, StoreError> {
    refuse_newer(applied.last().map_or(0, |(newest, _)| *newest))?;
    for migration in migrator().iter() {
        let version = migration.version;
        match applied.iter().find(|(applied, _)| *applied == version) {
            None => return Ok(false),
            Some((_, checksum)) if **checksum != *migration.checksum => {
                return Err(changed_migration(version));
            }
            Some(_) => {}
        }
    }
    Ok(true)
}

fn changed_migration(version: i64) -> StoreError {
    StoreError::Schema(format!(
        "migration {version} was applied to this database with another text than this binary has: the tables are of \
         another project or of a build before the first release. Nothing was changed; name an empty database, or run the \
         build that made these tables"
    ))
}

/// Converts an error of the migrator.
pub(super) fn from_migration(error: &MigrateError) -> StoreError {
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
