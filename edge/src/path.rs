//! From the path of a request to an entry of the manifest. Pure: no file system is ever asked.
//!
//! Order: decode once, refuse what no site can contain, collapse empty segments, then look for the page. A path is
//! decoded only here, so nothing can be encoded twice to slip past a check. Every redirect made here ends in the very
//! content that was meant, so none of them can loop, and none can leave the host: a `Location` is `/` and a segment.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use pinstone_engine::manifest::{Entry, Manifest};
use unicode_normalization::UnicodeNormalization;

/// Why a path is refused with 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// It does not start with `/`.
    #[error("the path does not start with `/`")]
    NotAbsolute,
    /// A `%` without two hex digits.
    #[error("the path has a `%` that is not followed by two hex digits")]
    Escape,
    /// A NUL, which no file name has.
    #[error("the path has a NUL")]
    Nul,
    /// The decoded bytes are no UTF-8.
    #[error("the decoded path is not UTF-8")]
    NotUtf8,
    /// A segment is `.` or `..`.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// A backslash, which some clients take for a slash.
    #[error("the path has a backslash")]
    Backslash,
    /// `%2F`: a slash inside a segment.
    #[error("the path has an encoded slash")]
    EncodedSlash,
}

/// What a path leads to in one image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolution<'m> {
    /// This file.
    Found(Entry<'m>),
    /// The address where the content is: a path and the request's query, ready to be a `Location`.
    Redirect(String),
    /// Nothing; this page says so, where the site has one.
    NotFound(Option<Entry<'m>>),
}

/// Finds what `raw_path` leads to, with the html mode `keep`: what was published is reachable at exactly its path.
///
/// `query` is what follows the `?`; it is kept on a redirect.
///
/// # Errors
///
/// Says what of `raw_path` is refused.
pub fn resolve<'m>(manifest: &'m Manifest, raw_path: &str, query: Option<&str>) -> Result<Resolution<'m>, PathError> {
    let path = decode(raw_path)?;
    if let Some(collapsed) = collapse(&path) {
        return Ok(Resolution::Redirect(location(&collapsed, query)));
    }
    let mut step = keep(manifest, &path);
    if step == Step::Miss && !path.is_ascii() {
        // Names typed or linked on one system and published from another differ in composition only.
        let composed: String = path.nfc().collect();
        if composed != *path {
            step = keep(manifest, &composed);
        }
    }
    Ok(match step {
        Step::Found(entry) => Resolution::Found(entry),
        Step::Redirect(path) => Resolution::Redirect(location(&path, query)),
        Step::Miss => Resolution::NotFound(not_found_page(manifest, &path)),
    })
}

/// Decodes the path of a request once and refuses what no site contains. The result has no leading slash.
///
/// # Errors
///
/// Says what is refused.
pub fn decode(raw_path: &str) -> Result<Cow<'_, str>, PathError> {
    let raw = raw_path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
    let path = if raw.contains('%') { Cow::Owned(unescape(raw)?) } else { Cow::Borrowed(raw) };
    for byte in path.bytes() {
        match byte {
            0 => return Err(PathError::Nul),
            b'\\' => return Err(PathError::Backslash),
            _ => {}
        }
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(PathError::DotSegment);
    }
    Ok(path)
}

fn unescape(raw: &str) -> Result<String, PathError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(PathError::Escape) };
        match u8::try_from(high * 16 + low).expect("two hex digits fit a byte") {
            b'/' => return Err(PathError::EncodedSlash),
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| PathError::NotUtf8)
}

/// The path without its empty segments, where it has any. A trailing slash is none.
fn collapse(path: &str) -> Option<String> {
    if !path.starts_with('/') && !path.contains("//") {
        return None;
    }
    let mut collapsed = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        if !collapsed.is_empty() {
            collapsed.push('/');
        }
        collapsed.push_str(segment);
    }
    if path.ends_with('/') && !collapsed.is_empty() {
        collapsed.push('/');
    }
    Some(collapsed)
}

#[derive(Debug, Eq, PartialEq)]
enum Step<'m> {
    Found(Entry<'m>),
    /// To this path, decoded and without its leading slash.
    Redirect(String),
    Miss,
}

