//! What the publisher of a site should know although it can be published. Pure: the paths say it.

use super::{Diagnostic, Severity};
use crate::manifest::case_collisions;

/// How long the texts of all that is told are together, in bytes. They are a part of rows, which have 64 KiB.
const TOLD: usize = 16 << 10;

/// What is found in a site whose paths, in their order, are `paths`. Where that is too much to tell, the last of it says
/// how much more there is.
#[must_use]
pub fn site_diagnostics<'p>(paths: impl Iterator<Item = &'p str> + Clone) -> Vec<Diagnostic> {
    let mut told: Vec<_> = no_index(paths.clone()).into_iter().collect();
    let collisions = case_collisions(paths);
    let mut length = 0;
    for (number, (first, second)) in collisions.iter().enumerate() {
        let message = format!("`{second}` differs from `{first}` only in case: many file systems cannot hold both");
        length += second.len() + message.len();
        if length > TOLD {
            let more = format!("{} names more differ from others only in case", collisions.len() - number);
            told.push(warning(second, "case_collisions", more));
            break;
        }
        told.push(warning(second, "case_collision", message));
    }
    told
}

/// What is to be said of a site without a first page: mostly everything is in one folder.
fn no_index<'p>(mut paths: impl Iterator<Item = &'p str> + Clone) -> Option<Diagnostic> {
    fn folder(path: &str) -> Option<&str> {
        path.split_once('/').map(|(folder, _)| folder)
    }

    if paths.clone().any(|path| path == "index.html") {
        return None;
    }
    let first = folder(paths.clone().next()?);
    let message = match first {
        Some(name) if paths.all(|path| folder(path) == first) => format!(
            "all files are in the folder `{name}`, so the site's first page is not found: strip that folder from the \
             names, or publish what is in it"
        ),
        _ => "there is no `index.html`, so the site's first page is not found".to_owned(),
    };
    Some(warning("index.html", "no_index", message))
}

fn warning(file: &str, code: &str, message: String) -> Diagnostic {
    Diagnostic { file: file.to_owned(), line: 0, severity: Severity::Warning, code: code.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_in_a_site() {
        for (paths, want) in [
            (&["index.html"][..], &[][..]),
            (&["a", "index.html"], &[]),
            (&["A", "a", "index.html"], &[("a", "case_collision", "`a` differs from `A` only in case")]),
            (&["index.htm"], &[("index.html", "no_index", "there is no `index.html`")]),
            (&["a", "top/index.html"], &[("index.html", "no_index", "there is no `index.html`")]),
            (&["top/a/b", "top/index.html"], &[("index.html", "no_index", "are in the folder `top`")]),
            (&[], &[]),
        ] {
            let found = site_diagnostics(paths.iter().copied());
            assert_eq!(found.len(), want.len(), "{paths:?}: {found:?}");
            for (found, (file, code, message)) in found.iter().zip(want) {
                assert_eq!((&*found.file, &*found.code), (*file, *code), "{paths:?}");
                assert!(found.message.contains(message), "{paths:?}: {found:?}");
            }
        }
    }

    #[test]
    fn what_is_too_much_to_tell_is_counted() {
        let mut paths = vec!["index.html".to_owned()];
        paths.extend((0..1000).flat_map(|n| [format!("A{n}"), format!("a{n}")]));
        paths.sort_unstable();
        let found = site_diagnostics(paths.iter().map(String::as_str));
        let (more, told) = found.split_last().unwrap();
        assert!((100..1000).contains(&told.len()), "{}", told.len());
        assert!(told.iter().all(|found| found.code == "case_collision"));
        assert_eq!(
            (&*more.code, &*more.message),
            ("case_collisions", &*format!("{} names more differ from others only in case", 1000 - told.len()),)
        );
        let row = serde_json::to_vec(&found).unwrap();
        assert!(row.len() < 48 << 10, "{} bytes", row.len());
    }
}
