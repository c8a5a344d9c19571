//! Which store belongs to which data folder: an id that both hold.
//!
//! The data folder has it in `store.json`, the store in an object called `FORMAT`. Both are written once, at the first
//! start, the folder's before the store's: so an interrupted first start knows its own mark again, and any other mark is
//! somebody else's.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use crate::blob::MARKER;
use crate::data_folder::replace_file;
use crate::id::random_bytes;

/// The format of stores that this program reads and writes.
const FORMAT: u32 = 1;
/// What a marker begins with.
const WORD: &str = "pinstone-objects";
/// The folder's note.
const NOTE: &str = "store.json";

/// Tells a store from every other one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct StoreId(pub(super) [u8; 16]);

impl StoreId {
    pub(super) fn random() -> Self {
        Self(random_bytes())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

/// What a data folder remembers of its store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Note {
    pub(super) id: StoreId,
    /// Where the store was; `None` for the folder's own `objects/`.
    pub(super) url: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct NoteFile {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

impl Note {
    /// Reads the note of the data folder at `data`.
    pub(super) fn read(data: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path(data)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it does not say which store this is");
        let file: NoteFile = serde_json::from_str(&text).map_err(|_| wrong())?;
        let id = crate::hex::decode(&file.id).map(StoreId).ok_or_else(wrong)?;
        Ok(Some(Self { id, url: file.url }))
    }

    /// Writes it, durably.
    pub(super) fn write(&self, data: &Path) -> io::Result<()> {
        let file = NoteFile { id: self.id.to_string(), url: self.url.clone() };
        let text = serde_json::to_string(&file).expect("a note has text keys");
        replace_file(&path(data), format!("{text}\n").as_bytes())
    }
}

/// Where a data folder's note is.
pub(super) fn path(data: &Path) -> PathBuf {
    data.join(NOTE)
}

/// What a store says of itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Marker {
    /// Nothing: it is new, or another kind of store.
    Absent,
    /// Its id.
    Store(StoreId),
    /// A later program wrote it.
    Newer(u32),
    /// The object of this name is not Pinstone's.
    Foreign,
}

impl FromStr for Marker {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut lines = text.lines();
        let format = lines.next().and_then(|line| line.strip_prefix(WORD)?.trim().parse().ok());
        let id = lines.next().and_then(crate::hex::decode).map(StoreId);
        Ok(match (format, id) {
            (Some(FORMAT), Some(id)) => Self::Store(id),
            (Some(newer), _) if newer > FORMAT => Self::Newer(newer),
            _ => Self::Foreign,
        })
    }
}

impl Marker {
    /// Asks the store.
    pub(super) async fn read(store: &dyn ObjectStore) -> object_store::Result<Self> {
        match store.get(&ObjectPath::from(MARKER)).await {
            Ok(found) => {
                // Whatever has this name may be of any size.
                if found.meta.size > 4096 {
                    return Ok(Self::Foreign);
                }
                let bytes = found.bytes().await?;
                let text = std::str::from_utf8(&bytes).unwrap_or_default();
                let Ok(marker) = text.parse();
                Ok(marker)
            }
            Err(object_store::Error::NotFound { .. }) => Ok(Self::Absent),
            Err(error) => Err(error),
        }
    }

    /// Marks the store.
    pub(super) async fn write(store: &dyn ObjectStore, id: StoreId) -> object_store::Result<()> {
        let text = format!("{WORD} {FORMAT}\n{id}\n");
        store.put(&ObjectPath::from(MARKER), PutPayload::from(text)).await.map(drop)
    }
}

/// What is known when a store is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The id that the data folder remembers.
    pub(super) noted: Option<StoreId>,
    /// What the store says.
    pub(super) marker: Marker,
    /// Whether the data folder holds nothing yet.
    pub(super) is_new: bool,
    /// Whether the store is the data folder's own `objects/`, and always was.
    pub(super) is_own: bool,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// They belong together.
    Ours(StoreId),
    /// They are to belong together from now on: under this id, or a new one.
    Claim(Option<StoreId>),
    /// The store is another data folder's.
    Taken,
    /// The data folder has another store.
    Other,
    /// The store of this data folder is not here, or not any more.
    Gone,
    /// A later program wrote the store.
    Newer(u32),
}

