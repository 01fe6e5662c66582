//! The filter of log lines: a level, or a list of levels by module.
//!
//! `EnvFilter` reads a word that is not a level as a module's name, and then shows only that module's lines: a misspelt
//! level would silence all others, errors included.
//!
//! **Invariant:** a module's errors are hidden only if the filter has `off` for it, or for all modules.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::value::is_off;

/// First part of the target of our log lines.
const OURS: &str = "ruvvector_service";

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Names of levels in other programs, each with ours.
const FOREIGN: [(&str, &str); 15] = [
    ("warning", "warn"),
    ("verbose", "debug"),
    ("notice", "info"),
    ("information", "info"),
    ("fine", "debug"),
    ("finest", "trace"),
    ("all", "trace"),
    ("err", "error"),
    ("severe", "error"),
    ("critical", "error"),
    ("fatal", "error"),
    ("alert", "error"),
    ("none", "off"),
    ("silent", "off"),
    ("quiet", "off"),
];

/// Returns the filter in the syntax of `EnvFilter`, without spaces, with `error` for all modules that it leaves out.
///
/// # Errors
/// A sentence to follow the setting's name, if a part is neither a level nor `module=level`, or the module is a
/// misspelt name of ours.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let parts: Vec<_> = text
        .split(',')
        .map(|part| match part.trim() {
            part if is_off(part) => "off",
            part => part,
        })
        .filter(|part| !part.is_empty())
        .collect();
    for part in &parts {
        check(part)?;
    }
    let filter = if parts.iter().any(|part| is_level(part)) {
        parts.join(",")
    } else {
        format!("error,{}", parts.join(","))
    };
    match EnvFilter::try_new(&filter) {
        Ok(_) => Ok(filter),
        Err(_) => {
            Err("is not a filter such as info or warn,ruvvector_service::write=debug".to_owned())
        }
    }
}

fn is_level(word: &str) -> bool {
    !word.is_empty() && word.parse::<LevelFilter>().is_ok()
}

fn check(part: &str) -> Result<(), String> {
    let (module, level) = match part.rsplit_once('=') {
        Some((module, level)) => (module, level),
        // A span or a module without a level: all its lines are shown.
        None if part.contains('[') || part.contains("::") => (part, "trace"),
        None => ("", part),
    };
    let name = module.split(['[', ':']).next().unwrap_or_default();
    if is_misspelt(name) {
        return Err(format!(
            "names no module of the service; did you mean {OURS}?"
        ));
    }
    if is_level(level) || level.is_empty() || level.ends_with(']') {
        return Ok(());
    }
    let known = LEVELS.join(", ");
    Err(match meant(level) {
        Some(meant) => format!("is not a level ({known}); did you mean {meant}?"),
        None => {
            format!("is not a level ({known}); for all lines of a module write its name and =trace")
        }
    })
}

/// Returns the level, or the directive, that `word` was probably meant to be.
fn meant(word: &str) -> Option<&'static str> {
    let word = word.trim_matches(['"', '\'']).to_ascii_lowercase();
    if word == OURS || is_misspelt(&word) {
        return Some("ruvvector_service=debug");
    }
    let foreign = FOREIGN.iter().find(|(foreign, _)| *foreign == word);
    let near = || {
        LEVELS
            .into_iter()
            .map(|level| (strsim::normalized_damerau_levenshtein(&word, level), level))
            .filter(|(likeness, _)| *likeness >= 0.5)
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, level)| level)
    };
    foreign.map(|(_, ours)| *ours).or_else(near)
}

/// Returns whether `name` is similar to ours and neither a prefix nor an extension of it: a prefix of a target matches
/// it, so `ruvvector` is valid.
fn is_misspelt(name: &str) -> bool {
    let is_ours = OURS.starts_with(name) || name.starts_with(OURS);
    !is_ours && strsim::normalized_damerau_levenshtein(&name.to_ascii_lowercase(), OURS) >= 0.8
}

#[cfg(test)]
mod tests {
    use super::log_filter;

    /// `RUVVECTOR_LOG_LEVEL=warning` silenced every line of the service, errors too.
    #[test]
    fn a_word_that_is_no_level_is_an_error_that_names_the_level_meant() {
        for (text, meant) in [
            ("warning", "warn"),
            ("WARNING", "warn"),
            ("verbose", "debug"),
            ("notice", "info"),
            ("inof", "info"),
            ("err", "error"),
            ("fatal", "error"),
            ("none", "off"),
            ("\"warn\"", "warn"),
            ("'info'", "info"),
            ("info,warning", "warn"),
            ("ruvvector_service=verbose", "debug"),
            ("sqlx=debug,notice", "info"),
            ("ruvvector_service", "ruvvector_service=debug"),
            ("ruvvector-service", "ruvvector_service=debug"),
            ("ruvvector-service=debug", "ruvvector_service"),
            ("ruvector_service::write=debug", "ruvvector_service"),
            ("Ruvvector_Service[span]=debug", "ruvvector_service"),
        ] {
            let error = log_filter(text).unwrap_err();
            let end = format!("did you mean {meant}?");
            assert!(error.ends_with(&end), "{text}: {error}");
        }
        for text in [
            "6",
            "-1",
            "sqlx",
            "42",
            "yes please",
            "=",
            "a=b=c",
            "[x",
            "x[",
        ] {
            assert!(log_filter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_filter_without_a_level_for_the_rest_leaves_its_errors() {
        for (text, filter) in [
            ("info", "info"),
            (" WARN\n", "WARN"),
            ("2", "2"),
            ("off", "off"),
            ("false", "off"),
            ("info, sqlx=debug ,", "info,sqlx=debug"),
            (
                "ruvvector_service::write=debug",
                "error,ruvvector_service::write=debug",
            ),
            ("ruvvector=trace", "error,ruvvector=trace"),
            ("sqlx::query", "error,sqlx::query"),
            ("[request{id=1}]=debug", "error,[request{id=1}]=debug"),
        ] {
            assert_eq!(log_filter(text).as_deref(), Ok(filter), "{text}");
        }
    }
}
