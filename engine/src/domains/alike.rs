//! Domains that people could take for others. It is a reason to warn and not to refuse: whoever proves that a domain is
//! theirs may use it.
//!
//! Two names look alike if they have the same *skeleton* (UTS #39): each character replaced by what it is confusable
//! with. Most names that mix scripts within a label are meant to look like something else.

use unicode_security::MixedScript;
use unicode_security::confusable_detection::skeleton as of_text;

use super::name::DomainName;
use crate::hash::BlobHash;

/// Something about a name that its owner should know.
#[derive(Clone, Copy, Debug, serde::Deserialize, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameWarning {
    /// A label has letters of scripts that are not written together.
    MixedScripts,
    /// Another domain that this server serves looks the same.
    LooksLikeAnother,
    /// It looks like this server's own domain.
    LooksLikeTheServer,
}

/// What is left of a name when everything that looks alike is one.
pub(crate) fn skeleton(name: &str) -> String {
    // A skeleton is not in lower case, though the name is: `l` and `1` are both `l`, `m` is `rn`.
    let labels: Vec<String> = name.split('.').map(|label| of_text(label).collect()).collect();
    labels.join(".")
}

/// The digest of a domain's skeleton: what look-alikes are found by.
pub(crate) fn digest(domain: &DomainName) -> BlobHash {
    BlobHash::of(skeleton(&domain.to_unicode()).as_bytes())
}

/// What the name says of itself, on a server whose sites are under `base`.
pub(crate) fn warnings(domain: &DomainName, base: &str) -> Vec<NameWarning> {
    let name = domain.to_unicode();
    let mut warnings = Vec::new();
    if name.split('.').any(|label| !label.is_single_script()) {
        warnings.push(NameWarning::MixedScripts);
    }
    let (own, servers) = (skeleton(&name), skeleton(base));
    let is_below = own.strip_suffix(&*servers).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if is_below && servers.contains('.') {
        warnings.push(NameWarning::LooksLikeTheServer);
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_says_of_itself() {
        use NameWarning::{LooksLikeTheServer, MixedScripts};
        for (name, want) in [
            ("example.com", &[][..]),
            ("bücher.example", &[]),
            ("пример.example", &[]),
            ("例えひらカタ.example", &[]),
            // A Cyrillic `а` among Latin letters.
            ("ex\u{430}mple.com", &[MixedScripts]),
            ("shop.p\u{430}ges.test", &[MixedScripts, LooksLikeTheServer]),
            ("shop.pages.tеst", &[MixedScripts, LooksLikeTheServer]),
            ("evilpages.test", &[]),
        ] {
            let domain: DomainName = name.parse().unwrap();
            assert_eq!(warnings(&domain, "pages.test"), want, "{name}");
        }
        assert_eq!(warnings(&"a.locaIhost.com".parse().unwrap(), "localhost"), []);
    }

    #[test]
    fn names_that_look_alike_have_one_digest() {
        let digest = |name: &str| digest(&name.parse().unwrap());
        assert_eq!(digest("example.com"), digest("ех\u{430}mple.com"));
        assert_eq!(digest("rnodern.example"), digest("modern.example"));
        assert_ne!(digest("example.com"), digest("examples.com"));
        assert_ne!(digest("a.b.example"), digest("ab.example"));
    }
}
