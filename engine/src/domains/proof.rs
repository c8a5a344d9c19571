//! Whether a team controls a domain: what it has to show, and what becomes of what was found. Pure; who has asked the
//! network is not known here.
//!
//! The token is that of the domain and the team, and always the same: it can stay where it was put, and put there before
//! anything else is done. It is no secret, because it only says for which team the domain's owner speaks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::DomainName;
use crate::clock::UnixMillis;
use crate::hex;
use crate::id::TeamId;

/// The label that stands before a domain where the TXT record is.
pub const TXT_LABEL: &str = "_pinstone";
/// The path of the file that proves control of a domain that points elsewhere.
pub const FILE_PATH: &str = "/.well-known/pinstone-domain.txt";
/// How often a domain that cannot be proven any more is looked at, at least.
const RETRY: Duration = Duration::from_secs(60 * 60);

/// How domains are proven and kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainRules {
    /// How often a domain is proven again. A day by default.
    pub recheck: Duration,
    /// For how long a domain that is not proven any more is served all the same. A week by default.
    pub grace: Duration,
    /// For how long nobody else gets a domain that was removed. 3 days by default.
    pub hold_off: Duration,
    /// How many domains a team may have. 100 by default.
    pub per_team: usize,
}

impl Default for DomainRules {
    fn default() -> Self {
        let day = Duration::from_secs(24 * 60 * 60);
        Self { recheck: day, grace: day * 7, hold_off: day * 3, per_team: 100 }
    }
}

/// How a team has shown that a domain is its own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// By a TXT record.
    Txt,
    /// By a file that the domain served.
    File,
}

/// What was found of one kind of proof.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Found {
    /// The token.
    Token,
    /// Nothing, or something else.
    Nothing,
    /// Nobody answered: it says neither yes nor no.
    NoAnswer,
    /// It was not asked for, because it would not count.
    #[default]
    NotAsked,
}

/// What was found out about a domain.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Evidence {
    /// In its TXT records.
    pub txt: Found,
    /// In its file. Not asked for where the domain points here: whoever has a site here could answer.
    pub file: Found,
    /// Whether the domain leads to this server.
    pub points_here: bool,
    /// Whether the domain leads to an address that is nobody's on the Internet, so that no file was asked for.
    pub is_special: bool,
}

/// Why a domain is not proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotProven {
    /// There is neither a TXT record nor a file with the token.
    Nowhere,
    /// There is no TXT record with the token; the domain points here, so no file counts.
    OnlyTxtCounts,
    /// There is no TXT record with the token, and the domain leads to an address that is not asked.
    SpecialAddress,
    /// The DNS did not answer, or the domain's server.
    NoAnswer,
}

/// What becomes of a domain that was proven before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Again {
    /// It still is.
    Holds(Method),
    /// It is not.
    Lost,
    /// Nobody answered.
    Unknown,
}

/// The text that proves `domain` for `team`: `pinstone-` and 32 hex digits.
#[must_use]
pub fn token(team: TeamId, domain: &DomainName) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("pinstone domain control, version 1");
    hasher.update(team.as_bytes()).update(domain.as_str().as_bytes());
    format!("pinstone-{}", hex::encode(&hasher.finalize().as_bytes()[..16]))
}

/// Decides whether a domain is proven for the first time.
pub(crate) fn first(evidence: &Evidence) -> Result<Method, NotProven> {
    match (evidence.txt, evidence.file) {
        (Found::Token, _) => Ok(Method::Txt),
        (_, Found::Token) if !evidence.points_here => Ok(Method::File),
        (Found::NoAnswer, _) => Err(NotProven::NoAnswer),
        _ if evidence.points_here => Err(NotProven::OnlyTxtCounts),
        _ if evidence.is_special => Err(NotProven::SpecialAddress),
        (_, Found::NoAnswer) => Err(NotProven::NoAnswer),
        _ => Err(NotProven::Nowhere),
    }
}

