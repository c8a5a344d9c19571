//! From the entries of an archive to the files of a site: one name each, links followed, ignored names left out.
//!
//! What has no name in a site at all is refused where it is met. What would be wrong only if it were published (a device,
//! a link out, a file that is too large) waits until it is known what is ignored: an ignore file may be the last entry.

use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{ArchiveError, EntryRef, Fault, LinkFault, NameFault};
use super::name::{self, LONGEST_NAME};
use super::{ArchiveFile, ArchiveLimits, Content, Entry, Kind, LONGEST_IGNORE_FILE, Listing, Meter};
use crate::hash::BlobHash;
use crate::ignored::{IGNORE_FILE, IgnoreRules, is_own_file};
use crate::path::SitePath;

/// How many links may lead to one another.
const MOST_HOPS: usize = 40;
/// How many segments of links are walked in all, for each entry that an archive may have. A link to a link is walked
/// again each time it is met.
const SEGMENTS_OF_LINKS: u64 = 16;
/// How long it may take to match names against the ignore lines of an archive. Patterns can be made that take a thousand
/// times as long as those that people write, and the lines are a stranger's.
const IGNORE_TIME: Duration = Duration::from_secs(60);
/// What an entry takes in memory beside its name, about, on the way to a plan: this list and the next, the plan's and its
/// index.
const ENTRY_WEIGHT: u64 = 400;
/// How often a name is held on that way.
const NAME_WEIGHT: u64 = 4;

/// The entries that were read so far.
#[derive(Debug)]
pub(super) struct Tree {
    strip: usize,
    limit: u64,
    names_limit: u64,
    /// The bytes of all names.
    names: u64,
    nodes: Vec<Node>,
    hashed: Vec<(u64, BlobHash)>,
    ignore_file: Option<String>,
}

#[derive(Debug)]
struct Node {
    number: u64,
    path: Box<str>,
    is: Is,
}

#[derive(Debug)]
enum Is {
    Folder,
    File {
        blob: BlobHash,
        size: u64,
    },
    SymbolicLink(Box<[u8]>),
    HardLink(Box<[u8]>),
    /// Refused, should it be published.
    Wrong(Fault),
}

impl Tree {
    pub(super) fn new(strip: usize, limits: &ArchiveLimits) -> Self {
        Self {
            strip,
            limit: limits.entries,
            names_limit: limits.names,
            names: 0,
            nodes: Vec::new(),
            hashed: Vec::new(),
            ignore_file: None,
        }
    }

    /// Takes an entry in, and the hash of its content where it is a file.
    pub(super) fn add(
        &mut self,
        entry: &Entry<'_>,
        content: &mut dyn Content,
        meter: &mut Meter<'_>,
        hash: impl FnOnce(&mut dyn Content) -> Result<BlobHash, Fault>,
        file_size: u64,
    ) -> Result<ControlFlow<()>, Fault> {
        let name = name::parse(entry.name)?;
        self.names = self.names.saturating_add((name.path.len() + entry.target.len()) as u64);
        if self.names > self.names_limit {
            return Err(Fault::NamesTooLong { limit: self.names_limit });
        }
        meter.reserve(ENTRY_WEIGHT + NAME_WEIGHT * (name.path.len() + entry.target.len()) as u64)?;
        if name.path.is_empty() {
            // The archive's own root says nothing, unless it is meant to be something else.
            return if entry.kind == Kind::Folder {
                Ok(ControlFlow::Continue(()))
            } else {
                Err(NameFault::Empty.into())
            };
        }
        if name.is_folder && entry.kind != Kind::Folder {
            return Err(Fault::Damaged("it has the name of a folder and is none"));
        }
        let is = match entry.kind {
            // It decides on other files, so nothing may be put in its place unseen.
            kind if self.is_ignore_file(name.path) => {
                if kind != Kind::File {
                    return Err(Fault::Ignore("it is no file"));
                }
                let text = ignore_text(entry.size, content)?;
                let (blob, size) = (BlobHash::of(text.as_bytes()), entry.size);
                self.hashed.push((entry.number, blob));
                if self.ignore_file.replace(text).is_some() {
                    return Err(Fault::Duplicate);
                }
                Is::File { blob, size }
            }
            Kind::Folder => Is::Folder,
            Kind::File if entry.size > file_size => Is::Wrong(Fault::FileTooLarge { limit: file_size }),
            Kind::File => {
                let blob = hash(content)?;
                self.hashed.push((entry.number, blob));
                Is::File { blob, size: entry.size }
            }
            Kind::SymbolicLink => Is::SymbolicLink(entry.target.into()),
            Kind::HardLink => Is::HardLink(entry.target.into()),
            Kind::Special(what) => Is::Wrong(Fault::Special(what)),
        };
        self.nodes.push(Node { number: entry.number, path: name.path.into(), is });
        Ok(ControlFlow::Continue(()))
    }

