//! From the texts of a key to its type, with every mistake told where it was made.

use std::fmt::Display;

use super::keys::KEYS;
use super::layers::{Given, Layer};

/// Gives each key the type it has, and collects what cannot have it.
pub(super) struct Reader<'m> {
    /// The first one that has a key decides.
    pub(super) layers: [Layer; 3],
    pub(super) mistakes: &'m mut Vec<String>,
}

impl Reader<'_> {
    /// A mistake that the edge found in its own words, which start with the name of a field: with the key that the
    /// field has here, and where it was given.
    pub(super) fn with_key(&self, mistake: &str) -> String {
        let (name, rest) = mistake.split_once(' ').unwrap_or((mistake, ""));
        let is_meant = |key: &&&str| key.strip_prefix("edge.").or(key.strip_prefix("cache.")) == Some(name);
        match KEYS.iter().find(is_meant).map(|key| (key, self.given(key))) {
            Some((_, Some(given))) => format!("{}: `{}`: it {rest}", given.origin, given.values.join(",")),
            Some((key, None)) => format!("`{key}` {rest}"),
            None => mistake.to_owned(),
        }
    }

    /// Tells what is wrong with a key that is fine by itself, where it is given.
    pub(super) fn wrong(&mut self, key: &'static str, why: &str) {
        if let Some(given) = self.given(key) {
            self.mistakes.push(format!("{}: `{}`: {why}", given.origin, given.values.join(",")));
        }
    }

    /// What the first layer that has `key` says for it.
    pub(super) fn given(&self, key: &'static str) -> Option<Given> {
        debug_assert!(KEYS.contains(&key), "{key}");
        self.layers.iter().find_map(|layer| layer.get(key)).cloned()
    }

    /// The value of a key that has one; `None` where it is not given, or wrong, which is told.
    pub(super) fn one<T, E: Display>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let given = self.given(key)?;
        let [value] = &*given.values else {
            self.mistakes.push(format!("{} is given more than once, or as a list", given.origin));
            return None;
        };
        self.parsed(&given, value, &parse)
    }

    /// The values of a key that has a list.
    pub(super) fn many<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let given = self.given(key)?;
        if given.values.is_empty() {
            self.mistakes.push(format!("{} is empty", given.origin));
        }
        Some(given.values.iter().filter_map(|value| self.parsed(&given, value, &parse)).collect())
    }

    fn parsed<T, E: Display>(
        &mut self,
        given: &Given,
        value: &str,
        parse: &impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.mistakes.push(format!("{}: `{value}`: {error}", given.origin));
                None
            }
        }
    }
}
