//! The canonical bytes of a manifest: one byte string for one content. `docs/formats.md` describes them.

use bytes::Bytes;

use super::{HtmlMode, NotFoundMode, Profile, Settings};
use crate::hash::{BlobHash, ManifestId};
use crate::path::{PathError, SitePath};

const MAGIC: [u8; 4] = *b"PSMF";
const VERSION: u16 = 1;
const HEADER_LENGTH: usize = 36;
const SETTINGS_LENGTH: usize = 4;
/// Bytes of one entry beside its path.
pub(super) const ENTRY_LENGTH: usize = 52;
/// The flag of an entry that is kept but never served.
pub(super) const HIDDEN: u32 = 1;

/// Why bytes are not a manifest, or files do not make one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// The bytes end too early, go on too long, or a length in them does not fit.
    #[error("a manifest's {0} does not fit its length")]
    Length(&'static str),
    /// The bytes do not begin as a manifest does.
    #[error("the bytes are not a manifest")]
    Magic,
    /// A later program wrote it.
    #[error("the manifest has version {found}, and this program knows version {VERSION}")]
    Newer {
        /// The version found.
        found: u16,
    },
    /// Something is not in the one form that is allowed.
    #[error("a manifest's {0} is not canonical")]
    NotCanonical(&'static str),
    /// A path is none.
    #[error("a manifest has a bad path: {0}")]
    Path(#[from] PathError),
    /// Two files have one path.
    #[error("two files have the path `{0}`")]
    Duplicate(SitePath),
    /// The content is larger than the format can count.
    #[error("a manifest's {0} is larger than the format can hold")]
    TooLarge(&'static str),
}

/// Where the parts of a checked manifest are.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) settings: Settings,
    pub(super) entries: usize,
    pub(super) entries_at: usize,
    paths_at: usize,
    /// Start and length of each content type.
    types: Box<[(u32, u16)]>,
}

/// One entry as it is stored.
pub(super) struct RawEntry {
    pub(super) blob: [u8; 32],
    pub(super) size: u64,
    path_at: u32,
    path_length: u16,
    pub(super) content_type: u16,
    pub(super) flags: u32,
}

impl RawEntry {
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader { bytes, at: 0 };
        let mut read = || -> Result<Self, ManifestError> {
            Ok(Self {
                blob: reader.array()?,
                size: reader.u64()?,
                path_at: reader.u32()?,
                path_length: reader.u16()?,
                content_type: reader.u16()?,
                flags: reader.u32()?,
            })
        };
        read().expect("an entry's bytes are there: the manifest's length was checked")
    }
}

impl Layout {
    pub(super) fn path<'b>(&self, bytes: &'b [u8], entry: &RawEntry) -> &'b [u8] {
        let start = self.paths_at + entry.path_at as usize;
        &bytes[start..start + usize::from(entry.path_length)]
    }

    /// The path of the entry whose bytes start at `entry`, reading nothing else of it.
    pub(super) fn path_of<'b>(&self, bytes: &'b [u8], entry: &[u8]) -> &'b [u8] {
        let at = u32::from_le_bytes([entry[40], entry[41], entry[42], entry[43]]) as usize;
        let length = usize::from(u16::from_le_bytes([entry[44], entry[45]]));
        &bytes[self.paths_at + at..self.paths_at + at + length]
    }

    pub(super) fn content_type<'b>(&self, bytes: &'b [u8], index: u16) -> &'b str {
        let (start, length) = self.types[usize::from(index)];
        let text = &bytes[start as usize..start as usize + usize::from(length)];
        std::str::from_utf8(text).expect("content types were checked when the manifest was opened")
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'b [u8], ManifestError> {
        let end = self.at.checked_add(length).ok_or(ManifestError::Length(what))?;
        let taken = self.bytes.get(self.at..end).ok_or(ManifestError::Length(what))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ManifestError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, "header")?);
        Ok(array)
    }

    fn u16(&mut self) -> Result<u16, ManifestError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, ManifestError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, ManifestError> {
        self.array().map(u64::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, ManifestError> {
        self.u32().map(|length| length as usize)
    }
}

/// Checks every rule of the format, and finds the parts and the sum of the sizes.
pub(super) fn check(bytes: &Bytes) -> Result<(Layout, u64), ManifestError> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.array::<4>().map_err(|_| ManifestError::Magic)? != MAGIC {
        return Err(ManifestError::Magic);
    }
    let version = reader.u16()?;
    if version != VERSION {
        return Err(ManifestError::Newer { found: version });
    }
    if reader.u16()? != 0 {
        return Err(ManifestError::NotCanonical("header"));
    }
    let entries = reader.length()?;
    let type_count = reader.length()?;
    let rule_count = reader.length()?;
    let settings_length = reader.length()?;
    let types_length = reader.length()?;
    let rules_length = reader.length()?;
    let paths_length = reader.length()?;
    debug_assert_eq!(reader.at, HEADER_LENGTH);

    let settings = Settings::from_bytes(reader.take(settings_length, "settings")?)?;
    let types = check_types(&mut reader, type_count, types_length)?;
    // Version 1 has no kind of rule: the section is there, and empty.
    if rule_count != 0 || rules_length != 0 {
        return Err(ManifestError::NotCanonical("rules"));
    }
    let entries_at = reader.at;
    let entries_length = entries.checked_mul(ENTRY_LENGTH).ok_or(ManifestError::Length("entries"))?;
    reader.take(entries_length, "entries")?;
    let paths_at = reader.at;
    reader.take(paths_length, "paths")?;
    if reader.at != bytes.len() {
        return Err(ManifestError::Length("end"));
    }

    let layout = Layout { settings, entries, entries_at, paths_at, types };
    let total_size = check_entries(bytes, &layout, paths_length)?;
    Ok((layout, total_size))
}

