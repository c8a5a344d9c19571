//! What holds for every html mode, every path and every site; and what the other tests share.

use std::collections::BTreeSet;

use percent_encoding::{percent_decode_str, utf8_percent_encode};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::manifest::{ManifestBuilder, NotFoundMode, Settings};
use pinstone_engine::path::SitePath;
use proptest::prelude::*;

use super::location::PATH;
use super::*;

/// An image.
pub(super) struct Site(pub(super) Manifest);

impl Site {
    pub(super) fn new(files: &[&str]) -> Self {
        Self::of(Settings::default(), files)
    }

    pub(super) fn with(html: HtmlMode, files: &[&str]) -> Self {
        Self::of(Settings { html, ..Settings::default() }, files)
    }

    /// A site whose files differ from one another.
    pub(super) fn of(settings: Settings, files: &[&str]) -> Self {
        let mut builder = ManifestBuilder::new(settings);
        for path in files {
            builder.add(SitePath::new(*path).unwrap(), BlobHash::of(path.as_bytes()), 1, "text/html");
        }
        Self(Manifest::open(builder.finish().unwrap().1).unwrap())
    }

    pub(super) fn mode(&self) -> HtmlMode {
        self.0.settings().html
    }
}

/// The outcome as one word: a file's path, `308 LOCATION`, `404`, `404 PAGE`, `200 PAGE or 404 PAGE`, or `400`.
pub(super) fn outcome(site: &Site, target: &str) -> String {
    outcome_under(site, None, target)
}

fn outcome_under(site: &Site, prefix: Option<Prefix<'_>>, target: &str) -> String {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let missing = |page: Option<Entry<'_>>| page.map_or("404".to_owned(), |page| format!("404 {}", page.path));
    match resolve_under(&site.0, prefix, path, query) {
        Ok(Resolution::Found(entry)) => entry.path.to_owned(),
        Ok(Resolution::Redirect(location)) => format!("308 {location}"),
        Ok(Resolution::NotFound(page)) => missing(page),
        Ok(Resolution::Shell { shell, page }) => format!("200 {} or {}", shell.path, missing(page)),
        Err(_) => "400".to_owned(),
    }
}

#[test]
fn locations_are_encoded() {
    let site = Site::new(&["ü b/index.html", "a:b@c;d/index.html", "q?#%/index.html", "\u{e9}/index.html"]);
    for (target, want) in [
        ("/%C3%BC%20b", "308 /%C3%BC%20b/"),
        ("/a:b@c;d?x=\"<ü>\"", "308 /a:b@c;d/?x=%22%3C%C3%BC%3E%22"),
        ("/q%3f%23%25", "308 /q%3F%23%25/"),
        ("//%0d%0aX:y", "308 /%0D%0AX:y"),
        // A decomposed letter is found under its composed form.
        ("/e%CC%81/", "\u{e9}/index.html"),
        ("/e%CC%81", "308 /%C3%A9/"),
    ] {
        assert_eq!(outcome(&site, target), want, "{target}");
    }
}

