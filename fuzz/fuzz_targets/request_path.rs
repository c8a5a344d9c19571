//! A path of a request is refused, found, redirected or not found, in every html mode, with and without a prefix; a
//! redirect stays on the host, keeps the query and ends after one hop.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pinstone_edge::path::{Prefix, Resolution, decode, resolve_under};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::manifest::{HtmlMode, Manifest, ManifestBuilder, NotFoundMode, Settings};
use pinstone_engine::path::SitePath;

static SITES: LazyLock<Vec<Manifest>> = LazyLock::new(|| {
    let modes = [HtmlMode::Keep, HtmlMode::Auto, HtmlMode::None, HtmlMode::DropSlash, HtmlMode::ForceSlash];
    let settings = modes.into_iter().flat_map(|html| {
        [NotFoundMode::Page, NotFoundMode::Spa].map(|not_found| Settings { html, not_found, ..Settings::default() })
    });
    settings.map(site).collect()
});

fn site(settings: Settings) -> Manifest {
    let mut builder = ManifestBuilder::new(settings);
    for path in [
        "index.html",
        "404.html",
        "a",
        "a.html",
        "a/index.html",
        "b.html",
        "b/c.html",
        "d/index.html",
        "d/404.html",
        "index/index.html",
        "e/index.html/index.html",
        "g.html.html",
        "\u{fc}.html",
        ".html",
        "f/.html",
    ] {
        let path = SitePath::new(path).expect("a plain path");
        builder.add(path, BlobHash::of(b"x"), 1, "text/html; charset=utf-8");
    }
    builder.add_hidden(SitePath::new("_headers").expect("a plain path"), BlobHash::of(b"h"), 1, "text/plain");
    let (_, bytes) = builder.finish().expect("the paths differ");
    Manifest::open(bytes).expect("it was just written")
}

fuzz_target!(|input: (&str, Option<&str>)| {
    let (path, query) = input;
    // What HTTP lets into a path and a query.
    let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    if !visible(path) || !query.is_none_or(visible) {
        return;
    }
    let prefix = Prefix::new("a/b").expect("a plain path");
    for site in SITES.iter() {
        check(site, None, path, query);
        check(site, Some(prefix), path, query);
    }
});

fn check(site: &Manifest, prefix: Option<Prefix<'_>>, path: &str, query: Option<&str>) {
    let decoded = decode(path);
    let target = match resolve_under(site, prefix, path, query) {
        Err(error) => return assert_eq!(decoded, Err(error)),
        Ok(Resolution::Found(entry)) => return assert!(!entry.hidden),
        Ok(Resolution::NotFound(page)) => return assert!(page.is_none_or(|page| page.path.ends_with("404.html"))),
        Ok(Resolution::Shell { shell, .. }) => return assert_eq!(shell.path, "index.html"),
        Ok(Resolution::Redirect(target)) => target,
    };
    let settings = site.settings();
    assert!(target.starts_with('/') && !target.starts_with("//"), "{path} leads to {target}: {settings:?}");
    assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\'), "{path} leads to {target:?}");
    let (to, kept) = target.split_once('?').map_or((&*target, None), |(path, query)| (path, Some(query)));
    // What a header field must not have is escaped on the way.
    assert_eq!(kept.map(unescape), query.map(unescape), "the query is kept");
    let has_empty_segment = path.contains("//");
    let is_prefix = prefix.is_some_and(|prefix| decoded.is_ok_and(|path| path == prefix.as_str()));
    match resolve_under(site, prefix, to, kept).expect("a redirect leads to a path") {
        Resolution::Found(_) => {}
        Resolution::NotFound(_) | Resolution::Shell { .. } if has_empty_segment || is_prefix => {}
        next => panic!("{path} leads to {target} and there to {next:?}: {settings:?}"),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let escaped = rest.strip_prefix('%').and_then(|rest| u8::from_str_radix(rest.get(..2)?, 16).ok());
        let length = if escaped.is_some() { 3 } else { first.len_utf8() };
        bytes.extend(escaped.map_or_else(|| rest.as_bytes()[..length].to_vec(), |byte| vec![byte]));
        rest = &rest[length..];
    }
    bytes
}
