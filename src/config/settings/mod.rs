//! The table of settings: flags, variables, keys of the file, help texts, `validate` and the documents all come from
//! it.
//!
//! **Invariant:** a setting has one name; its variable and its flag are other spellings of it.

use crate::config::raw_config::RawConfig;

/// Listeners: ports and addresses.
mod listen;

/// Ingestion: tokens, limits, timeouts.
mod receive;

/// The journal on disk.
mod journal;

/// The writer, which moves the journal's records into the store.
mod write;

/// The store.
mod store;

/// Limits of queries.
mod query;

/// The life of the process.
mod process;

/// The service's own traces.
mod traces;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Name in the settings file: `journal_max_bytes`.
    pub key: &'static str,
    /// Kind of value, as help texts show it: `SIZE`.
    pub value: &'static str,
    /// Default as text; empty = not set.
    pub default: &'static str,
    /// Meaning, as help texts and docs/settings.md show it.
    pub help: &'static str,
    pub secrecy: Secrecy,
    /// Shown by `-h`; `--help` shows all.
    pub common: bool,
    pub(super) apply: Apply,
}

/// Parses a value's text into the raw configuration.
pub(super) type Apply = fn(&mut RawConfig, &str) -> Result<(), String>;

/// The part of a value that may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    Public,
    /// A URL that may hold a password: only its other parts are shown.
    Url,
    /// Never shown. Has no flag, as every user of a machine can read command lines.
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

    /// Returns the variable's name: `RUVVECTOR_JOURNAL_MAX_BYTES`; `DATABASE_URL` and `POSTGRES_…` have their usual
    /// names.
    #[must_use]
    pub fn variable(&self) -> String {
        let upper = self.key.to_ascii_uppercase();
        if self.key == "database_url" || self.key.starts_with("postgres_") {
            upper
        } else {
            format!("RUVVECTOR_{upper}")
        }
    }

    /// Returns the variable that names a file with the value: `DATABASE_URL_FILE`. Only settings that
    /// hold secrets have one.
    #[must_use]
    pub fn file_variable(&self) -> Option<String> {
        (self.secrecy != Secrecy::Public).then(|| format!("{}_FILE", self.variable()))
    }

    /// Returns the flag without its dashes: `journal-max-bytes`. Secrets have none.
    #[must_use]
    pub fn flag(&self) -> Option<String> {
        (self.secrecy != Secrecy::Secret).then(|| self.key.replace('_', "-"))
    }
}

/// All settings by stage, in the order in which data passes through the stages.
pub const STAGES: [(&str, &[Setting]); 8] = [
    ("Listeners", listen::SETTINGS),
    ("Ingestion", receive::SETTINGS),
    ("The journal", journal::SETTINGS),
    ("From the journal to the store", write::SETTINGS),
    ("The store", store::SETTINGS),
    ("Queries", query::SETTINGS),
    ("The process", process::SETTINGS),
    ("The service's own traces", traces::SETTINGS),
];

/// Iterates over all settings.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    STAGES.iter().flat_map(|(_, settings)| *settings)
}

/// Returns the setting with this key.
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

/// Settings of earlier versions that are constants now, each with its value.
const FIXED: [(&str, &str); 8] = [
    ("body_idle_timeout", "10s"),
    ("duplicate_requests", "100000"),
    ("header_bytes", "64KiB"),
    ("http2_header_bytes", "16KiB"),
    ("http2_streams", "128"),
    ("max_depth", "24"),
    ("max_native_depth", "32"),
    ("max_nodes", "100000"),
];

/// Returns the end of a message about `name`, which is not a setting: the setting that it was probably meant to be, as
/// `spelling` writes it, or the constant that it became. Empty if there is neither.
pub(super) fn hint(name: &str, spelling: impl Fn(&Setting) -> String) -> String {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let key = lower.strip_prefix("ruvvector_").unwrap_or(&lower);
    if let Some((_, value)) = FIXED.iter().find(|(earlier, _)| *earlier == key) {
        return format!("; it is no setting any more: it is fixed at {value}");
    }
    near_miss(key).map_or_else(String::new, |meant| {
        format!("; did you mean {}?", spelling(meant))
    })
}

fn near_miss(key: &str) -> Option<&'static Setting> {
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

/// Stores a parsed value.
fn put<T>(place: &mut T, parsed: Result<T, String>) -> Result<(), String> {
    *place = parsed?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_key_is_unique_and_every_default_is_a_value_that_is_accepted() {
        let mut seen = BTreeSet::new();
        for setting in all() {
            assert!(seen.insert(setting.key), "{} is defined twice", setting.key);
            if !setting.default.is_empty() {
                let applied = (setting.apply)(&mut RawConfig::default(), setting.default);
                assert_eq!(applied, Ok(()), "{}", setting.key);
            }
        }
    }

    /// A Helm value `retention_days: off` without quotes is a YAML boolean; the chart wrote `"false"`, and no pod
    /// started.
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
        let mut raw = RawConfig::default();
        (by_key("retention_days").unwrap().apply)(&mut raw, "false").unwrap();
        assert_eq!(raw.retention, crate::config::RetentionSetting::Off);
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
            let found = hint(name, |setting| setting.key.to_owned());
            assert_eq!(found, format!("; did you mean {key}?"), "{name}");
        }
        for name in ["RUVVECTOR_TEST_POSTGRES_BINARIES", "colour"] {
            assert_eq!(hint(name, Setting::variable), "");
        }
    }

    #[test]
    fn a_setting_that_became_a_constant_is_named_with_the_value_in_use() {
        let receive = crate::receive::Options::default();
        let bytes = |bytes: usize| crate::config::value::show_size(bytes as u64);
        let limits = receive.decode;
        for (key, value) in [
            (
                "body_idle_timeout",
                format!("{:?}", receive.body_idle_timeout),
            ),
            ("duplicate_requests", receive.duplicate_requests.to_string()),
            ("header_bytes", bytes(receive.header_bytes)),
            (
                "http2_header_bytes",
                bytes(receive.http2_header_bytes as usize),
            ),
            ("http2_streams", receive.http2_streams.to_string()),
            ("max_depth", limits.depth.to_string()),
            ("max_native_depth", limits.native_depth.to_string()),
            ("max_nodes", limits.nodes.to_string()),
        ] {
            let variable = format!("RUVVECTOR_{}", key.to_ascii_uppercase());
            let expected = format!("; it is no setting any more: it is fixed at {value}");
            for name in [key, &variable] {
                assert_eq!(hint(name, Setting::variable), expected);
            }
            assert!(by_key(key).is_none());
        }
    }
}
