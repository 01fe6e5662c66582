//! Conversion of a URI's query string to names and values, and back.
//!
//! **Invariant:** a text that is not percent-encoded UTF-8 without NUL is an error, never a replacement character.

use std::fmt::Write as _;

use crate::query::error::QueryError;

/// Returns names and values in the order of the request; `+` is a space, as in HTML forms.
///
/// # Errors
/// [`QueryError::Parameter`] for malformed percent-encoding, invalid UTF-8 and NUL.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, QueryError> {
    query
        .split('&')
        .filter(|segment| !segment.is_empty())
        .map(|segment| {
            let (name, value) = segment.split_once('=').unwrap_or((segment, ""));
            let text = |part| {
                decoded(part).ok_or_else(|| {
                    QueryError::parameter(
                        name,
                        "a parameter must be UTF-8 without NUL, and percent-encoded",
                    )
                })
            };
            Ok((text(name)?, text(value)?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (*rest.first()?, *rest.get(1)?);
                rest = &rest[2..];
                nibble(high)? << 4 | nibble(low)?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Appends `name=value`, with all characters percent-encoded except the unreserved ones (RFC 3986, section 2.3).
pub(super) fn push_pair(uri: &mut String, name: &str, value: &str) {
    uri.push(if uri.contains('?') { '&' } else { '?' });
    push_encoded(uri, name);
    uri.push('=');
    push_encoded(uri, value);
}

fn push_encoded(uri: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02X}").expect("a String takes any text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{pairs, push_pair};

    #[test]
    fn a_query_string_is_read_and_written_back() {
        let read = pairs("a=1&&b=x+y%20z&c&attributes.h%C3%A9=%26%3D").unwrap();
        let expected = [
            ("a", "1"),
            ("b", "x y z"),
            ("c", ""),
            ("attributes.hé", "&="),
        ];
        assert_eq!(read, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        let mut uri = String::from("/query");
        for (name, value) in &read {
            push_pair(&mut uri, name, value);
        }
        assert_eq!(uri, "/query?a=1&b=x%20y%20z&c=&attributes.h%C3%A9=%26%3D");
        assert_eq!(pairs(uri.split_once('?').unwrap().1).unwrap(), read);
    }

    #[test]
    fn bad_percent_encoding_bad_utf_8_and_nul_are_refused() {
        for bad in ["a=%", "a=%2", "a=%zz", "a=%FF", "a=%C3", "a=%00", "%FF=1"] {
            assert!(pairs(bad).is_err(), "{bad}");
        }
    }
}
