//! Content to publish: made up, the same in every run.

use std::path::Path;

/// Files of a site: path and bytes.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// `length` bytes that look random and follow from `seed`.
pub(crate) fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A small site of every kind of thing: an empty file, names that need escaping, folders, a file above 1 MiB.
pub(crate) fn varied() -> Files {
    let mut files: Files = vec![
        ("index.html".into(), b"<!doctype html><title>start</title>".to_vec()),
        ("404.html".into(), b"<!doctype html><title>not here</title>".to_vec()),
        ("about.html".into(), b"<!doctype html><title>about</title>".to_vec()),
        ("docs/index.html".into(), b"<!doctype html><title>docs</title>".to_vec()),
        ("docs/deep/er/page.html".into(), b"<!doctype html><title>deep</title>".to_vec()),
        ("empty.txt".into(), Vec::new()),
        ("a b & c%.txt".into(), b"a name that needs escaping".to_vec()),
        ("stra\u{df}e/\u{fc}ber.txt".into(), "gr\u{fc}\u{df}e".as_bytes().to_vec()),
        ("bin".into(), noise("bin", 1000)),
        ("big.bin".into(), noise("big", 3 * 1024 * 1024 + 17)),
        (".well-known/security.txt".into(), b"Contact: mailto:nobody@example.com".to_vec()),
        ("twice.txt".into(), b"the same bytes".to_vec()),
        ("again/twice.txt".into(), b"the same bytes".to_vec()),
    ];
    for number in 0..40 {
        files.push((format!("pages/{number:03}.html"), format!("<!doctype html><p>page {number}").into_bytes()));
    }
    files
}

/// Writes files below `folder`.
pub(crate) fn write(folder: &Path, files: &Files) {
    for (path, bytes) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().expect("it is below a folder")).expect("the folder is writable");
        std::fs::write(path, bytes).expect("the folder is writable");
    }
}

/// The path of a file as the target of a request.
pub(crate) fn target(path: &str) -> String {
    let mut target = String::from("/");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => target.push(char::from(byte)),
            _ => target.push_str(&format!("%{byte:02X}")),
        }
    }
    target
}

/// The ETag of a body: 128 bits of its BLAKE3.
pub(crate) fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &blake3::hash(bytes).to_hex()[..32])
}
