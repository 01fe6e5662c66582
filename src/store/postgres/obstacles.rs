//! Finds obstacles to the removal of a day: objects of other users, and transactions.
//!
//! **Invariant:** read only; every obstacle is a sentence that names the object and advises the operator.

use sqlx::PgConnection;

use crate::store::postgres::Postgres;
use crate::store::postgres::connection::{end, within};
use crate::store::postgres::error::retry;
use crate::store::postgres::round::MaintenanceRound;
use crate::store::{FailureClass, StoreError};

/// Obstacles to the removal of the table `$1`, with advice. The table, the objects below it, and the types of their
/// rows must have no dependents (`n`: DROP would need CASCADE) except their own constraints, which are dropped with
/// them.
const OBSTACLES: &str = "\
    WITH day AS (SELECT c.oid, c.relkind, c.relowner, c.relispartition FROM pg_class c WHERE c.oid = to_regclass($1)), \
         tables AS (SELECT oid FROM day UNION SELECT relid FROM pg_partition_tree(to_regclass($1))), \
         types AS (SELECT unnest(ARRAY[t.oid, t.typarray]) AS oid FROM pg_type t JOIN tables ON tables.oid = t.typrelid) \
    SELECT DISTINCT coalesce(pg_describe_object('pg_class'::regclass, r.ev_class, 0), \
                             pg_describe_object(d.classid, d.objid, d.objsubid)) \
           || ' depends on it: drop that, or let it refer to telemetry_events' \
    FROM pg_depend d LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid \
    WHERE d.deptype = 'n' AND (d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM tables) \
                               OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT oid FROM types)) \
      AND NOT EXISTS (SELECT FROM pg_depend own WHERE own.classid = d.classid AND own.objid = d.objid \
                      AND own.deptype IN ('a', 'i') AND own.refclassid = 'pg_class'::regclass \
                      AND own.refobjid IN (SELECT oid FROM tables)) \
    UNION ALL \
    SELECT format('it belongs to the role %I: ALTER TABLE %s OWNER TO %I', o.rolname, day.oid::regclass, current_user) \
    FROM day JOIN pg_roles o ON o.oid = day.relowner WHERE NOT pg_has_role(day.relowner, 'USAGE') \
    UNION ALL \
    SELECT 'it is a foreign table: detach and drop it by hand' FROM day WHERE relkind = 'f' \
    UNION ALL \
    SELECT format('telemetry_events has the default partition %s, beside which no day can be detached: move its rows, and \
drop it', p.partdefid::regclass) \
    FROM day JOIN pg_partitioned_table p ON p.partrelid = to_regclass('telemetry_events') \
    WHERE day.relispartition AND p.partdefid <> 0";

/// Maximum number of obstacles that one sentence names.
const NAMED: usize = 3;

/// The process whose transaction our detach waits for. For other users' processes, a role without `pg_monitor` sees
/// little more than the process id.
const BLOCKING: &str = "\
    SELECT CASE WHEN blocking.pid = 0 THEN 'a prepared one, see pg_prepared_xacts' \
           ELSE format('process %s (%s): end it by SELECT pg_terminate_backend(%s)', blocking.pid, \
               concat_ws(', ', 'user ' || b.usename, 'application ' || nullif(b.application_name, ''), b.state, \
                         'begun ' || date_trunc('second', b.xact_start)), blocking.pid) END \
    FROM pg_stat_activity w CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS blocking (pid) \
    LEFT JOIN pg_stat_activity b ON b.pid = blocking.pid \
    WHERE w.datname = current_database() AND w.state = 'active' \
      AND w.query LIKE 'ALTER TABLE telemetry_events DETACH PARTITION %' \
    ORDER BY b.xact_start NULLS LAST LIMIT 1";

impl Postgres {
    /// Refuses to drop a table while there are obstacles.
    ///
    /// # Errors
    /// `Retry` of class `schema` that names the obstacles.
    pub(super) async fn refuse_if_obstructed(
        &self,
        round: &mut MaintenanceRound<'_>,
        qualified: &str,
    ) -> Result<(), StoreError> {
        let connection = round.connection().await?;
        self.begin_anywhere(connection).await?;
        let obstacles: Vec<String> = within(
            self.limit(),
            "looking for what keeps a day from being removed",
            sqlx::query_scalar(OBSTACLES)
                .bind(qualified)
                .persistent(false)
                .fetch_all(&mut *connection),
        )
        .await?;
        end(connection, "COMMIT", self.limit()).await?;
        if obstacles.is_empty() {
            return Ok(());
        }
        Err(retry(
            FailureClass::Schema,
            None,
            sentence(qualified, &obstacles),
        ))
    }

    /// Returns a sentence about the process that a detach is waiting for.
    pub(super) async fn who_blocks_a_detach(
        &self,
        guard: &mut PgConnection,
    ) -> Result<Option<String>, StoreError> {
        // Within a transaction the server reads its activity once, unless the snapshot is cleared.
        within(
            self.limit(),
            "looking for who keeps a detach waiting",
            sqlx::query("SELECT pg_stat_clear_snapshot()")
                .persistent(false)
                .execute(&mut *guard),
        )
        .await?;
        let found: Option<String> = within(
            self.limit(),
            "looking for who keeps a detach waiting",
            sqlx::query_scalar(BLOCKING)
                .persistent(false)
                .fetch_optional(guard),
        )
        .await?;
        Ok(found.as_deref().map(printable))
    }
}

fn sentence(qualified: &str, obstacles: &[String]) -> String {
    let named: Vec<String> = obstacles
        .iter()
        .take(NAMED)
        .map(|text| printable(text))
        .collect();
    let more = match obstacles.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "the day {} cannot be removed: {}{more}",
        printable(qualified),
        named.join("; ")
    )
}

/// Escapes control characters, since other users chose the names.
fn printable(text: &str) -> String {
    let escaped = |c: char| c.is_control().then(|| c.escape_default().to_string());
    text.chars()
        .map(|c| escaped(c).unwrap_or_else(|| c.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn a_sentence_names_three_and_escapes_what_a_name_holds() {
        let obstacles: Vec<String> = (1..=5).map(|n| format!("view v{n}\n\u{1b}[2J")).collect();
        let said = sentence("public.\"a\u{7}\"", &obstacles);
        assert_eq!(
            said,
            "the day public.\"a\\u{7}\" cannot be removed: view v1\\n\\u{1b}[2J; view v2\\n\\u{1b}[2J; \
             view v3\\n\\u{1b}[2J; and 2 more"
        );
    }
}
