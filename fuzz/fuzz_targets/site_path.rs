//! A path is refused or harmless: nothing in it means anything to a file system.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinstone_engine::path::{MAX_PATH, MAX_SEGMENT, SitePath};

fuzz_target!(|text: &str| {
    let checked = SitePath::check(text);
    match SitePath::new(text) {
        Ok(path) => {
            assert_eq!(checked, Ok(()));
            assert_eq!(path.as_str(), text, "a path is taken as it is");
            assert!(text.len() <= MAX_PATH && !text.contains(['\0', '\\']));
            for segment in text.split('/') {
                assert!(!matches!(segment, "" | "." | "..") && segment.len() <= MAX_SEGMENT);
            }
        }
        Err(error) => assert_eq!(checked, Err(error)),
    }
});
