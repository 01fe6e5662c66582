//! Escaping and cutting of texts that are shown to people or stored in columns.
//!
//! **Invariant:** a text is never cut within a character.

use std::borrow::Cow;

/// Maximum number of characters of a request's text that an answer or a log line echoes.
const SHOWN_CHARACTERS: usize = 64;

/// Escapes a request's text for an answer, and cuts it to at most 64 characters, the last one `…` if it was cut.
#[must_use]
pub(crate) fn shown(text: &str) -> String {
    let escaped = text.escape_debug();
    if escaped.clone().nth(SHOWN_CHARACTERS).is_none() {
        return escaped.collect();
    }
    escaped.take(SHOWN_CHARACTERS - 1).chain(['…']).collect()
}

/// Returns the first 64 characters of a foreign text, unescaped, with `…` after them if it was cut.
pub(crate) fn excerpt(text: &str) -> String {
    let short = cut_to(text.into(), SHOWN_CHARACTERS);
    let end = if short.len() < text.len() { "…" } else { "" };
    format!("{short}{end}")
}

/// Returns the longest prefix of `text` that has at most `bytes` bytes and ends between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Returns whether a text has more than `limit` characters.
pub(crate) fn is_longer(text: &str, limit: usize) -> bool {
    text.len() > limit && text.chars().nth(limit).is_some()
}

/// Returns the first `limit` characters of a text.
pub(crate) fn cut_to(text: Cow<'_, str>, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit {
        return text;
    }
    match text.char_indices().nth(limit) {
        None => text,
        Some((end, _)) => match text {
            Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
            Cow::Owned(mut text) => {
                text.truncate(end);
                Cow::Owned(text)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn an_echo_is_escaped_and_at_most_64_characters() {
        assert_eq!(shown("plain"), "plain");
        assert_eq!(shown("a\u{1b}[31m\r\n"), "a\\u{1b}[31m\\r\\n");
        assert_eq!(shown(&"\n".repeat(1000)).chars().count(), 64);
        assert_eq!(shown(&"x".repeat(64)).chars().count(), 64);
    }
}
