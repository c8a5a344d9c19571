//! Archives byte by byte: what a library would refuse to write is what these tests are about.

#![allow(clippy::cast_possible_truncation, reason = "test archives are small")]

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};

/// One header of a tar, and what follows it.
#[derive(Clone, Debug)]
pub(crate) struct Tar {
    header: [u8; 512],
    content: Vec<u8>,
}

/// A file of a tar.
pub(crate) fn file(name: &str, content: impl AsRef<[u8]>) -> Tar {
    entry(b'0', name.as_bytes(), content.as_ref())
}

/// Any entry of a tar.
pub(crate) fn entry(kind: u8, name: &[u8], content: &[u8]) -> Tar {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name);
    header[100..108].copy_from_slice(b"0000644\0");
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    Tar { header, content: content.to_vec() }.size(content.len() as u64)
}

/// A link of a tar: `1` is hard, `2` symbolic.
pub(crate) fn link(kind: u8, name: &str, target: &str) -> Tar {
    let mut link = entry(kind, name.as_bytes(), b"");
    link.header[157..157 + target.len()].copy_from_slice(target.as_bytes());
    link.sign()
}

/// An extended header of the pax format.
pub(crate) fn pax(records: &[(&str, &str)]) -> Tar {
    pax_raw(b'x', &pax_records(records))
}

pub(crate) fn pax_raw(kind: u8, records: &[u8]) -> Tar {
    entry(kind, b"PaxHeaders/x", records)
}

pub(crate) fn pax_records(records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        bytes.extend_from_slice(format!("{length}{rest}").as_bytes());
    }
    bytes
}

/// A long name in GNU's form: `L` for the entry, `K` for what it links to.
pub(crate) fn long(kind: u8, name: &str) -> Tar {
    entry(kind, b"././@LongLink", format!("{name}\0").as_bytes())
}

impl Tar {
    /// The same header with a size of its own.
    pub(crate) fn size(mut self, size: u64) -> Self {
        self.header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        self.sign()
    }

    /// The same header with other bytes in it.
    pub(crate) fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self.sign()
    }

    fn sign(mut self) -> Self {
        self.header[148..156].fill(b' ');
        let sum: u32 = self.header.iter().map(|byte| u32::from(*byte)).sum();
        self.header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        bytes.extend_from_slice(&self.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// A tar with its end.
pub(crate) fn tar(entries: &[Tar]) -> Vec<u8> {
    [open_tar(entries), vec![0; 1024]].concat()
}

/// A tar without its end.
pub(crate) fn open_tar(entries: &[Tar]) -> Vec<u8> {
    entries.iter().flat_map(Tar::bytes).collect()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// One entry of a zip, each of its headers on its own.
#[derive(Clone, Debug)]
pub(crate) struct Zip {
    pub(crate) name: Vec<u8>,
    /// The name in the header before the content.
    pub(crate) local_name: Vec<u8>,
    pub(crate) flags: u16,
    pub(crate) local_flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) size: u32,
    pub(crate) packed: Vec<u8>,
    pub(crate) packed_size: u32,
    /// The mode of a Unix file; without one, another system wrote it.
    pub(crate) mode: Option<u32>,
    pub(crate) extra: Vec<u8>,
    /// Where the directory says that it starts, if not where it does.
    pub(crate) offset: Option<u32>,
}

/// A file of a zip, deflated.
pub(crate) fn zipped(name: &str, content: impl AsRef<[u8]>) -> Zip {
    let content = content.as_ref();
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).unwrap();
    Zip { method: 8, ..stored(name, content) }.packed(encoder.finish().unwrap())
}

/// A file of a zip as it is.
pub(crate) fn stored(name: &str, content: impl AsRef<[u8]>) -> Zip {
    let content = content.as_ref();
    let zip = Zip {
        name: name.as_bytes().to_vec(),
        local_name: name.as_bytes().to_vec(),
        flags: 0,
        local_flags: 0,
        method: 0,
        crc: crc32fast::hash(content),
        size: u32::try_from(content.len()).unwrap(),
        packed: Vec::new(),
        packed_size: 0,
        mode: Some(0o100_644),
        extra: Vec::new(),
        offset: None,
    };
    zip.packed(content.to_vec())
}

impl Zip {
    fn packed(mut self, packed: Vec<u8>) -> Self {
        self.packed_size = u32::try_from(packed.len()).unwrap();
        self.packed = packed;
        self
    }

    fn local(&self) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04\x14\0".to_vec();
        put16(&mut bytes, self.local_flags);
        put16(&mut bytes, self.method);
        put32(&mut bytes, 0x21_0000);
        put32(&mut bytes, self.crc);
        put32(&mut bytes, self.packed_size);
        put32(&mut bytes, self.size);
        put16(&mut bytes, self.local_name.len() as u16);
        put16(&mut bytes, 0);
        bytes.extend_from_slice(&self.local_name);
        bytes.extend_from_slice(&self.packed);
        bytes
    }

    fn central(&self, offset: u32) -> Vec<u8> {
        let mut bytes = b"PK\x01\x02".to_vec();
        put16(&mut bytes, 0x14 | if self.mode.is_some() { 0x300 } else { 0 });
        put16(&mut bytes, 0x14);
        put16(&mut bytes, self.flags);
        put16(&mut bytes, self.method);
        put32(&mut bytes, 0x21_0000);
        put32(&mut bytes, self.crc);
        put32(&mut bytes, self.packed_size);
        put32(&mut bytes, self.size);
        put16(&mut bytes, self.name.len() as u16);
        put16(&mut bytes, self.extra.len() as u16);
        put16(&mut bytes, 0);
        put16(&mut bytes, 0);
        put16(&mut bytes, 0);
        put32(&mut bytes, self.mode.unwrap_or(0) << 16);
        put32(&mut bytes, self.offset.unwrap_or(offset));
        bytes.extend_from_slice(&self.name);
        bytes.extend_from_slice(&self.extra);
        bytes
    }
}

