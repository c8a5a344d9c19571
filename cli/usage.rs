//! `usage`: what projects take up.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::Failure;
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

/// How many projects one call asks for.
const PAGE: &str = "1000";

/// What is used, as far as it is shown here; the rest is passed on.
#[derive(Debug, Deserialize, Serialize)]
struct Usage {
    /// How many projects there are; nothing for a token that does not reach all.
    #[serde(default)]
    projects: Option<u64>,
    /// What all together take up, in bytes.
    #[serde(default)]
    stored_bytes: Option<u64>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    items: Vec<Used>,
    #[serde(default)]
    next_cursor: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What may be used; what is missing has no limit.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Limits {
    #[serde(default)]
    projects: Option<u64>,
    #[serde(default)]
    stored_bytes: Option<u64>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What one project takes up.
#[derive(Debug, Deserialize, Serialize)]
struct Used {
    project: String,
    #[serde(default)]
    images: u64,
    #[serde(default)]
    stored_bytes: u64,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: Args) -> Result<(), CliError> {
    let client = context.client(1)?;
    let page = async |cursor: Option<&str>| -> Result<Usage, CliError> {
        let mut query = vec![("limit", PAGE)];
        query.extend(args.project.as_deref().map(|project| ("project", project)));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        client.get(&["usage"], &query).await.map_err(|failure: Failure| match &args.project {
            Some(project) => failure.of_project(project),
            None => failure.into(),
        })
    };
    let mut usage = page(None).await?;
    let mut cursor = usage.next_cursor.take();
    while let Some(at) = cursor {
        let more = page(Some(&at)).await?;
        usage.items.extend(more.items);
        // The same cursor again would be the same page for ever.
        cursor = more.next_cursor.filter(|next| *next != at);
    }
    for line in table(&rows(&usage)) {
        context.out.line(line)?;
    }
    if usage.items.is_empty() {
        context.out.note("no projects yet; the first `pinstone deploy` of one makes it");
    }
    context.out.object(&usage)
}

/// A row for each project, and one for all together.
fn rows(usage: &Usage) -> Vec<Vec<String>> {
    let row =
        |used: &Used| vec![used.project.clone(), output::bytes(used.stored_bytes), output::count(used.images, "image")];
    let mut rows: Vec<_> = usage.items.iter().map(row).collect();
    if let Some(bytes) = usage.stored_bytes {
        let stored = match usage.limits.stored_bytes {
            Some(limit) => format!("{} of {}", output::bytes(bytes), output::bytes(limit)),
            None => output::bytes(bytes),
        };
        let projects = match (usage.projects, usage.limits.projects) {
            (Some(number), Some(limit)) => format!("{number} of {}", output::count(limit, "project")),
            (Some(number), None) => output::count(number, "project"),
            (None, _) => String::new(),
        };
        rows.push(vec!["all together".to_owned(), stored, projects]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_shown() {
        let item = r#"{"project":"abc","project_id":"prj_1","images":1,"stored_bytes":1500}"#;
        for (answer, want) in [
            (
                format!(r#"{{"projects":1,"stored_bytes":1500,"limits":{{"stored_bytes":3000}},"items":[{item}]}}"#),
                vec!["abc 1.5 kB 1 image", "all together 1.5 kB of 3.0 kB 1 project"],
            ),
            // A token for one project is told of no other.
            (format!(r#"{{"projects":null,"stored_bytes":null,"items":[{item}]}}"#), vec!["abc 1.5 kB 1 image"]),
            ("{}".to_owned(), vec![]),
        ] {
            let rows = rows(&serde_json::from_str(&answer).unwrap());
            let lines: Vec<String> = rows.iter().map(|row| row.join(" ").trim().to_owned()).collect();
            assert_eq!(lines, want, "{answer}");
        }
    }
}
