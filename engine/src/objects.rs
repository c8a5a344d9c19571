//! Where objects are kept: a folder of this machine, or a bucket of an S3-compatible store.
//!
//! A data folder and its store belong together: each holds the same id, so that a wrong bucket, or a disk that is not
//! mounted, is refused at the start instead of being filled beside the right one. The id is checked, the address is only
//! remembered: a store that was copied elsewhere, id and all, is the same store.
//!
//! A store that does not answer at the start does not keep an installation down that has served before: what is in the
//! local cache is served, and nothing else is read or written before the store has shown its id.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use object_store::path::Path as ObjectPath;

use crate::blob::DiskCacheOptions;

#[cfg(feature = "rocksdb")]
mod belonging;
#[cfg(feature = "rocksdb")]
mod open;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "s3")]
mod transport;
#[cfg(all(feature = "rocksdb", feature = "s3"))]
mod unproven;

#[cfg(feature = "rocksdb")]
pub(crate) use open::{Purpose, open};
#[cfg(feature = "s3")]
pub use s3::{S3Error, S3Options};

/// Memory for large uploads to a remote store where nothing else is said, in bytes.
const UPLOAD_MEMORY: u64 = 256 << 20;

/// Where an installation keeps its objects.
///
/// Text form: `s3://bucket/prefix`, or the absolute path of a folder, with or without `file://` before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreUrl {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket of an S3-compatible store.
    S3 {
        /// Its name.
        bucket: String,
        /// What the names of all objects begin with; empty for the whole bucket.
        prefix: ObjectPath,
    },
}

/// A text that names no store.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAStoreUrl {
    /// It has another form.
    #[error("a store is `s3://bucket/prefix`, or a folder by its absolute path, such as `/srv/objects`")]
    Form,
    /// What should be a bucket is none.
    #[error(
        "a bucket's name is 3 to 63 letters, digits, `.`, `-` and `_`; the endpoint is `AWS_ENDPOINT_URL`'s to name"
    )]
    Bucket,
    /// What names in the bucket should begin with is no path.
    #[error("the prefix behind the bucket is a path without empty, `.` and `..` segments")]
    Prefix,
    /// A folder's URL has an escape.
    #[error("a folder's path is written as it is, without `%` escapes")]
    Escaped,
}

impl FromStr for StoreUrl {
    type Err = NotAStoreUrl;

    fn from_str(text: &str) -> Result<Self, NotAStoreUrl> {
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let is_named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(is_named) || !is_alphanumeric_at_start(bucket) {
                return Err(NotAStoreUrl::Bucket);
            }
            let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
            // A query is no part of a name here, however much it looks like an option.
            if prefix.starts_with('/') || prefix.contains(['?', '#', '\\']) {
                return Err(NotAStoreUrl::Prefix);
            }
            let prefix = ObjectPath::parse(prefix).map_err(|_| NotAStoreUrl::Prefix)?;
            return Ok(Self::S3 { bucket: bucket.to_owned(), prefix });
        }
        let path = match text.strip_prefix("file://") {
            Some(path) if path.contains('%') => return Err(NotAStoreUrl::Escaped),
            Some(path) => path,
            None => text,
        };
        let is_plain = Path::new(path).components().all(|part| !matches!(part, std::path::Component::ParentDir));
        if path.starts_with('/') && path.len() > 1 && is_plain {
            Ok(Self::Folder(PathBuf::from(path)))
        } else {
            Err(NotAStoreUrl::Form)
        }
    }
}

fn is_alphanumeric_at_start(bucket: &str) -> bool {
    bucket.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.as_ref().is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// How the objects of an installation are kept and reached.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// Where they are. Without it: where the data folder remembers them to be, or else in its own `objects/`.
    pub url: Option<StoreUrl>,
    /// How an S3-compatible store is reached.
    #[cfg(feature = "s3")]
    pub s3: S3Options,
    /// The local cache in front of a remote store.
    pub cache: DiskCacheOptions,
    /// Bytes of large uploads to a remote store that are in memory at once; further ones wait.
    pub upload_memory: u64,
}

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            url: None,
            #[cfg(feature = "s3")]
            s3: S3Options::default(),
            cache: DiskCacheOptions::default(),
            upload_memory: UPLOAD_MEMORY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_by_urls() {
        for (text, want) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket-1/a/b", "s3://my.bucket-1/a/b"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("/srv/objects", "/srv/objects"),
            ("file:///srv/objects", "/srv/objects"),
        ] {
            let url: StoreUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.to_string(), want, "{text}");
            assert_eq!(want.parse(), Ok(url), "{text}");
        }
        for (text, want) in [
            ("", NotAStoreUrl::Form),
            ("/", NotAStoreUrl::Form),
            ("objects", NotAStoreUrl::Form),
            ("./objects", NotAStoreUrl::Form),
            ("/srv/../objects", NotAStoreUrl::Form),
            ("file://host/objects", NotAStoreUrl::Form),
            ("https://bucket.example/", NotAStoreUrl::Form),
            ("S3://bucket", NotAStoreUrl::Form),
            ("file:///srv/a%20b", NotAStoreUrl::Escaped),
            ("s3://", NotAStoreUrl::Bucket),
            ("s3:///prefix", NotAStoreUrl::Bucket),
            ("s3://ab", NotAStoreUrl::Bucket),
            ("s3://-abc", NotAStoreUrl::Bucket),
            ("s3://user:password@bucket", NotAStoreUrl::Bucket),
            ("s3://localhost:8333/bucket", NotAStoreUrl::Bucket),
            ("s3://bucket?region=eu", NotAStoreUrl::Bucket),
            ("s3://bucket//a", NotAStoreUrl::Prefix),
            ("s3://bucket/a//b", NotAStoreUrl::Prefix),
            ("s3://bucket/../a", NotAStoreUrl::Prefix),
            ("s3://bucket/a?region=eu", NotAStoreUrl::Prefix),
        ] {
            assert_eq!(text.parse::<StoreUrl>(), Err(want), "{text}");
        }
    }
}