/// Decides whether a data folder and a store belong together.
pub(super) fn decide(found: Found) -> Verdict {
    let Found { noted, marker, is_new, is_own } = found;
    match (noted, marker) {
        (_, Marker::Newer(format)) => Verdict::Newer(format),
        (Some(noted), Marker::Store(id)) if noted == id => Verdict::Ours(id),
        (Some(_), Marker::Store(_)) => Verdict::Other,
        // The first start was interrupted between note and marker.
        (Some(noted), Marker::Absent) if is_new => Verdict::Claim(Some(noted)),
        (Some(_), Marker::Absent | Marker::Foreign) => Verdict::Gone,
        (None, Marker::Absent) if is_new || is_own => Verdict::Claim(None),
        (None, Marker::Store(id)) if is_own && !is_new => Verdict::Claim(Some(id)),
        (None, _) if is_new => Verdict::Taken,
        (None, _) => Verdict::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    const ONE: StoreId = StoreId([1; 16]);
    const TWO: StoreId = StoreId([2; 16]);

    #[test]
    fn a_folder_and_a_store_belong_together_or_are_kept_apart() {
        use Marker::{Absent, Foreign, Newer, Store};
        for (noted, marker, is_new, is_own, want) in [
            // The first start.
            (None, Absent, true, true, Verdict::Claim(None)),
            (None, Absent, true, false, Verdict::Claim(None)),
            (Some(ONE), Absent, true, false, Verdict::Claim(Some(ONE))),
            (Some(ONE), Store(ONE), true, false, Verdict::Ours(ONE)),
            (None, Store(TWO), true, false, Verdict::Taken),
            (None, Foreign, true, false, Verdict::Taken),
            (Some(ONE), Store(TWO), true, false, Verdict::Other),
            // Later ones.
            (Some(ONE), Store(ONE), false, false, Verdict::Ours(ONE)),
            (Some(ONE), Store(TWO), false, false, Verdict::Other),
            (Some(ONE), Absent, false, false, Verdict::Gone),
            (Some(ONE), Foreign, false, false, Verdict::Gone),
            // Its own `objects/` too can lie on a disk that is not mounted.
            (Some(ONE), Absent, false, true, Verdict::Gone),
            // A folder that has no note, because it was made before there were any.
            (None, Absent, false, true, Verdict::Claim(None)),
            (None, Store(TWO), false, true, Verdict::Claim(Some(TWO))),
            (None, Absent, false, false, Verdict::Other),
            (None, Store(TWO), false, false, Verdict::Other),
            (None, Newer(2), true, false, Verdict::Newer(2)),
            (Some(ONE), Newer(2), false, true, Verdict::Newer(2)),
        ] {
            let found = Found { noted, marker, is_new, is_own };
            assert_eq!(decide(found), want, "{found:?}");
        }
    }

    #[tokio::test]
    async fn markers_are_read_back() {
        let store = InMemory::new();
        assert_eq!(Marker::read(&store).await.unwrap(), Marker::Absent);
        Marker::write(&store, ONE).await.unwrap();
        assert_eq!(Marker::read(&store).await.unwrap(), Marker::Store(ONE));
        for (text, want) in [
            ("pinstone-objects 2\n", Marker::Newer(2)),
            ("pinstone-objects 1\n", Marker::Foreign),
            ("pinstone-objects 1\n0101\n", Marker::Foreign),
            ("hello", Marker::Foreign),
            ("", Marker::Foreign),
            (&"x".repeat(5000), Marker::Foreign),
        ] {
            store.put(&ObjectPath::from(MARKER), PutPayload::from(text.to_owned())).await.unwrap();
            assert_eq!(Marker::read(&store).await.unwrap(), want, "{text}");
        }
    }

    #[test]
    fn notes_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Note::read(folder.path()).unwrap(), None);
        for url in [None, Some("s3://bucket/prefix".to_owned())] {
            let note = Note { id: ONE, url };
            note.write(folder.path()).unwrap();
            assert_eq!(Note::read(folder.path()).unwrap(), Some(note));
        }
        for text in ["", "{}", "{\"id\": \"01\"}"] {
            fs::write(path(folder.path()), text).unwrap();
            assert!(Note::read(folder.path()).is_err(), "{text}");
        }
    }
}
