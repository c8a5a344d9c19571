//! HPACK: the fields of a message as few bytes (RFC 7541).
//!
//! Each direction of a connection has a table of fields that were sent before, and a field that is in it is sent as its
//! number. So a block of fields means something only behind all earlier ones: each is decoded, also that of a message which is
//! refused, and where one cannot be, the connection ends.

pub(crate) mod decoder;
pub(crate) mod encoder;
mod field;
mod huffman;
mod static_table;

pub(crate) use field::Field;

/// The most bytes that the entries of a table take, each with [`OVERHEAD`]: what either end may use unless it is told otherwise
/// (RFC 9113 section 6.5.2).
pub(crate) const TABLE: usize = 4096;

/// What an entry of a table takes beside its name and its value, in bytes (RFC 7541 section 4.1).
pub(crate) const OVERHEAD: usize = 32;

/// A block that means nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Broken;
