//! A look at RocksDB's logs before RocksDB reads them: the write-ahead log and the manifest, which have one form.
//!
//! A log that is opened after a crash may end in a write that nobody was told of, and a log may be damaged. The first must
//! not keep a store from being opened; the second must, because what is behind the damage was acknowledged. RocksDB
//! tells the two apart only where the file is too short, and takes even that for the first where a flipped bit in a record's
//! length makes it look so. Here it is decided by what a disk leaves behind:
//!
//! * Every write is synced before the next one begins. So only the last record can be one that nobody was told of, and
//!   wherever a record begins behind the place, it is damage.
//! * What of a write did not reach the disk is missing from the end of the file, or it is zeros: from the beginning or the
//!   end of the write to a border of the disk's sectors, or between such borders. File systems that give a log room
//!   before it is written to (ext4) leave such zeros after a power cut, and whole sectors are all that a disk writes.
//! * A last record that is wrong otherwise has been damaged. A flipped bit leaves no sector of zeros.

/// Blocks that records do not cross.
const BLOCK: usize = 32 << 10;
/// Checksum (4 bytes), length (2), type (1).
const HEADER: usize = 7;
/// The types of records in logs that are written over older ones.
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];
/// The types of records and their parts: one in one piece, a first, a middle and a last part.
const PARTS: [u8; 4] = [1, 2, 3, 4];
/// Those that a record begins with.
const BEGINNINGS: [u8; 2] = [1, 2];
/// The smallest piece that a disk writes or does not write.
const SECTOR: usize = 512;

/// What a log is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// It can be read to its end, which may be an incomplete record at the end of the file.
    Whole,
    /// From this byte on it is a write that was cut short. Nobody was told of it.
    Torn(usize),
    /// It is damaged at this byte.
    Damaged(usize),
}

/// Reads a log as RocksDB will.
pub(super) fn examine(log: &[u8]) -> State {
    let mut at = 0;
    while at + HEADER <= log.len() {
        let in_block = BLOCK - at % BLOCK;
        if in_block < HEADER {
            at += in_block;
            continue;
        }
        let length = usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
        let kind = log[at + 6];
        // Room that was reserved and not written, or the beginning of a write that is not there while its end is.
        if kind == 0 && length == 0 {
            let sector_end = (at + HEADER).next_multiple_of(SECTOR).min(log.len());
            return torn_or_damaged(log, at, sector_end);
        }
        // A record of a recycled log, which RocksDB skips where the number in it is not the log's. Ours never are.
        if RECYCLED.contains(&kind) {
            return State::Damaged(at);
        }
        let end = at + HEADER + length;
        if end > log.len() {
            // RocksDB takes it for incomplete.
            return if looks_damaged(log, at) { State::Damaged(at) } else { State::Whole };
        }
        if length > in_block - HEADER || !is_whole(log, at, end) {
            return torn_or_damaged(log, at, end);
        }
        at = end;
    }
    State::Whole
}

/// What the wrong record from `at` to `end` is.
fn torn_or_damaged(log: &[u8], at: usize, end: usize) -> State {
    if has_empty_sector(log, at, end) && !is_any_behind(log, at, &BEGINNINGS) {
        return State::Torn(at);
    }
    State::Damaged(at)
}

/// Whether the record at `at`, which claims to reach beyond the end, is a complete one with a wrong length, or has
/// complete ones behind it: of one that is too long for the file, not even a part can be there.
fn looks_damaged(log: &[u8], at: usize) -> bool {
    let block_end = log.len().min(at - at % BLOCK + BLOCK);
    is_whole(log, at, block_end) || is_any_behind(log, at, &PARTS)
}

/// Whether a complete record of one of `kinds` begins anywhere behind `at`.
fn is_any_behind(log: &[u8], at: usize, kinds: &[u8]) -> bool {
    (at + 1..(log.len() + 1).saturating_sub(HEADER)).any(|start| {
        let header = &log[start..start + HEADER];
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let end = start + HEADER + length;
        kinds.contains(&header[6]) && end <= log.len() && is_whole(log, start, end)
    })
}

/// Whether the record from `start` to `end` has the checksum in its header: CRC-32C over its type and data, masked.
fn is_whole(log: &[u8], start: usize, end: usize) -> bool {
    let stored = u32::from_le_bytes([log[start], log[start + 1], log[start + 2], log[start + 3]]);
    let checksum = crc32c::crc32c(&log[start + HEADER - 1..end]);
    checksum.rotate_right(15).wrapping_add(0xa282_ead8) == stored
}

/// Whether all that lies in one of the disk's sectors between `start` and `end` is zeros.
fn has_empty_sector(log: &[u8], start: usize, end: usize) -> bool {
    let sectors = (start / SECTOR..end.div_ceil(SECTOR)).map(|sector| (sector * SECTOR, (sector + 1) * SECTOR));
    sectors.map(|(from, to)| &log[from.max(start)..to.min(end)]).any(|part| part.iter().all(|byte| *byte == 0))
}
