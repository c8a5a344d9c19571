//! Ids of entities: 16 random bytes, printed with a prefix that says what they name.

use std::fmt;
use std::str::FromStr;

use crate::hash::ManifestId;
use crate::hex;
use crate::text::serde_as_text;

/// A text that is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an id here is `{prefix}` and 32 hex digits")]
pub struct NotAnId {
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The 16 bytes: what keys of the metadata store are made of.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// The id whose 16 bytes are `bytes`.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), hex::encode(&self.0[..4]))
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.strip_prefix($prefix)
                    .and_then(hex::decode)
                    .map(Self)
                    .ok_or(NotAnId { prefix: $prefix })
            }
        }

        serde_as_text!($name);
    };
}

macro_rules! random {
    ($($name:ident)*) => {$(
        impl $name {
            /// A new id from the operating system's randomness.
            ///
            /// # Panics
            ///
            /// Where the operating system has no randomness to give, which Linux does not do after boot.
            #[must_use]
            pub fn random() -> Self {
                Self(random_bytes())
            }
        }
    )*};
}

id! {
    /// Names a team, which owns projects and blobs.
    TeamId, "tm_"
}
id! {
    /// Names a user.
    UserId, "usr_"
}
id! {
    /// Names a token, never its secret.
    TokenId, "tok_"
}
id! {
    /// Names an invitation, never its secret.
    InviteId, "invite_"
}
id! {
    /// Names a project for good, whatever it is called.
    ProjectId, "prj_"
}
id! {
    /// Names an open publish.
    PlanId, "plan_"
}
id! {
    /// Names an image of a project: the first half of its manifest's digest, so the same content in the same project
    /// is the same image.
    ImageId, "img_"
}

id! {
    /// Names a pack, without a prefix: nobody but the blob store sees it.
    PackId, ""
}

random!(TeamId UserId TokenId InviteId ProjectId PlanId PackId);

impl ProjectId {
    /// The first 8 hex digits: the short id that a project can be called by.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..4])
    }
}

impl ImageId {
    /// The first 16 hex digits: how an image's own host names it.
    #[must_use]
    pub fn host_digits(&self) -> String {
        hex::encode(&self.0[..8])
    }
}

impl From<&ManifestId> for ImageId {
    fn from(manifest: &ManifestId) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&manifest.as_bytes()[..16]);
        Self(id)
    }
}

/// `N` bytes from the operating system's randomness.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness after boot");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse_with_their_prefix() {
        let project = ProjectId::random();
        assert_eq!(project.to_string().parse(), Ok(project));
        assert_eq!(project.to_string().len(), 4 + 32);
        assert!(project.to_string().replace("prj_", "plan_").parse::<ProjectId>().is_err());
        assert!("prj_".parse::<ProjectId>().is_err());
        assert!(project.to_string().starts_with(&format!("prj_{}", project.short())));
    }
}
