//! Finds obstacles to the removal of a day: objects of other users, and transactions.
//!
//! **Invariant:** read only; every obstacle is a sentence that names the object and advises the operator.

use crate::store::postgres::error::retry;
use crate::store::postgres::round::MaintenanceRound;
use crate::store::postgres::transaction::Transaction;
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

impl MaintenanceRound<'_> {
    /// Refuses to drop a table while there are obstacles.
    ///
    /// # Errors
    /// `Retry` of class `schema` that names the obstacles.
    pub(super) async fn refuse_if_obstructed(&mut self, qualified: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let obstacles = sqlx::query_as(OBSTACLES).bind(qualified);
        let doing = "looking for obstacles to the removal of a day";
        let obstacles: Vec<(String,)> = transaction.rows(doing, obstacles).await?;
        transaction.commit().await?;
        if obstacles.is_empty() {
            return Ok(());
        }
        let obstacles: Vec<String> = obstacles.into_iter().map(|(text,)| text).collect();
        Err(retry(FailureClass::Schema, sentence(qualified, &obstacles)))
    }
}

impl Transaction<'_> {
    /// Returns a sentence about the process that a detach is waiting for.
    pub(super) async fn who_blocks_a_detach(&mut self) -> Result<Option<String>, StoreError> {
        const DOING: &str = "looking for the process that blocks a detach";
        // Within a transaction the server reads its activity once, unless the snapshot is cleared.
        self.run_all(DOING, "SELECT pg_stat_clear_snapshot()")
            .await?;
        let found = self.first(DOING, sqlx::query_as(BLOCKING)).await?;
        Ok(found.map(|(text,): (String,)| printable(&text)))
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
