//! Reads short whole numbers, eight digits at once.
//!
//! **Invariant:** a number that is read fits into 64 bits, and JSON allows its spelling.

/// Reads a whole number of at most 19 digits; `None` if it has more or none, or begins with a zero that is not the only
/// digit.
#[inline]
pub(in crate::decode) fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut value, mut rest) = (0u64, text);
    while let Some((word, after)) = rest.split_first_chunk()
        && let Some(eight) = eight_digits(u64::from_le_bytes(*word))
    {
        value = value.wrapping_mul(100_000_000).wrapping_add(eight);
        rest = after;
    }
    while let [byte @ b'0'..=b'9', after @ ..] = rest {
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        rest = after;
    }
    let is_number = match text.len() - rest.len() {
        0 => false,
        1 => true,
        len => len <= 19 && text.first() != Some(&b'0'),
    };
    is_number.then_some((value, rest))
}

/// Returns the number of eight digits, the first of them in the lowest byte; `None` if not all bytes are digits.
const fn eight_digits(text: u64) -> Option<u64> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // A byte below `0` or above `9` sets the high bit of itself in one of the two, whatever the others do.
    let values = text.wrapping_sub(ONES * 0x30);
    if (values | values.wrapping_add(ONES * 0x76)) & (ONES * 0x80) != 0 {
        return None;
    }
    // Each step joins two neighbours.
    let pairs = (values * 10 + (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::digits;

    #[test]
    fn whole_numbers_of_up_to_19_digits_are_read() {
        let mut texts: Vec<String> = (1..=22)
            .map(|len| "1234567890123456789012"[..len].into())
            .collect();
        texts.extend(["", "0", "00", "07", "9999999999999999999", "x", "-1"].map(Into::into));
        texts
            .extend((0..20).map(|at| format!("{}{}", "9".repeat(at), "0".repeat(19 - at.min(19)))));
        for text in texts {
            for after in ["", "x", "\"", ".5", "/", ":"] {
                let whole = text.clone() + after;
                let is_read = text.len() <= 19 && (text == "0" || !text.starts_with('0'));
                let expected = text.parse::<u64>().ok().filter(|_| is_read);
                let found = digits(whole.as_bytes());
                assert_eq!(
                    found,
                    expected.map(|value| (value, after.as_bytes())),
                    "{whole}"
                );
            }
        }
    }

    #[test]
    fn a_byte_that_is_no_digit_ends_a_number_at_every_place() {
        for at in 1..19 {
            for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit()) {
                let mut text = *b"1234567890123456789";
                text[at] = byte;
                let (value, rest) = digits(&text).expect("a number");
                assert_eq!(
                    (value, rest),
                    (
                        "1234567890123456789"[..at].parse().expect("digits"),
                        &text[at..]
                    )
                );
            }
        }
    }
}
