//! The name of every file's bytes, taken by all cores.
//!
//! A file must look the same before and after: otherwise the hash is of bytes that were never in the file together.

use std::fs::File;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pinstone_engine::hash::BlobHash;

use crate::error::{CliError, file_error};
use crate::walk::{FoundFile, Look};

/// How much of a file is read at once.
const WINDOW: usize = 128 * 1024;

/// The hash of every file of `files`, in their order. `progress` is told how many bytes of how many files more.
///
/// # Errors
///
/// Where a file cannot be read, or changes meanwhile.
pub(crate) fn hash_all(files: &[FoundFile], progress: impl Fn(u64, u64) + Sync) -> Result<Vec<BlobHash>, CliError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(files.len().max(1));
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<(usize, CliError)>> = Mutex::new(None);
    let work = || {
        let mut window = vec![0; WINDOW];
        let mut hashed = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(index) else { break };
            match hash_one(file, &mut window, |bytes| progress(bytes, 0)) {
                Ok(hash) => hashed.push((index, hash)),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    let mut failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    // Of several failures the first file's is told, whichever thread was faster.
                    if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                        *failed = Some((index, error));
                    }
                }
            }
            progress(0, 1);
        }
        hashed
    };
    let mut hashed: Vec<(usize, BlobHash)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(part) => all.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    if let Some((_, error)) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    hashed.sort_unstable_by_key(|(index, _)| *index);
    Ok(hashed.into_iter().map(|(_, hash)| hash).collect())
}

fn hash_one(found: &FoundFile, window: &mut [u8], progress: impl Fn(u64)) -> Result<BlobHash, CliError> {
    let mut file = open_unchanged(found)?;
    let mut hasher = blake3::Hasher::new();
    loop {
        match file.read(window) {
            Ok(0) => break,
            Ok(length) => {
                hasher.update(&window[..length]);
                progress(length as u64);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(file_error(&found.on_disk, &error)),
        }
    }
    check_unchanged(found, &file)?;
    if hasher.count() != found.look.size {
        return Err(CliError::folder_changed(&found.path));
    }
    Ok(hasher.finalize().into())
}

/// Opens a file that still looks as it did when it was found.
///
/// # Errors
///
/// Where it is gone or looks different, or cannot be opened.
pub(crate) fn open_unchanged(found: &FoundFile) -> Result<File, CliError> {
    let file = File::open(&found.on_disk).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => CliError::folder_changed(&found.path),
        _ => file_error(&found.on_disk, &error),
    })?;
    check_unchanged(found, &file)?;
    Ok(file)
}

/// Checks that `file` looks as it did when it was found, and that its path still leads to it.
///
/// # Errors
///
/// Where it does not.
pub(crate) fn check_unchanged(found: &FoundFile, file: &File) -> Result<(), CliError> {
    let open = file.metadata().map_err(|error| file_error(&found.on_disk, &error))?;
    let by_path = std::fs::metadata(&found.on_disk).map_err(|_| CliError::folder_changed(&found.path))?;
    if Look::of(&open) == found.look && Look::of(&by_path) == found.look {
        Ok(())
    } else {
        Err(CliError::folder_changed(&found.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{WalkOptions, walk};

    #[test]
    fn every_file_is_hashed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..50 {
            std::fs::write(folder.path().join(format!("{number:02}")), vec![number; usize::from(number) * 9_000])
                .unwrap();
        }
        let files = walk(folder.path(), &WalkOptions::default()).unwrap().files;
        let seen = (AtomicUsize::new(0), AtomicUsize::new(0));
        let hashes = hash_all(&files, |bytes, files| {
            seen.0.fetch_add(usize::try_from(bytes).unwrap(), Ordering::Relaxed);
            seen.1.fetch_add(usize::try_from(files).unwrap(), Ordering::Relaxed);
        })
        .unwrap();
        let want: Vec<_> = (0..50u8).map(|number| BlobHash::of(&vec![number; usize::from(number) * 9_000])).collect();
        assert_eq!(hashes, want);
        assert_eq!((seen.0.into_inner(), seen.1.into_inner()), ((0..50).sum::<usize>() * 9_000, 50));
        assert!(hash_all(&[], |_, _| ()).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_changes_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let files = walk(folder.path(), &WalkOptions::default()).unwrap().files;
        for change in [(|path| std::fs::write(path, "longer").unwrap()) as fn(&std::path::Path), |path| {
            std::fs::remove_file(path).unwrap()
        }] {
            change(&path);
            let error = hash_all(&files, |_, _| ()).unwrap_err();
            assert_eq!((&*error.code, error.exit.number()), ("folder_changed", 4), "{error}");
        }
    }
}
