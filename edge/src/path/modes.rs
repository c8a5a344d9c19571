//! From a decoded path to the page that it means: the html modes. Pure.
//!
//! * `keep`: a file is at its own path. A page is also found without its ending, and a folder's page at its folder.
//! * `none`: a file is at its own path, and nothing else is anywhere.
//! * `auto`, `drop-slash` and `force-slash` give each page one address, and differ in where that ends with a slash. What
//!   the path shows, or else the page that it most likely means, is looked for first; if that has another address, the
//!   path leads there. An address is one only if it shows the page: where `page` and `page.html` are two files, the
//!   second has no address but its own path.
//!
//! A path comes in decoded, without a leading slash and without empty segments, and goes out so.

use pinstone_engine::manifest::{Entry, HtmlMode, Manifest};

use super::visible;

/// What a path comes to.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Step<'m> {
    /// This file.
    Found(Entry<'m>),
    /// Another path, which comes to the file that was meant.
    Redirect(String),
    /// Nothing.
    Miss,
}

/// Finds what `path` comes to.
pub(super) fn find<'m>(manifest: &'m Manifest, mode: HtmlMode, path: &str) -> Step<'m> {
    if has_candidates(manifest, path) { look_for(manifest, mode, path) } else { Step::Miss }
}

/// Whether there is any file that `path` may come to, in any mode. All of them begin alike, so they are neighbours in the
/// order of paths, and most misses are found out by one search instead of five.
fn has_candidates(manifest: &Manifest, path: &str) -> bool {
    let stem = path.strip_suffix('/').unwrap_or(path);
    let stem = stem.strip_suffix(".html").unwrap_or(stem);
    let stem = folder_of_index(stem).unwrap_or(stem);
    let stem = stem.strip_suffix('/').unwrap_or(stem);
    let first = manifest.lower_bound(stem);
    first < manifest.len() && manifest.entry(first).path.starts_with(stem)
}

fn look_for<'m>(manifest: &'m Manifest, mode: HtmlMode, path: &str) -> Step<'m> {
    let slash = match mode {
        HtmlMode::Keep => return keep(manifest, path),
        HtmlMode::None => return visible(manifest, path).map_or(Step::Miss, Step::Found),
        HtmlMode::Auto => Slash::OfFolders,
        HtmlMode::DropSlash => Slash::Dropped,
        HtmlMode::ForceSlash => Slash::Forced,
    };
    Pages { manifest, slash, name: String::with_capacity(path.len() + "/index.html".len()) }.find(path)
}

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

/// Which addresses of pages end with a slash. The root's always does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Slash {
    /// Those of folders: `auto`.
    OfFolders,
    /// None: `drop-slash`.
    Dropped,
    /// All: `force-slash`.
    Forced,
}

/// A path, taken apart. The root is an empty path with a slash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Address<'p> {
    /// The path without a trailing slash.
    base: &'p str,
    /// Whether it has one.
    slash: bool,
}

impl<'p> Address<'p> {
    fn of(path: &'p str) -> Self {
        match path.strip_suffix('/') {
            Some(base) => Self { base, slash: true },
            None => Self { base: path, slash: path.is_empty() },
        }
    }

    /// A file's own path.
    fn exact(file: &'p str) -> Self {
        Self { base: file, slash: false }
    }

    fn to_path(self) -> String {
        let slash = if self.slash && !self.base.is_empty() { "/" } else { "" };
        [self.base, slash].concat()
    }
}

impl Slash {
    /// Where a file should be: a page without its ending, a folder's page at its folder, anything else at its path.
    fn address(self, file: &str) -> Address<'_> {
        let folder = if file == "index.html" { Some("") } else { file.strip_suffix("/index.html") };
        if let Some(folder) = folder {
            return Address { base: folder, slash: folder.is_empty() || self != Self::Dropped };
        }
        match file.strip_suffix(".html") {
            // A file that is called `.html` has no name to be found by.
            Some(page) if !page.is_empty() && !page.ends_with('/') => {
                Address { base: page, slash: self == Self::Forced }
            }
            _ => Address::exact(file),
        }
    }
}

/// The pages of an image that have one address each.
struct Pages<'m> {
    manifest: &'m Manifest,
    slash: Slash,
    /// Where names are put together.
    name: String,
}

