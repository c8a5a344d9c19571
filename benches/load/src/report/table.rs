//! The report as tables: one that compares, for people in a hurry, and one for each figure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Compared, Contestant, Report};
use crate::measure::Metric;
use crate::servers::BEFORE;

/// The share of rounds from which on a mark is set.
const MARKED: f64 = 0.5;

/// From how many rounds on quartiles say something.
const ROUNDS: usize = 5;

/// Figures that stand in the comparison too, below the leading one of their scenario.
const BESIDE: [Metric; 4] = [Metric::P99Alone, Metric::P99ByAlone, Metric::ServePeak, Metric::CommandPeak];

/// A number with three digits that count, and with separators from a thousand on.
pub(crate) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), ""), |(whole, rest)| (whole, rest));
    let mut separated = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 && !separated.ends_with('-') {
            separated.push(',');
        }
        separated.push(digit);
    }
    if rest.is_empty() { separated } else { format!("{separated}.{rest}") }
}

/// `G` where the load generator was the limit, `N` where the machine was not quiet, `E` where answers were wrong. `G` is of
/// the run that a figure comes from, and of a ratio's two runs either.
fn marks(contestant: &Contestant, metric: Metric) -> String {
    let often = |count: usize| contestant.rounds > 0 && count as f64 / contestant.rounds as f64 >= MARKED;
    let limited = match metric {
        Metric::P99Alone => contestant.alone_limited,
        Metric::P99ByAlone => contestant.alone_limited.max(contestant.generator_limited),
        _ => contestant.generator_limited,
    };
    let mut marks = String::new();
    for (mark, set) in [('G', often(limited)), ('N', often(contestant.disturbed)), ('E', contestant.errors > 0)] {
        if set {
            marks.push(mark);
        }
    }
    if marks.is_empty() { marks } else { format!(" {marks}") }
}

/// A figure of one contestant, with its marks; `None` where it was not measured.
fn cell(scenario: &Compared, name: &str, metric: Metric, quartiles: bool) -> Option<String> {
    let contestant = scenario.results.iter().find(|contestant| contestant.name == name)?;
    let summary = contestant.metrics.get(&metric)?;
    let spread = if quartiles && contestant.rounds > 1 {
        format!(" ({}–{})", figure(summary.q1), figure(summary.q3))
    } else {
        String::new()
    };
    Some(format!("{}{spread}{}", figure(summary.median), marks(contestant, metric)))
}

fn has(scenario: &Compared, metric: Metric) -> bool {
    scenario.results.iter().any(|one| one.metrics.contains_key(&metric))
}

fn contestants(scenarios: &[&Compared]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for contestant in scenarios.iter().flat_map(|scenario| &scenario.results) {
        if !names.contains(&contestant.name) {
            names.push(contestant.name.clone());
        }
    }
    names
}

/// The rows that compare by the leading figure: a header, then a row a scenario, and one for what stands beside it.
/// Scenarios of publishing have other contestants, and so a table of their own.
fn compared(scenarios: &[&Compared], quartiles: bool) -> Vec<Vec<String>> {
    let names = contestants(scenarios);
    let mut header = vec!["scenario".to_owned(), "figure".to_owned()];
    header.extend(names.iter().cloned());
    let ratios: [(_, fn(&Compared) -> _); 2] =
        [(BEFORE, |scenario| scenario.by_before), ("nginx", |scenario| scenario.by_nginx)];
    let ratios = ratios.map(|(other, ratio)| names.iter().any(|name| name == other).then_some((other, ratio)));
    let ratios = || ratios.iter().flatten();
    header.extend(ratios().map(|(other, _)| format!("÷ {other}")));
    header.push("÷ best peer".to_owned());
    let mut rows = vec![header];
    for scenario in scenarios.iter().filter(|scenario| scenario.skipped.is_none()) {
        let row = |metric: Metric| {
            let cells = names.iter().map(|name| cell(scenario, name, metric, quartiles));
            let mut row = vec![scenario.title.clone(), metric.title().to_owned()];
            row.extend(cells.map(or_dash));
            row
        };
        let mut leading = row(scenario.lead);
        leading.extend(ratios().map(|(_, ratio)| or_dash(ratio(scenario).map(|ratio| format!("{ratio:.2}")))));
        leading.push(or_dash(scenario.by_best.as_ref().map(|best| format!("{:.2} ({})", best.ratio, best.peer))));
        let columns = leading.len();
        rows.push(leading);
        for metric in BESIDE.into_iter().filter(|metric| has(scenario, *metric)) {
            let mut row = row(metric);
            row.resize(columns, or_dash(None));
            rows.push(row);
        }
    }
    rows
}

fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "–".to_owned())
}

