//! A look at the write-ahead log before RocksDB reads it.
//!
//! RocksDB takes a record that reaches beyond the end of the file for one that a power cut left incomplete, and stops
//! there. A flipped bit in a record's length looks just the same, and would silently drop every commit behind it. The two
//! can be told apart: behind an incomplete record there is nothing, and its checksum cannot match what is there. A flipped
//! bit in a record's type can make it one that RocksDB skips before it looks at the checksum.

/// Blocks that records do not cross.
const BLOCK: usize = 32 << 10;
/// Checksum (4 bytes), length (2), type (1).
const HEADER: usize = 7;
/// The types of records in logs that are written over older ones.
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// Where a log that ends in what looks like an incomplete record does not: the place of that record.
///
/// Checksums of complete records are not this function's business: RocksDB checks them.
pub(super) fn find_hidden_damage(log: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at + HEADER <= log.len() {
        let in_block = BLOCK - at % BLOCK;
        if in_block < HEADER {
            at += in_block;
            continue;
        }
        let length = usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
        let kind = log[at + 6];
        if kind == 0 && length == 0 {
            // RocksDB takes this for room that was reserved and not written: nothing may follow.
            return log[at..].iter().any(|byte| *byte != 0).then_some(at);
        }
        // A record of a recycled log, which RocksDB skips where the number in it is not the log's. Ours never are.
        if RECYCLED.contains(&kind) {
            return Some(at);
        }
        let end = at + HEADER + length;
        if end > log.len() {
            return looks_damaged(log, at).then_some(at);
        }
        at = end;
    }
    None
}

/// Whether the record at `at`, which claims to reach beyond the end, is a complete one with a wrong length, or has
/// complete ones behind it.
fn looks_damaged(log: &[u8], at: usize) -> bool {
    let block_end = log.len().min(at - at % BLOCK + BLOCK);
    let complete = |start: usize| {
        let header = &log[start..start + HEADER];
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let end = start + HEADER + length;
        (1..=8).contains(&header[6]) && end <= log.len() && is_whole(log, start, end)
    };
    is_whole(log, at, block_end) || (at + 1..=log.len() - HEADER).any(complete)
}

/// Whether the record from `start` to `end` has the checksum in its header: CRC-32C over its type and data, masked.
fn is_whole(log: &[u8], start: usize, end: usize) -> bool {
    let stored = u32::from_le_bytes([log[start], log[start + 1], log[start + 2], log[start + 3]]);
    let checksum = crc32c::crc32c(&log[start + HEADER - 1..end]);
    checksum.rotate_right(15).wrapping_add(0xa282_ead8) == stored
}