impl<'m> Pages<'m> {
    fn find(&mut self, path: &str) -> Step<'m> {
        let asked = Address::of(path);
        if let Some(entry) = self.shown_at(asked) {
            // Where the file should be and this are the same, nothing has to be looked up to know that it is there.
            let address = if self.slash.address(entry.path) == asked { asked } else { self.address(entry.path) };
            return if address == asked { Step::Found(entry) } else { Step::Redirect(address.to_path()) };
        }
        for parts in meant(asked).into_iter().flatten() {
            // A page that is only at its own path was not meant: who asks for `/bin2/` does not want `bin2.html`, if
            // `/bin2` is another file.
            if let Some(entry) = self.get(parts) {
                let address = self.address(entry.path);
                if address != Address::exact(entry.path) {
                    return Step::Redirect(address.to_path());
                }
            }
        }
        Step::Miss
    }

    /// The file that an address shows, whether or not it is the file's only address.
    fn shown_at(&mut self, at: Address<'_>) -> Option<Entry<'m>> {
        let Address { base, slash } = at;
        match (slash, self.slash) {
            (true, Slash::Dropped) if !base.is_empty() => None,
            (true, _) if base.is_empty() => visible(self.manifest, "index.html"),
            (true, Slash::Forced) => self.get([base, "/index.html"]).or_else(|| self.get([base, ".html"])),
            (true, Slash::OfFolders | Slash::Dropped) => self.get([base, "/index.html"]),
            (false, Slash::Forced) => visible(self.manifest, base),
            (false, Slash::OfFolders) => visible(self.manifest, base).or_else(|| self.get([base, ".html"])),
            (false, Slash::Dropped) => visible(self.manifest, base)
                .or_else(|| self.get([base, ".html"]))
                .or_else(|| self.get([base, "/index.html"])),
        }
    }

    /// Where a file is to be found: where it should be, if that shows it, or else its own path.
    fn address(&mut self, file: &'m str) -> Address<'m> {
        let address = self.slash.address(file);
        if self.shown_at(address).is_some_and(|shown| shown.path == file) { address } else { Address::exact(file) }
    }

    fn get(&mut self, parts: [&str; 2]) -> Option<Entry<'m>> {
        self.name.clear();
        self.name.extend(parts);
        visible(self.manifest, &self.name)
    }
}

/// The files that a path which shows nothing may mean, as two parts of their paths; the likeliest first.
fn meant(asked: Address<'_>) -> [Option<[&str; 2]>; 4] {
    let Address { base, slash } = asked;
    let page = Some([base, ".html"]);
    let of_folder = Some([base, "/index.html"]);
    // `page/index` and `page/index.html` may mean `page.html`.
    let as_page = |index| folder_of_index(index)?.strip_suffix('/').map(|folder| [folder, ".html"]);
    match base.strip_suffix(".html") {
        _ if slash => [page, of_folder, None, None],
        Some(name) if folder_of_index(name).is_some() => [as_page(name), page, of_folder, None],
        // `folder.html` may mean `folder/index.html`.
        Some(name) => [Some([name, "/index.html"]), page, of_folder, None],
        None => [page, as_page(base), of_folder, None],
    }
}

#[cfg(test)]
mod tests {
    use pinstone_engine::manifest::HtmlMode::{Auto, DropSlash, ForceSlash, Keep, None};

    use crate::path::tests::{Site, outcome};

    /// The files of the contract's table.
    const CONTRACT: &[&str] = &["index.html", "file.html", "folder/index.html", "both.html", "both/index.html", "bin"];

    /// The files that other hosts were measured with.
    const MEASURED: &[&str] = &[
        "index.html",
        "file.html",
        "folder/index.html",
        "both.html",
        "both/index.html",
        "bin",
        "bin2",
        "bin2.html",
        "404.html",
        "blog/404.html",
        "a b.html",
        "x.txt",
    ];

    #[test]
    fn the_tables_of_keep_and_auto() {
        let (keep, auto) = (Site::with(Keep, CONTRACT), Site::with(Auto, CONTRACT));
        for (target, want_of_keep, want_of_auto) in [
            ("/", "index.html", "index.html"),
            ("/index.html", "index.html", "308 /"),
            ("/index", "308 /", "308 /"),
            ("/file", "file.html", "file.html"),
            ("/file.html", "file.html", "308 /file"),
            ("/file/", "308 /file", "308 /file"),
            ("/bin", "bin", "bin"),
            ("/FILE", "404", "404"),
            ("/folder", "308 /folder/", "308 /folder/"),
            ("/folder/", "folder/index.html", "folder/index.html"),
            ("/folder/index.html", "folder/index.html", "308 /folder/"),
            ("/both", "both.html", "both.html"),
            ("/both/", "both/index.html", "both/index.html"),
            ("/both.html", "both.html", "308 /both"),
            ("/bin/", "404", "404"),
        ] {
            assert_eq!(outcome(&keep, target), want_of_keep, "keep: {target}");
            assert_eq!(outcome(&auto, target), want_of_auto, "auto: {target}");
        }
    }

