//! Settings and subcommands, tested on the real binary.
//!
//! **Invariant:** each call has a separate environment; no variable of the tests' own environment is passed on.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

/// The result of a call of the binary.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn call(args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_ruvvector-service"))
        .args(args)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary was built");
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

/// A settings file in a separate directory.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("ruvvector.toml");
    std::fs::write(&path, text).expect("it can be written");
    let path = path.to_str().expect("text").to_owned();
    (dir, path)
}

/// The head of the incoming request.
fn head(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("it can be read") > 0 {
        request.push(byte[0]);
    }
    String::from_utf8(request).expect("text")
}

/// The words of the line that begins with these.
fn line(text: &str, start: &str) -> String {
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .find(|line| line.starts_with(start))
        .unwrap_or_else(|| panic!("no line {start:?} in\n{text}"))
}

#[test]
fn the_binary_starts_among_the_variables_that_kubernetes_injects() {
    // Of Services called ruvvector-service, ruvvector and postgres, as a pod's environment has them.
    let variables = [
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
        ("RUVVECTOR_SERVICE_SERVICE_HOST", "10.96.3.7"),
        ("RUVVECTOR_SERVICE_SERVICE_PORT", "3100"),
        ("RUVVECTOR_SERVICE_SERVICE_PORT_HTTP", "3100"),
        ("RUVVECTOR_SERVICE_PORT", "tcp://10.96.3.7:3100"),
        ("RUVVECTOR_SERVICE_PORT_3100_TCP", "tcp://10.96.3.7:3100"),
        ("RUVVECTOR_SERVICE_PORT_3100_TCP_PROTO", "tcp"),
        ("RUVVECTOR_SERVICE_PORT_3100_TCP_PORT", "3100"),
        ("RUVVECTOR_SERVICE_PORT_3100_TCP_ADDR", "10.96.3.7"),
        ("RUVVECTOR_SERVICE_HOST", "10.96.3.8"),
        ("RUVVECTOR_PORT", "tcp://10.96.3.8:80"),
        ("POSTGRES_SERVICE_HOST", "10.96.3.9"),
        ("POSTGRES_SERVICE_PORT", "5432"),
        ("POSTGRES_PORT", "tcp://10.96.3.9:5432"),
        ("POSTGRES_PORT_5432_TCP_ADDR", "10.96.3.9"),
    ];
    let ended = call(&["validate"], &variables);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
    assert!(
        ended.err.contains("RUVVECTOR_SERVICE_PORT, "),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("POSTGRES_PORT, "), "{}", ended.err);
    assert!(!ended.err.contains("KUBERNETES_PORT"), "{}", ended.err);
    assert_eq!(
        line(&ended.out, "service_port"),
        "service_port = 3100 # default"
    );
    assert_eq!(
        line(&ended.out, "# store"),
        "# store is not set: it is SQLite"
    );
}

#[test]
fn the_plain_port_of_a_service_called_ruvvector_is_ignored() {
    let variables = [
        ("RUVVECTOR_SERVICE_HOST", "10.96.3.8"),
        ("RUVVECTOR_SERVICE_PORT", "80"),
        ("RUVVECTOR_PORT", "tcp://10.96.3.8:80"),
    ];
    let ended = call(&["validate"], &variables);
    assert_eq!(
        line(&ended.out, "service_port"),
        "service_port = 3100 # default"
    );
    let alone = call(&["validate"], &[("RUVVECTOR_SERVICE_PORT", "80")]);
    assert_eq!(
        line(&alone.out, "service_port"),
        "service_port = 80 # from RUVVECTOR_SERVICE_PORT"
    );
}

#[test]
fn an_unknown_key_names_file_line_and_near_miss() {
    let (_dir, path) = file("# settings\nretention_day = 3\n");
    let ended = call(&["--config", &path], &[]);
    assert_eq!(ended.code, Some(2));
    assert_eq!(
        ended.err,
        format!(
            "error: {path}:2: unknown setting \"retention_day\"; did you mean retention_days?\n"
        )
    );
}

