//! What users sign in by.

use std::fmt;
use std::str::FromStr;

/// The longest email, in bytes (RFC 5321 section 4.5.3.1.3, without the angle brackets).
const LONGEST: usize = 254;

/// An email as it is kept and compared: trimmed, in lower case. Whether anybody reads what is sent there, nobody knows.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Email(String);

/// A text that is not an email.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an email has a name, an `@` and a domain with a dot, and at most {LONGEST} bytes")]
pub struct NotAnEmail;

impl Email {
    /// The email as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Email {
    type Err = NotAnEmail;

    fn from_str(text: &str) -> Result<Self, NotAnEmail> {
        let text = text.trim();
        if text.len() > LONGEST || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(NotAnEmail);
        }
        let text = text.to_lowercase();
        let Some((name, domain)) = text.rsplit_once('@') else { return Err(NotAnEmail) };
        let labels = domain.split('.').collect::<Vec<_>>();
        // Lower case can be longer than what it is of.
        if name.is_empty() || labels.len() < 2 || labels.iter().any(|label| label.is_empty()) || text.len() > LONGEST {
            return Err(NotAnEmail);
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails_are_trimmed_and_have_no_case() {
        for (text, want) in [
            ("a@b.test", "a@b.test"),
            ("  Ann.Lee+x@Pages.Example\n", "ann.lee+x@pages.example"),
            ("bücher@BÜCHER.example", "bücher@bücher.example"),
            ("\"a@b\"@c.test", "\"a@b\"@c.test"),
        ] {
            assert_eq!(text.parse::<Email>().map(|email| email.to_string()), Ok(want.to_owned()), "{text:?}");
        }
        let long = format!("{}@b.test", "a".repeat(248));
        for wrong in ["", "a", "@b.test", "a@", "a@b", "a@.test", "a@b.", "a b@c.test", "a\u{7}@b.test", &long] {
            assert_eq!(wrong.parse::<Email>(), Err(NotAnEmail), "{wrong:?}");
        }
    }
}