/// A zip.
pub(crate) fn zip(entries: &[Zip]) -> Vec<u8> {
    let (mut bytes, directory, start) = zip_parts(entries);
    bytes.extend_from_slice(&directory);
    bytes.extend_from_slice(&zip_end(entries.len() as u16, directory.len() as u32, start, b""));
    bytes
}

/// A zip's entries, its directory, and where that starts.
pub(crate) fn zip_parts(entries: &[Zip]) -> (Vec<u8>, Vec<u8>, u32) {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        directory.extend_from_slice(&entry.central(bytes.len() as u32));
        bytes.extend_from_slice(&entry.local());
    }
    let start = bytes.len() as u32;
    (bytes, directory, start)
}

pub(crate) fn zip_end(entries: u16, length: u32, start: u32, comment: &[u8]) -> Vec<u8> {
    let mut bytes = b"PK\x05\x06\0\0\0\0".to_vec();
    put16(&mut bytes, entries);
    put16(&mut bytes, entries);
    put32(&mut bytes, length);
    put32(&mut bytes, start);
    put16(&mut bytes, comment.len() as u16);
    bytes.extend_from_slice(comment);
    bytes
}

/// The two records of a zip64's end, which stand before the short one. `at` is where they start.
pub(crate) fn zip64_end(entries: u64, length: u64, start: u64, at: u64) -> Vec<u8> {
    let mut bytes = b"PK\x06\x06".to_vec();
    put64(&mut bytes, 44);
    put32(&mut bytes, 0x2d_002d);
    put64(&mut bytes, 0);
    put64(&mut bytes, entries);
    put64(&mut bytes, entries);
    put64(&mut bytes, length);
    put64(&mut bytes, start);
    bytes.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    put64(&mut bytes, at);
    put32(&mut bytes, 1);
    bytes
}

/// An extra field.
pub(crate) fn extra(id: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put16(&mut bytes, id);
    put16(&mut bytes, content.len() as u16);
    bytes.extend_from_slice(content);
    bytes
}

fn put16(bytes: &mut Vec<u8>, number: u16) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put32(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put64(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}
