//! What a publish may be. Every bound is configurable; none protects a caller from itself only.

use std::time::Duration;

/// Bounds of what callers may send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Files of one plan.
    pub files: u64,
    /// Bytes of one file.
    pub file_size: u64,
    /// Bytes of all files of one publish.
    pub publish_size: u64,
    /// Projects of one team.
    pub team_projects: u64,
    /// Bytes that the images of one team take up, a file that several have counted once.
    pub team_bytes: u64,
    /// Bytes of the JSON of one plan.
    pub plan_size: u64,
    /// How deep JSON may nest.
    pub json_depth: usize,
    /// Bytes of a message, at most [`LONGEST_MESSAGE`].
    pub message_length: usize,
    /// Blobs of one batch, at most [`MOST_PACKED`](crate::blob::pack::MOST_PACKED).
    pub batch_blobs: usize,
    /// Bytes of all blobs of one batch.
    pub batch_size: u64,
    /// Bytes of one archive as it arrives, packed.
    pub archive_size: u64,
    /// Bytes of all that one archive unpacks to.
    pub archive_unpacked: u64,
    /// How long a plan stays open.
    pub plan_lifetime: Duration,
    /// How long a preview may be asked to last.
    pub preview_lifetime: Duration,
    /// Bytes of open plans that are kept in memory; others are read again from the object store.
    pub plan_cache: u64,
}

/// A bound that bounds nothing: 8 PiB, so that sums of it do not overflow and every client reads it as a number.
pub const NO_LIMIT: u64 = 1 << 53;

/// The highest [`Limits::message_length`]: a record that holds two such texts, every byte of them escaped, fits a value
/// of the metadata store.
pub const LONGEST_MESSAGE: usize = 4 << 10;

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 200_000,
            file_size: 100 << 20,
            publish_size: NO_LIMIT,
            team_projects: NO_LIMIT,
            team_bytes: NO_LIMIT,
            plan_size: 64 << 20,
            json_depth: 16,
            message_length: LONGEST_MESSAGE,
            batch_blobs: 10_000,
            batch_size: 32 << 20,
            archive_size: 1 << 30,
            archive_unpacked: 4 << 30,
            plan_lifetime: Duration::from_secs(24 * 60 * 60),
            preview_lifetime: Duration::from_secs(30 * 24 * 60 * 60),
            plan_cache: 128 << 20,
        }
    }
}