/// One figure in all scenarios that have it; `None` where none has.
fn figures(scenarios: &[&Compared], metric: Metric) -> Option<Vec<Vec<String>>> {
    let with: Vec<&Compared> = scenarios.iter().filter(|scenario| has(scenario, metric)).copied().collect();
    if with.is_empty() {
        return None;
    }
    let names = contestants(&with);
    let mut rows = vec![[vec!["scenario".to_owned()], names.clone()].concat()];
    for scenario in with {
        let cells = names.iter().map(|name| or_dash(cell(scenario, name, metric, true)));
        rows.push([vec![scenario.title.clone()], cells.collect()].concat());
    }
    Some(rows)
}

/// Servers' scenarios, then those of publishing.
fn groups(report: &Report) -> [Vec<&Compared>; 2] {
    let (publish, serve) = report.scenarios.iter().partition(|scenario| scenario.lead == Metric::Seconds);
    [serve, publish]
}

/// What was left out, each with its reason, once.
fn left_out(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for missing in &report.missing {
        lines.push(format!("{}: not installed; `{}`", missing.name, missing.install));
    }
    for scenario in &report.scenarios {
        if let Some(reason) = &scenario.skipped {
            lines.push(format!("{}: {reason}", scenario.title));
            continue;
        }
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for contestant in scenario.results.iter().filter(|contestant| contestant.name != "floor") {
            let Some(reason) = contestant.skipped.as_deref() else { continue };
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, names)) => names.push(&contestant.name),
                None => reasons.push((reason, vec![&contestant.name])),
            }
        }
        for (reason, names) in reasons {
            lines.push(format!("{}, {}: {reason}", scenario.title, names.join(", ")));
        }
    }
    lines
}

/// Whether the machine was as quiet as figures need, and what to think of those where it was not.
fn verdict(report: &Report) -> String {
    let all = || report.scenarios.iter().flat_map(|scenario| &scenario.results);
    let rounds: usize = all().map(|contestant| contestant.rounds).sum();
    let disturbed: usize = all().map(|contestant| contestant.disturbed).sum();
    let limited: usize = all().map(|contestant| contestant.generator_limited).sum();
    let worst = all().map(|contestant| contestant.others).fold(0.0, f64::max);
    let mut text = format!("Of {rounds} measurements the load generator was the limit in {limited}");
    if disturbed == 0 {
        text.push_str("; the machine was quiet in all.");
    } else {
        let _ = write!(
            text,
            "; in {disturbed} the machine was not quiet: others took up to {:.0} % of a core.",
            worst * 100.0
        );
    }
    if report.options.rounds < ROUNDS {
        let _ = write!(text, " Fewer than {ROUNDS} rounds: no figures to quote.");
    }
    text
}

const LEGEND: &str = "Medians (first and third quartile) over the rounds. A column with `÷`: Pinstone's median divided by the \
    other's. G: in most rounds the load generator was the limit, so CPU per answer counts and answers per second do not. N: in \
    most rounds the machine was not quiet. E: some answers were lost or wrong.";

/// The whole report as Markdown.
pub(crate) fn markdown(report: &Report, charts: &[(&str, &str)]) -> String {
    let (machine, options) = (&report.machine, &report.options);
    let versions: Vec<String> = report.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mut text = format!(
        "# Load, {}\n\n{}, {} cores, {} MiB; Linux {}, {}. Server on core {}, load generator on core {}; {} rounds of {} s, \
         seed {}.{}\n\n{}.\n\n{}\n",
        machine.date,
        machine.cpu,
        machine.cores,
        machine.memory_mib,
        machine.kernel,
        machine.congestion_control,
        options.server_core,
        options.client_core,
        options.rounds,
        options.seconds,
        options.seed,
        options.tls.as_ref().map(|tls| format!(" {tls}.")).unwrap_or_default(),
        versions.join(", "),
        verdict(report)
    );
    for group in groups(report) {
        let rows = compared(&group, true);
        if rows.len() > 1 {
            text.push('\n');
            text.push_str(&markdown_table(&rows));
        }
    }
    let _ = write!(text, "\n{LEGEND}\n");
    for (title, file) in charts {
        let _ = write!(text, "\n![{title}]({file})\n");
    }
    let all: Vec<&Compared> = report.scenarios.iter().collect();
    let metrics: BTreeSet<Metric> =
        all.iter().flat_map(|scenario| &scenario.results).flat_map(|one| one.metrics.keys().copied()).collect();
    for metric in metrics {
        if let Some(rows) = figures(&all, metric) {
            let _ = write!(text, "\n## {}\n\n{}", capital(metric.title()), markdown_table(&rows));
        }
    }
    let left_out = left_out(report);
    if !left_out.is_empty() {
        text.push_str("\n## Not measured\n\n");
        for line in left_out {
            let _ = writeln!(text, "- {line}");
        }
    }
    text
}

