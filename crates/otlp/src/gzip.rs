//! The compression of a call's body.

use miniz_oxide::deflate::compress_to_vec;

use crate::batch::GRPC_HEAD;
use crate::config::Protocol;

/// The header of a file without a name and a time, from an unknown operating system (RFC 1952,
/// section 2.3).
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The fastest level of zlib that looks for repetitions. Spans repeat their keys and most of their
/// values, so that higher levels gain little and cost a worker much more time.
const LEVEL: u8 = 1;

/// Compresses `body`. Over gRPC, the five bytes in front of the message stay, and say that the
/// message is compressed.
pub(crate) fn compress(body: &mut Vec<u8>, protocol: Protocol) {
    let head = match protocol {
        Protocol::HttpProtobuf => 0,
        Protocol::Grpc => GRPC_HEAD,
    };
    let message = body.get(head..).unwrap_or_default();
    let packed = compress_to_vec(message, LEVEL);
    let check = crc32(message);
    // "ISIZE … the size of the original (uncompressed) input data modulo 2^32" (RFC 1952).
    let [a, b, c, d, ..] = (message.len() as u64).to_le_bytes();

    let length = HEAD.len() + packed.len() + 8;
    body.clear();
    if protocol == Protocol::Grpc {
        body.push(1);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        body.extend_from_slice(&length.to_be_bytes());
    }
    body.extend_from_slice(&HEAD);
    body.extend_from_slice(&packed);
    body.extend_from_slice(&check.to_le_bytes());
    body.extend_from_slice(&[a, b, c, d]);
}

/// The check of RFC 1952, section 8.
#[cfg(not(target_arch = "wasm32"))]
fn crc32(message: &[u8]) -> u32 {
    crc32fast::hash(message)
}

#[cfg(target_arch = "wasm32")]
use small::crc32;

/// Byte by byte, with a table of 1 kB: that of crc32fast takes 16 kB of a module. Compressing takes
/// many times as long as either.
#[cfg(any(target_arch = "wasm32", test))]
mod small {
    /// The remainder of each byte, by the reversed polynomial (RFC 1952, section 8).
    const REMAINDERS: [u32; 256] = remainders();

    #[expect(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "runs at compile time, bounded by its own loop"
    )]
    const fn remainders() -> [u32; 256] {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < table.len() {
            let mut remainder = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                let polynomial = if remainder & 1 == 1 { 0xedb8_8320 } else { 0 };
                remainder = (remainder >> 1) ^ polynomial;
                bit += 1;
            }
            table[byte] = remainder;
            byte += 1;
        }
        table
    }

    pub(super) fn crc32(message: &[u8]) -> u32 {
        let check = message.iter().fold(u32::MAX, |check, byte| {
            let [low, ..] = check.to_le_bytes();
            let remainder = REMAINDERS.get(usize::from(low ^ byte));
            (check >> 8) ^ remainder.copied().unwrap_or_default()
        });
        !check
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_small_check_is_that_of_crc32fast(message in any::<Vec<u8>>()) {
            prop_assert_eq!(super::small::crc32(&message), crc32fast::hash(&message));
        }
    }
}
