//! The settings file: TOML, one `key = value` a line.
//!
//! **Invariant:** nothing in the file is ignored: each unknown key and bad value is an error with file, line and key.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::settings::{by_key, hint};
use crate::config::sources::{SettingSource, SettingValue, SettingValues};
use crate::text::excerpt;

/// Returns the file's values; adds one sentence to `problems` for each error.
pub(super) fn values(path: &Path, text: &str, problems: &mut Vec<String>) -> SettingValues {
    let mut values = SettingValues::new();
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            problems.push(format!("{}:{line}: {}", path.display(), error.message()));
            return values;
        }
    };
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let line = line_of(text, key.span().start);
        match entry(key.get_ref(), value) {
            Ok((key, text)) => {
                let path = path.to_owned();
                values.insert(
                    key,
                    SettingValue::new(text, SettingSource::File { path, line }),
                );
            }
            Err(problem) => problems.push(format!("{}:{line}: {problem}", path.display())),
        }
    }
    values
}

fn entry(key: &str, value: &Spanned<DeValue<'_>>) -> Result<(&'static str, String), String> {
    if key == "config" {
        return Err("config: a settings file cannot name another one".to_owned());
    }
    let Some(setting) = by_key(key) else {
        let hint = match value.get_ref() {
            DeValue::Table(_) => {
                "; there are no tables here: every setting is a plain key such as journal_max_bytes"
                    .to_owned()
            }
            _ => hint(key, |setting| setting.key.to_owned()),
        };
        return Err(format!("unknown setting {:?}{hint}", excerpt(key)));
    };
    match text_of(value.get_ref()) {
        Some(text) if text.is_empty() => {
            Err(format!("{key}: is empty; leave it out to have its default"))
        }
        Some(text) => Ok((setting.key, text)),
        None => Err(format!(
            "{key}: write it as text in quotes, a whole number, true or false, or a list of these"
        )),
    }
}

/// Returns a value in the spelling of a variable; `None` for types that no setting has.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Boolean(true) => Some("true".to_owned()),
        DeValue::Boolean(false) => Some("false".to_owned()),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::Array(_) => None,
                single => text_of(single),
            })
            .collect::<Option<Vec<_>>>()
            .map(|parts| parts.join(",")),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, Vec<String>) {
        let mut problems = Vec::new();
        let values = values(Path::new("r.toml"), text, &mut problems)
            .into_iter()
            .map(|(key, value)| format!("{key}={} from {}", value.text, value.source))
            .collect();
        (values, problems)
    }

    #[test]
    fn text_numbers_booleans_and_lists_are_values() {
        let (values, problems) = read(
            "# a comment\nservice_port = 3_100\n\nauto_migrate = false\njournal_max_bytes = \"20 MB\"\n\
             bind = [\"127.0.0.1\",\n  \"::1\"]\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            values,
            [
                "auto_migrate=false from r.toml:4",
                "bind=127.0.0.1,::1 from r.toml:6",
                "journal_max_bytes=20 MB from r.toml:5",
                "service_port=3100 from r.toml:2",
            ]
        );
    }

    #[test]
    fn whatever_is_not_understood_is_named_with_its_line() {
        for (text, expected) in [
            (
                "\njournal_max_byte = 1",
                "r.toml:2: unknown setting \"journal_max_byte\"; did you mean journal_max_bytes?",
            ),
            (
                "\n\n[log]\nmax_bytes = 1",
                "r.toml:3: unknown setting \"log\"; there are no tables",
            ),
            ("DATABASE_URL = 'x'", "did you mean database_url?"),
            (
                "max_nodes = 1",
                "r.toml:1: unknown setting \"max_nodes\"; it is no setting any more: it is fixed at 100000",
            ),
            ("config = 'b.toml'", "a settings file cannot name another"),
            ("data_dir = ''", "r.toml:1: data_dir: is empty"),
            ("max_events = 1.5", "r.toml:1: max_events: write it as"),
            ("max_events = 0x10", "r.toml:1: max_events: write it as"),
            ("max_events = {}", "r.toml:1: max_events: write it as"),
            ("max_events = 1\nmax_events = 2", "r.toml:2: "),
            ("bind = \n", "r.toml:1: "),
        ] {
            let (_, problems) = read(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(expected), "{text}: {problems:?}");
        }
    }
}
