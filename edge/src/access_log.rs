//! The access log: a line for every request, written by one thread of its own.
//!
//! An edge thread never waits for it. Records go into a queue whose memory has a bound; where it is full, because a disk
//! is slow or a pipe is not read, records are dropped and counted. The writer looks each second, and sooner when the
//! queue fills; so a record costs its thread no system call. Where a write fails, the log goes on with what comes next.
//!
//! Texts are copied on the edge thread and made into lines by the writer: copying takes some 0.1 µs, a line 0.5 to 0.7.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

mod format;
pub(crate) mod record;

pub(crate) use record::{Found, Part, Record};

/// How long a record waits to be written at most.
const FLUSH: Duration = Duration::from_secs(1);

/// Text that is gathered for one write.
const BUFFER: usize = 64 << 10;

/// The queue's memory where nothing else is said.
const MEMORY: usize = 8 << 20;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AccessLogFormat {
    /// One JSON object a line, with everything that is known.
    #[default]
    Json,
    /// The `combined` format of Apache and nginx.
    Combined,
}

/// A text that names no format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an access log is `json` or `combined`")]
pub struct NotAFormat;

impl FromStr for AccessLogFormat {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        match text {
            "json" => Ok(Self::Json),
            "combined" => Ok(Self::Combined),
            _ => Err(NotAFormat),
        }
    }
}

/// Where lines go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AccessLogTarget {
    /// A file that is appended to, and made where it is not there.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// The configuration of an [`AccessLog`].
#[derive(Clone, Debug)]
pub struct AccessLogConfig {
    /// Where lines go.
    pub target: AccessLogTarget,
    /// How they look.
    pub format: AccessLogFormat,
    /// Bytes of records that may wait to be written; further ones are dropped.
    pub memory: usize,
}

impl AccessLogConfig {
    /// A log with the default bound.
    #[must_use]
    pub fn new(target: AccessLogTarget, format: AccessLogFormat) -> Self {
        Self { target, format, memory: MEMORY }
    }
}

/// Why a record is not in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lost {
    /// The queue was full.
    QueueFull,
    /// It could not be written.
    WriteFailed,
}

/// A log that is open. Every clone is the same log.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: SyncSender<Box<Record>>,
    state: Arc<State>,
    writer: Thread,
    ending: Mutex<Option<JoinHandle<()>>>,
}

/// What the writer and everybody else share.
#[derive(Debug)]
struct State {
    memory: usize,
    /// Bytes of records in the queue.
    queued: AtomicUsize,
    reopen: AtomicBool,
    stop: AtomicBool,
    written: AtomicU64,
    queue_full: AtomicU64,
    write_failed: AtomicU64,
}

impl AccessLog {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    ///
    /// Where the file cannot be opened, or there is no thread to be had.
    pub fn open(config: AccessLogConfig) -> io::Result<Self> {
        let AccessLogConfig { target, format, memory } = config;
        let sink = Sink::open(target)?;
        // A record is never smaller, so it is the memory that is the bound.
        let (queue, records) = sync_channel((memory / size_of::<Record>()).max(1));
        let state = Arc::new(State {
            memory,
            queued: AtomicUsize::new(0),
            reopen: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            written: AtomicU64::new(0),
            queue_full: AtomicU64::new(0),
            write_failed: AtomicU64::new(0),
        });
        let shared = Arc::clone(&state);
        let write = move || Writer { records, state: shared, format, sink, text: Vec::with_capacity(BUFFER) }.run();
        let ending = thread::Builder::new().name("access-log".to_owned()).spawn(write)?;
        let writer = ending.thread().clone();
        Ok(Self(Arc::new(Inner { queue, state, writer, ending: Mutex::new(Some(ending)) })))
    }

    /// Has the file opened anew, after it was moved away. What was logged before still goes to the old one.
    pub fn reopen(&self) {
        self.0.state.reopen.store(true, Release);
        self.0.writer.unpark();
    }

