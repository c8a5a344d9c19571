//! Measurements as Prometheus reads them: its text format, version 0.0.4.
//!
//! Whoever has something to measure is a [`MetricSource`] and is asked when somebody looks. A family is described once,
//! its samples follow it, and no label has values that a visitor or a publisher chooses: their number is bounded.

use std::fmt::{self, Display, Write};

/// What the text format calls itself.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Something that can be measured. A closure is one.
pub trait MetricSource: Send + Sync {
    /// Writes what there is to be known now. It must not wait for a disk or a network.
    fn write(&self, out: &mut Exposition);
}

impl<F: Fn(&mut Exposition) + Send + Sync> MetricSource for F {
    fn write(&self, out: &mut Exposition) {
        self(out);
    }
}

/// What a family's numbers mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A number that only grows, and starts at zero with the process. Its name ends in `_total`.
    Counter,
    /// A number that goes up and down.
    Gauge,
}

/// The text that is answered to a scrape.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
    names: Vec<&'static str>,
}

/// A family that was described; its samples come next.
#[derive(Debug)]
pub struct Family<'e> {
    text: &'e mut String,
    name: &'static str,
}

impl Exposition {
    /// A text without anything in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Describes a family. A name is described once in a text.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.describe(name, kind, help);
        Family { text: &mut self.text, name }
    }

    /// Writes a counter without labels.
    pub fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help).sample(&[], value);
    }

    /// Writes a gauge without labels.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// Writes a histogram without labels: upper bounds in `unit`s, how many fell into each bucket by itself, with one
    /// more for what is beyond, and their sum. All are divided by `unit`.
    pub fn histogram(&mut self, name: &'static str, help: &str, unit: f64, bounds: &[u64], counts: &[u64], sum: u64) {
        self.describe(name, "histogram", help);
        let mut all = 0;
        for (index, count) in counts.iter().enumerate() {
            all += count;
            match bounds.get(index) {
                Some(bound) => self.line(format_args!("{name}_bucket{{le=\"{}\"}} {all}", float(*bound, unit))),
                None => self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {all}")),
            }
        }
        self.line(format_args!("{name}_sum {}", float(sum, unit)));
        self.line(format_args!("{name}_count {all}"));
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    fn describe(&mut self, name: &'static str, kind: &str, help: &str) {
        debug_assert!(!self.names.contains(&name), "`{name}` is described twice");
        debug_assert!(is_name(name), "`{name}` is no name");
        self.names.push(name);
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes what is written to it");
    }
}

impl Family<'_> {
    /// Writes a sample with these labels.
    pub fn sample(self, labels: &[(&'static str, &str)], value: impl Display) -> Self {
        let text = &mut *self.text;
        text.push_str(self.name);
        for (index, (label, value)) in labels.iter().enumerate() {
            debug_assert!(is_name(label), "`{label}` is no label");
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            for character in value.chars() {
                match character {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    other => text.push(other),
                }
            }
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        writeln!(text, " {value}").expect("a string takes what is written to it");
        self
    }
}

/// Beyond 2^53 a measurement may lose its last digits.
fn float(value: u64, unit: f64) -> f64 {
    value as f64 / unit
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
#[path = "../../tests/support/prometheus_text.rs"]
mod prometheus_text;

#[cfg(test)]
mod tests {
    use super::*;

    use super::prometheus_text::parse;

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Exposition::new();
        out.counter("a_total", "With a \\ and\na second line", 7);
        out.gauge("b_bytes", "Free", 1.5);
        let nasty = "quote \" backslash \\ line\nend";
        out.family("c", Kind::Gauge, "Labels").sample(&[("x", nasty), ("y", "")], 1).sample(&[("x", "z")], 2);
        out.histogram("d_seconds", "Durations", 1e6, &[100, 2_500_000], &[3, 0, 1], 4_000_300);
        let text = out.into_text();
        let parsed = parse(&text).unwrap();
        assert_eq!(parsed.value("a_total", &[]), Some(7.0));
        assert_eq!(parsed.value("b_bytes", &[]), Some(1.5));
        assert_eq!(parsed.value("c", &[("x", nasty), ("y", "")]), Some(1.0));
        assert_eq!(parsed.value("c", &[("x", "z")]), Some(2.0));
        for (bound, want) in [("0.0001", 3.0), ("2.5", 3.0), ("+Inf", 4.0)] {
            assert_eq!(parsed.value("d_seconds_bucket", &[("le", bound)]), Some(want), "{bound}: {text}");
        }
        assert_eq!(parsed.value("d_seconds_sum", &[]), Some(4.0003));
        assert_eq!(parsed.value("d_seconds_count", &[]), Some(4.0));
    }

    #[test]
    fn the_parser_refuses_what_prometheus_would() {
        for wrong in [
            "a 1\n",                                                                      // not described
            "# HELP a x\n# TYPE a gauge\na 1",                                            // the last line does not end
            "# TYPE a gauge\na 1\n",                                                      // no help
            "# HELP a x\n# TYPE a gauge\n# HELP a x\na 1\n",                              // described twice
            "# HELP a x\n# TYPE a gauge\na 1\na 1\n",                                     // the same sample twice
            "# HELP a x\n# TYPE a gauge\na{b=\"c} 1\n",                                   // a label that does not end
            "# HELP a x\n# TYPE a gauge\na{b=\"\\c\"} 1\n",                               // an escape that is none
            "# HELP a x\n# TYPE a gauge\na one\n",                                        // no number
            "# HELP a x\n# TYPE a counter\na 1\n", // a counter's name ends in _total
            "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n", // no +Inf
            "# HELP a x\n# TYPE a gauge\n# HELP b x\n# TYPE b gauge\nb 1\na 1\n", // not next to its description
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