#[test]
fn bad_values_end_the_start_with_2_and_name_where_they_stand() {
    let (_dir, path) = file("journal_max_bytes = \"much\"\n");
    let variables = [
        ("RUVVECTOR_CONFIG", path.as_str()),
        ("RUVVECTOR_BODY_TIMEOUT", "8"),
    ];
    let ended = call(&["serve", "--service-port", "99999"], &variables);
    assert_eq!(ended.code, Some(2));
    for part in [
        format!("{path}:1: journal_max_bytes: \"much\" is not a size"),
        "RUVVECTOR_BODY_TIMEOUT: \"8\" is not a duration".to_owned(),
        "--service-port: \"99999\" is not a port".to_owned(),
    ] {
        assert!(ended.err.contains(&part), "{part} in\n{}", ended.err);
    }
}

#[test]
fn an_unknown_flag_is_an_error_with_the_near_miss() {
    let ended = call(&["--retention-day", "3"], &[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("'--retention-days'"), "{}", ended.err);
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let (_dir, path) = file("batch_rows = 1\nquery_limit_max = 200\nservice_port = 1\n");
    let variables = [
        ("RUVVECTOR_CONFIG", path.as_str()),
        ("RUVVECTOR_QUERY_LIMIT_MAX", "300"),
        ("RUVVECTOR_SERVICE_PORT", "2"),
    ];
    let ended = call(&["--service-port", "3", "validate"], &variables);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(
        line(&ended.out, "service_port"),
        "service_port = 3 # from --service-port"
    );
    assert_eq!(
        line(&ended.out, "query_limit_max"),
        "query_limit_max = 300 # from RUVVECTOR_QUERY_LIMIT_MAX"
    );
    assert_eq!(
        line(&ended.out, "batch_rows"),
        format!("batch_rows = 1 # from {path}:1")
    );
    assert_eq!(
        line(&ended.out, "batch_bytes"),
        "batch_bytes = \"8MiB\" # default"
    );
}

#[test]
fn what_validate_prints_is_a_settings_file_that_says_the_same() {
    let first = call(
        &["validate", "--journal-max-bytes", "1 GB"],
        &[("RUVVECTOR_BIND", "127.0.0.1")],
    );
    let (_dir, path) = file(&first.out);
    let second = call(&["validate", "--config", &path], &[]);
    assert_eq!((second.code, second.err.as_str()), (Some(0), ""));
    let values = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| Some(line.split_once(" #")?.0.trim_end().to_owned()))
            .collect()
    };
    assert_eq!(values(&first.out), values(&second.out));
}

#[test]
fn secrets_are_hidden() {
    let variables = [
        (
            "DATABASE_URL",
            "postgres://ruv:hunter2@db.internal:6543/events",
        ),
        ("POSTGRES_PASSWORD", "hunter2"),
        ("RUVVECTOR_AUTH_TOKENS", "hunter2"),
    ];
    let ended = call(&["validate"], &variables);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(!ended.out.contains("hunter2") && !ended.err.contains("hunter2"));
    assert!(
        ended.out.contains("ruv@db.internal:6543/events"),
        "{}",
        ended.out
    );
    assert!(line(&ended.out, "# auth_tokens").contains("from RUVVECTOR_AUTH_TOKENS"));
    let refused = call(
        &["validate"],
        &[("DATABASE_URL", "mysql://ruv:hunter2@db/events")],
    );
    assert_eq!(refused.code, Some(2));
    assert!(!refused.err.contains("hunter2"), "{}", refused.err);
}

#[test]
fn a_password_without_a_host_is_an_error() {
    let ended = call(&[], &[("POSTGRES_PASSWORD", "x"), ("POSTGRES_USER", "ruv")]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.err.contains(
            "POSTGRES_USER, POSTGRES_PASSWORD are set, but neither POSTGRES_HOST nor DATABASE_URL"
        ),
        "{}",
        ended.err
    );
}

