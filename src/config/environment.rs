//! The environment: our variables, without those that Kubernetes sets under our names.
//!
//! For a Service called `ruvvector` every pod beside it has `RUVVECTOR_SERVICE_HOST`, `RUVVECTOR_SERVICE_PORT=3100`,
//! `RUVVECTOR_SERVICE_PORT_<NAME>`, `RUVVECTOR_PORT=tcp://10.0.0.7:3100` and `RUVVECTOR_PORT_3100_TCP[_ADDR|_PORT|
//! _PROTO]`; for one called `ruvvector-service` the same after `RUVVECTOR_SERVICE`, for one called `postgres` after
//! `POSTGRES` (Kubernetes documentation, "Service", "Environment variables").
//!
//! **Invariant:** an injected variable is never read as a setting, nor reported as a misspelt one.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::settings::{Setting, all, hint};
use crate::config::sources::{SettingSource, SettingValue, SettingValues};
use crate::config::{Environment, Findings, Inputs, ReadFile};
use crate::text::excerpt;

/// Returns the values of the variables, and of the files that variables name. An empty variable counts as not set.
pub(super) fn values(inputs: &Inputs<'_>, findings: &mut Findings) -> SettingValues {
    let environment = &inputs.environment;
    let ours = |name: &str| name.starts_with("RUVVECTOR_") || name.starts_with("POSTGRES_");
    let injected: Vec<&str> = environment
        .keys()
        .map(String::as_str)
        .filter(|name| ours(name) && is_injected(environment, name))
        .collect();
    if !injected.is_empty() {
        findings.notes.push(format!(
            "ignored, as Kubernetes sets them for Services of these names: {}; to set one of these yourself use its \
             flag or the file",
            injected.join(", ")
        ));
    }
    let sdks: Vec<_> = environment
        .keys()
        .filter(|name| name.starts_with("OTEL_"))
        .map(|name| excerpt(name))
        .collect();
    if !sdks.is_empty() {
        findings.notes.push(format!(
            "not read: {}; the service's own traces are set only by RUVVECTOR_TRACES_ENDPOINT and the other \
             RUVVECTOR_TRACES_… variables",
            sdks.join(", ")
        ));
    }
    let mut known = BTreeSet::new();
    let mut values = SettingValues::new();
    for setting in all() {
        let name = setting.variable();
        let text = set(environment, &name).filter(|_| !injected.contains(&name.as_str()));
        if let Some(text) = text {
            values.insert(
                setting.key,
                SettingValue::new(text, SettingSource::Environment(name.clone())),
            );
        }
        if let Some(file) = setting.file_variable() {
            match set(environment, &file).map(|path| secret(path, inputs.read_file)) {
                None => {}
                Some(_) if text.is_some() => {
                    findings
                        .problems
                        .push(format!("{name} and {file} are both set: remove one"));
                }
                Some(Ok(text)) => {
                    values.insert(
                        setting.key,
                        SettingValue::new(text, SettingSource::Environment(file.clone())),
                    );
                }
                Some(Err(problem)) => findings.problems.push(format!("{file}: {problem}")),
            }
            known.insert(file);
        }
        known.insert(name);
    }
    let strange = |name: &&String| !known.contains(*name) && !injected.contains(&name.as_str());
    let without_database =
        !values.contains_key("database_url") && !values.contains_key("postgres_host");
    for name in environment.keys().filter(strange) {
        if name.starts_with("RUVVECTOR_") {
            findings.warnings.push(format!(
                "unknown variable {} is ignored{}",
                excerpt(name),
                hint(name, Setting::variable)
            ));
        } else if without_database {
            findings.warnings.extend(misspelt_database(name));
        }
    }
    values
}

fn set<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    let text = environment.get(name)?;
    (!text.is_empty()).then_some(text)
}

/// Reads a secret from a file of one line.
fn secret(path: &str, read_file: ReadFile<'_>) -> Result<String, String> {
    let text = read_file(Path::new(path)).map_err(|error| format!("{path}: {error}"))?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.is_empty() {
        return Err(format!("{path} is empty"));
    }
    if line.contains(['\r', '\n']) {
        return Err(format!("{path} has more than one line"));
    }
    Ok(line.to_owned())
}

/// Returns a warning if a variable's name is within two edits of one that names the database.
fn misspelt_database(name: &str) -> Option<String> {
    ["DATABASE_URL", "POSTGRES_HOST"]
        .into_iter()
        .find(|meant| strsim::damerau_levenshtein(name, meant) <= 2)
        .map(|meant| {
            format!(
                "{} is set and {meant} is not; did you mean {meant}?",
                excerpt(name)
            )
        })
}

fn is_injected(environment: &Environment, name: &str) -> bool {
    let address = |name: &str| {
        environment
            .get(name)
            .and_then(|value| service_address(value))
    };
    if name == "RUVVECTOR_SERVICE_PORT" {
        // An address is from a Service `ruvvector-service`; a number that ends the address in RUVVECTOR_PORT is from a
        // Service `ruvvector`.
        let number = environment.get(name).map(String::as_str);
        return address(name).is_some()
            || environment.contains_key("RUVVECTOR_SERVICE_HOST")
                && number.is_some()
                && number == address("RUVVECTOR_PORT");
    }
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT") && address(name).is_some()
        || name.split("_PORT_").skip(1).any(port_and_protocol)
}

