//! Tests of the configuration, without a process around it.
//!
//! **Invariant:** no test here reads the environment or a file.

use std::io;
use std::path::Path;

use crate::config::*;
use crate::store::StoreTarget;

/// Secrets read from files.
mod secret_files;

/// The choice of the database.
mod place;

/// Loads the configuration from these flags, variables and file.
fn load(
    flags: &[(&'static str, &str)],
    variables: &[(&str, &str)],
    file: &str,
) -> Result<LoadedConfig, Vec<String>> {
    let read_file = |path: &Path| match path.to_str() {
        Some("r.toml") => Ok(file.to_owned()),
        Some("/secret") => Ok("postgres://u:hunter2@db/events\r\n".to_owned()),
        Some("/two") => Ok("postgres://u:hunter2@db/events\nx\n".to_owned()),
        Some("/empty") => Ok("\n".to_owned()),
        Some("/binary") => Err(io::ErrorKind::InvalidData.into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let mut environment: Environment = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    if !file.is_empty() {
        environment.insert("RUVVECTOR_CONFIG".to_owned(), "r.toml".to_owned());
    }
    Config::load(&Inputs {
        flags: flags
            .iter()
            .map(|(key, text)| (*key, (*text).to_owned()))
            .collect(),
        environment,
        read_file: &read_file,
        machine: Machine {
            host_name: "here".to_owned(),
            memory_bytes: Some(8 << 30),
        },
    })
    .map_err(|ConfigError(problems)| problems)
}

fn problems(variables: &[(&str, &str)]) -> Vec<String> {
    load(&[], variables, "")
        .map(|loaded| loaded.warnings)
        .expect_err("a problem")
}

fn postgres(loaded: &LoadedConfig) -> &sqlx::postgres::PgConnectOptions {
    match &loaded.config.store.target {
        StoreTarget::Postgres { options, .. } => options,
        StoreTarget::Sqlite { path } => panic!("SQLite at {}", path.display()),
    }
}

#[test]
fn retention_that_is_set_to_off_does_not_count_as_forgotten() {
    let url = ("DATABASE_URL", "postgres://db/events");
    for (set, forgotten) in [("off", false), ("30", false), ("auto", true)] {
        let retention = ("RUVVECTOR_RETENTION_DAYS", set);
        let loaded = load(&[], &[url, retention], "").unwrap();
        assert_eq!(loaded.config.retention_unset, forgotten, "{set}");
    }
    assert!(!load(&[], &[], "").unwrap().config.retention_unset);
}

/// Somebody set 0 to keep little, and nothing was ever removed.
#[test]
fn a_retention_of_0_days_is_an_error_that_names_off() {
    let found = problems(&[("RUVVECTOR_RETENTION_DAYS", "0")]);
    assert_eq!(
        found,
        [
            "RUVVECTOR_RETENTION_DAYS: \"0\" would keep nothing: write off to keep events for ever, or a number of days"
        ]
    );
}

#[test]
fn with_nothing_set_it_is_sqlite_under_data_on_both_loopbacks() {
    let loaded = load(&[], &[], "").unwrap();
    assert!(loaded.warnings.is_empty());
    let config = loaded.config;
    assert_eq!(config.service_port, PortSetting::On(3100));
    assert_eq!(config.otlp_http_port, PortSetting::On(4318));
    assert_eq!(config.otlp_grpc_port, PortSetting::On(4317));
    assert!(config.bind.len() == 2 && config.bind.iter().all(IpAddr::is_loopback));
    assert!(
        matches!(&config.store.target, StoreTarget::Sqlite { path } if path == Path::new("./data/telemetry.db"))
    );
    assert_eq!(config.store.retention_days, Some(7));
    assert_eq!(config.journal.dir, Path::new("./data/journal"));
    assert!(
        config.store.collector.starts_with("here:/") && config.store.collector.ends_with("/data")
    );
}

#[test]
fn the_table_and_the_stages_agree_on_every_default() {
    let config = load(&[], &[], "").unwrap().config;
    let receive = receive::Options {
        inflight_bytes: Some(256 << 20),
        ..receive::Options::default()
    };
    assert_eq!(format!("{:?}", config.receive), format!("{receive:?}"));
    let write = write::Options {
        // Follows the machine's memory.
        large_record_bytes: config.write.large_record_bytes,
        ..write::Options::default()
    };
    assert_eq!(format!("{:?}", config.write), format!("{write:?}"));
    assert_eq!(
        format!("{:?}", config.query),
        format!("{:?}", query::Options::default())
    );
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let file = "batch_rows = 1\nquery_limit_max = 200\nservice_port = 1";
    let variables = [
        ("RUVVECTOR_QUERY_LIMIT_MAX", "300"),
        ("RUVVECTOR_SERVICE_PORT", "2"),
    ];
    let loaded = load(&[("service_port", "3")], &variables, file).unwrap();
    assert_eq!(loaded.config.write.batch_rows, 1);
    assert_eq!(loaded.config.query.limit_max, 300);
    assert_eq!(loaded.config.service_port, PortSetting::On(3));
    let shown = loaded.effective(None);
    for line in [
        "batch_rows = 1 # from r.toml:1",
        "query_limit_max = 300 # from RUVVECTOR_QUERY_LIMIT_MAX",
        "service_port = 3 # from --service-port",
        "batch_bytes = \"8MiB\" # default",
    ] {
        assert!(words(&shown).contains(line), "{line} in\n{shown}");
    }
}

/// Returns the text with each run of spaces replaced by one space.
fn words(text: &str) -> String {
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn what_is_shown_reads_back_as_a_file() {
    let variables = [
        ("RUVVECTOR_JOURNAL_MAX_BYTES", "1 GB"),
        ("RUVVECTOR_BIND", "::"),
        ("RUVVECTOR_STRICT_OTLP_JSON", "on"),
    ];
    let first = load(&[], &variables, "").unwrap();
    let second = load(&[], &[], &first.effective(None)).unwrap();
    assert_eq!(
        format!("{:?}", first.config),
        format!("{:?}", second.config)
    );
}

#[test]
fn every_problem_is_named_with_its_place() {
    let variables = [
        ("RUVVECTOR_BATCH_ROWS", "none"),
        ("RUVVECTOR_AUTH_TOKENS", "se cret"),
    ];
    let Err(problems) = load(
        &[("service_port", "http"), ("bind", "")],
        &variables,
        "max_event = 1\nretention_days = -1",
    ) else {
        panic!("loads");
    };
    let all = problems.join("\n");
    assert_eq!(problems.len(), 6, "{all}");
    for part in [
        "--service-port: \"http\" is not a port",
        "--bind: is empty",
        "RUVVECTOR_BATCH_ROWS: \"none\" is not a whole number of at least 1",
        "RUVVECTOR_AUTH_TOKENS: its value holds a token",
        "r.toml:1: unknown setting \"max_event\"; did you mean max_events?",
        "r.toml:2: retention_days: \"-1\" is neither",
    ] {
        assert!(all.contains(part), "{part} in\n{all}");
    }
    assert!(!all.contains("cret"));
}

#[test]
fn a_missing_file_is_an_error_that_names_who_asked_for_it() {
    let Err(problems) = load(&[("config", "gone.toml")], &[], "") else {
        panic!("loads");
    };
    assert!(
        problems[0].starts_with("--config: gone.toml: "),
        "{problems:?}"
    );
}

#[test]
fn no_secret_is_ever_shown() {
    let variables = [
        (
            "DATABASE_URL",
            "postgres://ruv:hunter2@db/events?password=hunter2",
        ),
        (
            "RUVVECTOR_DATABASE_READ_URL",
            "postgres://ruv:hunter2@replica/events?mystery=hunter2",
        ),
        ("POSTGRES_PASSWORD", "hunter2"),
        ("RUVVECTOR_AUTH_TOKENS", "hunter2,hunter2b"),
        ("RUVVECTOR_TRACES_ENDPOINT", "http://collector:4317"),
        ("RUVVECTOR_TRACES_HEADERS", "authorization=Bearer hunter2"),
    ];
    let loaded = load(&[], &variables, "").unwrap();
    let everything = format!(
        "{}{:?}{:?}",
        loaded.effective(None),
        loaded.config,
        loaded.warnings
    );
    assert!(!everything.contains("hunter2"), "{everything}");
    assert!(everything.contains("ruv@db:5432/events"), "{everything}");
    assert!(
        loaded.warnings[1].contains("\"mystery\""),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn body_limits_are_held_to_half_of_the_memory_for_requests() {
    let loaded = load(
        &[],
        &[
            ("RUVVECTOR_INFLIGHT_BYTES", "64MiB"),
            ("RUVVECTOR_OTLP_WIRE_BYTES", "48MiB"),
        ],
        "",
    )
    .unwrap();
    let receive = &loaded.config.receive;
    assert_eq!(receive.inflight_bytes, Some(64 << 20));
    assert_eq!(
        (receive.otlp_wire_bytes, receive.otlp_decoded_bytes),
        (32 << 20, 32 << 20)
    );
    assert_eq!(receive.ingest_wire_bytes, 20 << 20);
    assert_eq!(
        loaded.warnings.len(),
        1,
        "only what was set is worth a warning: {:?}",
        loaded.warnings
    );
    assert!(
        words(&loaded.effective(None)).contains("otlp_decoded_bytes = \"64MiB\" # default: 32MiB")
    );
}

#[test]
fn a_small_machine_gives_each_stage_its_share_and_an_answer_what_fits() {
    let machine = Machine {
        host_name: String::new(),
        memory_bytes: Some(128 << 20),
    };
    let inputs = Inputs {
        flags: Vec::new(),
        environment: Environment::new(),
        read_file: &|_| Err(io::ErrorKind::NotFound.into()),
        machine,
    };
    let loaded = Config::load(&inputs).unwrap();
    let config = &loaded.config;
    assert_eq!(config.receive.inflight_bytes, Some(32 << 20));
    assert_eq!(config.query.memory_bytes, 24 << 20);
    assert!(config.query.answer_bytes <= 12 << 20);
    let room = config.room();
    for share in [
        "of 128MiB of memory",
        "hold 32MiB together",
        "database 40MiB",
        "queries 24MiB",
    ] {
        assert!(room.contains(share), "{share}: {room}");
    }
    assert!(
        loaded
            .warnings
            .iter()
            .any(|warning| warning.contains("less than 192MiB")),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn memory_is_set_for_a_process_that_shares_its_machine() {
    let loaded = load(&[], &[("RUVVECTOR_MEMORY_BYTES", "512MiB")], "").unwrap();
    assert_eq!(loaded.config.receive.inflight_bytes, Some(128 << 20));
    let shown = words(&loaded.effective(None));
    assert!(
        shown.contains("512MiB: 128MiB for requests, 160MiB for"),
        "{shown}"
    );
    let greedy = [
        ("RUVVECTOR_MEMORY_BYTES", "512MiB"),
        ("RUVVECTOR_INFLIGHT_BYTES", "400MiB"),
    ];
    let warnings = load(&[], &greedy, "").unwrap().warnings;
    assert!(
        warnings[0].contains("inflight_bytes is 400MiB"),
        "{warnings:?}"
    );
}

#[test]
fn settings_at_odds_are_refused() {
    for (variables, expected) in [
        (
            &[("RUVVECTOR_OTLP_HTTP_PORT", "3100")][..],
            "service_port and otlp_http_port are both 3100",
        ),
        (
            &[("RUVVECTOR_OTLP_GRPC_PORT", "4318")],
            "otlp_http_port and otlp_grpc_port are both 4318",
        ),
        (
            &[("RUVVECTOR_RETRY_MIN", "1m")],
            "retry_min is over retry_max",
        ),
        (
            &[("RUVVECTOR_QUERY_LIMIT_DEFAULT", "20000")],
            "query_limit_default is over",
        ),
        (
            &[("RUVVECTOR_JOURNAL_MAX_BYTES", "32MiB")],
            "journal_max_bytes is 32MiB, and a request may have 64MiB",
        ),
        (
            &[
                ("RUVVECTOR_SERVICE_PORT", "off"),
                ("RUVVECTOR_OTLP_HTTP_PORT", "off"),
                ("RUVVECTOR_OTLP_GRPC_PORT", "off"),
            ],
            "every port is off",
        ),
    ] {
        let found = problems(variables);
        assert!(found[0].contains(expected), "{found:?}");
    }
    assert!(
        load(
            &[],
            &[
                ("RUVVECTOR_SERVICE_PORT", "0"),
                ("RUVVECTOR_OTLP_HTTP_PORT", "0"),
                ("RUVVECTOR_OTLP_GRPC_PORT", "0")
            ],
            ""
        )
        .is_ok()
    );
}