    /// Writes what is in the queue and ends the log; later records are lost. Blocks until then, or for `patience`:
    /// answers whether everything was written.
    #[must_use]
    pub fn close(&self, patience: Duration) -> bool {
        let Some(writer) = self.0.ending.lock().unwrap_or_else(PoisonError::into_inner).take() else { return true };
        self.0.state.stop.store(true, Release);
        writer.thread().unpark();
        let end = Instant::now() + patience;
        while !writer.is_finished() {
            if Instant::now() > end {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        writer.join().is_ok()
    }

    /// Records that were written since the start.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.0.state.written.load(Relaxed)
    }

    /// Records that were lost for this reason since the start.
    #[must_use]
    pub fn lost(&self, reason: Lost) -> u64 {
        match reason {
            Lost::QueueFull => self.0.state.queue_full.load(Relaxed),
            Lost::WriteFailed => self.0.state.write_failed.load(Relaxed),
        }
    }

    /// Puts a record into the queue, or drops it. Never waits.
    pub(crate) fn push(&self, record: Box<Record>) {
        let state = &*self.0.state;
        let weight = record.weight();
        let before = state.queued.fetch_add(weight, Relaxed);
        if before + weight > state.memory || self.0.queue.try_send(record).is_err() {
            state.queued.fetch_sub(weight, Relaxed);
            state.queue_full.fetch_add(1, Relaxed);
            return;
        }
        let soon = state.memory / 4;
        if before < soon && before + weight >= soon {
            self.0.writer.unpark();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.state.stop.store(true, Release);
        self.writer.unpark();
    }
}

/// The thread that writes.
struct Writer {
    records: Receiver<Box<Record>>,
    state: Arc<State>,
    format: AccessLogFormat,
    sink: Sink,
    text: Vec<u8>,
}

impl Writer {
    fn run(mut self) {
        loop {
            // Asked before the queue is emptied, so that nothing which was logged before the end is left in it.
            let stop = self.state.stop.load(Acquire);
            let reopen = self.state.reopen.swap(false, Acquire);
            while let Ok(record) = self.records.try_recv() {
                format::write(self.format, &record, &mut self.text);
                self.state.queued.fetch_sub(record.weight(), Relaxed);
                if self.text.len() >= BUFFER {
                    self.flush();
                }
            }
            self.flush();
            if reopen {
                self.sink.reopen();
            }
            if stop {
                return;
            }
            thread::park_timeout(FLUSH);
        }
    }

    fn flush(&mut self) {
        if self.text.is_empty() {
            return;
        }
        let lost = self.sink.write(&self.text);
        let lines = count_lines(&self.text);
        self.state.written.fetch_add(lines - lost, Relaxed);
        self.state.write_failed.fetch_add(lost, Relaxed);
        self.text.clear();
    }
}

/// The file, and whether it takes what is written.
struct Sink {
    file: File,
    target: AccessLogTarget,
    is_failing: bool,
    /// The last write ended within a line.
    is_torn: bool,
}

impl Sink {
    fn open(target: AccessLogTarget) -> io::Result<Self> {
        Ok(Self { file: open(&target)?, target, is_failing: false, is_torn: false })
    }

    fn reopen(&mut self) {
        match open(&self.target) {
            Ok(file) => {
                self.file = file;
                self.is_torn = false;
            }
            Err(error) => tracing::error!(%error, "the access log cannot be opened anew, so it goes on where it was"),
        }
    }

    /// Writes whole lines; answers how many of them were lost.
    fn write(&mut self, text: &[u8]) -> u64 {
        let mut left = text;
        let mut end_torn = self.is_torn;
        let failed = loop {
            let next: &[u8] = if end_torn { b"\n" } else { left };
            if next.is_empty() {
                break None;
            }
            match self.file.write(next) {
                Ok(0) => break Some(io::ErrorKind::WriteZero.into()),
                Ok(_) if end_torn => (end_torn, self.is_torn) = (false, false),
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
        };
        match failed {
            None => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the access log is written again");
                }
                0
            }
            Some(error) => {
                let written = &text[..text.len() - left.len()];
                if !written.is_empty() {
                    self.is_torn = !written.ends_with(b"\n");
                }
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(%error, "the access log cannot be written; lines are lost until it can");
                }
                count_lines(left)
            }
        }
    }
}