/// Decides whether a domain that was proven by `method` still is.
///
/// Whoever proved it by a file and then let it point here has done what was wanted, and has no file any more: that it
/// goes on pointing here is enough. A TXT record has to stay; that it is gone is known without the domain's server.
pub(crate) fn again(method: Method, evidence: &Evidence) -> Again {
    match first(evidence) {
        Ok(method) => Again::Holds(method),
        Err(_) if evidence.points_here && method == Method::File => Again::Holds(Method::File),
        Err(NotProven::NoAnswer) if method == Method::File || evidence.txt == Found::NoAnswer => Again::Unknown,
        Err(_) => Again::Lost,
    }
}

/// When a domain is to be looked at next. `chance` spreads what was proven together: from nine to eleven tenths of the
/// interval.
pub(crate) fn due(rules: &DomainRules, now: UnixMillis, is_failing: bool, chance: u8) -> UnixMillis {
    let interval = if is_failing { rules.recheck.min(RETRY) } else { rules.recheck };
    now.plus(interval * 9 / 10 + interval / 5 * u32::from(chance) / 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_domain_and_team_and_always_the_same() {
        let (team, other) = (TeamId::from_bytes([1; 16]), TeamId::from_bytes([2; 16]));
        let (domain, www): (DomainName, DomainName) = ("a.example".parse().unwrap(), "www.a.example".parse().unwrap());
        let own = token(team, &domain);
        assert_eq!(own, token(team, &domain));
        assert!(own != token(other, &domain) && own != token(team, &www), "{own}");
        assert_eq!(
            own, "pinstone-a920804ba80bc88543a7392586f407b6",
            "a token that was put somewhere has to stay right"
        );
    }

    #[test]
    fn what_proves_a_domain() {
        use Found::{NoAnswer, NotAsked, Nothing, Token};
        use Method::{File, Txt};
        for (txt, file, points_here, is_special, want, after_txt, after_file) in [
            (Token, NotAsked, true, false, Ok(Txt), Again::Holds(Txt), Again::Holds(Txt)),
            (Token, Nothing, false, false, Ok(Txt), Again::Holds(Txt), Again::Holds(Txt)),
            (Nothing, Token, false, false, Ok(File), Again::Holds(File), Again::Holds(File)),
            (NoAnswer, Token, false, false, Ok(File), Again::Holds(File), Again::Holds(File)),
            (Nothing, Nothing, false, false, Err(NotProven::Nowhere), Again::Lost, Again::Lost),
            (Nothing, NoAnswer, false, false, Err(NotProven::NoAnswer), Again::Lost, Again::Unknown),
            (NoAnswer, Nothing, false, false, Err(NotProven::NoAnswer), Again::Unknown, Again::Unknown),
            (Nothing, NotAsked, false, true, Err(NotProven::SpecialAddress), Again::Lost, Again::Lost),
            (Nothing, NotAsked, true, false, Err(NotProven::OnlyTxtCounts), Again::Lost, Again::Holds(File)),
            (NoAnswer, NotAsked, true, false, Err(NotProven::NoAnswer), Again::Unknown, Again::Holds(File)),
            // A file of this server's own proves nothing, however it was got.
            (Nothing, Token, true, false, Err(NotProven::OnlyTxtCounts), Again::Lost, Again::Holds(File)),
            (Nothing, NotAsked, false, false, Err(NotProven::Nowhere), Again::Lost, Again::Lost),
        ] {
            let evidence = Evidence { txt, file, points_here, is_special };
            assert_eq!(first(&evidence), want, "{evidence:?}");
            assert_eq!(again(Txt, &evidence), after_txt, "after a TXT record: {evidence:?}");
            assert_eq!(again(File, &evidence), after_file, "after a file: {evidence:?}");
        }
    }

    #[test]
    fn domains_are_looked_at_at_different_times() {
        let rules = DomainRules { recheck: Duration::from_secs(1000), ..DomainRules::default() };
        let at = |rules: &DomainRules, failing, chance| due(rules, UnixMillis(5), failing, chance).0;
        assert_eq!((at(&rules, false, 0), at(&rules, false, 255)), (900_005, 1_100_005));
        assert_eq!(at(&rules, true, 0), 900_005, "it is not looked at more rarely than others");
        assert_eq!(at(&DomainRules::default(), true, 0), 9 * 6 * 60_000 + 5);
    }
}
