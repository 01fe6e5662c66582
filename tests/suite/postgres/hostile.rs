//! A role with adverse session settings for all of the service's SQL.

use std::process::Command;

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::execute;

/// Settings that servers, databases and roles were found to have, with their worst values.
const HOSTILE: &[(&str, &str)] = &[
    ("standard_conforming_strings", "off"),
    ("escape_string_warning", "off"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("\"DateStyle\"", "'SQL, DMY'"),
    ("\"TimeZone\"", "'Asia/Kathmandu'"),
    ("\"IntervalStyle\"", "sql_standard"),
    ("client_encoding", "'LATIN1'"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "escape"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("synchronous_commit", "off"),
    ("row_security", "off"),
    ("check_function_bodies", "off"),
    ("enable_seqscan", "off"),
    ("enable_tidscan", "off"),
    ("enable_partition_pruning", "off"),
    ("jit_above_cost", "0"),
    ("plan_cache_mode", "force_generic_plan"),
    ("lock_timeout", "'20s'"),
    ("statement_timeout", "'30s'"),
    ("idle_in_transaction_session_timeout", "'30s'"),
];

/// Parts of this suite that write, make partitions and remove them.
const PARTS: &[&str] = &[
    "postgres::write::",
    "postgres::refused::",
    "postgres::partitions::",
    "postgres::retention::",
    "postgres::obstacles::",
    "postgres::clock::",
    "postgres::import_v0::",
    "postgres::schema::",
    "write::ordinary::",
];

/// With `standard_conforming_strings = off` the bounds of partitions were misread: no day was made any more, and the
/// gauge was 366. With an isolation level above READ COMMITTED batches conflicted until the backlog was eighteen times
/// as long.
#[tokio::test(flavor = "multi_thread")]
async fn writing_and_partitions_do_not_depend_on_a_roles_settings() {
    let server =
        std::env::var("RUVVECTOR_TEST_POSTGRES_URL").expect("run under scripts/with-postgres.sh");
    let role = format!("hostile_{}", std::process::id());
    let mut admin = PgConnection::connect(&server)
        .await
        .expect("the cluster answers");
    execute(&mut admin, &format!("CREATE ROLE {role} LOGIN SUPERUSER")).await;
    for (setting, value) in HOSTILE {
        execute(
            &mut admin,
            &format!("ALTER ROLE {role} SET {setting} = {value}"),
        )
        .await;
    }
    let (_, place) = server.split_once('@').expect("the URL names a user");
    let suite = std::env::current_exe().expect("this program has a path");
    let url = format!("postgres://{role}@{place}");
    let ran = tokio::task::spawn_blocking(move || {
        Command::new(suite)
            .args(PARTS)
            .args(["--test-threads", "2"])
            .env("RUVVECTOR_TEST_POSTGRES_URL", url)
            .output()
            .expect("the suite runs")
    });
    let ran = ran.await.expect("it does not panic");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}");
    assert!(
        said.contains("test result: ok") && !said.contains("running 0 tests"),
        "{said}"
    );
}
