//! Reads the Prometheus text format, version 0.0.4, and is stricter than Prometheus is: every family has a HELP and a
//! TYPE, once, its samples follow at once, names keep the conventions, and no sample comes twice.

use std::collections::{BTreeMap, BTreeSet};

/// Labels of a sample, sorted by name.
type Labels = Vec<(String, String)>;

/// A text that was read.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    samples: BTreeMap<(String, Labels), f64>,
    families: BTreeSet<String>,
}

impl Parsed {
    /// The value of a sample.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut labels: Labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        labels.sort();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// The names of all families.
    #[allow(dead_code)]
    pub(crate) fn families(&self) -> impl Iterator<Item = &str> {
        self.families.iter().map(String::as_str)
    }
}

/// Reads a text, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Parsed, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line does not end".into());
    }
    let mut parsed = Parsed::default();
    let mut family: Option<(String, Option<String>)> = None;
    let mut histograms = BTreeSet::new();
    for line in text.lines() {
        let wrong = |what: &str| Err(format!("{what}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else { return wrong("no help") };
            if help.is_empty() || !parsed.families.insert(name.to_owned()) {
                return wrong("described twice, or without a text");
            }
            family = Some((name.to_owned(), None));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            match (&mut family, rest.split_once(' ')) {
                (Some((name, kind @ None)), Some((typed, new))) if name == typed => {
                    if !["counter", "gauge", "histogram"].contains(&new) {
                        return wrong("no type");
                    }
                    if (new == "counter") != name.ends_with("_total") {
                        return wrong("counters, and only they, end in _total");
                    }
                    if new == "histogram" {
                        histograms.insert(name.clone());
                    }
                    *kind = Some(new.to_owned());
                }
                _ => return wrong("a type without a help, or twice"),
            }
        } else {
            let (name, labels, value) = sample(line)?;
            let Some((of, Some(kind))) = &family else { return wrong("not described") };
            let belongs = match kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| name == format!("{of}{end}")),
                _ => name == *of,
            };
            if !belongs {
                return wrong("a sample of another family");
            }
            if parsed.samples.insert((name, labels), value).is_some() {
                return wrong("a sample twice");
            }
        }
    }
    for name in histograms {
        let inf = parsed.value(&format!("{name}_bucket"), &[("le", "+Inf")]);
        if inf.is_none() || inf != parsed.value(&format!("{name}_count"), &[]) {
            return Err(format!("{name} has no +Inf bucket that is its count"));
        }
    }
    Ok(parsed)
}

fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let wrong = |what: &str| format!("{what}: {line}");
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(wrong("no name"));
    }
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, value) = rest.split_once("=\"").ok_or_else(|| wrong("no label"))?;
            let mut text = String::new();
            let mut characters = value.char_indices();
            let closed = loop {
                match characters.next() {
                    Some((at, '"')) => break at,
                    Some((_, '\\')) => match characters.next() {
                        Some((_, '\\')) => text.push('\\'),
                        Some((_, '"')) => text.push('"'),
                        Some((_, 'n')) => text.push('\n'),
                        _ => return Err(wrong("no escape")),
                    },
                    Some((_, other)) => text.push(other),
                    None => return Err(wrong("a label does not end")),
                }
            };
            labels.push((label.to_owned(), text));
            rest = &value[closed + 1..];
            if let Some(after) = rest.strip_prefix(',') {
                rest = after;
            } else {
                rest = rest.strip_prefix('}').ok_or_else(|| wrong("labels do not end"))?;
                break;
            }
        }
    }
    labels.sort();
    let value = rest.strip_prefix(' ').ok_or_else(|| wrong("no value"))?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        _ => value.parse().map_err(|_| wrong("no number"))?,
    };
    Ok((name.to_owned(), labels, value))
}
