//! Texts that are shown to people or stored in columns: escaped, and cut where there is a limit.
//!
//! **Invariant:** no cut ever falls within a character.

use std::borrow::Cow;

/// Characters of a request that an answer or a log line echoes.
const SHOWN_CHARACTERS: usize = 64;

/// A text of a request as an answer may echo it: escaped, at most 64 characters.
#[must_use]
pub(crate) fn shown(text: &str) -> String {
    let escaped = text.escape_debug();
    if escaped.clone().nth(SHOWN_CHARACTERS).is_none() {
        return escaped.collect();
    }
    escaped.take(SHOWN_CHARACTERS - 1).chain(['…']).collect()
}

/// At most 64 characters of something that somebody else wrote.
pub(crate) fn excerpt(text: &str) -> String {
    let mut characters = text.chars();
    let mut short: String = characters.by_ref().take(64).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

/// The longest start of `text` that is at most `bytes` long and ends between characters.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Returns whether a text has more than `limit` characters.
pub(crate) fn is_longer(text: &str, limit: usize) -> bool {
    text.len() > limit && text.chars().nth(limit).is_some()
}

/// The first `limit` characters of a text.
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
