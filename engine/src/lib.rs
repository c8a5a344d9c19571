//! The engine of Pinstone: storing, naming, publishing and resolving sites. It serves no HTTP.
//!
//! A request moves one way: host → release → manifest → blob. Only the first arrow can change; a release moves it, once,
//! by a checked commit, after everything that it points to is durable. So a crash leaves garbage, never a pointer to
//! something missing, and whatever is kept by hash never expires.
//!
//! | question | module |
//! | --- | --- |
//! | what is published, and how | [`plan`], [`publish`], [`archive`], [`import`], [`queries`], [`diff`] |
//! | what of a folder is not | [`ignored`] |
//! | what a visitor gets | [`resolve`], [`pointers`], [`manifest`], [`host`] |
//! | what a browser may keep for a year | [`fingerprint`] |
//! | how files are compressed, once | [`coding`], [`variants`] |
//! | where bytes are | [`blob`], [`objects`], [`data_folder`] |
//! | where facts are | [`meta`], [`records`] |
//! | how bytes of strangers are unpacked | [`unzstd`] |
//! | who asks, and what they may do | [`account`], [`tokens`], [`accounts`] |
//! | who did what | [`audit`] |
//! | whose a domain is, and what it shows | [`domains`] |
//! | whether all of it is whole | [`fsck`], [`rebuild`] |

pub mod account;
pub mod accounts;
pub mod archive;
pub mod audit;
pub mod blob;
pub mod clock;
pub mod coding;
pub mod content_type;
pub mod data_folder;
pub mod diff;
pub mod domains;
pub mod engine;
pub mod error;
pub mod fingerprint;
pub mod fsck;
pub mod hash;
mod hex;
pub mod host;
pub mod id;
pub mod ignored;
pub mod import;
pub mod limits;
pub mod manifest;
pub mod meta;
pub mod name;
pub mod objects;
pub mod path;
pub mod plan;
pub mod pointers;
pub mod projects;
pub mod publish;
pub mod queries;
pub mod rebuild;
pub mod records;
pub mod resolve;
mod text;
pub mod tokens;
pub mod unzstd;
pub mod usage;
pub mod variants;

pub use account::Principal;
pub use accounts::{AccountRules, Registration};
pub use engine::{Engine, FeedStatus, Health, OpenOptions};
pub use error::StoreError;
pub use limits::Limits;
pub use objects::{StorageOptions, StoreUrl};
