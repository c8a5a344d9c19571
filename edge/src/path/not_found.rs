//! What a path that leads nowhere is answered with. Pure.

use pinstone_engine::manifest::{Entry, Manifest, NotFoundMode};

use super::{Resolution, visible};

/// Answers a miss: by the site's one page, where it is one, or by the nearest page that says so.
pub(super) fn resolution<'m>(manifest: &'m Manifest, path: &str) -> Resolution<'m> {
    let page = nearest_page(manifest, path);
    match shell(manifest) {
        Some(shell) if !names_asset(path) => Resolution::Shell { shell, page },
        _ => Resolution::NotFound(page),
    }
}

/// The page that a site shows under all its addresses: its `200.html`, or its start page where the settings say `spa`.
fn shell(manifest: &Manifest) -> Option<Entry<'_>> {
    visible(manifest, "200.html").or_else(|| match manifest.settings().not_found {
        NotFoundMode::Spa => visible(manifest, "index.html"),
        NotFoundMode::Page => None,
    })
}

/// The nearest `404.html`, walking up from `path`.
///
/// Only folders that the site has are looked into: they are the folders that `path` shares with its neighbours in the
/// order of paths, so a path of thousands of segments costs one search more than a short one.
fn nearest_page<'m>(manifest: &'m Manifest, path: &str) -> Option<Entry<'m>> {
    let after = manifest.lower_bound(path);
    let before = after.checked_sub(1);
    let neighbours = before.into_iter().chain((after < manifest.len()).then_some(after));
    let shared = neighbours.map(|index| shared_folder(path, manifest.entry(index).path)).max().unwrap_or(0);
    let mut folder = &path[..shared];
    loop {
        if let Some(entry) = visible(manifest, &[folder, "404.html"].concat()) {
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

/// Extensions of what pages are made of or link to. Who asks for such a file is not helped by another page.
///
/// Not among them are endings of what may as well be a name in an address: of pages (`html`, `php`), of source code
/// and notes (`rs`, `md`), of domains (`com`).
const ASSETS: &str =
    "js mjs cjs css map wasm json jsonld geojson webmanifest xml xsl rss atom txt csv tsv ics vcf bin dat
    png apng jpg jpeg gif webp avif jxl svg ico cur bmp tif tiff heic woff woff2 ttf otf eot
    mp4 m4v webm ogv mov avi mkv m3u8 mpd vtt srt mp3 m4a aac ogg oga opus wav flac
    pdf epub doc docx xls xlsx ppt pptx odt ods odp rtf
    zip gz tgz bz2 xz zst br 7z rar tar jar exe msi dmg pkg deb rpm apk iso glb gltf usdz";

/// Whether the last segment of a path ends like a file that is part of pages.
fn names_asset(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((_, extension)) = name.rsplit_once('.') else { return false };
    ASSETS.split_ascii_whitespace().any(|known| known.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use pinstone_engine::hash::BlobHash;
    use pinstone_engine::manifest::{HtmlMode, Manifest, ManifestBuilder, Settings};
    use pinstone_engine::path::SitePath;

    use super::*;
    use crate::path::tests::{Site, outcome};

    #[test]
    fn the_nearest_404_page_answers() {
        let site = Site::new(&["404.html", "a/404.html", "a/b/c/x.txt", "a!/z", "d/e.html"]);
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
            assert_eq!(outcome(&site, target), want, "{target}");
        }
        assert_eq!(outcome(&Site::new(&["a/404.html"]), "/b"), "404");
        assert_eq!(outcome(&Site::new(&[]), "/b/c"), "404");
        let deep = format!("/{}", "a/".repeat(4000));
        assert_eq!(outcome(&site, &deep), "404 a/404.html");
    }

    #[test]
    fn hidden_files_are_never_found() {
        for html in HTML_MODES {
            let mut builder =
                ManifestBuilder::new(Settings { html, not_found: NotFoundMode::Spa, ..Settings::default() });
            for path in ["_headers", "200.html", "404.html", "a.html", "b/index.html", "index.html"] {
                builder.add_hidden(SitePath::new(path).unwrap(), BlobHash::of(b""), 0, "text/plain");
            }
            let site = Site(Manifest::open(builder.finish().unwrap().1).unwrap());
            for target in ["/_headers", "/", "/a", "/a/", "/a.html", "/b", "/b/", "/index", "/200", "/404.html"] {
                assert_eq!(outcome(&site, target), "404", "{html:?}: {target}");
            }
        }
    }

    const HTML_MODES: [HtmlMode; 5] =
        [HtmlMode::Keep, HtmlMode::Auto, HtmlMode::None, HtmlMode::DropSlash, HtmlMode::ForceSlash];

    #[test]
    fn sites_that_are_one_page() {
        let files = ["index.html", "about.html", "200.html", "404.html", "docs/404.html"];
        let (explicit, page) = (NotFoundMode::Spa, NotFoundMode::Page);
        for (not_found, files, target, want) in [
            // A `200.html` in the root makes the site one, and goes before the start page.
            (page, &files[..], "/x", "200 200.html or 404 404.html"),
            (page, &files, "/docs/x", "200 200.html or 404 docs/404.html"),
            (page, &files, "/docs/", "200 200.html or 404 docs/404.html"),
            (explicit, &files, "/x", "200 200.html or 404 404.html"),
            (page, &["a/200.html"], "/a/x", "404"),
            (explicit, &files[..2], "/x", "200 index.html or 404"),
            (explicit, &files[1..2], "/x", "404"),
            (page, &files[..2], "/x", "404"),
            // Files are found as ever.
            (explicit, &files, "/about", "about.html"),
            (explicit, &files, "/about/", "308 /about"),
            (explicit, &files, "/200.html", "200.html"),
            (explicit, &files, "//x", "308 /x"),
            // A missing asset is missing.
            (explicit, &files, "/x.js", "404 404.html"),
            (explicit, &files, "/docs/x.PNG", "404 docs/404.html"),
            (explicit, &files, "/docs/x.png/", "404 docs/404.html"),
            (explicit, &files, "/robots.txt", "404 404.html"),
            (explicit, &files, "/assets/index-BX2kq9Zt.js.map", "404 404.html"),
            (explicit, &files, "/.json", "404 404.html"),
            // What only looks like an extension belongs to an address.
            (explicit, &files, "/users/john.doe", "200 200.html or 404 404.html"),
            (explicit, &files, "/users/j@example.com", "200 200.html or 404 404.html"),
            (explicit, &files, "/v1.2", "200 200.html or 404 404.html"),
            (explicit, &files, "/blob/main/README.md", "200 200.html or 404 404.html"),
            (explicit, &files, "/page.html", "200 200.html or 404 404.html"),
            (explicit, &files, "/a.js/b", "200 200.html or 404 404.html"),
            (explicit, &files, "/dot.", "200 200.html or 404 404.html"),
        ] {
            let site = Site::of(Settings { not_found, ..Settings::default() }, files);
            assert_eq!(outcome(&site, target), want, "{not_found:?} {files:?}: {target}");
        }
    }

    #[test]
    fn the_one_page_in_every_html_mode() {
        for html in HTML_MODES {
            let settings = Settings { html, not_found: NotFoundMode::Spa, ..Settings::default() };
            let site = Site::of(settings, &["index.html", "bin", "bin.html"]);
            assert_eq!(outcome(&site, "/a/route"), "200 index.html or 404", "{html:?}");
            assert_eq!(outcome(&site, "/a/route/"), "200 index.html or 404", "{html:?}");
            assert_eq!(outcome(&site, "/missing.js"), "404", "{html:?}");
        }
    }
}
