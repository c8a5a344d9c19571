//! The open database, and how it is closed and opened again after a write that failed.
//!
//! After a failed write nobody knows what the log holds: the whole batch, a part of it, or nothing. After a failed sync
//! the kernel may have given up pages that it still shows to whoever reads them. So nothing more is written through a
//! handle that has failed once, and nothing of that write is acknowledged. When there is room again, the database is
//! closed and opened again in this process: the log is read as at a start, and all that is found in it is written anew,
//! to table files that are synced, before the first commit is taken. What was not acknowledged may be there afterwards
//! or not.
//!
//! Readers go on with the handle that failed for as long as there is no room, wait while the database is opened again,
//! and get one that only reads where that fails.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBRecoveryMode, Options, WriteBatch};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::log_check::{self, State};
use super::rows::{FAMILIES, copy, engine, synced};
use crate::meta::MetaError;

/// Memory for blocks of table files, in bytes.
const CACHE: usize = 64 << 20;
/// The file that shows whether there is room. It loses its name before anything is written to it.
const PROBE: &str = "room.probe";
/// Room that is wanted beside that for the log, in bytes: for a new log, a new manifest and the options.
pub(super) const SPARE: u64 = 4 << 20;
/// How much is written at a time where room cannot be reserved, and at all where it can, in bytes.
const PIECE: usize = 64 << 10;

/// The database in a folder. One process has it open once.
pub(super) struct Database {
    path: PathBuf,
    cache: Cache,
    /// Held shared by whoever uses the database, and alone by the writer thread while it opens it again. Nothing where
    /// it could not be opened at all.
    open: RwLock<Option<DB>>,
    /// Why nothing is written: from a failed write until the database was opened again.
    failed: Mutex<Option<MetaError>>,
    /// Whether there is such a reason, for those who only look.
    has_failed: AtomicBool,
    /// What goes wrong in a test.
    #[cfg(test)]
    pub(super) faults: faults::Faults,
}

/// How a database is opened.
#[derive(Clone, Copy)]
enum Access {
    Write,
    Read,
}

impl Database {
    /// Opens or creates the database in the folder `path`.
    ///
    /// # Errors
    ///
    /// Where the folder is in use or cannot be written, and where the write-ahead log or a table file is damaged.
    pub(super) fn open(path: &Path) -> Result<Self, MetaError> {
        // A process that was killed at the wrong moment leaves it.
        match fs::remove_file(path.join(PROBE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(MetaError::engine(error)),
            _ => {}
        }
        cut_torn(check_logs(path)?)?;
        let cache = Cache::new_lru_cache(CACHE);
        let db = open_db(path, &cache, Access::Write)?;
        Ok(Self {
            path: path.to_owned(),
            cache,
            open: RwLock::new(Some(db)),
            failed: Mutex::default(),
            has_failed: AtomicBool::new(false),
            #[cfg(test)]
            faults: faults::Faults::default(),
        })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The database, for as long as the guard lives. Waits while it is opened again, so not for an async thread.
    ///
    /// # Errors
    ///
    /// Where it could not be opened again, not even for reading.
    pub(super) fn get(&self) -> Result<MappedRwLockReadGuard<'_, DB>, MetaError> {
        RwLockReadGuard::try_map(self.open.read(), Option::as_ref)
            .map_err(|_| self.check_writable().err().unwrap_or(MetaError::Closed))
    }

    /// Whether a write has failed and the database was not opened again since.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Why nothing is written, where that is so.
    pub(super) fn check_writable(&self) -> Result<(), MetaError> {
        if !self.has_failed() {
            return Ok(());
        }
        self.failed.lock().as_ref().map_or(Ok(()), |error| Err(copy(error)))
    }

    /// Writes `batch`, durably. `db` is what [`Database::get`] gave.
    ///
    /// There is no way to write without a sync: what a crash leaves of the log can be read because of that.
    ///
    /// # Errors
    ///
    /// Where a write has failed, this one or one before. Whether `batch` is in the log is not known then.
    pub(super) fn write(&self, db: &DB, batch: WriteBatch) -> Result<(), MetaError> {
        self.check_writable()?;
        let write = || db.write_opt(batch, &synced()).map_err(engine);
        #[cfg(test)]
        let write = || self.faults.around_write(write);
        write().map_err(|error| self.fail(error))
    }

    /// Says that nothing is written from now on, because of `error`.
    pub(super) fn fail(&self, error: MetaError) -> MetaError {
        let mut failed = self.failed.lock();
        if failed.is_none() {
            tracing::error!(
                error = %Reason(&error),
                "the metadata store could not write; it takes nothing until it was opened again"
            );
        }
        *failed = Some(copy(&error));
        self.has_failed.store(true, Ordering::Release);
        error
    }

    /// Says that the database was opened again and is what it should be.
    pub(super) fn works_again(&self) {
        *self.failed.lock() = None;
        self.has_failed.store(false, Ordering::Release);
    }

    /// Finds out whether there is room to open the database again: all of its log is written to table files then.
    ///
    /// # Errors
    ///
    /// Where there is not, and where the folder cannot be written for another reason.
    pub(super) fn find_room(&self) -> Result<(), MetaError> {
        #[cfg(test)]
        self.faults.in_find_room()?;
        find_room(&self.path).map_err(MetaError::engine)
    }

    /// Closes the database and opens it again. Waits until nobody uses it; only the writer thread asks for it.
    ///
    /// # Errors
    ///
    /// Where that fails. The database can then be read at best, and this can be tried again.
    pub(super) fn reopen(&self) -> Result<(), MetaError> {
        // Before it is closed: a damaged log is not read again, and what is open shows what it showed.
        let torn = check_logs(&self.path)?;
        let mut open = self.open.write();
        // The database is locked by whoever has it open, also against its own process.
        drop(open.take());
        let opened = cut_torn(torn).and_then(|()| open_db(&self.path, &self.cache, Access::Write));
        #[cfg(test)]
        let opened = self.faults.around_open(opened);
        match opened {
            Ok(db) => {
                *open = Some(db);
                Ok(())
            }
            Err(error) => {
                *open = open_db(&self.path, &self.cache, Access::Read)
                    .inspect_err(|error| tracing::error!(error = %Reason(error), "the metadata cannot be read"))
                    .ok();
                Err(error)
            }
        }
    }
}

/// An error and its reason, on one line of the log.
pub(super) struct Reason<'e>(pub(super) &'e MetaError);

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        match std::error::Error::source(self.0) {
            Some(reason) => write!(f, ": {reason}"),
            None => Ok(()),
        }
    }
}

