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
    let check = crc32fast::hash(message);
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