/// The html mode `keep`. `path` is decoded, has no leading slash and no empty segment.
fn keep<'m>(manifest: &'m Manifest, path: &str) -> Step<'m> {
    let mut name = String::with_capacity(path.len() + "/index.html".len());
    let mut look = |parts: [&str; 2]| {
        name.clear();
        name.extend(parts);
        visible(manifest, &name)
    };
    let Some(page) = path.strip_suffix('/').or(path.is_empty().then_some("")) else {
        if let Some(entry) = look([path, ""]) {
            return Step::Found(entry);
        }
        if let Some(entry) = look([path, ".html"]) {
            // `/index` would be a second address of the folder's own page.
            return match folder_of_index(path) {
                Some(folder) => Step::Redirect(folder.to_owned()),
                None => Step::Found(entry),
            };
        }
        return match look([path, "/index.html"]) {
            Some(_) => Step::Redirect(format!("{path}/")),
            None => Step::Miss,
        };
    };
    if let Some(entry) = look([path, "index.html"]) {
        return Step::Found(entry);
    }
    // A page asked for as a folder, unless a file without extension has the address that it would be sent to.
    if !page.is_empty() && look([page, ".html"]).is_some() {
        if let Some(folder) = folder_of_index(page) {
            return Step::Redirect(folder.to_owned());
        }
        if look([page, ""]).is_none() {
            return Step::Redirect(page.to_owned());
        }
    }
    Step::Miss
}

/// The folder of `path`, with its trailing slash, where `path` names the folder's index without an extension.
fn folder_of_index(path: &str) -> Option<&str> {
    let folder = path.strip_suffix("index")?;
    (folder.is_empty() || folder.ends_with('/')).then_some(folder)
}

fn visible<'m>(manifest: &'m Manifest, path: &str) -> Option<Entry<'m>> {
    manifest.get(path).filter(|entry| !entry.hidden)
}

/// The nearest `404.html`, walking up from `path`.
///
/// Only folders that the site has are looked into: they are the folders that `path` shares with its neighbours in the
/// order of paths, so a path of thousands of segments costs one search more than a short one.
fn not_found_page<'m>(manifest: &'m Manifest, path: &str) -> Option<Entry<'m>> {
    let after = manifest.lower_bound(path);
    let before = after.checked_sub(1);
    let neighbours = before.into_iter().chain((after < manifest.len()).then_some(after));
    let shared = neighbours.map(|index| shared_folder(path, manifest.entry(index).path)).max().unwrap_or(0);
    let mut folder = &path[..shared];
    loop {
        if let Some(entry) = visible(manifest, &format!("{folder}404.html")) {
            return Some(entry);
        }
        let parent = folder.strip_suffix('/')?;
        folder = &parent[..parent.rfind('/').map_or(0, |slash| slash + 1)];
    }
}

/// How long the longest common prefix that ends with a slash is, in bytes.
fn shared_folder(left: &str, right: &str) -> usize {
    let common = left.bytes().zip(right.bytes()).take_while(|(left, right)| left == right).count();
    left.as_bytes()[..common].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)
}

