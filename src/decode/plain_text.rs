//! Finds out in one pass that a text is printable ASCII, as most texts of telemetry are.
//!
//! **Invariant:** a plain text is valid UTF-8 and has no control character below U+0020.

/// Returns whether each byte is ASCII and not below a space.
#[inline]
pub(super) fn is_plain(text: &[u8]) -> bool {
    // The end of a text is read in a chunk that may overlap the one before.
    if let Some(last) = text.last_chunk::<16>() {
        let chunks = text.as_chunks::<16>().0;
        chunks.iter().all(are_plain) && are_plain(last)
    } else if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        are_eight_plain(*first) & are_eight_plain(*last)
    } else if let (Some([a, b, c, d]), Some([w, x, y, z])) = (text.first_chunk(), text.last_chunk())
    {
        are_eight_plain([*a, *b, *c, *d, *w, *x, *y, *z])
    } else {
        text.iter().all(|byte| byte.cast_signed() >= 0x20)
    }
}

/// The same for 16 bytes, without a branch, so that the compiler uses one vector instruction.
fn are_plain(bytes: &[u8; 16]) -> bool {
    bytes
        .iter()
        .fold(true, |plain, byte| plain & (byte.cast_signed() >= 0x20))
}

/// The same for 8 bytes.
fn are_eight_plain(bytes: [u8; 8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(bytes);
    // Each byte of the minuend is at least 0x80, so no borrow reaches the next one.
    !word & ((word | HIGH) - ONES * 0x20) & HIGH == HIGH
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    #[test]
    fn an_odd_byte_is_found_at_every_place_of_a_text_of_any_length() {
        for len in 0..70 {
            let text = vec![b'a'; len];
            assert!(is_plain(&text));
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut text = text.clone();
                    text[at] = byte;
                    let expected = (b' '..=0x7f).contains(&byte);
                    assert_eq!(is_plain(&text), expected, "{byte} at {at} of {len}");
                }
            }
        }
    }
}
