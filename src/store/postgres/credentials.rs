//! Replaces credentials while the service runs.
//!
//! **Invariant:** new credentials lead to the same database as the old ones.

use sqlx::postgres::PgConnectOptions;

use crate::store::StoreTarget;
use crate::store::postgres::{Postgres, for_poolers};

impl Postgres {
    /// Uses the user, password and certificates of `target` for new connections; open ones stay unchanged.
    ///
    /// # Errors
    /// A sentence, if `target` is another database. Nothing is changed then.
    pub(in crate::store) fn replace_credentials(&self, target: &StoreTarget) -> Result<(), String> {
        let StoreTarget::Postgres { options, read } = target else {
            return Err("the settings name another store, which takes a restart".to_owned());
        };
        let pools = [
            (&self.write_pool, options),
            (&self.read_pool, read.as_ref().unwrap_or(options)),
        ];
        if pools
            .iter()
            .any(|(pool, options)| place(&pool.connect_options()) != place(options))
        {
            return Err("the settings name another database, which takes a restart".to_owned());
        }
        for (pool, options) in pools {
            pool.set_connect_options(for_poolers(options));
        }
        Ok(())
    }
}

/// Returns the server and the database, as far as the options name them.
fn place(options: &PgConnectOptions) -> impl PartialEq {
    (
        options.get_host().to_owned(),
        options.get_port(),
        options.get_socket().cloned(),
        options
            .get_database()
            .unwrap_or(options.get_username())
            .to_owned(),
    )
}
