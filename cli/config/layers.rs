//! Where keys are given: by flags, by variables, in the file. Here all values are texts still.

use std::collections::BTreeMap;
use std::path::Path;

use super::keys::KEYS;
use crate::error::plain;

/// The file that is read where no flag names one.
const DEFAULT_FILE: &str = "pinstone-server.toml";

/// What one source says, by key.
pub(super) type Layer = BTreeMap<&'static str, Given>;

/// What one layer says for a key.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) values: Vec<String>,
    /// Where it says so, as a mistake names it.
    pub(super) origin: String,
}

/// What the environment says: `limits.files` is `PINSTONE_LIMITS__FILES`, and lists are separated by commas.
pub(super) fn variables(variable: &impl Fn(&str) -> Option<String>) -> Layer {
    let of = |key: &&'static str| {
        let name = format!("PINSTONE_{}", key.replace('.', "__").to_uppercase());
        let values = variable(&name)?.split(',').map(|value| value.trim().to_owned()).collect::<Vec<_>>();
        // The one key whose value has commas of its own.
        let values = if *key == "log" { vec![values.join(",")] } else { values };
        Some((*key, Given { values, origin: format!("`{name}`") }))
    };
    KEYS.iter().filter_map(of).collect()
}

/// What the file says, or nothing where none was named and none is there.
pub(super) fn read_file(named: Option<&Path>, mistakes: &mut Vec<String>) -> Layer {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => return Layer::new(),
        Err(error) => {
            mistakes.push(format!("cannot read `{}`: {}", path.display(), plain(&error)));
            return Layer::new();
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => {
            let mut layer = Layer::new();
            flatten("", &table, path, &mut layer, mistakes);
            layer
        }
        Err(error) => {
            let line = error.span().map_or(0, |span| text.get(..span.start).unwrap_or(&text).matches('\n').count() + 1);
            mistakes.push(format!("`{}`, line {line}: {}", path.display(), error.message().trim_end()));
            Layer::new()
        }
    }
}

/// Puts the keys of `table`, which is at `prefix`, into `layer`.
fn flatten(prefix: &str, table: &toml::Table, path: &Path, layer: &mut Layer, mistakes: &mut Vec<String>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let origin = format!("`{key}` in `{}`", path.display());
        let known = KEYS.iter().find(|known| **known == key);
        let below = format!("{key}.");
        match (known, value) {
            (None, toml::Value::Table(inner)) if KEYS.iter().any(|known| known.starts_with(&below)) => {
                flatten(&below, inner, path, layer, mistakes);
            }
            (None, _) => mistakes.push(format!("{origin} is no key")),
            (Some(known), value) => match texts(value) {
                Some(values) => drop(layer.insert(known, Given { values, origin })),
                None => {
                    mistakes.push(format!("{origin} is neither a text, a number, true or false, nor a list of texts"))
                }
            },
        }
    }
}

/// A value as texts, each to be read as its key wants it; `None` where it is of a kind that no key takes.
fn texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(switch) => Some(vec![switch.to_string()]),
        toml::Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}
