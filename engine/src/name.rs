//! Names that people choose: projects and environments. Each is one DNS label or part of one.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use smol_str::SmolStr;

use crate::hex;
use crate::id::random_bytes;
use crate::text::serde_as_text;

/// The longest name of a project, in characters.
const LONGEST_PROJECT: usize = 40;
/// The longest name of an environment, in characters: with the longest project's it still fits one DNS label.
const LONGEST_ENVIRONMENT: usize = 21;
/// The longest slug that a preview can be asked for by, in characters.
const LONGEST_SLUG: usize = 255;

/// Names a project may not have: hosts that mean something else, or soon could.
const RESERVED_PROJECTS: [&str; 19] = [
    "console",
    "welcome",
    "www",
    "api",
    "app",
    "admin",
    "static",
    "assets",
    "cdn",
    "mail",
    "email",
    "ftp",
    "ssh",
    "git",
    "docs",
    "status",
    "help",
    "blog",
    "localhost",
];

/// Why a text is not a name. Each message says what a name looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// The length is out of bounds.
    #[error("{what} name has {min} to {max} characters")]
    Length {
        /// "a project", "an environment" or "a preview".
        what: &'static str,
        /// The shortest length.
        min: usize,
        /// The longest length.
        max: usize,
    },
    /// A character that a DNS label of ours does not have, or a hyphen in the wrong place.
    #[error("{what} name has lower-case letters, digits and single hyphens between them")]
    Alphabet {
        /// "a project" or "an environment".
        what: &'static str,
    },
    /// The name stands for something else.
    #[error("{what} name cannot be one of the reserved ones")]
    Reserved {
        /// "a project" or "an environment".
        what: &'static str,
    },
    /// `x-beta` is the host of project `x`'s beta.
    #[error("a project name cannot end in `-beta`, which is the host of another project's beta")]
    EndsInBeta,
    /// It can be taken for a reserved name, such as `adm1n`.
    #[error("a project name cannot look like a reserved one")]
    LooksReserved,
    /// Eight hex digits are how a project's short id looks.
    #[error("a project name cannot be 8 hex digits, which is how a short id looks")]
    LooksLikeShortId,
    /// `x--i-…` is the host of an image.
    #[error("an environment name cannot start with `i-`, which is the host of an image")]
    LooksLikeImage,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(SmolStr);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        serde_as_text!($name);
    };
}

name! {
    /// What a project is called: the first label of its host.
    ///
    /// 3 to 40 characters of `[a-z0-9]` and single hyphens between them, not reserved, not ending in `-beta`, not
    /// 8 hex digits.
    ProjectName
}

name! {
    /// What an environment or preview of a project is called.
    ///
    /// 1 to 21 characters of `[a-z0-9]` and single hyphens between them, not starting with `i-`.
    EnvironmentName
}

impl FromStr for ProjectName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check("a project", text, 3, LONGEST_PROJECT)?;
        if RESERVED_PROJECTS.contains(&text) {
            return Err(NameError::Reserved { what: "a project" });
        }
        if text.ends_with("-beta") {
            return Err(NameError::EndsInBeta);
        }
        if text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NameError::LooksLikeShortId);
        }
        Ok(Self(text.into()))
    }
}

impl ProjectName {
    /// Whether a new project can be called so: not by what looks like a reserved name. Projects that have such a name
    /// keep it.
    ///
    /// # Errors
    ///
    /// [`NameError::LooksReserved`].
    pub fn check_new(&self) -> Result<(), NameError> {
        match RESERVED_PROJECTS.iter().any(|reserved| looks_like(self, reserved)) {
            true => Err(NameError::LooksReserved),
            false => Ok(()),
        }
    }