#[test]
fn a_host_with_a_prefix() {
    let files = ["index.html", "file.html", "folder/index.html", "docs/index.html", "404.html", "ü b.html"];
    let [keep, auto, dropped, forced] = [HtmlMode::Keep, HtmlMode::Auto, HtmlMode::DropSlash, HtmlMode::ForceSlash]
        .map(|mode| Site::with(mode, &files));
    for (site, prefix, target, want) in [
        // The prefix is removed first: everything else sees what remains.
        (&keep, "docs", "/docs/", "index.html"),
        (&keep, "docs", "/docs/file", "file.html"),
        (&keep, "docs", "/docs/docs/", "docs/index.html"),
        (&keep, "docs", "/docs/nothing", "404 404.html"),
        (&auto, "a/b", "/a/b/file", "file.html"),
        (&keep, "a b", "/a%20b/file", "file.html"),
        // The prefix itself is the start page's folder, in every mode.
        (&keep, "docs", "/docs", "308 /docs/"),
        (&auto, "docs", "/docs?q=1", "308 /docs/?q=1"),
        (&dropped, "docs", "/docs", "308 /docs/"),
        (&dropped, "docs", "/docs/", "index.html"),
        (&forced, "a/b", "/a/b", "308 /a/b/"),
        (&keep, "a b", "/a%20b", "308 /a%20b/"),
        // Every location gets it back.
        (&keep, "docs", "/docs/folder?q=%20", "308 /docs/folder/?q=%20"),
        (&keep, "docs", "/docs/docs", "308 /docs/docs/"),
        (&auto, "docs", "/docs/index.html", "308 /docs/"),
        (&auto, "docs", "/docs/folder/index.html", "308 /docs/folder/"),
        (&auto, "docs", "/docs/fi%6ce", "308 /docs/file"),
        (&dropped, "docs", "/docs/folder/", "308 /docs/folder"),
        (&forced, "a b", "/a%20b/%C3%BC%20b", "308 /a%20b/%C3%BC%20b/"),
        // Empty segments go wherever they are, in the same hop.
        (&keep, "docs", "//docs", "308 /docs/"),
        (&keep, "docs", "//docs//folder", "308 /docs/folder/"),
        (&keep, "docs", "/docs//", "308 /docs/"),
        (&keep, "docs", "/docs//evil.example", "308 /docs/evil.example"),
        // Elsewhere there is nothing of the image, not even its page for misses.
        (&keep, "docs", "/", "404"),
        (&keep, "docs", "/file", "404"),
        (&keep, "docs", "/docsy", "404"),
        (&keep, "docs", "/Docs/", "404"),
        (&keep, "docs", "//evil.example", "404"),
        (&keep, "a/b", "/a", "404"),
        (&keep, "a/b", "/a/", "404"),
        // What no site contains is refused, wherever it is.
        (&keep, "docs", "/docs/../x", "400"),
        (&keep, "docs", "/x/..", "400"),
        (&keep, "docs", "/docs%2ffile", "400"),
    ] {
        let found = outcome_under(site, Some(Prefix::new(prefix).unwrap()), target);
        assert_eq!(found, want, "{:?} under {prefix}: {target}", site.mode());
    }
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("index".to_owned()),
        Just("index.html".to_owned()),
        Just("a".to_owned()),
        Just("a.html".to_owned()),
        Just("a.html.html".to_owned()),
        Just(".html".to_owned()),
        Just("404.html".to_owned()),
        Just("200.html".to_owned()),
        Just("é".to_owned()),
        Just("é.html".to_owned()),
        Just("e\u{301}".to_owned()),
        Just("b ?#%&:@".to_owned()),
    ]
}

fn file() -> impl Strategy<Value = String> {
    proptest::collection::vec(segment(), 1..4).prop_map(|segments| segments.join("/"))
}

fn settings() -> impl Strategy<Value = Settings> {
    let html = prop_oneof![
        Just(HtmlMode::Keep),
        Just(HtmlMode::Auto),
        Just(HtmlMode::None),
        Just(HtmlMode::DropSlash),
        Just(HtmlMode::ForceSlash),
    ];
    let not_found = prop_oneof![Just(NotFoundMode::Page), Just(NotFoundMode::Spa)];
    (html, not_found).prop_map(|(html, not_found)| Settings { html, not_found, ..Settings::default() })
}

fn target() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => segment().prop_map(|segment| utf8_percent_encode(&segment, PATH).to_string()),
        2 => Just(String::new()),
        1 => Just("docs".to_owned()),
        1 => Just("%61".to_owned()),
        1 => Just("ind%65x.html".to_owned()),
        1 => Just("evil.example".to_owned()),
        1 => Just("%0d%0a".to_owned()),
        1 => "[!-~]{0,6}",
    ];
    proptest::collection::vec(part, 1..6).prop_map(|parts| format!("/{}", parts.join("/").replace(['?', '#'], "")))
}

