//! The files that every server serves: the same bytes from the same seed, and folders of one's own beside them.
//!
//! Bytes are random, so that no server and no file system gains by packing them. Pages have sizes of 0.7 to 20 KiB,
//! many small ones and few large ones, as sites do.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// How many pages there are.
pub(crate) const PAGES: usize = 4000;
const SMALLEST_PAGE: f64 = 700.0;
const LARGEST_PAGE: f64 = 20_480.0;

/// Files of one size, by URL path.
pub(crate) const SIZES: [(&str, usize); 5] =
    [("/1k.bin", 1 << 10), ("/16k.bin", 16 << 10), ("/100k.bin", 100 << 10), ("/10m.bin", 10 << 20), OF_RANGES];
/// The one that ranges are of: servers may be told to send it in another way than what is sent whole.
pub(crate) const OF_RANGES: (&str, usize) = ("/ranges.bin", 10 << 20);
/// What no server has.
pub(crate) const MISSING: &str = "/no/such/page.html";
/// What no server has either, and which servers that can be told to remember that look for each time.
pub(crate) const LOOKED_FOR: &str = "/no/such/page-looked-for.html";
/// What a server that knows about it shows instead.
const NOT_FOUND_PAGE: &str = "<!doctype html><title>Not found</title><p>There is no such page.\n";

/// A file of the corpus.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// As it stands in a request: percent-encoded, with a leading slash.
    pub(crate) url: String,
    pub(crate) file: PathBuf,
}

/// All that is served.
#[derive(Clone, Debug)]
pub(crate) struct Corpus {
    pub(crate) root: PathBuf,
    pub(crate) sizes: Vec<Page>,
    pub(crate) pages: Vec<Page>,
    /// One for each folder that was named.
    pub(crate) folders: Vec<Vec<Page>>,
}

impl Corpus {
    /// Writes the corpus into `root`, which must not exist, and copies `folders` into it.
    pub(crate) fn create(root: &Path, seed: u64, folders: &[PathBuf]) -> Result<Self> {
        Self::with_pages(root, seed, folders, PAGES)
    }

    fn with_pages(root: &Path, seed: u64, folders: &[PathBuf], count: usize) -> Result<Self> {
        fs::create_dir_all(root.join("pages")).with_context(|| format!("cannot create {}", root.display()))?;
        let mut random = Random::new(seed);
        let mut sizes = Vec::new();
        for (url, size) in SIZES.into_iter().filter(|file| *file != OF_RANGES) {
            sizes.push(write(root, url.to_owned(), &random.bytes(size))?);
        }
        fs::write(root.join("404.html"), NOT_FOUND_PAGE)?;
        let mut pages = Vec::with_capacity(count);
        for number in 0..count {
            let bytes = random.page();
            pages.push(write(root, format!("/pages/{:02}/page-{number:04}.html", number % 40), &bytes)?);
        }
        // Behind them, so that a seed makes the pages that it always made.
        sizes.push(write(root, OF_RANGES.0.to_owned(), &random.bytes(OF_RANGES.1))?);
        let mut sets = Vec::new();
        for (number, folder) in folders.iter().enumerate() {
            let mut found = Vec::new();
            copy(folder, &root.join(format!("folder-{number}")), &format!("/folder-{number}"), &mut found)?;
            ensure!(!found.is_empty(), "{} holds no file that a site would have", folder.display());
            found.sort_by(|one, other| one.url.cmp(&other.url));
            sets.push(found);
        }
        Ok(Self { root: root.to_owned(), sizes, pages, folders: sets })
    }

    /// Every file that is asked for.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Page> {
        self.sizes.iter().chain(&self.pages).chain(self.folders.iter().flatten())
    }
}

