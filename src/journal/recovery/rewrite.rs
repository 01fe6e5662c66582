//! Writes the copy of a segment that was never sealed.
//!
//! **Invariant:** until all of its records are durable the copy is a spare: a copy that was cut short leaves no
//! segment. No request is copied whose payload does not verify.

use std::io::{self, IoSlice};

use crate::journal::disk::{Disk, DiskFile, write_all};
use crate::journal::format::record::{ALIGN, RecordClass, RecordHeader};
use crate::journal::format::scan::{READS, ScannedRecord, SegmentScan};
use crate::journal::format::segment::{BLOCK, BLOCK_BYTES, Footer, SegmentContents, SegmentHeader};
use crate::journal::recovery::plan::{RecordLocation, RecoveryStep, RewritePlan, scan_of};
use crate::journal::recovery::segment_files::SegmentFile;

/// The copy is written in pieces of at least this many bytes.
const FLUSHED_BYTES: usize = 1 << 20;

/// Writes the copy, synced and sealed.
pub(in crate::journal) fn write(
    disk: &dyn Disk,
    plan: &RewritePlan,
    files: &[(SegmentHeader, SegmentFile)],
    file: &dyn DiskFile,
    bytes: u64,
) -> io::Result<(SegmentHeader, SegmentContents)> {
    let (original, _) = files.first().ok_or(io::ErrorKind::NotFound)?;
    let header = SegmentHeader {
        nonce: getrandom::u64()?,
        bytes,
        first_position: plan.first_position,
        ..*original
    };
    let scans = files
        .iter()
        .map(|(header, file)| scan_of(disk, header, file, BLOCK_BYTES));
    let mut copy = SegmentRewriter {
        file,
        scans: scans.collect::<io::Result<_>>()?,
        at: BLOCK_BYTES,
        buffer: Vec::new(),
        nonce: header.nonce,
        synced: plan.synced,
        received_unix_nano: plan.received_unix_nano,
        contents: SegmentContents {
            last_position: plan.last,
            first_received_unix_nano: plan.received_unix_nano,
            ..SegmentContents::default()
        },
    };
    for step in &plan.steps {
        copy.step(step)?;
    }
    let contents = copy.finish()?;
    // Either of the next two blocks makes a segment of the file.
    file.sync_data()?;
    let footer = Footer { header, contents }.encode();
    write_all(file, &mut [IoSlice::new(&footer)], bytes - BLOCK_BYTES)?;
    begin(&header, file)?;
    Ok((header, contents))
}

/// Makes a segment of a file whose records and footer are durable.
pub(in crate::journal) fn begin(header: &SegmentHeader, file: &dyn DiskFile) -> io::Result<()> {
    write_all(file, &mut [IoSlice::new(&header.encode())], 0)?;
    file.sync_data()
}

struct SegmentRewriter<'a> {
    file: &'a dyn DiskFile,
    /// One scan for each file that is copied from.
    scans: Vec<SegmentScan>,
    /// Offset in the file at which the buffer will be written, a multiple of a block.
    at: u64,
    buffer: Vec<u8>,
    nonce: u64,
    synced: u64,
    /// Receive time of the record before; lost records get it too.
    received_unix_nano: i64,
    contents: SegmentContents,
}