fn check_types(reader: &mut Reader<'_>, count: usize, length: usize) -> Result<Box<[(u32, u16)]>, ManifestError> {
    let start = reader.at;
    let mut types = Vec::new();
    let mut previous: Option<&[u8]> = None;
    for _ in 0..count {
        let length = reader.u16()?;
        let at = u32::try_from(reader.at).map_err(|_| ManifestError::Length("types"))?;
        let text = reader.take(usize::from(length), "types")?;
        if !is_field_value(text) || previous.is_some_and(|previous| previous >= text) {
            return Err(ManifestError::NotCanonical("content types"));
        }
        previous = Some(text);
        types.push((at, length));
    }
    if reader.at - start != length || types.len() > usize::from(u16::MAX) {
        return Err(ManifestError::Length("types"));
    }
    Ok(types.into())
}

fn check_entries(bytes: &Bytes, layout: &Layout, paths_length: usize) -> Result<u64, ManifestError> {
    let mut used = vec![false; layout.types.len()];
    let mut total_size = 0_u64;
    let mut next_path = 0_usize;
    let mut previous: Option<&str> = None;
    for index in 0..layout.entries {
        let entry = RawEntry::read(&bytes[layout.entries_at + index * ENTRY_LENGTH..]);
        let end = next_path + usize::from(entry.path_length);
        if entry.path_at as usize != next_path || end > paths_length {
            return Err(ManifestError::Length("paths"));
        }
        next_path = end;
        let path = layout.path(bytes, &entry);
        let path = std::str::from_utf8(path).map_err(|_| ManifestError::NotCanonical("path"))?;
        SitePath::check(path)?;
        if previous.is_some_and(|previous| previous >= path) {
            return Err(ManifestError::NotCanonical("order of paths"));
        }
        previous = Some(path);
        *used.get_mut(usize::from(entry.content_type)).ok_or(ManifestError::Length("types"))? = true;
        if entry.flags & !HIDDEN != 0 {
            return Err(ManifestError::NotCanonical("flags"));
        }
        total_size = total_size.checked_add(entry.size).ok_or(ManifestError::TooLarge("total size"))?;
    }
    if next_path != paths_length {
        return Err(ManifestError::Length("paths"));
    }
    if used.contains(&false) {
        return Err(ManifestError::NotCanonical("content types"));
    }
    Ok(total_size)
}

/// Whether `text` can be the value of a header field as it stands (RFC 9110 section 5.5), in printable ASCII.
pub(crate) fn is_field_value(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| (b' '..=b'~').contains(b)) && text[0] != b' ' && !text.ends_with(b" ")
}

