//! Tests of decompression.
//!
//! **Invariant:** every encoding keeps the same promises.

use crate::event::ContentEncoding;
use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use crate::decode::decompress::*;
use crate::event::ContentEncoding::{Deflate, Gzip, Identity, Zstd};

const MIB: usize = 1 << 20;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd_frame(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// Text that compresses about as well as telemetry does.
fn text(lines: usize) -> Vec<u8> {
    (0..lines)
        .flat_map(|n| {
            format!("{{\"span\":{n},\"name\":\"GET /orders/{}\"}}\n", n * 7919).into_bytes()
        })
        .collect()
}

/// Decompresses with a `reserve` that never refuses; returns the output and the number of reserved bytes.
fn open(
    encoding: ContentEncoding,
    body: &[u8],
    limit: usize,
) -> (Result<Vec<u8>, DecompressError>, usize) {
    let mut reserved = 0;
    let result = decompress(encoding, body, limit, &mut |bytes| {
        reserved += bytes;
        true
    });
    (result.map(Cow::into_owned), reserved)
}

fn encoded(bytes: &[u8]) -> [(ContentEncoding, Vec<u8>); 4] {
    [
        (Gzip, gzip(bytes)),
        (Zstd, zstd_frame(bytes)),
        (Deflate, zlib(bytes)),
        (Deflate, raw_deflate(bytes)),
    ]
}

#[test]
fn every_encoding_gives_back_what_went_in() {
    for lines in [0, 1, 40, 20_000] {
        let plain = text(lines);
        for (encoding, body) in encoded(&plain) {
            assert_eq!(
                open(encoding, &body, 4 * MIB).0.as_ref(),
                Ok(&plain),
                "{encoding:?}, {lines} lines"
            );
        }
    }
}

#[test]
fn an_uncompressed_body_is_lent_and_reserves_nothing() {
    let result = decompress(Identity, b"{}", 2, &mut |_| panic!("nothing is taken"));
    assert!(matches!(result, Ok(Cow::Borrowed(b"{}"))));
    assert_eq!(
        open(Identity, b"{} ", 2).0,
        Err(DecompressError::TooLarge { limit_bytes: 2 })
    );
}

#[test]
fn an_empty_body_of_any_encoding_is_empty() {
    for encoding in [Identity, Gzip, Zstd, Deflate] {
        assert_eq!(open(encoding, b"", 0), (Ok(Vec::new()), 0), "{encoding:?}");
    }
}

#[test]
fn all_members_and_all_frames_are_read() {
    for (encoding, one) in [(Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Zstd, zstd_frame)] {
        let body = [one(b"first "), one(b""), one(b"second")].concat();
        assert_eq!(
            open(encoding, &body, MIB).0.unwrap(),
            b"first second",
            "{encoding:?}"
        );
    }
}

#[test]
fn a_body_cut_anywhere_is_malformed() {
    for (encoding, body) in encoded(&text(40)) {
        for end in 1..body.len() {
            let (result, _) = open(encoding, &body[..end], MIB);
            assert_eq!(
                result,
                Err(DecompressError::Malformed(encoding)),
                "cut at {end} of {}",
                body.len()
            );
        }
    }
}

#[test]
fn whatever_follows_the_end_is_malformed() {
    for (encoding, body) in encoded(b"event") {
        for more in [&b"\0"[..], b"\x1f", b"garbage after the end"] {
            let (result, _) = open(encoding, &[&body, more].concat(), MIB);
            assert_eq!(
                result,
                Err(DecompressError::Malformed(encoding)),
                "followed by {more:?}"
            );
        }
    }
}

#[test]
fn a_body_of_another_encoding_is_malformed() {
    for encoding in [Gzip, Zstd, Deflate] {
        for body in [&b"{\"eventType\":\"a\"}"[..], b"\0", &[0xff; 64]] {
            assert_eq!(
                open(encoding, body, MIB).0,
                Err(DecompressError::Malformed(encoding)),
                "{body:?}"
            );
        }
    }
}

#[test]
fn a_wrong_checksum_is_malformed() {
    let mut body = gzip(b"event");
    let crc = body.len() - 8;
    body[crc] ^= 1;
    assert_eq!(
        open(Gzip, &body, MIB).0,
        Err(DecompressError::Malformed(Gzip))
    );
    let mut body = zlib(b"event");
    *body.last_mut().unwrap() ^= 1;
    assert_eq!(
        open(Deflate, &body, MIB).0,
        Err(DecompressError::Malformed(Deflate))
    );
}

#[test]
fn exactly_the_limit_passes_and_one_byte_more_does_not() {
    let plain = text(20_000);
    for (encoding, body) in encoded(&plain) {
        let (result, reserved) = open(encoding, &body, plain.len());
        assert_eq!(result.as_ref(), Ok(&plain), "{encoding:?}");
        assert!(reserved <= plain.len());
        let limit_bytes = plain.len() - 1;
        assert_eq!(
            open(encoding, &body, limit_bytes).0,
            Err(DecompressError::TooLarge { limit_bytes })
        );
    }
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let limit_bytes = 4 * MIB;
    for (encoding, bomb) in [(Gzip, gzip_bomb(10 << 10)), (Zstd, zstd_bomb(10 << 10))] {
        let (result, reserved) = open(encoding, &bomb, limit_bytes);
        assert_eq!(
            result,
            Err(DecompressError::TooLarge { limit_bytes }),
            "{encoding:?}"
        );
        assert!(reserved <= limit_bytes, "{reserved} bytes reserved");
    }
}

#[test]
fn what_is_reserved_follows_what_is_there() {
    for lines in [1, 40, 20_000, 100_000] {
        let plain = text(lines);
        for (encoding, body) in encoded(&plain) {
            let (_, reserved) = open(encoding, &body, 64 * MIB);
            let first = (4 * body.len()).clamp(1 << 10, MIB);
            let most = plain.len() + plain.len() / 2 + first;
            assert!(
                reserved <= most,
                "{encoding:?}: {reserved} reserved for {}",
                plain.len()
            );
        }
    }
}

#[test]
fn without_room_nothing_more_is_accepted() {
    let mut left = 2 * MIB;
    let bomb = gzip_bomb(16);
    let result = decompress(Gzip, &bomb, 64 * MIB, &mut |bytes| {
        let granted = bytes <= left;
        left -= if granted { bytes } else { 0 };
        granted
    });
    assert_eq!(result, Err(DecompressError::NoRoom));
}

/// A client compressed with `--ultra -22`, and the answer was that its body was not valid zstd, or cut short.
#[test]
fn a_zstd_window_over_8_mib_is_refused_by_name_in_any_frame() {
    // Window descriptor: exponent 13 or 14 over 2^10 (RFC 8878, 3.1.1.1.2).
    let frame = zstd_rle_frame(13 << 3, 1);
    assert!(open(Zstd, &frame, 64 * MIB).0.is_ok());
    let large = zstd_rle_frame(14 << 3, 1);
    for body in [large.clone(), [frame, large].concat()] {
        assert_eq!(
            open(Zstd, &body, 64 * MIB).0,
            Err(DecompressError::LargeWindow)
        );
    }
    assert!(DecompressError::LargeWindow.to_string().contains("2^23"));
}

/// Gzip members of 1 MiB of zeros each.
fn gzip_bomb(mebibytes: usize) -> Vec<u8> {
    gzip(&vec![0; MIB]).repeat(mebibytes)
}

/// One zstd frame of run-length blocks of 128 KiB, each of them four bytes.
fn zstd_bomb(mebibytes: usize) -> Vec<u8> {
    zstd_rle_frame(13 << 3, mebibytes * 8)
}

fn zstd_rle_frame(window_descriptor: u8, blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window_descriptor];
    for block in 1..=blocks {
        let header: u32 = (128 << 10) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}
