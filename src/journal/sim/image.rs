//! The contents of a file on the test disk, and the part of them that a power cut leaves.
//!
//! **Invariant:** synced bytes stay; each other sector is kept or lost by chance.

const SECTOR: usize = 512;

/// The image of a file.
#[derive(Default)]
pub(super) struct Image {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// The writes since the last sync.
    pub(super) dirty: Vec<(usize, Vec<u8>)>,
}

impl Image {
    pub(super) fn write(&mut self, bytes: Vec<u8>, offset: usize) {
        place(&mut self.live, &bytes, offset);
        self.dirty.push((offset, bytes));
    }

    pub(super) fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for (offset, bytes) in self.dirty.drain(..) {
            place(&mut self.durable, &bytes, offset);
        }
    }

    /// Keeps some of the unsynced sectors: the newest, an older one, or the one before.
    pub(super) fn cut(&mut self, chance: &mut dyn FnMut() -> bool) {
        for (offset, bytes) in self.dirty.drain(..) {
            let mut at = 0;
            while at < bytes.len() {
                let length = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
                if chance() {
                    place(&mut self.durable, &bytes[at..at + length], offset + at);
                }
                at += length;
            }
        }
        self.live.clone_from(&self.durable);
    }
}

fn place(image: &mut Vec<u8>, bytes: &[u8], offset: usize) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}