impl Settings {
    pub(super) fn to_bytes(self) -> [u8; SETTINGS_LENGTH] {
        [self.html as u8, self.not_found as u8, self.profile as u8, 0]
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let wrong = ManifestError::NotCanonical("settings");
        let &[html, not_found, profile, 0] = bytes else { return Err(wrong) };
        Ok(Self {
            html: match html {
                0 => HtmlMode::Keep,
                1 => HtmlMode::Auto,
                2 => HtmlMode::None,
                3 => HtmlMode::DropSlash,
                4 => HtmlMode::ForceSlash,
                _ => return Err(wrong),
            },
            not_found: match not_found {
                0 => NotFoundMode::Page,
                1 => NotFoundMode::Spa,
                _ => return Err(wrong),
            },
            profile: match profile {
                0 => Profile::Native,
                1 => Profile::Netlify,
                2 => Profile::Cloudflare,
                _ => return Err(wrong),
            },
        })
    }
}

/// Collects files in any order and writes the canonical bytes.
#[derive(Debug, Default)]
pub struct ManifestBuilder {
    settings: Settings,
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    path: SitePath,
    blob: BlobHash,
    size: u64,
    content_type: std::sync::Arc<str>,
    hidden: bool,
}

impl ManifestBuilder {
    /// Starts a manifest without files.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, files: Vec::new() }
    }

    /// Adds a file. `content_type` must be printable ASCII, as [`crate::content_type::decide`] gives it.
    pub fn add(&mut self, path: SitePath, blob: BlobHash, size: u64, content_type: impl Into<std::sync::Arc<str>>) {
        self.files.push(File { path, blob, size, content_type: content_type.into(), hidden: false });
    }

    /// Adds a file that is kept and never served.
    pub fn add_hidden(
        &mut self,
        path: SitePath,
        blob: BlobHash,
        size: u64,
        content_type: impl Into<std::sync::Arc<str>>,
    ) {
        self.files.push(File { path, blob, size, content_type: content_type.into(), hidden: true });
    }

    /// Writes the canonical bytes.
    ///
    /// # Errors
    ///
    /// Where two files have one path, or a count does not fit the format.
    pub fn finish(mut self) -> Result<(ManifestId, Bytes), ManifestError> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(pair) = self.files.windows(2).find(|pair| pair[0].path == pair[1].path) {
            return Err(ManifestError::Duplicate(pair[0].path.clone()));
        }
        let mut types: Vec<&str> = self.files.iter().map(|file| &*file.content_type).collect();
        types.sort_unstable();
        types.dedup();
        if types.len() > usize::from(u16::MAX) {
            return Err(ManifestError::TooLarge("number of content types"));
        }
        let mut type_bytes = Vec::new();
        for text in &types {
            if !is_field_value(text.as_bytes()) {
                return Err(ManifestError::NotCanonical("content types"));
            }
            let length = u16::try_from(text.len()).map_err(|_| ManifestError::TooLarge("content type"))?;
            type_bytes.extend_from_slice(&length.to_le_bytes());
            type_bytes.extend_from_slice(text.as_bytes());
        }
        let paths_length: usize = self.files.iter().map(|file| file.path.len()).sum();

        let mut out = Vec::with_capacity(
            HEADER_LENGTH + SETTINGS_LENGTH + type_bytes.len() + self.files.len() * ENTRY_LENGTH + paths_length,
        );
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        for (count, what) in [
            (self.files.len(), "number of files"),
            (types.len(), "number of content types"),
            (0, "number of rules"),
            (SETTINGS_LENGTH, "settings"),
            (type_bytes.len(), "content types"),
            (0, "rules"),
            (paths_length, "paths"),
        ] {
            let count = u32::try_from(count).map_err(|_| ManifestError::TooLarge(what))?;
            out.extend_from_slice(&count.to_le_bytes());
        }
        out.extend_from_slice(&self.settings.to_bytes());
        out.extend_from_slice(&type_bytes);
        let mut path_at = 0_u32;
        for file in &self.files {
            let index = types.binary_search(&&*file.content_type).expect("every content type is in the table");
            let path_length = u16::try_from(file.path.len()).expect("a path is at most 1,024 bytes");
            out.extend_from_slice(file.blob.as_bytes());
            out.extend_from_slice(&file.size.to_le_bytes());
            out.extend_from_slice(&path_at.to_le_bytes());
            out.extend_from_slice(&path_length.to_le_bytes());
            out.extend_from_slice(&u16::try_from(index).expect("the table was measured").to_le_bytes());
            out.extend_from_slice(&(if file.hidden { HIDDEN } else { 0 }).to_le_bytes());
            path_at += u32::from(path_length);
        }
        for file in &self.files {
            out.extend_from_slice(file.path.as_bytes());
        }
        let bytes = Bytes::from(out);
        Ok((ManifestId::of(&bytes), bytes))
    }
}
