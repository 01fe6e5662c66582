//! The table of settings: flags, environment, file, help, `validate` and the documents all come from it.
//!
//! **Invariant:** a setting has one name; its variable and its flag are that name in another spelling.

use crate::config::raw_config::RawConfig;

/// Ports and addresses.
mod listen;

/// Limits on what comes in.
mod receive;

/// The journal on disk.
mod journal;

/// From the journal to the store.
mod write;

/// The database.
mod store;

/// What queries may cost.
mod query;

/// The life of the process.
mod process;

/// What it tells of its own work.
mod traces;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// As in the file: `journal_max_bytes`.
    pub key: &'static str,
    /// What kind of value it takes, for people.
    pub value: &'static str,
    /// As it would be written; empty = not set.
    pub default: &'static str,
    pub help: &'static str,
    pub secrecy: Secrecy,
    /// Among the few that `-h` shows.
    pub common: bool,
    pub(super) apply: Apply,
}

/// Puts a value's text into the draft.
pub(super) type Apply = fn(&mut RawConfig, &str) -> Result<(), String>;

/// How much of a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    Public,
    /// Holds a password; where it points to may be shown.
    Url,
    /// Never shown, and no flag: everybody on a machine can read command lines.
    Secret,
}

impl Setting {
    const fn new(
        key: &'static str,
        value: &'static str,
        default: &'static str,
        help: &'static str,
        apply: Apply,
    ) -> Self {
        Self {
            key,
            value,
            default,
            help,
            secrecy: Secrecy::Public,
            common: false,
            apply,
        }
    }

    const fn common(self) -> Self {
        Self {
            common: true,
            ..self
        }
    }

    const fn secrecy(self, secrecy: Secrecy) -> Self {
        Self { secrecy, ..self }
    }

    /// The variable: `RUVVECTOR_JOURNAL_MAX_BYTES`; `DATABASE_URL` and `POSTGRES_…` are called as everywhere.
    #[must_use]
    pub fn variable(&self) -> String {
        let upper = self.key.to_ascii_uppercase();
        if self.key == "database_url" || self.key.starts_with("postgres_") {
            upper
        } else {
            format!("RUVVECTOR_{upper}")
        }
    }

    /// The variable that names a file to read the value from: `DATABASE_URL_FILE`. Only what may hold a password has one.
    #[must_use]
    pub fn file_variable(&self) -> Option<String> {
        (self.secrecy != Secrecy::Public).then(|| format!("{}_FILE", self.variable()))
    }

    /// The flag without its dashes: `log-max-bytes`. Secrets have none.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        (self.secrecy != Secrecy::Secret).then(|| self.key.replace('_', "-"))
    }
}

/// All settings, by stage, in the order of the data's way.
pub const STAGES: [(&str, &[Setting]); 8] = [
    ("Where it listens", listen::SETTINGS),
    ("What comes in", receive::SETTINGS),
    ("The journal", journal::SETTINGS),
    ("From the journal to the store", write::SETTINGS),
    ("The store", store::SETTINGS),
    ("Queries", query::SETTINGS),
    ("The process", process::SETTINGS),
    ("Its own traces", traces::SETTINGS),
];

/// All settings.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    STAGES.iter().flat_map(|(_, settings)| *settings)
}

/// The setting of that key.
#[must_use]
pub fn by_key(key: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.key == key)
}

/// Keys of earlier versions, each with its present key.
const RENAMED: [(&str, &str); 5] = [
    ("log_max_bytes", "journal_max_bytes"),
    ("log_segment_bytes", "journal_segment_bytes"),
    ("log_free_floor_bytes", "journal_free_floor_bytes"),
    ("log_keep_stored", "journal_keep_stored"),
    ("drain_delay", "shutdown_delay"),
];

/// The key that somebody who wrote `name`, in any of the three spellings, probably meant.
#[must_use]
pub(super) fn near_miss(name: &str) -> Option<&'static Setting> {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let key = lower.strip_prefix("ruvvector_").unwrap_or(&lower);
    if let Some((_, key)) = RENAMED.iter().find(|(earlier, _)| *earlier == key) {
        return by_key(key);
    }
    all()
        .map(|setting| {
            let likeness = strsim::normalized_damerau_levenshtein(key, setting.key);
            (likeness, setting)
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, setting)| setting)
}

/// Puts a parsed value where it belongs.
fn put<T>(place: &mut T, parsed: Result<T, String>) -> Result<(), String> {
    *place = parsed?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_unique_and_every_default_is_a_value_that_is_taken() {
        let mut seen = BTreeSet::new();
        for setting in all() {
            assert!(seen.insert(setting.key), "{} stands twice", setting.key);
            if !setting.default.is_empty() {
                let applied = (setting.apply)(&mut RawConfig::default(), setting.default);
                assert_eq!(applied, Ok(()), "{}", setting.key);
            }
        }
    }

    /// A Helm value `retention_days: off` without quotes is a YAML boolean; the chart wrote `"false"`, and no pod started.
    #[test]
    fn where_off_is_a_value_false_means_the_same() {
        let is_taken =
            |setting: &Setting, text| (setting.apply)(&mut RawConfig::default(), text).is_ok();
        let with_off: Vec<_> = all().filter(|setting| is_taken(setting, "off")).collect();
        assert!(
            with_off
                .iter()
                .any(|setting| setting.key == "retention_days")
        );
        for setting in with_off {
            assert!(is_taken(setting, "false"), "{}", setting.key);
        }
        let mut draft = RawConfig::default();
        (by_key("retention_days").unwrap().apply)(&mut draft, "false").unwrap();
        assert_eq!(draft.retention, crate::config::RetentionSetting::Off);
    }

    #[test]
    fn a_near_miss_is_found_in_any_spelling() {
        for (name, key) in [
            ("retention_day", "retention_days"),
            ("RUVVECTOR_JOURNAL_MAX_BYTE", "journal_max_bytes"),
            ("RUVVECTOR_DATABASE_URL", "database_url"),
            ("data-dir", "data_dir"),
            ("strore", "store"),
        ] {
            assert_eq!(
                near_miss(name).map(|setting| setting.key),
                Some(key),
                "{name}"
            );
        }
        assert!(near_miss("RUVVECTOR_TEST_POSTGRES_BINARIES").is_none());
        assert!(near_miss("colour").is_none());
    }
}