impl SegmentRewriter<'_> {
    fn step(&mut self, step: &RecoveryStep) -> io::Result<()> {
        match *step {
            RecoveryStep::Copy(location) => {
                let found = self.found(location)?;
                self.record(found.header, location.file, found.payload_offset())
            }
            RecoveryStep::Damaged(location) => {
                let found = self.found(location)?;
                let checksum = self.scans[location.file].checksum(&found)?;
                let header = RecordHeader {
                    class: RecordClass::Damaged,
                    payload_checksum: checksum.ok_or(io::ErrorKind::UnexpectedEof)?,
                    ..found.header
                };
                self.record(header, location.file, found.payload_offset())
            }
            RecoveryStep::Lost { n, file, from, to } => {
                let bytes = self.scans[file].bytes(from, to)?;
                let mut header = self.bare(RecordClass::Damaged, n, n);
                header.header_lost = true;
                header.payload_bytes =
                    u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
                header.payload_checksum = crc32c::crc32c(&bytes);
                self.record(header, file, from)
            }
            RecoveryStep::Hole { first, last } => {
                self.record(self.bare(RecordClass::Hole, first, last), 0, BLOCK_BYTES)
            }
            RecoveryStep::Missing { first, last } => {
                self.record(self.bare(RecordClass::Missing, first, last), 0, BLOCK_BYTES)
            }
        }
    }

    fn bare(&self, class: RecordClass, n: u64, last: u64) -> RecordHeader {
        let mut header = RecordHeader::bare(class, n, last, self.synced);
        header.source.received_unix_nano = self.received_unix_nano;
        header
    }

    fn found(&mut self, location: RecordLocation) -> io::Result<ScannedRecord> {
        let found = self.scans[location.file].record_at(location.offset)?;
        found.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Writes a record whose payload is in `file` at offset `from`. A payload whose checksum is wrong is read again,
    /// and replaces the bytes that were written.
    fn record(&mut self, header: RecordHeader, file: usize, from: u64) -> io::Result<()> {
        let header = RecordHeader {
            synced_position: self.synced,
            ..header
        };
        let (at, buffered) = (self.at, self.buffer.len());
        // The start of the block in which this record begins.
        let block_start = buffered / BLOCK * BLOCK;
        let before = self.buffer[block_start..].to_vec();
        let mut reads = 1;
        while self.payload(&header, file, from)? != header.payload_checksum
            && header.class == RecordClass::Data
        {
            if reads == READS {
                return Err(io::Error::other("a record is read differently each time"));
            }
            reads += 1;
            if self.at == at {
                self.buffer.truncate(buffered);
            } else {
                // The blocks before that one are already written.
                self.at = at + block_start as u64;
                self.buffer.clone_from(&before);
            }
            self.scans[file].forget(from, from + u64::from(header.payload_bytes));
        }
        self.pad(ALIGN);
        self.received_unix_nano = header.source.received_unix_nano;
        self.contents.bytes += header.total_bytes();
        self.contents.events += u64::from(header.accepted);
        self.contents.records += u64::from(header.class == RecordClass::Data);
        self.flush(FLUSHED_BYTES)
    }

    /// Appends the header, and the payload as this read returns it. Returns the payload's checksum.
    fn payload(&mut self, header: &RecordHeader, file: usize, from: u64) -> io::Result<u32> {
        self.buffer.extend_from_slice(&header.encode(self.nonce));
        let mut checksum = 0;
        let end = from + u64::from(header.payload_bytes);
        let mut at = from;
        while at < end {
            let piece = self.scans[file].piece(at, end)?;
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            checksum = crc32c::crc32c_append(checksum, piece);
            self.buffer.extend_from_slice(piece);
            at += piece.len() as u64;
            self.flush(FLUSHED_BYTES)?;
        }
        Ok(checksum)
    }

    /// Fills with zeros up to the next multiple of `align` in the file.
    fn pad(&mut self, align: u64) {
        let end = self.at + self.buffer.len() as u64;
        let padding = usize::try_from(end.next_multiple_of(align) - end);
        let padding = padding.expect("alignments are a block at most");
        self.buffer.resize(self.buffer.len() + padding, 0);
    }

    /// Writes the buffer's whole blocks once it holds at least `least` bytes.
    fn flush(&mut self, least: usize) -> io::Result<()> {
        if self.buffer.len() < least {
            return Ok(());
        }
        let blocks = self.buffer.len() / BLOCK * BLOCK;
        write_all(
            self.file,
            &mut [IoSlice::new(&self.buffer[..blocks])],
            self.at,
        )?;
        self.at += blocks as u64;
        self.buffer.drain(..blocks);
        Ok(())
    }

    fn finish(mut self) -> io::Result<SegmentContents> {
        self.pad(BLOCK_BYTES);
        self.flush(0)?;
        self.contents.end = self.at;
        Ok(self.contents)
    }
}
