//! Accept-Encoding against the variants that a file has (RFC 9110 section 12.5.3). Pure.
//!
//! The field is read once, to the weight of each coding that variants are made in; it is kept nowhere, so nothing is
//! allocated. Members that are not understood say nothing. What is said twice counts as it was said most cautiously, so
//! a refusal is always obeyed.

use pinstone_engine::coding::{Coding, Variants};

/// A weight in thousandths. Zero refuses.
type Weight = u16;

const FULL: Weight = 1000;

/// What the Accept-Encoding of a request says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Accepted {
    codings: [Option<Weight>; Coding::ALL.len()],
    identity: Option<Weight>,
    /// `*`: of whatever is not named.
    others: Option<Weight>,
}

impl Accepted {
    /// Reads the lines of the field. None at all, or an empty one, accepts the file as it is and nothing else: section
    /// 12.5.3 lets a server assume anything where there is no field, and who sends none mostly cannot decode.
    #[must_use]
    pub fn parse<'r>(lines: impl IntoIterator<Item = &'r [u8]>) -> Self {
        let mut accepted = Self::default();
        for line in lines {
            for member in line.split(|byte| *byte == b',') {
                if let Some((name, weight)) = parse_member(member) {
                    accepted.note(name, weight);
                }
            }
        }
        accepted
    }

    fn note(&mut self, name: &[u8], weight: Weight) {
        let is = |token: &str| name.eq_ignore_ascii_case(token.as_bytes());
        let noted = if is("*") {
            &mut self.others
        } else if is("identity") {
            &mut self.identity
        } else if is("x-gzip") {
            // The same as gzip (section 8.4.1.3).
            &mut self.codings[Coding::Gzip as usize]
        } else if let Some(coding) = Coding::ALL.into_iter().find(|coding| is(coding.token())) {
            &mut self.codings[coding as usize]
        } else {
            return;
        };
        *noted = Some(noted.map_or(weight, |before| before.min(weight)));
    }

    /// The coding to send of those that are stored; none for the file as it is.
    ///
    /// The highest weight wins, and of equal ones br before zstd before gzip before identity. Identity has a weight only
    /// where it, or `*`, is named; without one it is what is left. It is also sent where even it is refused and nothing
    /// else is there: 406 is allowed but helps nobody, and it would depend on whether a variant is made yet.
    #[must_use]
    pub fn choose(&self, stored: &Variants) -> Option<Coding> {
        let mut best = None;
        let mut highest = 0;
        for coding in Coding::ALL {
            let weight = self.codings[coding as usize].or(self.others).unwrap_or(0);
            if weight > highest && stored.get(coding).is_some() {
                (best, highest) = (Some(coding), weight);
            }
        }
        let identity = self.identity.or(self.others).unwrap_or(0);
        best.filter(|_| highest >= identity)
    }
}

/// Takes a member of the list apart: `name`, or `name;q=weight` with optional whitespace round the semicolon.
fn parse_member(member: &[u8]) -> Option<(&[u8], Weight)> {
    let Some(semicolon) = member.iter().position(|byte| *byte == b';') else {
        return Some((trim(member), FULL));
    };
    let [b'q' | b'Q', b'=', value @ ..] = trim(&member[semicolon + 1..]) else { return None };
    Some((trim(&member[..semicolon]), parse_weight(value)?))
}

/// `0` or `1`, with at most three decimals, which after a `1` are zeros (section 12.4.2).
fn parse_weight(value: &[u8]) -> Option<Weight> {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut thousandths = match whole {
        b'0' => 0,
        b'1' => FULL,
        _ => return None,
    };
    let mut place = 100;
    for digit in decimals {
        thousandths += Weight::from(digit.checked_sub(b'0').filter(|digit| *digit <= 9)?) * place;
        place /= 10;
    }
    (thousandths <= FULL).then_some(thousandths)
}

