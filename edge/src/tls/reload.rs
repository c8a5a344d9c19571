//! Keeping certificates as their files are.
//!
//! A pair of files is read again when it looks different from when it was last read, and has looked the same twice in a
//! row: whoever writes it has finished then, or has paused for longer than a look takes, and is read once more after the
//! next write. What cannot be read leaves what there was, and is told once for each state of the files.

use std::collections::HashMap;
use std::sync::Arc;

use super::expiry;
use super::files::{self, Pair, Stamp};
use super::load::{self, CertificateError, Problem};
use super::set::{Certificate, Set};
use super::{CertificateSources, Template};

type Stamps = [Stamp; 2];

/// What is known of the files.
#[derive(Debug, Default)]
pub(super) struct Known {
    pairs: HashMap<Pair, Read>,
    /// How files looked that differ from what was read, and pairs that are new.
    seen: HashMap<Pair, Stamps>,
    /// Pairs that were gone at the last look.
    gone: Vec<Pair>,
    /// Whether the folder could not be listed, and that was told.
    is_unlisted: bool,
    pub(super) expiry: expiry::Told,
}

/// A pair as it was last read.
#[derive(Debug)]
struct Read {
    stamps: Stamps,
    /// The last that could be read, also where the files are wrong now.
    certificate: Option<Arc<Certificate>>,
}

impl Known {
    /// Reads everything for the first time, and finds all that is wrong.
    pub(super) fn read(sources: &CertificateSources, template: &Template) -> (Self, Set, Vec<CertificateError>) {
        let mut known = Self::default();
        let mut errors = Vec::new();
        match files::pairs(sources) {
            Ok(pairs) => {
                for pair in pairs {
                    match read(&pair, template) {
                        Ok(read) => drop(known.pairs.insert(pair, read)),
                        Err(error) => errors.push(error),
                    }
                }
                if known.pairs.is_empty() && errors.is_empty() {
                    errors.extend(load::none_at_all(sources));
                }
            }
            Err((folder, error)) => errors.push(CertificateError::new(&folder, Problem::Read(error))),
        }
        let set = known.set();
        (known, set, errors)
    }

    /// Looks at the files again. Answers a new set where something changed.
    pub(super) fn refresh(&mut self, sources: &CertificateSources, template: &Template) -> Option<Set> {
        let pairs = match files::pairs(sources) {
            Ok(pairs) => pairs,
            Err((folder, error)) => {
                if !self.is_unlisted {
                    let folder = folder.display();
                    tracing::error!(%folder, %error, "certificates cannot be listed; those that are known are kept");
                }
                self.is_unlisted = true;
                return None;
            }
        };
        self.is_unlisted = false;
        let mut is_changed = self.forget_all_but(&pairs);
        for pair in pairs {
            let stamps = pair.stamps();
            if self.pairs.get(&pair).is_some_and(|read| read.stamps == stamps) {
                self.seen.remove(&pair);
                continue;
            }
            if self.seen.get(&pair) != Some(&stamps) {
                self.seen.insert(pair, stamps);
                continue;
            }
            match read(&pair, template) {
                Ok(read) => {
                    tracing::info!(file = %pair.chain.display(), "a certificate was read");
                    is_changed = true;
                    self.seen.remove(&pair);
                    self.pairs.insert(pair, read);
                }
                Err(CertificateError { problem: Problem::Unsteady, .. }) => drop(self.seen.remove(&pair)),
                Err(error) => {
                    let certificate = self.pairs.get(&pair).and_then(|read| read.certificate.clone());
                    match certificate {
                        Some(_) => tracing::error!(%error, "a certificate is wrong; the one before it is kept"),
                        None => tracing::error!(%error, "a certificate is wrong, and not served"),
                    }
                    self.seen.remove(&pair);
                    self.pairs.insert(pair, Read { stamps, certificate });
                }
            }
        }
        is_changed.then(|| self.set())
    }

    /// Drops what was gone at two looks in a row: files are exchanged by removing one and adding another, too.
    fn forget_all_but(&mut self, pairs: &[Pair]) -> bool {
        let is_there = |pair: &Pair| pairs.contains(pair);
        self.seen.retain(|pair, _| is_there(pair));
        let gone: Vec<_> = self.pairs.keys().filter(|pair| !is_there(pair)).cloned().collect();
        let mut is_changed = false;
        for pair in &gone {
            if self.gone.contains(pair) {
                tracing::info!(file = %pair.chain.display(), "a certificate was removed");
                is_changed |= self.pairs.remove(pair).is_some_and(|read| read.certificate.is_some());
            }
        }
        self.gone = gone;
        is_changed
    }

    fn set(&self) -> Set {
        Set::new(self.pairs.values().filter_map(|read| read.certificate.clone()).collect())
    }
}

fn read(pair: &Pair, template: &Template) -> Result<Read, CertificateError> {
    let stamps = pair.stamps();
    let certificate = load::certificate(pair, template)?;
    // Both files are of one moment only if neither changed in between.
    if pair.stamps() != stamps {
        return Err(CertificateError::new(&pair.chain, Problem::Unsteady));
    }
    Ok(Read { stamps, certificate: Some(Arc::new(certificate)) })
}