fn open_db(path: &Path, cache: &Cache, access: Access) -> Result<DB, MetaError> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(64 << 20);
    options.set_keep_log_file_num(2);
    options.set_max_open_files(256);
    // All families or none: after a write that failed for lack of room RocksDB may flush by itself, and a crash between
    // two families would leave that write in one of them and not in the other.
    options.set_atomic_flush(true);
    let family = |name: &str| {
        let mut options = Options::default();
        options.set_write_buffer_size(16 << 20);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_bloom_filter(10.0, false);
        options.set_block_based_table_factory(&table);
        ColumnFamilyDescriptor::new(name, options)
    };
    let families = FAMILIES.map(family);
    match access {
        Access::Write => DB::open_cf_descriptors(&options, path, families),
        Access::Read => DB::open_cf_descriptors_read_only(&options, path, families, false),
    }
    .map_err(engine)
}

/// The files of the write-ahead log in `path`, oldest first.
fn logs(path: &Path) -> io::Result<Vec<PathBuf>> {
    let files = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let paths = files.map(|file| file.map(|file| file.path()));
    let is_other = |path: &Path| path.extension().is_none_or(|end| end != "log");
    let paths = paths.filter(|path| !path.as_ref().is_ok_and(|path| is_other(path)));
    let mut logs = paths.collect::<io::Result<Vec<PathBuf>>>()?;
    // Numbers with at least six digits.
    logs.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    Ok(logs)
}

/// Refuses damaged logs; says which write at the end of a log, if any, is cut short and was not acknowledged.
fn check_logs(path: &Path) -> Result<Vec<(PathBuf, u64)>, MetaError> {
    let mut torn: Vec<(PathBuf, u64)> = Vec::new();
    for file in logs(path).map_err(MetaError::engine)? {
        let log = match fs::read(&file) {
            // RocksDB removes those that it does not need any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            log => log.map_err(MetaError::engine)?,
        };
        // A write that was cut short is the last one: nothing was written after it, in whichever file.
        if !log.is_empty()
            && let Some((earlier, at)) = torn.pop()
        {
            return Err(damaged(&earlier, at));
        }
        torn.extend(check_log(file, &log)?);
    }
    torn.extend(check_manifest(path)?);
    Ok(torn)
}

/// The same for the manifest, which lists the tables and is written to in the same way.
fn check_manifest(path: &Path) -> Result<Option<(PathBuf, u64)>, MetaError> {
    let read = |file: &Path| match fs::read(file) {
        // A new folder has none, and RocksDB knows best what is wrong where one of the two is missing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some).map_err(MetaError::engine),
    };
    let Some(current) = read(&path.join("CURRENT"))? else { return Ok(None) };
    let file = path.join(String::from_utf8_lossy(&current).trim());
    let Some(manifest) = read(&file)? else { return Ok(None) };
    check_log(file, &manifest)
}