/// All that a segment may not carry as it is (RFC 3986 section 3.3, `pchar`), but for the slash between segments.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// What a query may not carry as it is; its escapes are left alone.
const QUERY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A path-absolute reference (RFC 3986 section 4.2) to `path`, which has no leading slash and no empty segment.
fn location(path: &str, query: Option<&str>) -> String {
    debug_assert!(!path.starts_with('/'), "a location never starts with two slashes");
    let mut location = String::with_capacity(path.len() + query.map_or(0, str::len) + 2);
    location.push('/');
    location.extend(utf8_percent_encode(path, PATH));
    if let Some(query) = query {
        location.push('?');
        location.extend(utf8_percent_encode(query, QUERY));
    }
    location
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinstone_engine::hash::BlobHash;
    use pinstone_engine::manifest::{ManifestBuilder, Settings};
    use pinstone_engine::path::SitePath;
    use proptest::prelude::*;

    fn site(paths: &[&str]) -> Manifest {
        let mut builder = ManifestBuilder::new(Settings::default());
        for path in paths {
            builder.add(SitePath::new(*path).unwrap(), BlobHash::of(path.as_bytes()), 1, "text/html");
        }
        Manifest::open(builder.finish().unwrap().1).unwrap()
    }

    /// The outcome as one word: a file's path, `308 LOCATION`, `404`, `404 PAGE` or `400`.
    fn outcome(manifest: &Manifest, target: &str) -> String {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        match resolve(manifest, path, query) {
            Ok(Resolution::Found(entry)) => entry.path.to_owned(),
            Ok(Resolution::Redirect(location)) => format!("308 {location}"),
            Ok(Resolution::NotFound(None)) => "404".to_owned(),
            Ok(Resolution::NotFound(Some(page))) => format!("404 {}", page.path),
            Err(_) => "400".to_owned(),
        }
    }

    #[test]
    fn the_table_of_keep() {
        let manifest = site(&["index.html", "file.html", "folder/index.html", "both.html", "both/index.html", "bin"]);
        for (target, want) in [
            ("/", "index.html"),
            ("/index.html", "index.html"),
            ("/index", "308 /"),
            ("/file", "file.html"),
            ("/file.html", "file.html"),
            ("/file/", "308 /file"),
            ("/bin", "bin"),
            ("/FILE", "404"),
            ("/folder", "308 /folder/"),
            ("/folder/", "folder/index.html"),
            ("/folder/index.html", "folder/index.html"),
            ("/both", "both.html"),
            ("/both/", "both/index.html"),
            ("/both.html", "both.html"),
            ("/bin/", "404"),
            // Beyond the table.
            ("/folder/index", "308 /folder/"),
            ("/folder/index/", "308 /folder/"),
            ("/index/", "308 /"),
            ("/index.html/", "404"),
            ("/file.html/", "404"),
            ("/file?a=1&b=%20", "file.html"),
            ("/file/?a=1&b=%20", "308 /file?a=1&b=%20"),
            ("/folder?", "308 /folder/?"),
            ("/fo%6Cder", "308 /folder/"),
            ("/folder%3F", "404"),
            ("//", "308 /"),
            ("//evil.example", "308 /evil.example"),
            ("///evil.example//", "308 /evil.example/"),
            ("/folder//?q", "308 /folder/?q"),
            ("//evil.example/..", "400"),
        ] {
            assert_eq!(outcome(&manifest, target), want, "{target}");
        }
    }

    #[test]
    fn a_redirect_is_made_only_to_the_very_content() {
        let manifest = site(&["page", "page.html", "a/index", "a/index.html", "index/index.html"]);
        for (target, want) in [
            ("/page", "page"),
            ("/page.html", "page.html"),
            ("/page/", "404"), // `/page` is another file
            ("/a/index", "a/index"),
            ("/a/index/", "308 /a/"),
            ("/index", "308 /index/"),
            ("/index/", "index/index.html"),
            ("/", "404"),
        ] {
            assert_eq!(outcome(&manifest, target), want, "{target}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (path, want) in [
            ("", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("a", PathError::NotAbsolute),
            ("/%", PathError::Escape),
            ("/%4", PathError::Escape),
            ("/%zz", PathError::Escape),
            ("/%+1", PathError::Escape),
            ("/a%00b", PathError::Nul),
            ("/%ff", PathError::NotUtf8),
            ("/%c3", PathError::NotUtf8),
            ("/%c0%ae", PathError::NotUtf8), // an overlong `.`
            ("/.", PathError::DotSegment),
            ("/..", PathError::DotSegment),
            ("/a/../b", PathError::DotSegment),
            ("/%2e%2E/x", PathError::DotSegment),
            ("/a/%2e", PathError::DotSegment),
            ("/a\\b", PathError::Backslash),
            ("/a%5Cb", PathError::Backslash),
            ("/a%2fb", PathError::EncodedSlash),
            ("/a%2Fb", PathError::EncodedSlash),
        ] {
            assert_eq!(decode(path), Err(want), "{path:?}");
        }
        for (path, want) in [
            ("/", ""),
            ("/a/b", "a/b"),
            ("/...", "..."),
            ("/a%2520", "a%20"), // decoded once
            ("/%E2%82%AC", "€"),
            ("/%0d%0a", "\r\n"),
            ("/a+b", "a+b"),
        ] {
            assert_eq!(decode(path).as_deref(), Ok(want), "{path:?}");
        }
    }

    #[test]
    fn locations_are_encoded() {
        let manifest = site(&["ü b/index.html", "a:b@c;d/index.html", "q?#%/index.html", "\u{e9}/index.html"]);
        for (target, want) in [
            ("/%C3%BC%20b", "308 /%C3%BC%20b/"),
            ("/a:b@c;d?x=\"<ü>\"", "308 /a:b@c;d/?x=%22%3C%C3%BC%3E%22"),
            ("/q%3f%23%25", "308 /q%3F%23%25/"),
            ("//%0d%0aX:y", "308 /%0D%0AX:y"),
            // A decomposed letter is found under its composed form.
            ("/e%CC%81/", "\u{e9}/index.html"),
            ("/e%CC%81", "308 /%C3%A9/"),
        ] {
            assert_eq!(outcome(&manifest, target), want, "{target}");
        }
    }

    #[test]
    fn the_nearest_404_page_answers() {
        let manifest = site(&["404.html", "a/404.html", "a/b/c/x.txt", "a!/z", "d/e.html"]);
        for (target, want) in [
            ("/x", "404 404.html"),
            ("/zzz/y/x", "404 404.html"),
            ("/a/x", "404 a/404.html"),
            ("/a/", "404 a/404.html"),
            ("/a/b/c/d", "404 a/404.html"),
            ("/a/b/c/x.txt/", "404 a/404.html"),
            ("/a/zz/", "404 a/404.html"),
            ("/a", "404 404.html"),
            ("/a!/y", "404 404.html"),
            ("/d/f", "404 404.html"),
            ("/404.html", "404.html"),
        ] {
            assert_eq!(outcome(&manifest, target), want, "{target}");
        }
        assert_eq!(outcome(&site(&["a/404.html"]), "/b"), "404");
        assert_eq!(outcome(&site(&[]), "/b/c"), "404");
        let deep = format!("/{}", "a/".repeat(4000));
        assert_eq!(outcome(&manifest, &deep), "404 a/404.html");
    }

    #[test]
    fn hidden_files_are_never_found() {
        let mut builder = ManifestBuilder::new(Settings::default());
        for path in ["_headers", "404.html", "a.html", "b/index.html", "index.html"] {
            builder.add_hidden(SitePath::new(path).unwrap(), BlobHash::of(b""), 0, "text/plain");
        }
        let manifest = Manifest::open(builder.finish().unwrap().1).unwrap();
        for target in ["/_headers", "/", "/a", "/a/", "/a.html", "/b", "/b/", "/index"] {
            assert_eq!(outcome(&manifest, target), "404", "{target}");
        }
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("index".to_owned()),
            Just("index.html".to_owned()),
            Just("a".to_owned()),
            Just("a.html".to_owned()),
            Just("404.html".to_owned()),
            Just("é".to_owned()),
            Just("e\u{301}".to_owned()),
            Just("b ?#%&:@".to_owned()),
        ]
    }

    fn file() -> impl Strategy<Value = String> {
        proptest::collection::vec(segment(), 1..4).prop_map(|segments| segments.join("/"))
    }

    fn target() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            8 => segment().prop_map(|segment| utf8_percent_encode(&segment, PATH).to_string()),
            2 => Just(String::new()),
            1 => Just("evil.example".to_owned()),
            1 => Just("%0d%0a".to_owned()),
            1 => "[!-~]{0,6}",
        ];
        proptest::collection::vec(part, 1..6).prop_map(|parts| format!("/{}", parts.join("/").replace('?', "")))
    }

    proptest! {
        #[test]
        fn redirects_stay_on_the_host_and_end(
            files in proptest::collection::btree_set(file(), 0..12),
            target in target(),
        ) {
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let manifest = site(&files);
            let mut target = target;
            let mut collapsed = false;
            for _ in 0..3 {
                let Ok(Resolution::Redirect(location)) = resolve(&manifest, &target, None) else {
                    return Ok(());
                };
                prop_assert!(location.starts_with('/') && !location.starts_with("//"), "{target:?} -> {location:?}");
                prop_assert!(location.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'), "{location:?}");
                prop_assert_ne!(&location, &target);
                let collapses = collapse(&decode(&target).unwrap()).is_some();
                prop_assert!(!(collapses && collapsed), "collapsed twice: {target:?}");
                if !collapses {
                    // A redirect that the html handling makes ends at once.
                    let ends = matches!(resolve(&manifest, &location, None), Ok(Resolution::Found(_)));
                    prop_assert!(ends, "{target:?} -> {location:?}");
                }
                collapsed |= collapses;
                target = location;
            }
            prop_assert!(false, "more than two redirects in a row");
        }

        #[test]
        fn no_path_panics(path in "\\PC{0,40}", escaped in "(/|%2e|%2f|%5c|%c3|%a9|\\.|a|%|//){0,12}") {
            let manifest = site(&["a/index.html", "404.html"]);
            let _ = resolve(&manifest, &path, Some(&escaped));
            let _ = resolve(&manifest, &format!("/{path}"), None);
            let _ = resolve(&manifest, &format!("/{escaped}"), None);
        }
    }
}