    #[test]
    fn the_measured_tables_of_auto_force_drop_and_none() {
        const MISS: &str = "404 404.html";
        let modes = [Auto, ForceSlash, DropSlash, None];
        let sites = modes.map(|mode| Site::with(mode, MEASURED));
        for (target, want) in [
            ("/", ["index.html", "index.html", "index.html", MISS]),
            ("/index", ["308 /", "308 /", "308 /", MISS]),
            ("/index.html", ["308 /", "308 /", "308 /", "index.html"]),
            ("/file", ["file.html", "308 /file/", "file.html", MISS]),
            ("/file.html", ["308 /file", "308 /file/", "308 /file", "file.html"]),
            ("/file/", ["308 /file", "file.html", "308 /file", MISS]),
            ("/file/index", ["308 /file", "308 /file/", "308 /file", MISS]),
            ("/file/index.html", ["308 /file", "308 /file/", "308 /file", MISS]),
            ("/folder", ["308 /folder/", "308 /folder/", "folder/index.html", MISS]),
            ("/folder.html", ["308 /folder/", "308 /folder/", "308 /folder", MISS]),
            ("/folder/", ["folder/index.html", "folder/index.html", "308 /folder", MISS]),
            ("/folder/index", ["308 /folder/", "308 /folder/", "308 /folder", MISS]),
            ("/folder/index.html", ["308 /folder/", "308 /folder/", "308 /folder", "folder/index.html"]),
            ("/both", ["both.html", "308 /both/", "both.html", MISS]),
            ("/both/", ["both/index.html", "both/index.html", "308 /both", MISS]),
            ("/both.html", ["308 /both", "both.html", "308 /both", "both.html"]),
            ("/both/index.html", ["308 /both/", "308 /both/", "both/index.html", "both/index.html"]),
            ("/bin", ["bin"; 4]),
            ("/bin/", [MISS; 4]),
            ("/bin.html", [MISS; 4]),
            ("/bin2", ["bin2"; 4]),
            ("/bin2.html", ["bin2.html", "308 /bin2/", "bin2.html", "bin2.html"]),
            ("/bin2/", [MISS, "bin2.html", MISS, MISS]),
            ("/x.txt", ["x.txt"; 4]),
            ("/x.txt/", [MISS; 4]),
            ("/a%20b", ["a b.html", "308 /a%20b/", "a b.html", MISS]),
            // Measured for `none` is a redirect to `/file`, which is not there: no redirect of ours leads to a miss.
            ("/fi%6ce", ["308 /file", "308 /file/", "308 /file", MISS]),
            ("//file", ["308 /file", "308 /file/", "308 /file", "308 /file"]),
            ("/FILE", [MISS; 4]),
            ("/blog/x/y", ["404 blog/404.html"; 4]),
        ] {
            for ((mode, site), want) in modes.iter().zip(&sites).zip(want) {
                assert_eq!(outcome(site, target), want, "{mode:?}: {target}");
            }
        }
    }

    #[test]
    fn beyond_the_tables_of_keep() {
        let site = Site::with(Keep, CONTRACT);
        for (target, want) in [
            ("/folder/index", "308 /folder/"),
            ("/folder/index/", "308 /folder/"),
            ("/index/", "308 /"),
            ("/index.html/", "404"),
            ("/file.html/", "404"),
            ("/file?a=1&b=%20", "file.html"),
            ("/file/?a=1&b=%20", "308 /file?a=1&b=%20"),
            ("/folder?", "308 /folder/?"),
            ("/fo%6Cder", "308 /folder/"),
            ("/fi%6Ce", "file.html"),
            ("/folder%3F", "404"),
            ("//", "308 /"),
            ("//file/", "308 /file"),
            ("//folder?q", "308 /folder/?q"),
            ("//evil.example", "308 /evil.example"),
            ("///evil.example//", "308 /evil.example/"),
            ("/folder//?q", "308 /folder/?q"),
            ("//evil.example/..", "400"),
        ] {
            assert_eq!(outcome(&site, target), want, "{target}");
        }
    }

