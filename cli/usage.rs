//! `usage`: what projects take up.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::context::Context;
use crate::error::CliError;
use crate::output::{self, table};

/// Show how much your projects take up
///
/// A file that several images or projects have is stored once, and counted once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pinstone usage                      each project, and all together
  pinstone usage --project my-site    one project
  pinstone usage --json               everything that the server tells")]
pub(crate) struct Args {
    /// Only this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
}

/// What one project, or all together, take up. What a server does not tell is not shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Used {
    #[serde(alias = "name")]
    project: Option<String>,
    #[serde(alias = "stored_bytes", alias = "total_size")]
    bytes: Option<u64>,
    #[serde(alias = "blobs", alias = "file_count")]
    files: Option<u64>,
    images: Option<u64>,
}

impl Used {
    fn row(&self, called: &str) -> Vec<String> {
        let counted = |number: Option<u64>, word| number.map(|n| output::count(n, word)).unwrap_or_default();
        vec![
            self.project.clone().unwrap_or_else(|| called.to_owned()),
            self.bytes.map(output::bytes).unwrap_or_default(),
            counted(self.files, "file"),
            counted(self.images, "image"),
        ]
    }
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let query: Vec<_> = args.project.as_deref().map(|project| ("project", project)).into_iter().collect();
    let answer: Map<String, Value> = context.client(1)?.get(&["usage"], &query).await?;
    for line in table(&rows(&answer)) {
        context.out.line(line)?;
    }
    context.out.object(&answer)
}

/// A row for each project, and one for all together.
fn rows(answer: &Map<String, Value>) -> Vec<Vec<String>> {
    let used = |value: &Value| serde_json::from_value::<Used>(value.clone()).ok();
    let projects = ["items", "projects"].into_iter().find_map(|key| answer.get(key)?.as_array());
    let mut rows: Vec<_> = projects.into_iter().flatten().filter_map(used).map(|used| used.row("")).collect();
    let total = ["total", "team"].into_iter().find_map(|key| answer.get(key)).and_then(used);
    rows.extend(total.map(|total| total.row("all together")));
    if rows.is_empty() {
        rows.extend(used(&Value::Object(answer.clone())).map(|used| used.row("all together")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_shown() {
        for (answer, want) in [
            (
                r#"{"items":[{"project":"abc","bytes":1500,"files":2,"images":1}],"total":{"bytes":1500}}"#,
                vec!["abc 1.5 kB 2 files 1 image", "all together 1.5 kB"],
            ),
            (r#"{"projects":[{"name":"abc","stored_bytes":1}]}"#, vec!["abc 1 B"]),
            (r#"{"bytes":7,"files":1,"new":{}}"#, vec!["all together 7 B 1 file"]),
        ] {
            let rows = rows(&serde_json::from_str(answer).unwrap());
            let lines: Vec<String> = rows.iter().map(|row| row.join(" ").trim().to_owned()).collect();
            assert_eq!(lines, want, "{answer}");
        }
    }
}
