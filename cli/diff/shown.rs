//! What a comparison shows: lines and numbers for people, one object for programs.

use pinstone_api::wire::{DiffFile, DiffItem, DiffSide, DiffSummary};
use serde::{Serialize, Serializer};

use super::side::Typed;
use crate::error::CliError;
use crate::output::{self, Output};

/// How many differences people are shown who did not ask for all.
const SHOWN: u64 = 100;

/// How many paths differ.
pub(super) fn differences(summary: &DiffSummary) -> u64 {
    summary.added + summary.removed + summary.changed
}

/// Two sides, and what differs but for the paths themselves.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) from: ShownSide,
    pub(super) to: ShownSide,
    pub(super) summary: DiffSummary,
    pub(super) missing: Option<u64>,
    pub(super) missing_bytes: Option<u64>,
    /// What a publish would send, for people.
    pub(super) sends: String,
}

/// A side as `--json` shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ShownSide {
    #[serde(flatten)]
    pub(super) side: DiffSide,
    /// The number of the release that was meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<u64>,
    /// The folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
}

impl ShownSide {
    /// The side that the server told of, with what only its user knows.
    pub(super) fn new(mut side: DiffSide, typed: &Typed) -> Self {
        let (mut release, mut folder) = (None, None);
        match typed {
            Typed::Environment(name) => side.environment = Some(name.to_string()),
            Typed::Release(name, number) => {
                side.environment = Some(name.to_string());
                release = Some(*number);
            }
            Typed::Folder(path) => folder = Some(path.display().to_string()),
            Typed::Image(_) | Typed::Prefix(_) => {}
        }
        Self { side, release, folder }
    }
}

/// A comparison as `--json` prints it: as the API answers it, and the paths by what happens to them.
#[derive(Debug)]
pub(crate) struct Report {
    pub(super) told: Told,
    pub(super) items: Vec<DiffItem>,
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'r> {
            from: &'r ShownSide,
            to: &'r ShownSide,
            summary: &'r DiffSummary,
            #[serde(skip_serializing_if = "Option::is_none")]
            missing: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            missing_bytes: Option<u64>,
            added: Vec<&'r str>,
            removed: Vec<&'r str>,
            changed: Vec<&'r str>,
            items: &'r [DiffItem],
        }

        let of = |change: &str| {
            self.items.iter().filter(|item| item.change == change).map(|item| item.path.as_str()).collect()
        };
        let Told { from, to, summary, missing, missing_bytes, .. } = &self.told;
        Shown {
            from,
            to,
            summary,
            missing: *missing,
            missing_bytes: *missing_bytes,
            added: of("added"),
            removed: of("removed"),
            changed: of("changed"),
            items: &self.items,
        }
        .serialize(serializer)
    }
}

impl Report {
    /// Tells the numbers.
    pub(super) fn note_counts(&self, out: Output) {
        for line in counts(&self.told.summary) {
            out.note(line);
        }
    }
}

/// The differences in numbers, for people.
fn counts(summary: &DiffSummary) -> Vec<String> {
    let mut lines = Vec::new();
    if differences(summary) == 0 && !summary.settings_changed {
        lines.push(format!("no differences; {} alike", output::count(summary.unchanged, "file")));
        return lines;
    }
    let DiffSummary { added, removed, changed, unchanged, .. } = summary;
    let sized = |files: &u64, word: &str, bytes: String| match files {
        0 => format!("0 {word}"),
        files => format!("{files} {word} ({bytes})"),
    };
    let (from, to) = (output::bytes(summary.changed_from_bytes), output::bytes(summary.changed_to_bytes));
    lines.push(format!(
        "{}, {}, {}, {unchanged} unchanged",
        sized(added, "added", output::bytes(summary.added_bytes)),
        sized(removed, "removed", output::bytes(summary.removed_bytes)),
        sized(changed, "changed", format!("{from} → {to}")),
    ));
    if summary.moved > 0 {
        lines.push(format!("{} moved: added with the bytes of a removed file", summary.moved));
    }
    if summary.retyped > 0 {
        lines.push(format!("{} served differently: changed with the same bytes", summary.retyped));
    }
    if summary.settings_changed {
        lines.push("the settings of the site differ".to_owned());
    }
    lines
}