/// Writes `count` small files in folders of 250, for publishing.
pub(crate) fn small_files(root: &Path, seed: u64, count: usize) -> Result<()> {
    let mut random = Random::new(seed);
    for number in 0..count {
        let file = small_file(root, number);
        if number % 250 == 0 {
            fs::create_dir_all(file.parent().context("it has a folder")?)?;
        }
        let size = 256 + random.below(7936);
        fs::write(&file, random.bytes(size)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Gives `count` of `of` small files other content, as `seed` says.
pub(crate) fn change_small_files(root: &Path, seed: u64, count: usize, of: usize) -> Result<()> {
    let mut random = Random::new(seed);
    for number in 0..count {
        let size = 256 + random.below(7936);
        fs::write(small_file(root, number * (of / count.max(1)).max(1) % of), random.bytes(size))?;
    }
    Ok(())
}

/// Writes the hot file of 1 KiB and `count` cold files of 1 MiB. Gives the URL paths of the cold ones.
pub(crate) fn cold_files(root: &Path, seed: u64, count: usize) -> Result<Vec<String>> {
    let mut random = Random::new(seed);
    write(root, "/1k.bin".to_owned(), &random.bytes(1 << 10))?;
    (0..count).map(|number| Ok(write(root, format!("/cold/{number:04}.bin"), &random.bytes(1 << 20))?.url)).collect()
}

fn small_file(root: &Path, number: usize) -> PathBuf {
    root.join(format!("section-{:03}/file-{number:05}.html", number / 250))
}

fn write(root: &Path, url: String, bytes: &[u8]) -> Result<Page> {
    let file = root.join(url.trim_start_matches('/'));
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(Page { url, file })
}

/// Copies what `pinstone deploy` would publish; links are left out.
fn copy(from: &Path, to: &Path, url: &str, found: &mut Vec<Page>) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(text) = name.to_str() else { continue };
        if text.starts_with('.') || text == "node_modules" {
            continue;
        }
        let (kind, url) = (entry.file_type()?, format!("{url}/{}", encode(text)));
        if kind.is_dir() {
            copy(&entry.path(), &to.join(&name), &url, found)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(&name))
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
            // Some servers redirect the name of an index file to its folder; rule files are not served at all.
            if text != "index.html" && text != "_redirects" && text != "_headers" {
                found.push(Page { url, file: to.join(&name) });
            }
        }
    }
    Ok(())
}

/// Percent-encodes all but the unreserved characters of RFC 3986, section 2.3.
fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// SplitMix64: the same numbers on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }

    /// A share of 1, below 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// That many bytes.
    pub(crate) fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    }

    /// A page: its size is spread evenly over the logarithm, so half are below 3.8 KiB.
    fn page(&mut self) -> Vec<u8> {
        let size = SMALLEST_PAGE * (LARGEST_PAGE / SMALLEST_PAGE).powf(self.share());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between the two sizes")]
        self.bytes(size as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_corpus() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        fs::create_dir_all(own.join("a b")).unwrap();
        fs::write(own.join("a b/c&d.txt"), "x").unwrap();
        fs::write(own.join(".hidden"), "x").unwrap();
        fs::write(own.join("index.html"), "x").unwrap();
        let [one, two, other] = [("one", 7), ("two", 7), ("other", 8)].map(|(name, seed)| {
            Corpus::with_pages(&folder.path().join(name), seed, std::slice::from_ref(&own), 300).unwrap()
        });
        let bytes =
            |corpus: &Corpus, url: &str| fs::read(&corpus.all().find(|page| page.url == url).unwrap().file).unwrap();
        assert_eq!(one.all().count(), SIZES.len() + 300 + 1);
        for (url, size) in SIZES {
            assert_eq!(bytes(&one, url).len(), size);
        }
        for page in one.pages.iter().step_by(7) {
            let content = bytes(&one, &page.url);
            assert!((700..=20_480).contains(&content.len()), "{}", content.len());
            assert_eq!(content, bytes(&two, &page.url));
            assert_ne!(content, bytes(&other, &page.url));
        }
        assert_eq!(bytes(&one, "/folder-0/a%20b/c%26d.txt"), b"x");
    }

    #[test]
    fn changing_small_files_changes_as_many() {
        let folder = tempfile::tempdir().unwrap();
        small_files(folder.path(), 1, 600).unwrap();
        let read = || (0..600).map(|number| fs::read(small_file(folder.path(), number)).unwrap()).collect::<Vec<_>>();
        let before = read();
        change_small_files(folder.path(), 2, 20, 600).unwrap();
        assert_eq!(before.iter().zip(&read()).filter(|(one, other)| one != other).count(), 20);
    }
}