fn check_log(file: PathBuf, log: &[u8]) -> Result<Option<(PathBuf, u64)>, MetaError> {
    match log_check::examine(log) {
        State::Whole => Ok(None),
        State::Torn(at) => Ok(Some((file, at as u64))),
        State::Damaged(at) => Err(damaged(&file, at as u64)),
    }
}

fn damaged(file: &Path, at: u64) -> MetaError {
    let detail = format!("the metadata's log {} is damaged at byte {at}", file.display());
    MetaError::engine(io::Error::new(io::ErrorKind::InvalidData, detail))
}

/// Cuts off what [`check_logs`] found, durably. RocksDB would take it for damage.
fn cut_torn(torn: Vec<(PathBuf, u64)>) -> Result<(), MetaError> {
    for (file, at) in torn {
        tracing::warn!(file = %file.display(), at, "a write that was cut short is dropped; nobody was told of it");
        let cut = || {
            let log = File::options().write(true).open(&file)?;
            log.set_len(at)?;
            log.sync_all()
        };
        cut().map_err(MetaError::engine)?;
    }
    Ok(())
}

/// How many bytes reading the logs in `path` again may take: what is in them is written to table files.
pub(super) fn wanted_room(path: &Path) -> io::Result<u64> {
    Ok(logs(path)?.iter().filter_map(|log| Some(fs::metadata(log).ok()?.len())).sum::<u64>() + SPARE)
}

/// Makes sure of that much room in the folder `path`. What is reserved is given back at once, also where the process
/// ends here: the file has no name.
fn find_room(path: &Path) -> io::Result<()> {
    let wanted = wanted_room(path)?;
    let name = path.join(PROBE);
    let mut probe = File::options().create(true).truncate(true).write(true).open(&name)?;
    fs::remove_file(&name)?;
    let to_write = match rustix::fs::fallocate(&probe, FallocateFlags::empty(), 0, wanted) {
        Ok(()) => PIECE as u64,
        // Such a file system says only when it is written to whether it has room.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => wanted,
        Err(errno) => return Err(errno.into()),
    };
    let mut piece = [0; PIECE];
    for number in 0..to_write.div_ceil(PIECE as u64) {
        // Not zeros, and no piece like another: file systems that compress would take those for less than they are.
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut piece);
        probe.write_all(&piece)?;
    }
    probe.sync_all()
}

#[cfg(test)]
pub(super) mod faults {
    //! What a test lets go wrong, at exactly one place.

    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

    use crate::meta::MetaError;

    /// Places where something can go wrong.
    #[derive(Debug, Default)]
    pub(crate) struct Faults {
        /// Which write from now on fails and is not done: 1 is the next, 0 is none.
        pub(crate) fail_before: AtomicI64,
        /// As `fail_before`, for a write that is done and reported as failed.
        pub(crate) fail_after: AtomicI64,
        /// How many writes there were, failed ones included.
        pub(crate) writes: AtomicU64,
        /// Whether there is no room.
        pub(crate) is_full: AtomicBool,
        /// Whether the database cannot be opened for writing.
        pub(crate) refuse_open: AtomicBool,
    }

    fn full() -> MetaError {
        MetaError::engine(io::Error::from(io::ErrorKind::StorageFull))
    }

    /// Counts down; true at 1.
    fn is_due(count: &AtomicI64) -> bool {
        count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| (left > 0).then(|| left - 1)) == Ok(1)
    }

    impl Faults {
        pub(super) fn around_write(&self, write: impl FnOnce() -> Result<(), MetaError>) -> Result<(), MetaError> {
            self.writes.fetch_add(1, Ordering::SeqCst);
            let (before, after) = (is_due(&self.fail_before), is_due(&self.fail_after));
            if before || self.is_full.load(Ordering::SeqCst) {
                return Err(full());
            }
            write()?;
            if after { Err(MetaError::engine(io::Error::other("the answer was lost"))) } else { Ok(()) }
        }

        pub(super) fn in_find_room(&self) -> Result<(), MetaError> {
            if self.is_full.load(Ordering::SeqCst) { Err(full()) } else { Ok(()) }
        }

        pub(super) fn around_open<T>(&self, opened: Result<T, MetaError>) -> Result<T, MetaError> {
            if self.refuse_open.load(Ordering::SeqCst) {
                return Err(MetaError::engine(io::Error::other("refused")));
            }
            opened
        }
    }
}