/// Prints differences as they come, up to a bound; or keeps all of them for `--json`.
pub(super) struct Show {
    pub(super) out: Output,
    pub(super) all: bool,
    printed: u64,
    pub(super) items: Vec<DiffItem>,
}

impl Show {
    /// Shows all where `all` is wanted, and for programs.
    pub(super) fn new(out: Output, all: bool) -> Self {
        Self { out, all: all || out.json, printed: 0, items: Vec::new() }
    }

    /// How many differences are wanted; nothing for all.
    pub(super) fn limit(&self) -> Option<u64> {
        (!self.all).then_some(SHOWN)
    }

    /// Shows one more difference.
    pub(super) fn add(&mut self, item: DiffItem) -> Result<(), CliError> {
        if self.out.json {
            self.items.push(item);
        } else if self.all || self.printed < SHOWN {
            self.out.line(line(&item))?;
            self.printed += 1;
        }
        Ok(())
    }

    /// Says how many were left out of `differences`.
    pub(super) fn end(&self, differences: u64, how: &str) -> Result<(), CliError> {
        match differences.saturating_sub(self.printed) {
            0 => Ok(()),
            // On standard output, so that a list that was cut never looks whole.
            more => self.out.line(format!("… {more} more; {how}")),
        }
    }
}

fn line(item: &DiffItem) -> String {
    let size = |file: &DiffFile| file.size.map_or_else(|| "?".to_owned(), output::bytes);
    let served = |file: &DiffFile| match file.hidden {
        true => "hidden".to_owned(),
        false => file.content_type.clone().unwrap_or_default(),
    };
    let path = &item.path;
    match (&item.from, &item.to) {
        (Some(from), Some(to)) if from.hash == to.hash => format!("~ {path} ({} → {})", served(from), served(to)),
        (Some(from), Some(to)) => format!("~ {path} ({} → {})", size(from), size(to)),
        (Some(from), None) => format!("- {path} ({})", size(from)),
        (None, Some(to)) => format!("+ {path} ({})", size(to)),
        (None, None) => path.clone(),
    }
}

/// `nothing`, or `2 files (6 B)`.
pub(super) fn sent(files: u64, bytes: u64) -> String {
    match files {
        0 => "nothing".to_owned(),
        files => format!("{} ({})", output::count(files, "file"), output::bytes(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_one_line_each() {
        let file = |hash: &str, size: u64, content_type: &str| {
            let content_type = Some(content_type.to_owned());
            Some(DiffFile { hash: hash.to_owned(), size: Some(size), content_type, hidden: false })
        };
        let item = |from, to| DiffItem { path: "a".to_owned(), change: String::new(), from, to };
        for (from, to, want) in [
            (None, file("1", 3, "x"), "+ a (3 B)"),
            (file("1", 3, "x"), None, "- a (3 B)"),
            (file("1", 3, "x"), file("2", 1500, "x"), "~ a (3 B → 1.5 kB)"),
            (file("1", 3, "x"), file("1", 3, "y"), "~ a (x → y)"),
            (None, Some(DiffFile { hash: "1".into(), size: None, content_type: None, hidden: false }), "+ a (?)"),
        ] {
            assert_eq!(line(&item(from, to)), want);
        }
    }

    #[test]
    fn numbers_are_told_in_words() {
        let none = DiffSummary { unchanged: 1, ..DiffSummary::default() };
        assert_eq!(counts(&none), ["no differences; 1 file alike"]);
        let some = DiffSummary {
            added: 2,
            added_bytes: 5,
            changed: 1,
            changed_from_bytes: 1,
            changed_to_bytes: 2000,
            retyped: 1,
            moved: 1,
            settings_changed: true,
            ..none
        };
        let lines = counts(&some);
        assert_eq!(lines[0], "2 added (5 B), 0 removed, 1 changed (1 B → 2.0 kB), 1 unchanged");
        assert_eq!(lines.len(), 4, "{lines:?}");
    }
}
