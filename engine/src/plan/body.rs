//! The files of a plan: checked, sorted and indexed once, and kept in memory while blobs are uploaded for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::{MissingBlob, PlanError, PlannedFile, file_list};
use crate::blob::BlobRecord;
use crate::hash::{BlobHash, ContentHash};
use crate::limits::Limits;
use crate::manifest::{Settings, content_hash};
use crate::publish::{Diagnostic, site_diagnostics};

/// The longest content type that is kept of what a publisher sends; a longer one counts as not sent.
const LONGEST_CONTENT_TYPE: usize = 128;
/// The most different content types that the files of one plan may be sent with.
const MOST_CONTENT_TYPES: usize = 1000;

/// A plan's files, kept in memory while blobs are uploaded for it.
#[derive(Debug)]
pub(crate) struct PlanBody {
    /// In the order of paths.
    pub(crate) files: Vec<PlannedFile>,
    /// Each hash once, with the first file that has it and its announced size.
    pub(super) blobs: HashMap<BlobHash, PlannedBlob>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedBlob {
    first_file: usize,
    pub(super) size: Option<u64>,
}

impl PlanBody {
    /// Takes files that are sorted by path.
    pub(crate) fn new(files: Vec<PlannedFile>) -> Result<Self, PlanError> {
        let mut blobs: HashMap<BlobHash, PlannedBlob> = HashMap::with_capacity(files.len());
        for (first_file, file) in files.iter().enumerate() {
            let blob = blobs.entry(file.blob).or_insert(PlannedBlob { first_file, size: file.size });
            match (blob.size, file.size) {
                (Some(known), Some(size)) if known != size => return Err(PlanError::SizeConflict),
                (None, size) => blob.size = size,
                _ => {}
            }
        }
        Ok(Self { files, blobs })
    }

    /// The files alone.
    pub(crate) fn into_files(self) -> Vec<PlannedFile> {
        self.files
    }

    /// Each hash once, in the order of the first paths that have them.
    pub(crate) fn hashes(&self) -> Vec<BlobHash> {
        let mut hashes: Vec<_> = self.blobs.iter().map(|(hash, blob)| (blob.first_file, *hash)).collect();
        hashes.sort_unstable();
        hashes.into_iter().map(|(_, hash)| hash).collect()
    }

    /// Which of `hashes` are not `present`, in their order, and the sum of their sizes as far as they are known.
    pub(super) fn missing(&self, hashes: &[BlobHash], present: &[Option<BlobRecord>]) -> (Vec<MissingBlob>, u64) {
        let absent = hashes.iter().zip(present).filter(|(_, record)| record.is_none());
        let missing: Vec<_> = absent
            .map(|(hash, _)| {
                let blob = self.blobs[hash];
                MissingBlob { path: self.files[blob.first_file].path.clone(), hash: *hash, size: blob.size }
            })
            .collect();
        let bytes = missing.iter().filter_map(|blob| blob.size).fold(0, u64::saturating_add);
        (missing, bytes)
    }

    /// How many of `hashes` are not `present`, and the sum of their sizes as far as they are known.
    pub(crate) fn count_missing(&self, hashes: &[BlobHash], present: &[Option<BlobRecord>]) -> (u64, u64) {
        let absent = hashes.iter().zip(present).filter(|(_, record)| record.is_none());
        absent.fold((0, 0), |(count, bytes): (u64, u64), (hash, _)| {
            (count + 1, bytes.saturating_add(self.blobs[hash].size.unwrap_or(0)))
        })
    }

    /// The sum of the sizes that are known, in bytes.
    pub(super) fn total_size(&self) -> u64 {
        self.files.iter().filter_map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// What it weighs in memory, about.
    pub(crate) fn weight(&self) -> u64 {
        let text = |file: &PlannedFile| file.path.len() + file.content_type.as_ref().map_or(0, String::len);
        let texts: usize = self.files.iter().map(text).sum();
        (texts + self.files.len() * 200) as u64
    }
}

/// What is computed of a plan's files before anything is recorded.
pub(super) struct Prepared {
    pub(super) body: Arc<PlanBody>,
    pub(super) list: Bytes,
    pub(super) content_hash: ContentHash,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Checks a plan's files and sorts them.
pub(crate) fn checked(mut files: Vec<PlannedFile>, limits: &Limits) -> Result<Vec<PlannedFile>, PlanError> {
    if files.is_empty() {
        return Err(PlanError::NoFiles);
    }
    if files.len() as u64 > limits.files {
        return Err(PlanError::TooManyFiles { limit: limits.files });
    }
    if files.iter().any(|file| file.size.is_some_and(|size| size > limits.file_size)) {
        return Err(PlanError::FileTooLarge { limit: limits.file_size });
    }
    let sizes = files.iter().filter_map(|file| file.size);
    if sizes.fold(0, u64::saturating_add) > limits.publish_size {
        return Err(PlanError::TooLarge { limit: limits.publish_size });
    }
    let mut content_types = HashSet::new();
    for file in &mut files {
        file.content_type.take_if(|text| text.len() > LONGEST_CONTENT_TYPE);
        content_types.extend(file.content_type.as_deref());
    }
    if content_types.len() > MOST_CONTENT_TYPES {
        return Err(PlanError::TooManyContentTypes { limit: MOST_CONTENT_TYPES });
    }
    drop(content_types);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(pair) = files.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(PlanError::DuplicatePath(pair[0].path.clone()));
    }
    Ok(files)
}

/// Checks a plan's files, sorts them and says what the content is known by.
pub(super) fn prepare(files: Vec<PlannedFile>, settings: Settings, limits: &Limits) -> Result<Prepared, PlanError> {
    let files = checked(files, limits)?;
    let content_hash = content_hash(files.iter().map(|file| (file.path.as_str(), file.blob)), settings);
    let diagnostics = site_diagnostics(files.iter().map(|file| file.path.as_str()));
    let list = file_list::encode(&files);
    Ok(Prepared { body: Arc::new(PlanBody::new(files)?), list, content_hash, diagnostics })
}

/// The hashes in the list of files of a plan; nothing where it cannot be read.
pub(crate) fn hashes_of(list: Bytes) -> Option<Vec<BlobHash>> {
    Some(file_list::decode(list)?.into_iter().map(|file| file.blob).collect())
}