    /// A name that is made of `text`, with hyphens for what a name does not have; nothing where too little is left of it.
    #[must_use]
    pub fn like(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let parts = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
        let joined = parts.collect::<Vec<_>>().join("-");
        // What makes a name new is at its end.
        let kept = if joined.len() > LONGEST_PROJECT {
            let (head, tail) = joined.rsplit_once('-').unwrap_or((&joined, ""));
            let tail = &tail[..tail.len().min(8)];
            let head = &head[..head.len().min(LONGEST_PROJECT - 9)];
            format!("{}-{tail}", head.trim_end_matches('-'))
        } else {
            joined
        };
        kept.trim_end_matches('-').parse().ok()
    }
}

/// Whether `name` reads like `other`, which has letters only: hyphens do not count, and some digits and pairs of letters
/// look like a letter.
fn looks_like(name: &str, other: &str) -> bool {
    let name = name.replace('-', "").replace("rn", "m").replace("vv", "w");
    let other = other.replace("rn", "m");
    let same =
        |seen: char, meant: char| seen == meant || matches!((seen, meant), ('0', 'o') | ('1', 'i' | 'l') | ('5', 's'));
    name.len() == other.len() && name.chars().zip(other.chars()).all(|(seen, meant)| same(seen, meant))
}

impl FromStr for EnvironmentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check("an environment", text, 1, LONGEST_ENVIRONMENT)?;
        if text.starts_with("i-") {
            return Err(NameError::LooksLikeImage);
        }
        Ok(Self(text.into()))
    }
}

impl EnvironmentName {
    /// The environment that a project's bare host shows.
    #[must_use]
    pub fn prod() -> Self {
        Self(SmolStr::new_static("prod"))
    }

    /// The environment that `{project}-beta` shows, and the default of a deploy.
    #[must_use]
    pub fn beta() -> Self {
        Self(SmolStr::new_static("beta"))
    }

    /// Whether this is `prod`, the one environment that search engines are meant to see.
    #[must_use]
    pub fn is_prod(&self) -> bool {
        self.0 == "prod"
    }

    /// The name of the preview that is asked for by `slug`.
    ///
    /// That is `slug` itself where it is a name. A longer one, such as a branch's, is cut and given a hyphen and 6 hex
    /// digits of its BLAKE3: one slug always means one preview, and two that begin alike mean two.
    ///
    /// # Errors
    ///
    /// Where `slug` has more than 255 characters, or others than a name has, or starts with `i-`.
    pub fn of_slug(slug: &str) -> Result<Self, NameError> {
        check("a preview", slug, 1, LONGEST_SLUG)?;
        if slug.starts_with("i-") {
            return Err(NameError::LooksLikeImage);
        }
        if slug.len() <= LONGEST_ENVIRONMENT {
            return Ok(Self(slug.into()));
        }
        let digits = hex::encode(&blake3::hash(slug.as_bytes()).as_bytes()[..3]);
        let kept = slug[..LONGEST_ENVIRONMENT - digits.len() - 1].trim_end_matches('-');
        Ok(Self(format!("{kept}-{digits}").into()))
    }

    /// A name for a preview that nobody named: 8 hex digits.
    pub(crate) fn random() -> Self {
        Self(hex::encode(&random_bytes::<4>()).into())
    }

    /// Whether no preview can have this name: `prod` and `beta` have hosts that are linked to, and are to last.
    #[must_use]
    pub fn always_lasts(&self) -> bool {
        matches!(self.as_str(), "prod" | "beta")
    }
}