    #[test]
    fn a_redirect_is_made_only_to_the_very_content() {
        let files = ["page", "page.html", "a/index", "a/index.html", "index/index.html"];
        let site = Site::with(Keep, &files);
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
            assert_eq!(outcome(&site, target), want, "{target}");
        }
        let sites = [Auto, ForceSlash, DropSlash].map(|mode| Site::with(mode, &files));
        for (target, want) in [
            ("/page", ["page", "page", "page"]),
            ("/page.html", ["page.html", "308 /page/", "page.html"]),
            ("/page/", ["404", "page.html", "404"]),
            ("/a/index", ["a/index", "a/index", "a/index"]),
            ("/a/index/", ["308 /a/", "308 /a/", "308 /a"]),
            ("/a/index.html", ["308 /a/", "308 /a/", "308 /a"]),
            ("/index", ["308 /index/", "308 /index/", "index/index.html"]),
            ("/index/", ["index/index.html", "index/index.html", "308 /index"]),
            ("/index.html", ["404", "404", "404"]),
            ("/", ["404", "404", "404"]),
        ] {
            for (site, want) in sites.iter().zip(want) {
                assert_eq!(outcome(site, target), want, "{:?}: {target}", site.mode());
            }
        }
    }

    #[test]
    fn names_that_look_like_addresses() {
        let files = [".html", "f/.html", "g.html.html", "h.html.html", "h/index.html", "e/index.html/index.html"];
        let sites = [Auto, ForceSlash, DropSlash].map(|mode| Site::with(mode, &files));
        for (target, want) in [
            ("/", ["404", "404", "404"]),
            ("/.html", [".html", ".html", ".html"]),
            ("/f/", ["404", "404", "404"]),
            ("/f/.html", ["f/.html", "f/.html", "f/.html"]),
            ("/g.html", ["g.html.html", "308 /g.html/", "g.html.html"]),
            ("/g.html.html", ["308 /g.html", "308 /g.html/", "308 /g.html"]),
            ("/g", ["404", "404", "404"]),
            ("/h.html", ["h.html.html", "308 /h/", "h.html.html"]),
            ("/h", ["308 /h/", "308 /h/", "h/index.html"]),
            ("/e/index.html", ["308 /e/index.html/", "308 /e/index.html/", "e/index.html/index.html"]),
            ("/e/index.html/", ["e/index.html/index.html", "e/index.html/index.html", "308 /e/index.html"]),
            ("/e/", ["404", "404", "404"]),
        ] {
            for (site, want) in sites.iter().zip(want) {
                assert_eq!(outcome(site, target), want, "{:?}: {target}", site.mode());
            }
        }
    }

    #[test]
    fn no_candidate_is_overlooked() {
        let parts = ["", "a", "index", ".html", "/", "a.html", "index.html", "b"];
        let mut paths = std::collections::BTreeSet::from([String::new()]);
        for _ in 0..3 {
            let longer = paths.iter().flat_map(|path| parts.map(|part| [path, part].concat()));
            paths = longer.filter(|path| !path.starts_with('/') && !path.contains("//")).collect();
        }
        let mut found = 0;
        for file in paths.iter().filter(|path| !path.is_empty() && !path.ends_with('/')) {
            for mode in [Keep, Auto, DropSlash, ForceSlash, None] {
                let site = Site::with(mode, &[file, "c", "Z", "index.htm"]);
                for path in &paths {
                    let step = super::look_for(&site.0, mode, path);
                    assert_eq!(super::find(&site.0, mode, path), step, "{mode:?}: {path} where there is {file}");
                    found += usize::from(step != super::Step::Miss);
                }
            }
        }
        assert!(found > 1000, "{found}");
    }

    #[test]
    fn one_address_and_its_escapes() {
        let site = Site::with(Auto, &["~user/a b.html", "\u{e9}.html", "[id].html", "x.txt"]);
        for (target, want) in [
            ("/~user/a%20b", "~user/a b.html"),
            ("/%7Euser/a%20b?q=%41", "308 /~user/a%20b?q=%41"),
            ("/%7euser/%61%20b.html", "308 /~user/a%20b"),
            ("/%C3%A9", "\u{e9}.html"),
            ("/%c3%a9", "\u{e9}.html"),
            ("/[id]", "[id].html"), // clients differ in whether they escape these
            ("/%5Bid%5D", "[id].html"),
            ("/%78.txt", "308 /x.txt"),
            ("/%79.txt", "404"),
        ] {
            assert_eq!(outcome(&site, target), want, "{target}");
        }
    }
}