/// The files that a path may mean in some html mode, however it is written.
fn meanings(path: &str) -> BTreeSet<String> {
    let path: String = path.nfc().collect();
    let mut bases = BTreeSet::from([path.trim_end_matches('/').to_owned()]);
    for ending in [".html", "/index", "index", "/index.html", "index.html"] {
        let shorter: Vec<String> =
            bases.iter().filter_map(|base| Some(base.strip_suffix(ending)?.trim_end_matches('/').to_owned())).collect();
        bases.extend(shorter);
    }
    let with = |base: &String| {
        let folder = if base.is_empty() { String::new() } else { format!("{base}/") };
        [base.clone(), format!("{base}.html"), format!("{folder}index.html")]
    };
    bases.iter().flat_map(with).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// A redirect stays on the host, keeps the query and ends after one hop: in a file that the path means, or, where
    /// only empty segments were taken out, in what a miss is answered with.
    #[test]
    fn redirects_end_after_one_hop_in_what_was_meant(
        settings in settings(),
        files in proptest::collection::btree_set(file(), 0..12),
        target in target(),
        query in proptest::option::of("[!\"$-~]{0,8}"),
        has_prefix in any::<bool>(),
    ) {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let site = Site::of(settings, &files);
        let prefix = has_prefix.then(|| Prefix::new("docs").unwrap());
        let query = query.as_deref();
        let Ok(Resolution::Redirect(location)) = resolve_under(&site.0, prefix, &target, query) else {
            return Ok(());
        };
        prop_assert!(location.starts_with('/') && !location.starts_with("//"), "{target:?} -> {location:?}");
        prop_assert!(location.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'#'), "{location:?}");
        let (path, kept) = location.split_once('?').map_or((&*location, None), |(path, query)| (path, Some(query)));
        let unescaped = |query: Option<&str>| query.map(|query| percent_decode_str(query).collect::<Vec<u8>>());
        prop_assert_eq!(unescaped(kept), unescaped(query), "the query of {}", location);
        prop_assert_ne!(path, &target);

        let asked = decode(&target).unwrap();
        let collapsed = decode::collapse(&asked);
        let asked = collapsed.as_deref().unwrap_or(&asked);
        let inside = if has_prefix { asked.strip_prefix("docs").unwrap().trim_start_matches('/') } else { asked };
        match resolve_under(&site.0, prefix, path, kept) {
            Ok(Resolution::Found(entry)) => {
                let meant = meanings(inside);
                let found: String = entry.path.nfc().collect();
                prop_assert!(meant.contains(&found), "{:?} -> {:?}: {:?} of {:?}", target, location, entry.path, meant);
            }
            Ok(Resolution::NotFound(_) | Resolution::Shell { .. }) => {
                let to_start = has_prefix && asked == "docs";
                prop_assert!(collapsed.is_some() || to_start, "{:?} -> {:?} is a miss", target, location);
            }
            again => prop_assert!(false, "{:?} -> {:?} -> {:?}", target, location, again),
        }
    }

    /// Every file of a site can be reached: at its own path, or by one redirect from there.
    #[test]
    fn every_file_is_reached_from_its_own_path(
        settings in settings(),
        files in proptest::collection::btree_set(file(), 0..12),
    ) {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let site = Site::of(settings, &files);
        for file in files {
            let mut target = format!("/{}", utf8_percent_encode(file, PATH));
            if let Ok(Resolution::Redirect(location)) = resolve(&site.0, &target, None) {
                prop_assert!(has_one_address(settings.html), "{:?}: {:?} -> {:?}", settings.html, target, location);
                target = location;
            }
            let found = resolve(&site.0, &target, None);
            prop_assert!(
                matches!(found, Ok(Resolution::Found(entry)) if entry.path == file),
                "{:?}: {:?} from {:?} is {:?}", settings.html, target, file, found
            );
        }
    }

    /// Where pages have one address, two paths never show the same file, but for how they are escaped or composed.
    #[test]
    fn a_page_has_one_address(
        settings in settings(),
        files in proptest::collection::btree_set(file(), 0..12),
        targets in proptest::collection::vec(target(), 1..12),
    ) {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let site = Site::of(settings, &files);
        let mut seen: Vec<(String, &str)> = Vec::new();
        for target in &targets {
            let Ok(Resolution::Found(entry)) = resolve(&site.0, target, None) else { continue };
            let path: String = decode(target).unwrap().nfc().collect();
            if let Some((other, _)) = seen.iter().find(|(_, file)| *file == entry.path) {
                prop_assert!(*other == path || !has_one_address(settings.html), "{other:?} and {path:?}");
            }
            seen.push((path, entry.path));
        }
    }

    #[test]
    fn no_path_panics(
        settings in settings(),
        path in "\\PC{0,40}",
        escaped in "(/|%2e|%2f|%5c|%c3|%a9|\\.|a|%|//|docs|index|\\.html){0,12}",
    ) {
        let site = Site::of(settings, &["a/index.html", "404.html", "200.html"]);
        let prefix = Some(Prefix::new("docs").unwrap());
        let _ = resolve(&site.0, &path, Some(&escaped));
        for target in [&path, &escaped] {
            let _ = resolve(&site.0, &format!("/{target}"), None);
            let _ = resolve_under(&site.0, prefix, &format!("/{target}"), None);
        }
    }
}
