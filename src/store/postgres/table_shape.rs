//! The shape of `telemetry_events` according to the catalogue, compared with the one that is needed.
//!
//! **Invariant:** every difference that is found is named, so that an operator can mend all of them at once.

use crate::store::StoreError;
use crate::store::postgres::transaction::Transaction;

/// Names of columns with the types that each may have.
pub(super) type Columns = [(&'static str, &'static [&'static str])];

/// A table according to the catalogue.
pub(super) struct FoundTable {
    pub(super) partitioned: bool,
    /// Names and types, in order.
    pub(super) columns: Vec<(String, String)>,
}

impl FoundTable {
    /// Returns a sentence for each of the `needed` columns that is missing or of another type.
    pub(super) fn differences(&self, needed: &Columns) -> Vec<String> {
        let difference = |(name, types): &(&str, &[&str])| match self
            .columns
            .iter()
            .find(|(column, _)| column == name)
        {
            None => Some(format!("column {name} is missing")),
            Some((_, found)) if !types.contains(&found.as_str()) => {
                let types = types.join(" or ");
                Some(format!("column {name} is {found}, not {types}"))
            }
            Some(_) => None,
        };
        needed.iter().filter_map(difference).collect()
    }
}

impl Transaction<'_> {
    /// Reads the shape of `telemetry_events`; `None` if there is no such table.
    pub(super) async fn table_shape(
        &mut self,
        doing: &'static str,
    ) -> Result<Option<FoundTable>, StoreError> {
        let kind = "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass('telemetry_events')";
        let Some((partitioned,)) = self.first(doing, sqlx::query_as(kind)).await? else {
            return Ok(None);
        };
        let columns = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
             WHERE attrelid = to_regclass('telemetry_events') AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        Ok(Some(FoundTable {
            partitioned,
            columns: self.rows(doing, sqlx::query_as(columns)).await?,
        }))
    }
}
