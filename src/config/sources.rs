//! Values of settings as text, each with its source: a flag, the environment, the file or the default.
//!
//! **Invariant:** every value has its source, and no error shows a secret.

use crate::text::excerpt;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::config::settings::{Secrecy, Setting};

/// The source of a value; later variants win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingSource {
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// The variable's name.
    Environment(String),
    /// The flag's name, without dashes.
    Flag(String),
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A setting's value as text, with its source.
#[derive(Clone)]
pub struct SettingValue {
    pub(super) text: String,
    pub source: SettingSource,
}

/// The values of settings, by key.
pub(super) type SettingValues = BTreeMap<&'static str, SettingValue>;

impl SettingValue {
    pub(super) fn new(text: impl Into<String>, source: SettingSource) -> Self {
        Self {
            text: text.into(),
            source,
        }
    }

    /// Returns the beginning of an error: the place of the value, and the value if it may be shown.
    pub(super) fn place(&self, setting: &Setting) -> String {
        let place = match &self.source {
            SettingSource::Default => setting.key.to_owned(),
            SettingSource::File { .. } => format!("{}: {}", self.source, setting.key),
            SettingSource::Environment(_) | SettingSource::Flag(_) => self.source.to_string(),
        };
        match setting.secrecy {
            Secrecy::Public => format!("{place}: {:?}", excerpt(&self.text)),
            Secrecy::Url | Secrecy::Secret => format!("{place}: its value"),
        }
    }
}
