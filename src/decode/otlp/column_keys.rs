//! The attributes that fill columns: the correlation id and the provider of an item.
//!
//! **Invariant:** of several attributes that name the same column, the first key of its list wins.

use std::borrow::Cow;

use crate::decode::otlp::any_value;
use crate::decode::otlp::key_values::KeyValues;
use crate::text;
use crate::text::is_longer;

const CORRELATION_ID_CHARACTERS: usize = 255;
pub(in crate::decode) const PROVIDER_CHARACTERS: usize = 100;

/// Attributes that name the correlation id; the first one found wins.
const CORRELATION_ID_KEYS: [&str; 3] = ["correlation_id", "correlation.id", "correlationId"];

/// Attributes that name the provider; the first one found wins.
const PROVIDER_KEYS: [&str; 7] = [
    "provider",
    "gen_ai.provider.name",
    "gen_ai.system",
    "db.system.name",
    "db.system",
    "messaging.system",
    "rpc.system",
];

/// Returns whether an attribute with that key names a column.
pub(in crate::decode) fn is_column_key(key: &[u8]) -> bool {
    let mut keys = CORRELATION_ID_KEYS.iter().chain(&PROVIDER_KEYS);
    keys.any(|known| known.as_bytes() == key)
}

/// Returns the correlation id that an item's attributes name, cut to the column.
pub(in crate::decode) fn correlation_id<'a>(attributes: &KeyValues<'a>) -> Option<Cow<'a, str>> {
    first_named(attributes, &CORRELATION_ID_KEYS)
        .map(|id| text::cut_to(id, CORRELATION_ID_CHARACTERS))
}

/// Returns the provider that an item's attributes name, cut to the column.
pub(in crate::decode) fn provider<'a>(attributes: &KeyValues<'a>) -> Option<Cow<'a, str>> {
    first_named(attributes, &PROVIDER_KEYS)
        .map(|provider| text::cut_to(provider, PROVIDER_CHARACTERS))
}

/// Counts the columns that hold only the beginning of an attribute's text.
pub(in crate::decode) fn cut_columns(attributes: &KeyValues<'_>) -> u32 {
    let is_cut = |keys: &[&str], limit| {
        u32::from(first_named(attributes, keys).is_some_and(|text| is_longer(&text, limit)))
    };
    is_cut(&CORRELATION_ID_KEYS, CORRELATION_ID_CHARACTERS)
        + is_cut(&PROVIDER_KEYS, PROVIDER_CHARACTERS)
}

/// Returns the value of the first of `keys` whose attribute can be a name.
fn first_named<'a>(attributes: &KeyValues<'a>, keys: &[&str]) -> Option<Cow<'a, str>> {
    if !attributes.have_column_key() {
        return None;
    }
    keys.iter()
        .find_map(|key| any_value::name_of(attributes.find(key.as_bytes())?))
}
