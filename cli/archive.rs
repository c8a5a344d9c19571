//! Deploying an archive: it is read and checked by the same code as on a server, unpacked into a private folder, and that
//! folder is deployed. So only what the server lacks is sent, as of any folder.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pinstone_api::error::archive_code;
use pinstone_api::wire::PublicConfig;
use pinstone_engine::Limits;
use pinstone_engine::archive::{
    Archive, ArchiveError, ArchiveLimits, Fault, FileContent, Format, ListOptions, Listing, Unbounded,
};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::name::ProjectName;
use tempfile::TempDir;

use crate::client::Client;
use crate::context::sanitized;
use crate::error::{CliError, file_error, plain};
use crate::output::Output;
use crate::progress::Step;
use crate::upload::blocking;

/// The endings of archives, longest first: what is before them can name a project.
const ENDINGS: [&str; 8] = [".tar.zst", ".tar.gz", ".tzst", ".tzs", ".tgz", ".tar", ".zst", ".zip"];
/// How much is read at once.
const WINDOW: usize = 128 * 1024;

/// Where an archive comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// A file, or something that can be read like one.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Source {
    /// The archive that an argument names, where it names no folder.
    pub(crate) fn of(argument: Option<&Path>) -> Option<Self> {
        let argument = argument?;
        if argument == Path::new("-") {
            return Some(Self::Stdin);
        }
        (argument.exists() && !argument.is_dir()).then(|| Self::File(argument.to_owned()))
    }

    /// The archive, as messages call it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::File(path) => format!("`{}`", path.display()),
            Self::Stdin => "standard input".to_owned(),
        }
    }

    /// The archive, as the argument called it.
    pub(crate) fn argument(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "-".to_owned(),
        }
    }

    /// The project that the archive's own name stands for.
    pub(crate) fn project(&self) -> Result<ProjectName, CliError> {
        let hint = "name the project by `--project NAME`, or in `pinstone.toml`";
        let Self::File(path) = self else {
            return Err(CliError::usage("no project is named, and standard input has no name").hint(hint));
        };
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
        sanitized(stem).parse().map_err(|error| {
            CliError::usage(format!("no project is named, and the archive's name `{stem}` does not make one: {error}"))
                .hint(hint)
        })
    }
}

/// An archive, unpacked; removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Unpacked {
    folder: TempDir,
    /// How it was packed.
    pub(crate) format: Format,
    /// How many entries are ignored.
    pub(crate) ignored: u64,
    /// How many links were followed.
    pub(crate) links_followed: u64,
}

impl Unpacked {
    /// Where its files are. All of them are to be published.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Reads an archive, within what the server would take, and unpacks what is to be published.
///
/// # Errors
///
/// Where it is refused; the message names the entry. Then nothing was unpacked.
pub(crate) async fn unpack(
    client: &Client,
    source: &Source,
    options: ListOptions,
    out: Output,
) -> Result<Unpacked, CliError> {
    let from = source.clone();
    // What is no archive is told before a server is asked.
    let opened = blocking(move || open(&from)).await?;
    let config: PublicConfig = client.get(&["config"], &[]).await?;
    let limits = limits(&config);
    let folder = tempfile::Builder::new().prefix("pinstone-").tempdir().map_err(|error| no_room(&error))?;
    // Whoever interrupts this drops it: first writing ends, then the folder is removed.
    let stop = StopOnDrop::default();
    let (from, path, stopped) = (source.clone(), folder.path().to_owned(), Arc::clone(&stop.0));
    let (format, ignored, links_followed) = blocking(move || {
        let file = match opened {
            Opened::File(file) => file,
            Opened::Stream(stream) => spool(stream, limits.archive_unpacked, &from)?,
        };
        let unpack = || {
            let length = file.metadata().map_err(|error| ArchiveError::from(Fault::Io(error)))?.len();
            let step = Arc::new(Mutex::new(Step::start(out, "checking", length)));
            let watched = Watched { file, length, read: 0, step: Arc::clone(&step) };
            let mut archive = Archive::open(watched, ArchiveLimits::from(&limits))?;
            let listing = archive.list(&options, &mut Unbounded)?;
            *step.lock() = Step::start(out, "unpacking", length);
            write_files(&mut archive, &listing, &path, &stopped)?;
            Ok((archive.format(), listing.ignored, listing.links_followed))
        };
        unpack().map_err(|failure: Failure| failure.of(&from))
    })
    .await?;
    Ok(Unpacked { folder, format, ignored, links_followed })
}

/// A file that tells how much of it is read. It is read from its start for each step.
struct Watched {
    file: File,
    length: u64,
    /// How many bytes were read since it was last read from its start.
    read: u64,
    step: Arc<Mutex<Step>>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        // Some of it may be read twice, such as the contents that a zip has at its end.
        self.read += length as u64;
        self.step.lock().set(self.read.min(self.length));
        Ok(length)
    }
}