fn open(target: &AccessLogTarget) -> io::Result<File> {
    match target {
        // Appending, so that a file which is cut by a rotation goes on at its new end. It holds addresses of clients.
        AccessLogTarget::File(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path),
        AccessLogTarget::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
    }
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Protocol;
    use pinstone_engine::clock::UnixMillis;
    use std::io::Read;
    use std::path::Path;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn record(target: &str) -> Box<Record> {
        let mut record = Record::new(UnixMillis(0), [127, 0, 0, 1].into(), Protocol::Http11);
        record.put(Part::Target, target.as_bytes());
        Box::new(record)
    }

    fn log(path: &Path, memory: usize) -> AccessLog {
        let target = AccessLogTarget::File(path.to_owned());
        AccessLog::open(AccessLogConfig { memory, ..AccessLogConfig::new(target, AccessLogFormat::Combined) }).unwrap()
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "{what}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn closing_writes_what_is_queued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = log(&path, MEMORY);
        for n in 0..1000 {
            log.push(record(&format!("/{n}")));
        }
        assert!(log.close(PATIENCE));
        let text = read(&path);
        assert_eq!((text.lines().count(), log.written()), (1000, 1000));
        assert!(text.lines().last().unwrap().contains(" /999 HTTP/1.1\" 499 0"), "{text}");
        log.push(record("/late"));
        assert_eq!(log.lost(Lost::QueueFull), 1);
        assert!(log.close(PATIENCE), "closing again changes nothing");
    }

    #[test]
    fn a_stalled_writer_costs_records_and_never_a_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        // Nobody reads from it yet.
        let mut pipe = File::options().read(true).write(true).open(&path).unwrap();
        let log = log(&path, 256 << 10);
        let mut pushed = 0;
        until("the queue is full", || {
            for _ in 0..100 {
                log.push(record(&format!("/{pushed}")));
                pushed += 1;
            }
            log.lost(Lost::QueueFull) > 1000
        });
        assert!(log.0.state.queued.load(Relaxed) <= 256 << 10, "memory is bounded");
        assert!(!log.close(Duration::ZERO), "the writer waits for its reader");
        let lost = log.lost(Lost::QueueFull);
        let mut lines = 0;
        let mut buffer = [0; 64 << 10];
        while lines < pushed - lost {
            let count = pipe.read(&mut buffer).unwrap();
            lines += count_lines(&buffer[..count]);
        }
        assert_eq!(lines, pushed - lost, "what was not dropped arrives");
    }

    #[test]
    fn a_moved_file_is_left_for_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = log(&path, MEMORY);
        log.push(record("/before"));
        std::fs::rename(&path, &moved).unwrap();
        log.push(record("/between"));
        log.reopen();
        until("it is opened anew", || path.exists());
        log.push(record("/after"));
        assert!(log.close(PATIENCE));
        let (old, new) = (read(&moved), read(&path));
        assert!(old.contains("/before") && old.contains("/between") && !old.contains("/after"), "{old}");
        assert_eq!(new.lines().count(), 1, "{new}");
    }

    #[test]
    fn a_file_that_is_cut_goes_on_at_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = log(&path, MEMORY);
        log.push(record("/before"));
        until("it is written", || log.written() == 1);
        File::options().write(true).truncate(true).open(&path).unwrap();
        log.push(record("/after"));
        assert!(log.close(PATIENCE));
        assert!(read(&path).starts_with("127.0.0.1 - - "), "no hole before it");
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let log = log(Path::new("/dev/full"), MEMORY);
        log.push(record("/a"));
        until("it is lost", || log.lost(Lost::WriteFailed) == 1);
        log.push(record("/b"));
        assert!(log.close(PATIENCE));
        assert_eq!((log.written(), log.lost(Lost::WriteFailed)), (0, 2));
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut sink = Sink::open(AccessLogTarget::File(path.clone())).unwrap();
        assert_eq!(sink.write(b"whole\ntor"), 0);
        sink.is_torn = true;
        assert_eq!(sink.write(b"next\n"), 0);
        assert_eq!(read(&path), "whole\ntor\nnext\n");
        assert!(!sink.is_torn);
    }
}
