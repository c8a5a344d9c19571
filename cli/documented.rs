//! Whether the commands that documents and help texts show are commands: each is parsed as it stands there.

use clap::{CommandFactory, Parser};

use crate::Cli;

/// Where people are told to type something.
const PAGES: [(&str, &str); 2] =
    [("README.md", include_str!("../README.md")), ("publishing.md", include_str!("../docs/publishing.md"))];

/// The commands in a line of a shell, each as its words: what stands behind `pinstone`, up to where a shell or a reader
/// would stop.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find("pinstone ") {
        // A word of its own, or the last part of the path that a line begins with: others are addresses and folders.
        let before = &rest[..start];
        let is_path = before.ends_with('/') && !before.trim_start().contains(' ');
        let is_command = before.is_empty() || before.ends_with([' ', '(']) || is_path;
        rest = &rest[start + "pinstone ".len()..];
        if is_command {
            found.push(words(rest));
        }
    }
    found
}

/// The lines of `text`, with those that a backslash continues in one.
fn whole_lines(text: &str) -> String {
    text.replace("\\\n", " ")
}

fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(end), _) if letter == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => {
                words.extend(word.take());
                // An explanation is set apart by several spaces, or by a `#`. What is continued is not one.
                if matches!(letters.peek(), Some(' ' | '#')) && !words.is_empty() {
                    break;
                }
            }
            (None, '|' | '>' | '<' | '&' | ';' | ')' | '`') => break,
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn check(place: &str, command: &[String]) {
    let line = std::iter::once("pinstone").chain(command.iter().map(String::as_str));
    if let Err(error) = Cli::try_parse_from(line) {
        panic!("{place}: `pinstone {}`: {error}", command.join(" "));
    }
}

#[test]
fn commands_in_documents_are_commands() {
    for (page, text) in PAGES {
        let (mut is_fenced, mut count) = (false, 0);
        for line in whole_lines(text).lines() {
            if line.starts_with("```") {
                is_fenced = !is_fenced;
            } else if is_fenced || line.starts_with("    ") {
                for command in commands(line).into_iter().filter(|words| !words.is_empty()) {
                    check(page, &command);
                    count += 1;
                }
            }
        }
        assert!(count >= 5, "{page}: {count}");
    }
}

#[test]
fn examples_in_help_texts_are_commands() {
    let (mut left, mut without) = (vec![Cli::command()], Vec::new());
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().cloned());
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let examples: Vec<_> = whole_lines(&help).lines().flat_map(commands).collect();
        examples.iter().for_each(|example| check(command.get_name(), example));
        if examples.is_empty() {
            without.push(command.get_name().to_owned());
        }
    }
    // What needs no argument has nothing to show, and a group's commands have their own.
    without.sort_unstable();
    without.dedup();
    assert_eq!(without, WITHOUT_EXAMPLES);
}

/// Commands whose help shows no example.
const WITHOUT_EXAMPLES: [&str; 4] = ["admin", "fsck", "list", "rotate-owner-token"];

#[test]
fn words_end_where_a_shell_or_a_reader_stops() {
    for (line, want) in [
        ("  pinstone deploy -m 'new prices'   # asks", vec![vec!["deploy", "-m", "new prices"]]),
        ("url=$(pinstone preview dist --slug \"pr-$N\")", vec![vec!["preview", "dist", "--slug", "pr-$N"]]),
        ("tar -cz . | pinstone deploy - --project x | cat", vec![vec!["deploy", "-", "--project", "x"]]),
        ("  target/debug/pinstone serve --data d", vec![vec!["serve", "--data", "d"]]),
        ("pinstone fsck --data /srv/pinstone --json", vec![vec!["fsck", "--data", "/srv/pinstone", "--json"]]),
        ("https://pinstone.example and my-pinstone deploy", vec![]),
        ("curl https://tools.example/pinstone -o x", vec![]),
        ("  pinstone man d && man pinstone-deploy", vec![vec!["man", "d"]]),
    ] {
        assert_eq!(commands(line), want, "{line}");
    }
}
