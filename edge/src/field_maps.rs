//! Maps of fields that are used again: a request's is done with when it is answered, and the next one has much the same.

use std::cell::Cell;

use http::HeaderMap;

thread_local! {
    /// The map that was last done with, and is empty.
    static SPARE: Cell<Option<HeaderMap>> = const { Cell::new(None) };
}

/// The most fields that there is room for in one that is kept.
const LARGEST: usize = 128;

/// Takes an empty map.
pub(crate) fn take() -> HeaderMap {
    SPARE.try_with(Cell::take).ok().flatten().unwrap_or_default()
}

/// Gives a map back, for the next request of this thread.
pub(crate) fn give_back(mut fields: HeaderMap) {
    if (1..=LARGEST).contains(&fields.capacity()) {
        fields.clear();
        // Nothing is kept by a thread that ends.
        let _ = SPARE.try_with(|spare| drop(spare.replace(Some(fields))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_used_again_and_empty() {
        let mut fields = take();
        fields.insert("a", "b".parse().unwrap());
        let room = fields.capacity();
        give_back(fields);
        give_back(HeaderMap::new());
        let again = take();
        assert_eq!((again.len(), again.capacity()), (0, room));
        assert_eq!(take().capacity(), 0, "there is one");
        give_back(HeaderMap::with_capacity(10 * LARGEST));
        assert_eq!(take().capacity(), 0, "it is not kept for ever");
    }
}