/// The comparison as text, for a terminal.
pub(crate) fn terminal(report: &Report) -> String {
    let mut text = String::new();
    for group in groups(report) {
        let rows = compared(&group, false);
        if rows.len() > 1 {
            text.push_str(&aligned(&rows));
            text.push('\n');
        }
    }
    for line in left_out(report) {
        let _ = writeln!(text, "not measured: {line}");
    }
    let _ = writeln!(text, "{}", verdict(report));
    text
}

fn markdown_table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if number == 0 {
            let _ = writeln!(text, "| --- |{}", " ---: |".repeat(row.len() - 1));
        }
    }
    text
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            // Words to the left, numbers to the right.
            if column < 2 { line = line + cell + &padding + "  " } else { line = line + &padding + cell + "  " }
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn figures_have_three_digits() {
        for (value, want) in [
            (0.0, "0.00"),
            (7.123, "7.12"),
            (9.999, "10.0"),
            (17.88, "17.9"),
            (99.97, "100"),
            (143.4, "143"),
            (1929.4, "1,929"),
            (-1234.0, "-1,234"),
            (123_456_789.0, "123,456,789"),
        ] {
            assert_eq!(figure(value), want, "{value}");
        }
    }

    #[test]
    fn tables_compare_and_say_what_is_missing() {
        let text = markdown(&example(), &[("title", "cpu.svg")]);
        for want in [
            "| the <small> scenario | server CPU per answer, µs | 5.00 (5.00–5.00) | 7.00 (6.50–7.50) | 10.0 (10.0–10.0) | \
             5.00 (5.00–5.00) | 0.70 | 1.40 (h2o) |",
            "| the <fast> scenario | answers per second | – | 3,000 | 2,000 | 1,000 | 1.50 | 1.50 (nginx) |",
            "| the <fast> scenario | peak memory of the server, MiB | – | 77.0 | – | – | – | – |",
            "| the <fair> scenario | p99, µs | – | 3,000 (3,000–3,000) | 800 (800–800) | – | 3.75 | 3.75 (nginx) |\n\
             | the <fair> scenario | p99 alone, µs | – | 600 (550–800) | 400 (400–400) | – | – | – |\n\
             | the <fair> scenario | p99 beside ÷ alone | – | 5.00 (4.00–5.50) | 2.00 (2.00–2.00) | – | – | – |\n",
            "## P99 beside ÷ alone\n\n| scenario | floor | pinstone | nginx | h2o |\n",
            "- caddy: not installed; `apt-get install caddy`",
            "- the <tls> scenario: no TLS",
            "the load generator was the limit in 4; in 4 the machine was not quiet: others took up to 40 % of a core. Fewer than 5 \
             rounds: no figures to quote.",
            "## Server CPU per answer, µs\n\n| scenario | floor | pinstone | nginx | h2o |\n",
            "| the <small> scenario | 5.00 (5.00–5.00) | 7.00 (6.50–7.50) | 10.0 (10.0–10.0) | 5.00 (5.00–5.00) |\n",
            "seed 1. TLS 1.3.\n",
        ] {
            assert!(text.contains(want), "{want}\n\n{text}");
        }
        let text = terminal(&example());
        assert!(text.contains("the <small> scenario  server CPU per answer, µs"), "{text}");
    }

    #[test]
    fn a_mark_is_set_where_most_rounds_have_it() {
        let mut contestant = example().scenarios[0].results[1].clone();
        for (limited, disturbed, errors, want) in
            [(0, 0, 0, ""), (1, 1, 0, ""), (2, 0, 0, " G"), (0, 2, 0, " N"), (3, 3, 1, " GNE")]
        {
            (contestant.generator_limited, contestant.disturbed, contestant.errors) = (limited, disturbed, errors);
            let found = marks(&contestant, Metric::CpuMicros);
            assert_eq!(found, want, "{limited} {disturbed} {errors} of {}", contestant.rounds);
        }
    }

    #[test]
    fn a_figure_is_marked_for_the_run_that_it_comes_from() {
        let mut contestant = example().scenarios[0].results[1].clone();
        contestant.disturbed = 0;
        for (beside, alone, want) in
            [(0, 0, ["", "", ""]), (3, 1, [" G", "", " G"]), (1, 3, ["", " G", " G"]), (1, 1, ["", "", ""])]
        {
            (contestant.generator_limited, contestant.alone_limited) = (beside, alone);
            let found = [Metric::P99, Metric::P99Alone, Metric::P99ByAlone].map(|metric| marks(&contestant, metric));
            assert_eq!(found, want, "{beside} beside, {alone} alone, of {}", contestant.rounds);
        }
    }
}
