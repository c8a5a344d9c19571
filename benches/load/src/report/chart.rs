//! Charts as SVG: for each scenario a panel of bars with its own scale, since scenarios differ a thousandfold.

use std::fmt::Write as _;

use super::table::figure;
use super::{Compared, Report};
use crate::measure::Metric;
use crate::stats::Summary;

/// What is drawn, and the files it goes into.
pub(crate) const CHARTS: [(Metric, &str); 3] =
    [(Metric::CpuMicros, "cpu.svg"), (Metric::Requests, "requests.svg"), (Metric::P99, "p99.svg")];

const WIDTH: f64 = 760.0;
const LABELS: f64 = 150.0;
const NUMBERS: f64 = 90.0;
const BAR: f64 = 14.0;
const STEP: f64 = 19.0;
const TITLE: f64 = 26.0;
const MARGIN: f64 = 16.0;

/// Draws one figure of all scenarios that have it; `None` where none has.
pub(crate) fn draw(report: &Report, metric: Metric) -> Option<String> {
    let panels: Vec<(&Compared, Vec<(&str, &Summary)>)> = report
        .scenarios
        .iter()
        .map(|scenario| {
            let bars = scenario.results.iter().filter_map(|one| Some((one.name.as_str(), one.metrics.get(&metric)?)));
            (scenario, bars.collect::<Vec<_>>())
        })
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    if panels.is_empty() {
        return None;
    }
    let height: f64 = panels.iter().map(|(_, bars)| TITLE + STEP * bars.len() as f64 + MARGIN).sum::<f64>() + 60.0;
    let better = if metric.lower_is_better() { "shorter is better" } else { "longer is better" };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{MARGIN}\" y=\"28\" font-size=\"16\" font-weight=\"600\">{}: {better}</text>\n\
         <text x=\"{MARGIN}\" y=\"46\" fill=\"#666666\">{}, Linux {}, {}; medians, lines from first to third \
         quartile</text>\n",
        escape(metric.title()),
        escape(&report.machine.cpu),
        escape(&report.machine.kernel),
        escape(&report.machine.date),
    );
    let mut y = 60.0;
    for (scenario, bars) in panels {
        panel(&mut svg, y, scenario, &bars);
        y += TITLE + STEP * bars.len() as f64 + MARGIN;
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn panel(svg: &mut String, top: f64, scenario: &Compared, bars: &[(&str, &Summary)]) {
    let _ = writeln!(
        svg,
        "<text x=\"{MARGIN}\" y=\"{:.1}\" font-weight=\"600\">{}</text>",
        top + 14.0,
        escape(&scenario.title)
    );
    let largest = bars.iter().map(|(_, summary)| summary.q3.max(summary.median)).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - NUMBERS - MARGIN) / largest;
    for (number, (name, summary)) in bars.iter().enumerate() {
        let y = top + TITLE + STEP * number as f64;
        let middle = y + BAR / 2.0;
        let fill = match *name {
            "pinstone" => "#c2410c",
            "floor" => "#d4d4d4",
            _ => "#94a3b8",
        };
        let at = |value: f64| LABELS + value.max(0.0) * scale;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{fill}\"/>\
             <line x1=\"{:.1}\" y1=\"{middle:.1}\" x2=\"{:.1}\" y2=\"{middle:.1}\" stroke=\"#000000\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LABELS - 8.0,
            y + 11.0,
            escape(name),
            at(summary.median) - LABELS,
            at(summary.q1),
            at(summary.q3),
            at(summary.median.max(summary.q3)) + 6.0,
            y + 11.0,
            figure(summary.median)
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::example;

    #[test]
    fn only_what_was_measured_is_drawn() {
        let report = example();
        assert_eq!(draw(&report, Metric::P999), None);
        let svg = draw(&report, Metric::CpuMicros).unwrap();
        assert_eq!(svg.matches("<rect x=").count(), 4, "four bars in one panel");
        let svg = draw(&report, Metric::Requests).unwrap();
        assert!(svg.contains(">3,000</text>") && svg.contains("longer is better"));
    }
}