    fn is_ignore_file(&self, path: &str) -> bool {
        stripped(path, self.strip) == Some(IGNORE_FILE)
    }

    /// Turns the entries into the site's files.
    pub(super) fn finish(mut self, ignore: &[String], meter: &mut Meter<'_>) -> Result<Listing, ArchiveError> {
        let rules = IgnoreRules::new(self.ignore_file.as_deref().unwrap_or_default(), ignore).map_err(|error| {
            if error.line == 0 { Fault::Ignore("its lines are too many") } else { Fault::IgnoreLine(error) }
        })?;
        self.nodes.sort_by(|a, b| a.path.cmp(&b.path).then(a.number.cmp(&b.number)));
        check_names(self.nodes.iter().map(|node| Named {
            path: &node.path,
            number: node.number,
            is_folder: matches!(node.is, Is::Folder),
        }))?;
        let mut placing = Placing {
            nodes: &self.nodes,
            strip: self.strip,
            limit: self.limit,
            ignoring: Ignoring { rules, parents: Vec::new(), last: String::new(), until: Instant::now() + IGNORE_TIME },
            above: Vec::new(),
            placed: 0,
            walked: Cell::new(0),
            files: Vec::new(),
            numbers: Vec::new(),
            ignored: 0,
            links_followed: 0,
        };
        for index in 0..self.nodes.len() {
            placing.place(index, None, meter).map_err(|(number, fault)| {
                let name = self.nodes.iter().find(|node| node.number == number).map_or("", |node| &*node.path);
                fault.of(EntryRef::new(number, name.as_bytes()))
            })?;
        }
        let Placing { files, numbers, ignored, links_followed, .. } = placing;
        let mut sorted: Vec<(ArchiveFile, u64)> = files.into_iter().zip(numbers).collect();
        sorted.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        // Two names may have become one, or one the folder of another, when folders before them were taken away.
        check_names(sorted.iter().map(|(file, number)| Named { path: &file.path, number: *number, is_folder: false }))?;
        if sorted.is_empty() {
            return Err(Fault::NoFiles { ignored }.into());
        }
        let files = sorted.into_iter().map(|(file, _)| file).collect();
        Ok(Listing { files, ignored, links_followed, hashed: self.hashed })
    }
}

/// The text of the ignore file.
fn ignore_text(size: u64, content: &mut dyn Content) -> Result<String, Fault> {
    if size > LONGEST_IGNORE_FILE {
        return Err(Fault::Ignore("it is larger than 64 KiB"));
    }
    let mut text = Vec::new();
    let mut window = [0; 4096];
    loop {
        match content.read(&mut window)? {
            0 => break,
            read => text.extend_from_slice(&window[..read]),
        }
    }
    String::from_utf8(text).map_err(|_| Fault::Ignore("it is not UTF-8"))
}

/// `path` without its first `folders` segments; nothing where it has no more.
fn stripped(path: &str, folders: usize) -> Option<&str> {
    let mut rest = path;
    for _ in 0..folders {
        rest = rest.split_once('/')?.1;
    }
    Some(rest)
}

/// An entry's name, for [`check_names`].
#[derive(Clone, Copy)]
struct Named<'n> {
    path: &'n str,
    number: u64,
    is_folder: bool,
}

/// Checks names that come in their order: each occurs once, but for folders, and nothing is in what is no folder.
fn check_names<'n>(names: impl Iterator<Item = Named<'n>>) -> Result<(), ArchiveError> {
    let fault = |fault: Fault, named: &Named<'_>| fault.of(EntryRef::new(named.number, named.path.as_bytes()));
    // Whatever is in `a` comes behind `a`, but `a-b` may come between them. So the names that are no folders are kept as
    // long as something could still be in them: those of which the current name begins with all that comes before.
    let mut open: Vec<Named<'n>> = Vec::new();
    let mut last: Option<Named<'n>> = None;
    for named in names {
        if let Some(last) = &last
            && last.path == named.path
            && !(last.is_folder && named.is_folder)
        {
            return Err(fault(Fault::Duplicate, &named));
        }
        // `a` stays open while names begin with `a`: the sorted names with one beginning stand together.
        while open.last().is_some_and(|above| !named.path.starts_with(above.path)) {
            open.pop();
        }
        if let Some(above) = open.iter().find(|above| named.path.as_bytes().get(above.path.len()) == Some(&b'/')) {
            return Err(fault(Fault::FileAndFolder, above));
        }
        if !named.is_folder {
            open.push(named);
        }
        last = Some(named);
    }
    Ok(())
}