#[test]
fn a_store_named_postgres_without_a_database_is_an_error() {
    let ended = call(
        &[],
        &[
            ("RUVVECTOR_STORE", "postgres"),
            ("DATABSE_URL", "postgres://db/x"),
        ],
    );
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .err
            .contains("neither DATABASE_URL nor POSTGRES_HOST is set"),
        "{}",
        ended.err
    );
}

#[test]
fn a_misspelt_variable_is_a_warning_that_names_the_near_miss() {
    let ended = call(&["validate"], &[("RUVVECTOR_RETENTION_DAY", "3")]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.err,
        "warning: unknown variable RUVVECTOR_RETENTION_DAY is ignored; did you mean RUVVECTOR_RETENTION_DAYS?\n"
    );
}

#[test]
fn help_names_every_stage_and_ends_well() {
    let ended = call(&["--help"], &[]);
    assert_eq!(ended.code, Some(0));
    for part in [
        "Listeners:",
        "The store:",
        "[env: DATABASE_URL]",
        "healthcheck",
        "RUVVECTOR_AUTH_TOKENS",
    ] {
        assert!(ended.out.contains(part), "{part} in\n{}", ended.out);
    }
}

#[test]
fn the_healthcheck_says_what_the_service_answers() {
    for (status, code, sentence) in [
        ("200 OK", 0, "ready: "),
        ("503 Service Unavailable", 1, "not ready: "),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = head(&mut stream);
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\ndraining\u{7}");
            stream.write_all(answer.as_bytes()).unwrap();
            request
        });
        let ended = call(
            &["healthcheck", "--bind", "0.0.0.0", "--service-port", &port],
            &[],
        );
        assert_eq!(ended.code, Some(code), "{}", ended.err);
        let request = server.join().unwrap();
        assert!(
            request.starts_with("GET /health/ready HTTP/1.1\r\n"),
            "{request}"
        );
        let said = format!("{}{}", ended.out, ended.err);
        assert!(
            said.contains(sentence) && said.contains(&status[..3]),
            "{said}"
        );
        assert!(
            !said.contains('\u{7}'),
            "a control code reaches the terminal"
        );
    }
}

/// In a container whose command read its secrets from files, `docker exec` had none of them, and a healthcheck there
/// ended with 2 for a database that it never needs.
#[test]
fn the_healthcheck_needs_no_secrets_and_no_database() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            head(&mut stream);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
        }
    });
    let (_dir, path) = file(&format!("store = \"postgres\"\nservice_port = {port}\n"));
    let by_file = call(&["healthcheck", "--config", &path], &[]);
    assert_eq!(by_file.code, Some(0), "{}", by_file.err);
    assert_eq!(by_file.err, "");
    let variables = [
        ("RUVVECTOR_SERVICE_PORT", port.to_string()),
        ("RUVVECTOR_STORE", "postgres".to_owned()),
        (
            "DATABASE_URL_FILE",
            "/run/secrets/that-are-not-here".to_owned(),
        ),
    ];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let by_environment = call(&["healthcheck"], &variables);
    assert_eq!(by_environment.code, Some(0), "{}", by_environment.err);
    server.join().unwrap();

    // A missing setting that it needs is an error.
    let (_dir, path) = file("service_port = \"soon\"\n");
    let ended = call(&["healthcheck", "--config", &path], &[]);
    assert_eq!(ended.code, Some(2), "{}", ended.err);
    assert!(ended.err.contains("service_port"), "{}", ended.err);
}

#[test]
fn the_healthcheck_of_every_address_finds_a_service_without_ipv6() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // An unread request would reset the connection.
        head(&mut stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
    });
    let flags = ["healthcheck", "--bind", "[::]", "--service-port", &port];
    let ended = call(&flags, &[]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.out.starts_with(&format!("ready: 127.0.0.1:{port}/")),
        "{}",
        ended.out
    );
    server.join().unwrap();
}

#[test]
fn the_healthcheck_fails_where_nothing_listens() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{free}/health/ready");
    let ended = call(&["healthcheck", "--url", &url], &[]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("does not answer"), "{}", ended.err);
}