/// Returns the port of an address such as `tcp://10.0.0.7:3100`.
fn service_address(value: &str) -> Option<&str> {
    let (protocol, address) = value.split_once("://")?;
    let (_, port) = address.rsplit_once(':')?;
    let known = matches!(protocol, "tcp" | "udp" | "sctp");
    (known && port.parse::<u16>().is_ok()).then_some(port)
}

/// Returns whether `rest` begins like `3100_TCP` or `3100_TCP_ADDR`.
fn port_and_protocol(rest: &str) -> bool {
    let mut parts = rest.split('_');
    let number = parts.next().is_some_and(|part| part.parse::<u16>().is_ok());
    number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let inputs = Inputs {
            flags: Vec::new(),
            environment,
            read_file: &|_: &Path| Err(std::io::ErrorKind::NotFound.into()),
            machine: crate::config::Machine::default(),
        };
        let mut findings = Findings::default();
        let values = values(&inputs, &mut findings);
        assert_eq!(findings.problems, [""; 0]);
        let values = values
            .into_values()
            .map(|value| format!("{}={}", value.source, value.text))
            .collect();
        (values, [findings.notes, findings.warnings].concat())
    }

    /// Returns the variables that Kubernetes sets for a Service with this prefix and one port.
    fn service(prefix: &str, port: &str) -> Vec<(String, String)> {
        let address = format!("tcp://10.96.3.7:{port}");
        [
            ("SERVICE_HOST", "10.96.3.7"),
            ("SERVICE_PORT", port),
            ("SERVICE_PORT_HTTP", port),
            ("PORT", &address),
            (&format!("PORT_{port}_TCP"), &address),
            (&format!("PORT_{port}_TCP_PROTO"), "tcp"),
            (&format!("PORT_{port}_TCP_PORT"), port),
            (&format!("PORT_{port}_TCP_ADDR"), "10.96.3.7"),
        ]
        .map(|(name, value)| (format!("{prefix}_{name}"), value.to_owned()))
        .into()
    }

    #[test]
    fn variables_that_kubernetes_injects_are_ignored_in_one_line() {
        for (prefix, port) in [
            ("RUVVECTOR", "80"),
            ("RUVVECTOR_SERVICE", "3100"),
            ("RUVVECTOR_OTLP_HTTP", "4318"),
            ("RUVVECTOR_OTLP_GRPC", "4317"),
            ("POSTGRES", "5432"),
        ] {
            let injected = service(prefix, port);
            let variables: Vec<_> = injected
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let (values, warnings) = read(&variables);
            assert_eq!(values, [""; 0], "{prefix}");
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            for (name, _) in &injected {
                assert!(warnings[0].contains(name.as_str()), "{name}: {warnings:?}");
            }
        }
    }

    #[test]
    fn our_own_variables_are_accepted_beside_injected_ones() {
        let mut variables = vec![
            ("RUVVECTOR_SERVICE_PORT", "3200"),
            ("POSTGRES_HOST", "db"),
            ("POSTGRES_PORT", "5433"),
        ];
        variables.extend([
            ("RUVVECTOR_PORT", "tcp://10.0.0.7:80"),
            ("RUVVECTOR_SERVICE_HOST", "10.0.0.7"),
        ]);
        let (values, warnings) = read(&variables);
        assert_eq!(
            values,
            [
                "POSTGRES_HOST=db",
                "POSTGRES_PORT=5433",
                "RUVVECTOR_SERVICE_PORT=3200"
            ]
        );
        assert_eq!(warnings.len(), 1);
        let (values, _) = read(&[("RUVVECTOR_SERVICE_PORT", "80")]);
        assert_eq!(values, ["RUVVECTOR_SERVICE_PORT=80"]);
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        assert_eq!(
            read(&[("DATABASE_URL", ""), ("RUVVECTOR_STORE", "")]),
            (vec![], vec![])
        );
    }

    #[test]
    fn a_misspelt_variable_is_a_warning_with_the_near_miss() {
        for (name, meant) in [
            ("RUVVECTOR_RETENTION_DAY", "RUVVECTOR_RETENTION_DAYS"),
            // Names of earlier versions; the first is as similar to RUVVECTOR_LOG_LEVEL.
            ("RUVVECTOR_LOG_MAX_BYTES", "RUVVECTOR_JOURNAL_MAX_BYTES"),
            ("RUVVECTOR_LOG_KEEP_STORED", "RUVVECTOR_JOURNAL_KEEP_STORED"),
            ("RUVVECTOR_DRAIN_DELAY", "RUVVECTOR_SHUTDOWN_DELAY"),
            ("RUVVECTOR_DATABASE_URL", "DATABASE_URL"),
            ("RUVVECTOR_SERVICEPORT", "RUVVECTOR_SERVICE_PORT"),
            ("DATABSE_URL", "DATABASE_URL"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("POSTGRE_HOST", "POSTGRES_HOST"),
        ] {
            let (values, warnings) = read(&[(name, "1")]);
            assert_eq!(values, [""; 0]);
            assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
            assert!(
                warnings[0].ends_with(&format!("did you mean {meant}?")),
                "{name}: {warnings:?}"
            );
        }
        assert_eq!(
            read(&[("PATH", "/bin"), ("POSTGRES_INITDB_ARGS", "-k")]),
            (vec![], vec![])
        );
    }
}
