//! Memory that direct I/O accepts.
//!
//! **Invariant:** the bytes begin at a multiple of [`ALIGN`] as long as the buffer lives: it never grows.

use std::ops::{Deref, DerefMut};

use crate::journal::format::segment::BLOCK;

/// Direct I/O uses addresses, offsets and lengths that are multiples of this many bytes. Groups, headers and footers
/// start and end at such offsets.
pub(super) const ALIGN: usize = BLOCK;

/// Bytes at an aligned address.
pub(super) struct AlignedBuffer {
    /// Longer than needed, so that an aligned address is among its first [`ALIGN`].
    allocated: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// Returns a buffer of `length` zeros.
    pub(super) fn zeroed(length: usize) -> Self {
        let allocated = vec![0; length + ALIGN - 1];
        Self {
            start: allocated.as_ptr().addr().wrapping_neg() % ALIGN,
            allocated,
            length,
        }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.allocated[self.start..self.start + self.length]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.allocated[self.start..self.start + self.length]
    }
}

/// Returns whether address and length of these bytes are aligned.
pub(super) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().addr().is_multiple_of(ALIGN) && bytes.len().is_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_wherever_it_is_moved() {
        let buffers: Vec<AlignedBuffer> = (0..64)
            .map(|blocks| AlignedBuffer::zeroed(blocks * ALIGN))
            .collect();
        for (blocks, mut buffer) in buffers.into_iter().enumerate() {
            buffer.fill(1);
            assert_eq!(buffer.len(), blocks * ALIGN);
            assert!(is_aligned(&buffer));
        }
    }
}
