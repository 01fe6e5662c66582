//! Secrets that are read again while the service runs: tokens, the databases' passwords, headers of own traces.
//!
//! A separate thread reads the files once a second, so that a file system that hangs delays nothing else. New contents
//! are used from the next request, connection or export on. Certificates of a database are not among them: each
//! connection reads them.
//!
//! **Invariant:** secrets that cannot be read, or that lead to another database, change nothing.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{io, thread};

use crate::config::{Config, ConfigError};
use crate::receive::AuthTokens;
use crate::store::Store;
use crate::telemetry::own_traces::ExportHeaders;

/// Interval at which the thread reads the files again.
const INTERVAL: Duration = Duration::from_secs(1);

/// Loads the settings again.
pub type LoadConfig = Box<dyn Fn() -> Result<Config, ConfigError> + Send>;

/// The files and settings from which secrets are read, and the tokens and headers that they replace.
pub struct Rotation {
    load: LoadConfig,
    /// Regular files that hold a secret. Pipes are left out: their contents can be read only once.
    files: Vec<PathBuf>,
    /// Digest of the files' contents when the settings were read.
    digest: blake3::Hash,
    tokens: AuthTokens,
    headers: Option<ExportHeaders>,
    asked: (Sender<()>, Receiver<()>),
}

impl Rotation {
    /// Prepares the rotation of the secrets in `files`, which `load` reads; `tokens` and `headers` are those in use.
    #[must_use]
    pub fn new(
        load: LoadConfig,
        files: Vec<PathBuf>,
        tokens: AuthTokens,
        headers: Option<ExportHeaders>,
    ) -> Self {
        let files: Vec<_> = files.into_iter().filter(|path| path.is_file()).collect();
        Self {
            load,
            digest: digest(&files),
            files,
            tokens,
            headers,
            asked: channel(),
        }
    }

    /// Returns a sender: each message makes the thread read all files at once.
    #[must_use]
    pub fn trigger(&self) -> Sender<()> {
        self.asked.0.clone()
    }

    /// Starts the thread that reads the files; it ends with the process.
    ///
    /// # Errors
    /// [`io::Error`] if the system cannot start a thread.
    pub fn start(mut self, store: Store) -> io::Result<()> {
        thread::Builder::new()
            .name("secrets".to_owned())
            .spawn(move || {
                loop {
                    let is_asked = self.asked.1.recv_timeout(INTERVAL).is_ok();
                    let digest = digest(&self.files);
                    if is_asked || digest != self.digest {
                        self.digest = digest;
                        self.read(&store);
                    }
                }
            })
            .map(drop)
    }

    fn read(&self, store: &Store) {
        let problems = match (self.load)() {
            Ok(config) => self.replace(&config, store),
            Err(error) => error.0,
        };
        if problems.is_empty() && self.files.is_empty() {
            tracing::info!(
                "there was nothing to read again but the settings file, if any: no variable names a file with a secret (…_FILE). Other \
                 settings that changed need a restart"
            );
        } else if problems.is_empty() {
            tracing::info!(
                "the secrets were read again from their files. Other settings that changed need a restart"
            );
        }
        for problem in problems {
            tracing::warn!(
                "a secret was not replaced, and the earlier one stays in use: {problem}"
            );
        }
    }

    /// Replaces each secret that can be used, independently of the others; returns a sentence for each that cannot.
    fn replace(&self, config: &Config, store: &Store) -> Vec<String> {
        self.tokens.replace_by(&config.receive.auth_tokens);
        let credentials = store.replace_credentials(&config.store.target);
        let headers = match (&self.headers, &config.own_traces) {
            (Some(headers), Some(own_traces)) => headers.replace(&own_traces.headers),
            _ => Ok(()),
        };
        [credentials, headers]
            .into_iter()
            .filter_map(Result::err)
            .collect()
    }
}

/// Returns a digest of the contents of all files.
fn digest(files: &[PathBuf]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let content = file.is_file().then(|| std::fs::read(file).ok()).flatten();
        hasher.update(&[u8::from(content.is_some())]);
        let content = blake3::hash(&content.unwrap_or_default());
        hasher.update(content.as_bytes());
    }
    hasher.finalize()
}