impl Seek for Watched {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if to == SeekFrom::Start(0) {
            self.read = 0;
        }
        self.file.seek(to)
    }
}

/// Whether files may be written.
#[derive(Debug, Default)]
struct Stop {
    is_told: AtomicBool,
    /// Held by whoever writes.
    writing: Mutex<()>,
}

/// Tells a thread to write no more when whoever waits for it does not any more, and waits until it does not: whatever it
/// wrote later would make its folder again.
#[derive(Debug, Default)]
struct StopOnDrop(Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.is_told.store(true, Ordering::Relaxed);
        drop(self.0.writing.lock());
    }
}

/// What the server takes.
fn limits(config: &PublicConfig) -> Limits {
    let known = Limits::default();
    // A server that does not know of archives has no limits of theirs.
    let or = |said: u64, known: u64| if said == 0 { known } else { said };
    Limits {
        files: or(config.limits.files, known.files),
        file_size: or(config.limits.file_size, known.file_size),
        plan_size: or(config.limits.plan_size, known.plan_size),
        archive_unpacked: or(config.limits.archive_unpacked, known.archive_unpacked),
        ..known
    }
}

enum Opened {
    /// Something that can be read twice.
    File(File),
    Stream(Box<dyn Read + Send>),
}

fn open(source: &Source) -> Result<Opened, CliError> {
    match source {
        Source::Stdin if io::stdin().is_terminal() => Err(CliError::usage("there is no archive on standard input")
            .hint("pipe one in: `tar -cz -C public . | pinstone deploy - --project my-site`")),
        Source::Stdin => Ok(Opened::Stream(Box::new(io::stdin()))),
        Source::File(path) => {
            let file = File::open(path).map_err(|error| file_error(path, &error))?;
            if !file.metadata().map_err(|error| file_error(path, &error))?.is_file() {
                return Ok(Opened::Stream(Box::new(file)));
            }
            Archive::open(&file, ArchiveLimits::from(&Limits::default()))
                .map_err(|error| Failure::Archive(error).of(source))?;
            Ok(Opened::File(file))
        }
    }
}

/// Keeps what can be read only once in a file without a name.
fn spool(mut stream: Box<dyn Read + Send>, limit: u64, source: &Source) -> Result<File, CliError> {
    let read = |error: &io::Error| CliError::failed(format!("cannot read {}: {}", source.shown(), plain(error)));
    let mut file = tempfile::tempfile().map_err(|error| no_room(&error))?;
    let mut window = vec![0; WINDOW];
    let mut left = limit;
    loop {
        let length = match stream.read(&mut window) {
            Ok(0) => return Ok(file),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read(&error)),
        };
        left = match left.checked_sub(length as u64) {
            Some(left) => left,
            None => return Err(Failure::Archive(Fault::TooLarge { limit }.into()).of(source)),
        };
        file.write_all(&window[..length]).map_err(|error| no_room(&error))?;
    }
}