/// Puts entries where they are in the site.
struct Placing<'t> {
    /// In the order of their paths.
    nodes: &'t [Node],
    strip: usize,
    limit: u64,
    ignoring: Ignoring,
    /// The links that are followed now, each within the last.
    above: Vec<&'t str>,
    /// How many entries were placed, each as often as it is reached.
    placed: u64,
    /// How many segments of links were walked.
    walked: Cell<u64>,
    files: Vec<ArchiveFile>,
    /// The number of the entry that each of `files` comes from.
    numbers: Vec<u64>,
    ignored: u64,
    links_followed: u64,
}

/// A fault, and the number of the entry that has it.
type Numbered = (u64, Fault);

/// What a link leads to.
enum Target<'t> {
    File {
        blob: BlobHash,
        size: u64,
    },
    /// By its path; empty for the root.
    Folder(String),
    /// Something that is refused.
    Wrong(&'t Fault),
}

impl<'t> Placing<'t> {
    /// Places one entry, and whatever it leads to. `under` is where it is seen, in the archive, where a link led to it.
    fn place(&mut self, index: usize, under: Option<&str>, meter: &mut Meter<'_>) -> Result<(), Numbered> {
        let nodes = self.nodes;
        let node = &nodes[index];
        let number = node.number;
        let numbered = |fault| (number, fault);
        // Folders count as well: a link to one with nothing but folders in it would be work for nothing.
        self.placed += 1;
        if self.placed > self.limit {
            return Err((number, Fault::TooManyEntries { limit: self.limit }));
        }
        if let Is::Folder = node.is {
            return Ok(());
        }
        let seen = under.unwrap_or(&node.path);
        let Some(path) = stripped(seen, self.strip) else {
            self.ignored += 1;
            return Ok(());
        };
        if is_own_file(Path::new(path)) {
            return Ok(());
        }
        if self.ignoring.is_ignored(path).map_err(numbered)? {
            self.ignored += 1;
            return Ok(());
        }
        let (blob, size) = match &node.is {
            Is::Folder => return Ok(()),
            Is::File { blob, size } => (*blob, *size),
            Is::Wrong(fault) => return Err((number, repeated(fault))),
            Is::SymbolicLink(_) | Is::HardLink(_) => {
                self.links_followed += 1;
                match self.follow(node, &mut 0).map_err(numbered)? {
                    Target::File { blob, size } => (blob, size),
                    Target::Wrong(fault) => return Err((number, repeated(fault))),
                    Target::Folder(folder) => return self.place_folder(node, &folder, seen, meter),
                }
            }
        };
        // What a link led to may have a longer path here than it has itself.
        let path = SitePath::new(path).map_err(|error| (number, NameFault::from(error).into()))?;
        if under.is_some() {
            meter.reserve(ENTRY_WEIGHT + NAME_WEIGHT * path.len() as u64).map_err(numbered)?;
        }
        self.files.push(ArchiveFile { path, blob, size });
        self.numbers.push(number);
        Ok(())
    }

    /// Places what is in `folder` where the link `node` is seen.
    fn place_folder(
        &mut self,
        node: &'t Node,
        folder: &str,
        seen: &str,
        meter: &mut Meter<'_>,
    ) -> Result<(), Numbered> {
        let leads_back = |link: &&str| {
            let parent = link.rsplit_once('/').map_or("", |(parent, _)| parent);
            is_within(parent, folder)
        };
        self.above.push(&node.path);
        // Every link is in the root.
        if folder.is_empty() || self.above.len() > MOST_HOPS || self.above.iter().any(leads_back) {
            return Err((node.number, LinkFault::Circle.into()));
        }
        let nodes = self.nodes;
        for index in self.within(folder) {
            let rest = &nodes[index].path[folder.len() + 1..];
            if seen.len() + 1 + rest.len() > LONGEST_NAME {
                return Err((node.number, NameFault::TooLong.into()));
            }
            let seen = format!("{seen}/{rest}");
            self.place(index, Some(&seen), meter)?;
        }
        self.above.pop();
        Ok(())
    }