/// Without the whitespace that a list may have.
fn trim(text: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(start) = text.iter().position(is_text) else { return &[] };
    let end = text.iter().rposition(is_text).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pinstone_engine::coding::Variant;
    use pinstone_engine::hash::BlobHash;
    use proptest::prelude::*;

    /// The variants that the letters name: `b`, `z`, `g`.
    fn stored(letters: &str) -> Variants {
        let variant = Variant { blob: BlobHash::from_bytes([1; 32]), size: 1 };
        letters.chars().fold(Variants::default(), |variants, letter| {
            let coding = match letter {
                'b' => Coding::Brotli,
                'z' => Coding::Zstd,
                _ => Coding::Gzip,
            };
            variants.with(coding, variant)
        })
    }

    fn choose(lines: &[&str], letters: &str) -> &'static str {
        let accepted = Accepted::parse(lines.iter().map(|line| line.as_bytes()));
        accepted.choose(&stored(letters)).map_or("identity", Coding::token)
    }

    #[test]
    fn negotiation() {
        for (lines, letters, want) in [
            // No field, an empty field, and nothing but empty members: the file as it is.
            (&[][..], "bzg", "identity"),
            (&[""], "bzg", "identity"),
            (&["", ""], "bzg", "identity"),
            (&[" , ,\t"], "bzg", "identity"),
            // Ties.
            (&["gzip, deflate, br, zstd"], "bzg", "br"),
            (&["gzip, deflate, br, zstd"], "zg", "zstd"),
            (&["gzip, deflate, br, zstd"], "g", "gzip"),
            (&["gzip, deflate, br, zstd"], "", "identity"),
            (&["gzip;q=0.5, zstd;q=0.5"], "bzg", "zstd"),
            (&["gzip, deflate"], "bz", "identity"),
            (&["deflate"], "bzg", "identity"),
            // Weights.
            (&["br;q=0.5, gzip;q=0.8"], "bzg", "gzip"),
            (&["br;q=0.5, gzip;q=0.8"], "b", "br"),
            (&["br;q=0.001"], "bzg", "br"),
            (&["gzip;q=0.999, br;q=0.998"], "bzg", "gzip"),
            (&["gzip;q=1.000, br;q=1."], "bzg", "br"),
            (&["gzip;q=0, br"], "g", "identity"),
            (&["gzip;q=0"], "g", "identity"),
            (&["gzip;q=0.000, br;q=0."], "bg", "identity"),
            // Names have no case, nor has `q`.
            (&["GZip"], "bzg", "gzip"),
            (&["BR;Q=1, gzip"], "bzg", "br"),
            (&["x-gzip"], "bzg", "gzip"),
            (&["X-GZIP;q=0, gzip"], "g", "identity"),
            // Whitespace where a list has it.
            (&["  gzip\t;\tq=0.5 ,br ; q=0.4"], "bzg", "gzip"),
            (&[",gzip,"], "g", "gzip"),
            // Several lines are one list.
            (&["gzip", "br"], "bzg", "br"),
            (&["gzip;q=0.5", "", "br;q=0.4"], "bzg", "gzip"),
            // Identity by its weight: it wins only where it is preferred.
            (&["identity"], "bzg", "identity"),
            (&["identity, gzip"], "bzg", "gzip"),
            (&["identity;q=0.5, gzip;q=0.5"], "bzg", "gzip"),
            (&["identity;q=0.6, gzip;q=0.5"], "bzg", "identity"),
            (&["identity, gzip;q=0.999"], "bzg", "identity"),
            (&["identity;q=0.6, gzip;q=0.5, br;q=0.7"], "bzg", "br"),
            (&["gzip;q=0.001"], "bzg", "gzip"),
            // `*` is whatever is not named, identity too.
            (&["*"], "bzg", "br"),
            (&["*"], "g", "gzip"),
            (&["*"], "", "identity"),
            (&["*;q=0.5, gzip"], "bzg", "gzip"),
            (&["*;q=0.5, gzip;q=0.2"], "g", "identity"),
            (&["*;q=0.5, gzip;q=0.2"], "zg", "zstd"),
            (&["br;q=0, *"], "bzg", "zstd"),
            (&["*;q=0, gzip"], "bzg", "gzip"),
            (&["*;q=0"], "bzg", "identity"),
            (&["gzip;q=0, *;q=0.1, identity;q=0.2"], "bzg", "identity"),
            // Where nothing is acceptable, the file as it is.
            (&["identity;q=0"], "bzg", "identity"),
            (&["identity;q=0, gzip"], "bzg", "gzip"),
            (&["identity;q=0, gzip"], "bz", "identity"),
            (&["identity;q=0, *;q=0"], "bzg", "identity"),
            // What is said twice counts as it was said most cautiously.
            (&["gzip, gzip;q=0"], "g", "identity"),
            (&["gzip;q=0, gzip"], "g", "identity"),
            (&["br, br;q=0.1, gzip;q=0.2"], "bzg", "gzip"),
            // Members that are not understood say nothing.
            (&["gzip;q=2"], "bzg", "identity"),
            (&["gzip;q=1.001"], "bzg", "identity"),
            (&["gzip;q=0.1234"], "bzg", "identity"),
            (&["gzip;q=.5"], "bzg", "identity"),
            (&["gzip;q=-1"], "bzg", "identity"),
            (&["gzip;q=0,5"], "bzg", "identity"),
            (&["gzip;q=0/5"], "bzg", "identity"),
            (&["gzip;q=0.:"], "bzg", "identity"),
            (&["gzip;q="], "bzg", "identity"),
            (&["gzip;q"], "bzg", "identity"),
            (&["gzip;"], "bzg", "identity"),
            (&["gzip;q =1"], "bzg", "identity"),
            (&["gzip;q= 1"], "bzg", "identity"),
            (&["gzip;level=9"], "bzg", "identity"),
            (&["gzip;q=1;x=y"], "bzg", "identity"),
            (&["\"gzip\""], "bzg", "identity"),
            (&["gzip br"], "bzg", "identity"),
            (&["gzipped, brotli, **"], "bzg", "identity"),
            (&["gzip;q=x, br;q=0.1"], "bzg", "br"),
        ] {
            assert_eq!(choose(lines, letters), want, "Accept-Encoding: {lines:?}, stored: {letters}");
        }
        assert_eq!(Accepted::parse([&b"\xff\0, gzip"[..]]).choose(&stored("g")), Some(Coding::Gzip));
    }

    #[test]
    fn every_weight_is_read() {
        for thousandths in 0..=1000_u16 {
            let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
            for cut in [text.trim_end_matches('0'), &text] {
                assert_eq!(parse_weight(cut.as_bytes()), Some(thousandths), "{cut}");
            }
        }
    }

    /// One of every kind of statement that there is about a coding.
    fn weight() -> impl Strategy<Value = Option<u16>> {
        proptest::option::of(prop_oneof![Just(0), Just(1000), 1..1000_u16])
    }

    proptest! {
        #[test]
        fn the_choice_is_stored_and_accepted_and_nothing_is_liked_better(
            weights in proptest::array::uniform3(weight()), identity in weight(), others in weight(), letters in "b?z?g?",
        ) {
            let named = ["br", "zstd", "gzip", "identity", "*"];
            let all = [weights[0], weights[1], weights[2], identity, others];
            let member = |(name, weight): (&str, Option<u16>)| {
                weight.map(|weight| format!("{name};q={}.{:03}", weight / 1000, weight % 1000))
            };
            let line: Vec<String> = named.into_iter().zip(all).filter_map(member).collect();
            let line = line.join(", ");
            let stored = stored(&letters);
            let chosen = Accepted::parse([line.as_bytes()]).choose(&stored);
            let of = |coding: Option<Coding>| match coding {
                Some(coding) => weights[coding as usize].or(others).unwrap_or(0),
                None => identity.or(others).unwrap_or(0),
            };
            if let Some(coding) = chosen {
                prop_assert!(stored.get(coding).is_some() && of(chosen) > 0, "{line}: {chosen:?}");
            }
            for coding in Coding::ALL.into_iter().filter(|coding| stored.get(*coding).is_some()) {
                let better = of(Some(coding)) > of(chosen);
                let equal = of(Some(coding)) == of(chosen) && of(chosen) > 0;
                prop_assert!(!better, "{line}: {coding} is liked better than {chosen:?}");
                prop_assert!(!equal || chosen.is_some_and(|chosen| chosen <= coding), "{line}: {coding} before {chosen:?}");
            }
            prop_assert!(chosen.is_none() || of(chosen) >= of(None), "{line}: identity is liked better than {chosen:?}");
        }

        #[test]
        fn no_value_panics_and_what_is_chosen_is_named(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = String::from_utf8_lossy(&value).to_ascii_lowercase();
            if let Some(coding) = Accepted::parse([&value[..]]).choose(&stored("bzg")) {
                prop_assert!(text.contains(coding.token()) || text.contains('*'), "{text:?}");
            }
        }
    }
}