fn no_room(error: &io::Error) -> CliError {
    let folder = std::env::temp_dir();
    CliError::failed(format!("cannot unpack into `{}`: {}", folder.display(), plain(error)))
        .hint("make room there, or name another folder by `TMPDIR`")
}

/// Why an archive was not unpacked.
enum Failure {
    Archive(ArchiveError),
    Own(CliError),
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl Failure {
    /// The failure as an error that names the archive and the entry.
    fn of(self, source: &Source) -> CliError {
        let error = match self {
            Self::Archive(error) => error,
            Self::Own(error) => return error,
        };
        let archive = source.shown();
        let message = match (&error.fault, &error.entry) {
            (Fault::Io(error), _) => return CliError::failed(format!("cannot read {archive}: {}", plain(error))),
            (Fault::NotAnArchive, _) => return no_archive(format!("{archive} is neither a folder nor an archive")),
            (fault @ (Fault::Empty | Fault::NotATar | Fault::Packing(_)), _) => {
                return no_archive(format!("{archive} is no archive that can be read: {fault}"));
            }
            (Fault::IgnoreLine(line), _) => return CliError::usage(line.to_string()),
            (fault, Some(entry)) if entry.name.is_empty() => format!("entry {} of {archive}: {fault}", entry.number),
            (fault, Some(entry)) => format!("`{}`, entry {} of {archive}: {fault}", entry.name, entry.number),
            (fault, None) => format!("{archive}: {fault}"),
        };
        let code = archive_code(&error.fault);
        let hint = match error.fault {
            Fault::TooManyEntries { .. }
            | Fault::NamesTooLong { .. }
            | Fault::TooLarge { .. }
            | Fault::FileTooLarge { .. } => {
                "leave files out by `.pinstoneignore`, or raise `limits` in the server's configuration"
            }
            Fault::NoFiles { .. } => {
                "pack the folder that holds `index.html`; `.pinstoneignore` in it can take ignored names back in"
            }
            Fault::Ratio { .. } => "unpack it and deploy the folder",
            _ => code.hint(),
        };
        CliError::new(crate::error::Exit::Failed, code.as_str(), message).hint(hint)
    }
}

fn no_archive(message: String) -> CliError {
    CliError::usage(message).hint("name a folder, or a tar, tar.gz, tar.zst or zip of one")
}

/// Writes the files of a site into a folder that is empty, until `stop` says so.
fn write_files<F: Read + Seek>(
    archive: &mut Archive<F>,
    listing: &Listing,
    folder: &Path,
    stop: &Stop,
) -> Result<(), Failure> {
    let _writing = stop.writing.lock();
    let mut places: HashMap<BlobHash, Vec<PathBuf>> = HashMap::new();
    for file in &listing.files {
        // A path of a site is relative and leads nowhere else, so this stays in the folder.
        places.entry(file.blob).or_default().push(folder.join(file.path.as_str()));
    }
    let mut failed = None;
    let mut window = vec![0; WINDOW];
    let written = std::cell::RefCell::new(places);
    archive.contents(
        listing,
        |blob| written.borrow().contains_key(blob),
        |blob, content| {
            let places = written.borrow_mut().remove(&blob).unwrap_or_default();
            match write_everywhere(&places, blob, content, &mut window, stop) {
                Ok(()) if stop.is_told.load(Ordering::Relaxed) => Ok(ControlFlow::Break(())),
                Ok(()) => Ok(ControlFlow::Continue(())),
                Err(Failure::Archive(error)) => Err(error),
                Err(own) => {
                    failed = Some(own);
                    Ok(ControlFlow::Break(()))
                }
            }
        },
    )?;
    match failed {
        Some(failure) => Err(failure),
        None if written.into_inner().is_empty() => Ok(()),
        None => Err(changed()),
    }
}

/// Writes one content to every place that it has, or ends before.
fn write_everywhere(
    places: &[PathBuf],
    blob: BlobHash,
    content: &mut FileContent<'_>,
    window: &mut [u8],
    stop: &Stop,
) -> Result<(), Failure> {
    let Some((first, others)) = places.split_first() else { return Ok(()) };
    let is_told = || stop.is_told.load(Ordering::Relaxed);
    if is_told() {
        return Ok(());
    }
    let own = |error: io::Error| Failure::Own(no_room(&error));
    let mut file = create(first).map_err(own)?;
    let mut hasher = blake3::Hasher::new();
    loop {
        match content.read(window)? {
            _ if is_told() => return Ok(()),
            0 => break,
            length => {
                hasher.update(&window[..length]);
                file.write_all(&window[..length]).map_err(own)?;
            }
        }
    }
    if BlobHash::from(hasher.finalize()) != blob {
        return Err(changed());
    }
    for other in others {
        if is_told() {
            return Ok(());
        }
        make_parent(other).map_err(own)?;
        // A second name costs no room. A file can have only so many of them.
        if fs::hard_link(first, other).is_err() {
            let mut copy = create(other).map_err(own)?;
            io::copy(&mut File::open(first).map_err(own)?, &mut copy).map_err(own)?;
        }
    }
    Ok(())
}

fn create(path: &Path) -> io::Result<File> {
    make_parent(path)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn changed() -> Failure {
    let error = CliError::new(
        crate::error::Exit::Conflict,
        "folder_changed",
        "the archive changed while it was read; nothing was released",
    );
    Failure::Own(error.hint("deploy again once nothing writes to it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_name_projects() {
        for (path, want) in [
            ("site.tar.gz", Some("site")),
            ("dist/My Docs.zip", Some("my-docs")),
            ("release-1.2.tar.zst", Some("release-1-2")),
            ("notes.tgz", Some("notes")),
            ("download", Some("download")),
            ("x.tar", None),
        ] {
            let project = Source::File(path.into()).project();
            assert_eq!(project.ok().as_ref().map(ProjectName::as_str), want, "{path}");
        }
        assert!(Source::Stdin.project().unwrap_err().message.contains("standard input"));
    }

    /// A tar of `count` small files, in a file.
    fn tar(count: usize) -> File {
        let mut tar = Vec::new();
        for number in 0..count {
            let mut header = [0_u8; 512];
            let name = format!("{}/{number}", number % 100);
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..136].copy_from_slice(b"00000000001\0");
            header[148..156].fill(b' ');
            header[156] = b'0';
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            tar.extend_from_slice(&header);
            tar.extend_from_slice(&[u8::try_from(number % 251).unwrap(); 1]);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&tar).unwrap();
        file
    }

    #[test]
    fn nothing_is_unpacked_any_more_once_that_was_given_up() {
        fn count(folder: &Path) -> usize {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }

        let folder = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(tar(5000), ArchiveLimits::from(&Limits::default())).unwrap();
        let listing = archive.list(&ListOptions::default(), &mut Unbounded).unwrap();
        let stop = StopOnDrop::default();
        let writing = {
            let (path, stop) = (folder.path().to_owned(), Arc::clone(&stop.0));
            std::thread::spawn(move || write_files(&mut archive, &listing, &path, &stop).is_ok())
        };
        while count(folder.path()) == 0 {
            std::thread::yield_now();
        }
        drop(stop);
        let written = count(folder.path());
        writing.join().unwrap();
        assert_eq!(count(folder.path()), written);
    }

    #[test]
    fn folders_and_what_is_not_there_are_no_archives() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("site.zip");
        assert_eq!(Source::of(Some(&file)), None);
        fs::write(&file, "x").unwrap();
        assert_eq!(Source::of(Some(&file)), Some(Source::File(file)));
        assert_eq!(Source::of(Some(folder.path())), None);
        assert_eq!(Source::of(Some(Path::new("-"))), Some(Source::Stdin));
        assert_eq!(Source::of(None), None);
    }
}
