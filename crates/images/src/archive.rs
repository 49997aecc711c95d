//! A layer: a tar archive, compressed with gzip. Every byte of it follows from its files.

use std::io;

use tar::{Builder, EntryType, Header};

/// A tar archive of `files`. No file has an owner or a time.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = Header::new_ustar();
        header.set_path(name)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, *content)?;
    }
    archive.into_inner()
}

/// A gzip file (RFC 1952) with one member, without name and time.
pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    /// Magic, deflate, no flags, no time, slowest and smallest compression, unknown system.
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    let mut member = HEADER.to_vec();
    member.extend(miniz_oxide::deflate::compress_to_vec(content, 9));
    member.extend(crc32fast::hash(content).to_le_bytes());
    // The length modulo 2^32, as the format defines it.
    let [b0, b1, b2, b3, ..] = content.len().to_le_bytes();
    member.extend([b0, b1, b2, b3]);
    member
}