    /// Where a link leads, through other links where these are in the way. `hops` counts all of them, because a path can
    /// be made of links whose paths are made of links.
    fn follow(&self, node: &'t Node, hops: &mut usize) -> Result<Target<'t>, Fault> {
        *hops += 1;
        if *hops > MOST_HOPS {
            return Err(LinkFault::Circle.into());
        }
        match &node.is {
            Is::File { blob, size } => Ok(Target::File { blob: *blob, size: *size }),
            Is::Folder => Ok(Target::Folder(node.path.to_string())),
            Is::Wrong(fault) => Ok(Target::Wrong(fault)),
            Is::HardLink(target) => {
                let name = name::parse(target).map_err(|fault| match fault {
                    NameFault::Absolute | NameFault::Parent | NameFault::Drive => LinkFault::Out,
                    _ => LinkFault::Target,
                })?;
                let found = self.find(name.path).ok_or(LinkFault::Nowhere)?;
                match self.follow(found, hops)? {
                    // No system links folders so.
                    Target::Folder(_) => Err(LinkFault::Nowhere.into()),
                    other => Ok(other),
                }
            }
            Is::SymbolicLink(target) => self.walk(&node.path, target, hops),
        }
    }

    /// Walks from the folder of the link at `link` along `target`.
    fn walk(&self, link: &str, target: &[u8], hops: &mut usize) -> Result<Target<'t>, Fault> {
        let target = std::str::from_utf8(target).map_err(|_| LinkFault::Target)?;
        if target.is_empty() || target.len() > LONGEST_NAME || target.contains(['\0', '\\']) {
            return Err(LinkFault::Target.into());
        }
        if target.starts_with('/') {
            return Err(LinkFault::Out.into());
        }
        let mut at = link.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        let mut segments = target.split('/').filter(|segment| !matches!(*segment, "" | ".")).peekable();
        while let Some(segment) = segments.next() {
            if segment == ".." {
                if at.is_empty() {
                    return Err(LinkFault::Out.into());
                }
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            self.walked.set(self.walked.get() + 1);
            if self.walked.get() > self.limit.saturating_mul(SEGMENTS_OF_LINKS) {
                return Err(LinkFault::TooLong.into());
            }
            if at.len() + segment.len() >= LONGEST_NAME {
                return Err(LinkFault::Nowhere.into());
            }
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(segment);
            match self.find(&at) {
                // A folder that has no entry of its own is there if anything is in it.
                None if self.within(&at).is_empty() => return Err(LinkFault::Nowhere.into()),
                None => {}
                Some(Node { is: Is::Folder, .. }) => {}
                Some(node) => match self.follow(node, hops)? {
                    Target::Folder(folder) => at = folder,
                    found if segments.peek().is_none() => return Ok(found),
                    _ => return Err(LinkFault::Nowhere.into()),
                },
            }
        }
        Ok(Target::Folder(at))
    }

    /// The entry at `path`.
    fn find(&self, path: &str) -> Option<&'t Node> {
        let index = self.nodes.partition_point(|node| *node.path < *path);
        self.nodes.get(index).filter(|node| *node.path == *path)
    }

    /// The entries in `folder`, which stand together: `folder/` is before all of them, and what comes after `/` behind.
    fn within(&self, folder: &str) -> Range<usize> {
        if folder.is_empty() {
            return 0..self.nodes.len();
        }
        let compared = |path: &str, end: u8| -> Ordering {
            let (head, rest) = path.as_bytes().split_at(folder.len().min(path.len()));
            head.cmp(folder.as_bytes()).then_with(|| rest.first().map_or(Ordering::Less, |first| first.cmp(&end)))
        };
        let start = self.nodes.partition_point(|node| compared(&node.path, b'/') == Ordering::Less);
        let end = self.nodes.partition_point(|node| compared(&node.path, b'/' + 1) == Ordering::Less);
        start..end
    }
}

/// Whether `path` is `folder` or in it. The empty path is the root, in which everything is.
fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The same fault once more: those that wait are all of values.
fn repeated(fault: &Fault) -> Fault {
    match fault {
        Fault::FileTooLarge { limit } => Fault::FileTooLarge { limit: *limit },
        Fault::Special(what) => Fault::Special(what),
        _ => Fault::Damaged("it cannot be published"),
    }
}

/// Says of paths whether they, or a folder that they are in, are ignored.
struct Ignoring {
    rules: IgnoreRules,
    /// Of the last path's folders: where each ends, and whether it is ignored.
    parents: Vec<(usize, bool)>,
    last: String,
    until: Instant,
}

impl Ignoring {
    fn is_ignored(&mut self, path: &str) -> Result<bool, Fault> {
        if Instant::now() > self.until {
            return Err(Fault::Ignore("its patterns take too long"));
        }
        // Paths come mostly in order, so most of the folders are those of the last one.
        let same = |(end, _): &(usize, bool)| {
            path.as_bytes().get(*end) == Some(&b'/') && path.as_bytes()[..*end] == self.last.as_bytes()[..*end]
        };
        let kept = self.parents.iter().take_while(|parent| same(parent)).count();
        self.parents.truncate(kept);
        let known = self.parents.last().map_or(0, |(end, _)| end + 1);
        for (slash, _) in path[known..].match_indices('/') {
            let end = known + slash;
            let in_ignored = self.parents.last().is_some_and(|(_, ignored)| *ignored);
            self.parents.push((end, in_ignored || self.rules.ignores(&path[..end], true)));
        }
        path.clone_into(&mut self.last);
        Ok(self.parents.last().is_some_and(|(_, ignored)| *ignored) || self.rules.ignores(path, false))
    }
}
