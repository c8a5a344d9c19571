//! Memory that windows of files are read into, or frames are gathered in, used again: what is given back is not zeroed for
//! the next window.
//!
//! Zeroing a window costs about as much as copying it. A thread keeps the few buffers that it was last done with; the bytes
//! of an earlier window in them are never shown, for a buffer shows only what was read into it.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Buffers of each kind that a thread keeps.
const SPARES: usize = 4;
/// The largest that is kept, in bytes: what all threads keep has to be little beside what windows may take.
const LARGEST: usize = 64 << 10;

/// What stands in a buffer that nothing was read into.
const FILL: u8 = b'.';

thread_local! {
    /// All of them initialised.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static EMPTY: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Takes an empty vector with room for `capacity` bytes, to be filled by appending.
pub(crate) fn take(capacity: usize) -> Vec<u8> {
    let mut bytes = EMPTY.with_borrow_mut(Vec::pop).unwrap_or_default();
    bytes.reserve_exact(capacity);
    bytes
}

/// Gives back what was [taken](take).
pub(crate) fn give_back(mut bytes: Vec<u8>) {
    bytes.clear();
    keep(&EMPTY, bytes);
}

fn keep(spare: &'static LocalKey<RefCell<Vec<Vec<u8>>>>, bytes: Vec<u8>) {
    if !(1..=LARGEST).contains(&bytes.capacity()) {
        return;
    }
    // Nothing is kept by a thread that ends.
    let _ = spare.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.len() < SPARES {
            spare.push(bytes);
        }
    });
}

/// Memory that is filled, and not with zeros. Asked for those, jemalloc has the kernel take away what there is and give it anew,
/// page by page as it is read into: that cost half of the CPU of 10 MiB over TLS.
fn fresh(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.resize(length, FILL);
    bytes
}

/// Bytes to read into.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// All of it is initialised, and perhaps by what was there before.
    bytes: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// A buffer of `length` bytes. What they are is not said.
    pub(crate) fn new(length: usize) -> Self {
        let spare = SPARE.with_borrow_mut(|spare| {
            let fits = spare.iter().rposition(|bytes| bytes.len() >= length)?;
            Some(spare.swap_remove(fits))
        });
        Self { bytes: spare.unwrap_or_else(|| fresh(length)), length }
    }

    /// Keeps the first `length` bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        keep(&SPARE, std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spares() -> Vec<usize> {
        let mut spares: Vec<_> = SPARE.with_borrow(|spare| spare.iter().map(Vec::len).collect());
        spares.sort_unstable();
        spares
    }

    #[test]
    fn a_buffer_that_fits_is_used_again_and_few_are_kept() {
        let mut first = Buffer::new(100);
        first.as_mut_slice().fill(7);
        let place = first.as_slice().as_ptr();
        drop(first);
        assert_eq!(spares(), [100]);
        let larger = Buffer::new(101);
        assert!(larger.as_slice().iter().all(|byte| *byte == FILL), "none that is too small is shown");
        let mut again = Buffer::new(60);
        assert_eq!((again.as_slice().as_ptr(), again.len()), (place, 60));
        again.truncate(10);
        again.truncate(20);
        assert_eq!(again.as_slice(), [7; 10]);
        drop((larger, again));
        assert_eq!(spares(), [100, 101]);
        drop((0..3 * SPARES).map(Buffer::new).collect::<Vec<_>>());
        assert_eq!(spares().len(), SPARES);
        SPARE.with_borrow_mut(Vec::clear);
        drop(Buffer::new(LARGEST + 1));
        assert_eq!(spares(), [0; 0]);
    }
}