fn check(what: &'static str, text: &str, min: usize, max: usize) -> Result<(), NameError> {
    if !(min..=max).contains(&text.len()) {
        return Err(NameError::Length { what, min, max });
    }
    let alphabet = text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !alphabet || text.starts_with('-') || text.ends_with('-') || text.contains("--") {
        return Err(NameError::Alphabet { what });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_names() {
        for good in ["abc", "my-site", "a1b2c3d", "a1b2c3d4e", "x-beta-x", &"a".repeat(40), "deadbeeg"] {
            assert!(good.parse::<ProjectName>().is_ok(), "{good}");
        }
        let long = "a".repeat(41);
        for (wrong, why) in [
            ("ab", NameError::Length { what: "a project", min: 3, max: 40 }),
            (long.as_str(), NameError::Length { what: "a project", min: 3, max: 40 }),
            ("Abc", NameError::Alphabet { what: "a project" }),
            ("a--b", NameError::Alphabet { what: "a project" }),
            ("-ab", NameError::Alphabet { what: "a project" }),
            ("ab-", NameError::Alphabet { what: "a project" }),
            ("../x", NameError::Alphabet { what: "a project" }),
            ("bücher", NameError::Alphabet { what: "a project" }),
            ("www", NameError::Reserved { what: "a project" }),
            ("my-beta", NameError::EndsInBeta),
            ("deadbeef", NameError::LooksLikeShortId),
        ] {
            assert_eq!(wrong.parse::<ProjectName>().err(), Some(why), "{wrong}");
        }
    }

    #[test]
    fn names_that_look_like_reserved_ones_are_not_for_new_projects() {
        for (name, is_refused) in [
            ("adm1n", true),
            ("c0n501e", true),
            ("l0ca1h0st", true),
            ("d-o-c-s", true),
            ("vvvvw", true),
            ("adrnin", true),
            ("my-docs", false),
            ("admins", false),
            ("mall", false),
            ("apl", false),
        ] {
            let name: ProjectName = name.parse().unwrap();
            assert_eq!(name.check_new().is_err(), is_refused, "{name}");
        }
    }

    #[test]
    fn names_are_made_of_what_people_type() {
        let long = format!("{}-ab12", "long-".repeat(20));
        for (text, want) in [
            ("My Site", Some("my-site")),
            ("my--site-", Some("my-site")),
            ("bücher.example", Some("b-cher-example")),
            ("../etc", Some("etc")),
            ("www-ab12", Some("www-ab12")),
            ("www", None),
            ("x", None),
            ("", None),
            (&long, Some("long-long-long-long-long-long-l-ab12")),
            (&"a".repeat(90), Some(&*"a".repeat(31))),
        ] {
            assert_eq!(ProjectName::like(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn environment_names() {
        for good in ["prod", "beta", "p", "pr-17", "i", &"a".repeat(21)] {
            assert!(good.parse::<EnvironmentName>().is_ok(), "{good}");
        }
        for wrong in ["", "i-1", "PROD", "a--b", &"a".repeat(22), "a/b", "."] {
            assert!(wrong.parse::<EnvironmentName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn slugs_become_names() {
        let long = "a".repeat(255);
        for slug in [
            "pr-7",
            "i",
            &"a".repeat(21),
            "feature-redesign-of-the-pricing-page",
            "feature-redesign-of-the-pricing-table",
            // Cut behind a hyphen, which no name ends in.
            "thirteenlette-rs-and-more",
            &long,
        ] {
            let name = EnvironmentName::of_slug(slug).unwrap();
            assert_eq!(name.parse::<EnvironmentName>(), Ok(name.clone()), "{slug}");
            assert_eq!(EnvironmentName::of_slug(slug), Ok(name.clone()), "the same every time");
            assert_eq!(&*name == slug, slug.len() <= 21, "{slug}: {name}");
        }
        let cut = |slug| EnvironmentName::of_slug(slug).unwrap().to_string();
        let pricing = cut("feature-redesign-of-the-pricing-page");
        assert!(pricing.starts_with("feature-redesi") && pricing.len() == 21, "{pricing}");
        assert_ne!(pricing, cut("feature-redesign-of-the-pricing-table"));
        assert!(cut("thirteenlette-rs-and-more").starts_with("thirteenlette-"));
        let too_long = "a".repeat(256);
        for wrong in ["", "i-1", "PR-7", "feature/x", "a--b", "-a", "a-", "bücher", "..", &too_long] {
            assert!(EnvironmentName::of_slug(wrong).is_err(), "{wrong}");
        }
        for _ in 0..100 {
            let name = EnvironmentName::random();
            assert_eq!((name.parse(), name.len()), (Ok(name.clone()), 8));
        }
    }
}
