//! Numbers in fixed places of a block, little-endian.
//!
//! **Invariant:** callers pass blocks of a constant size that holds every place they name.

pub(in crate::journal) fn put(block: &mut [u8], at: usize, value: &[u8]) {
    block[at..at + value.len()].copy_from_slice(value);
}

pub(in crate::journal) fn array_at<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    *block[at..]
        .first_chunk()
        .expect("the block is of a constant size that holds this place")
}

pub(in crate::journal) fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(block, at))
}

pub(in crate::journal) fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(block, at))
}

pub(in crate::journal) fn u64_at(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(block, at))
}

pub(in crate::journal) fn i64_at(block: &[u8], at: usize) -> i64 {
    i64::from_le_bytes(array_at(block, at))
}
