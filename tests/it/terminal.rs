//! Commands on a terminal: what is asked, what is not shown, and how the terminal is left.
//!
//! The terminal is one of `script`, which passes on what is typed into its standard input.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::world::{World, skip};

const EMAIL: &str = "me@example.com";
const PASSWORD: &str = "correct horse battery";

/// A command that runs on a terminal.
struct Terminal {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// Everything that was shown so far.
    shown: String,
    /// How much of it was waited for.
    seen: usize,
}

impl Terminal {
    /// Runs a shell's line, in which `pinstone` is the command line as the owner; nothing where there is no `script`.
    fn run(world: &World, line: &str) -> Option<Self> {
        let command = world.command();
        let program = command.get_program().to_str().unwrap().to_owned();
        let line = format!("pinstone() {{ '{program}' \"$@\"; }}; {line}");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.env("SHELL", "/bin/sh").env("PINSTONE_ENDPOINT", world.url()).current_dir(world.work());
        let spawned = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut child) = spawned else {
            skip("a command on a terminal", "there is no `script`");
            return None;
        };
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { child, stdin, stdout, shown: String::new(), seen: 0 })
    }

    /// Waits until `text` is shown, and types `answer`.
    #[track_caller]
    fn answer(&mut self, text: &str, answer: &str) {
        let mut bytes = std::mem::take(&mut self.shown).into_bytes();
        let mut byte = [0];
        while !String::from_utf8_lossy(&bytes[self.seen..]).contains(text) {
            assert_eq!(self.stdout.read(&mut byte).unwrap(), 1, "{text}: {}", String::from_utf8_lossy(&bytes));
            bytes.push(byte[0]);
        }
        self.seen = bytes.len();
        self.shown = String::from_utf8(bytes).unwrap();
        self.stdin.write_all(answer.as_bytes()).unwrap();
    }

    /// Waits for the end: how the command ended, and everything that was shown.
    fn end(mut self) -> (Option<i32>, String) {
        self.stdout.read_to_string(&mut self.shown).unwrap();
        (self.child.wait().unwrap().code(), self.shown)
    }
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let world = World::start();
    let Some(mut terminal) = Terminal::run(&world, "pinstone login --register") else { return };
    terminal.answer("email: ", &format!("{EMAIL}\n"));
    terminal.answer("password: ", &format!("{PASSWORD}\n"));
    terminal.answer("again: ", &format!("{PASSWORD}\n"));
    let (code, shown) = terminal.end();
    assert!(code == Some(0) && shown.contains("signed in as"), "{shown}");
    assert!(shown.contains(EMAIL) && !shown.contains(PASSWORD), "{shown}");

    let line = format!("pinstone login --register --email {EMAIL}");
    let Some(mut terminal) = Terminal::run(&world, &line) else { return };
    terminal.answer("password: ", &format!("{PASSWORD}\n"));
    terminal.answer("again: ", "something else\n");
    let (code, shown) = terminal.end();
    assert!(code == Some(2) && shown.contains("the two passwords differ"), "{shown}");
}

#[test]
fn an_interrupted_question_leaves_the_terminal_as_it_was() {
    let world = World::start();
    let line = format!("trap : INT; pinstone login --email {EMAIL}; echo \"ended by $?\"; stty -a");
    let Some(mut terminal) = Terminal::run(&world, &line) else { return };
    terminal.answer("password: ", "half\u{3}");
    let (_, shown) = terminal.end();
    assert!(shown.contains("ended by 130"), "{shown}");
    assert!(shown.contains(" echo ") && !shown.contains("half"), "{shown}");
}

#[test]
fn init_asks_what_no_flag_says() {
    let world = World::start();
    std::fs::create_dir(world.work().join("dist")).unwrap();
    std::fs::write(world.work().join("dist/index.html"), "x").unwrap();
    let Some(mut terminal) = Terminal::run(&world, "pinstone init") else { return };
    terminal.answer("project [work]: ", "my-site\n");
    terminal.answer("folder to publish [dist]: ", "\n");
    terminal.answer("environment [beta]: ", "stage\n");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    let written = std::fs::read_to_string(world.work().join("pinstone.toml")).unwrap();
    for line in ["name = \"my-site\"", "directory = \"dist\"", "environment = \"stage\""] {
        assert!(written.contains(line), "{written}");
    }
}

#[test]
fn what_visitors_see_or_lose_is_asked_about() {
    let world = World::start();
    let image = world.publish("demo", &vec![("index.html".to_owned(), b"old".to_vec())]);
    let other = world.commit("demo", &vec![("index.html".to_owned(), b"new".to_vec())]);
    world.release("demo", "beta", &other);
    let line =
        format!("PINSTONE_TOKEN={} PINSTONE_PROJECT=demo; export PINSTONE_TOKEN PINSTONE_PROJECT; ", world.token());
    for (command, question, answer, code) in [
        ("pinstone promote beta prod", "release to `prod` of `demo` what `beta` shows?", "n\n", 1),
        ("pinstone project delete demo", "delete the project `demo`", "\n", 1),
        ("pinstone env delete prod", "delete `prod` of `demo`", "no\n", 1),
        ("pinstone domain remove www.example.com", "remove `www.example.com`", "\n", 1),
        ("pinstone promote beta prod", "release to `prod`", "y\n", 0),
    ] {
        let Some(mut terminal) = Terminal::run(&world, &format!("{line}{command}")) else { return };
        terminal.answer(question, "");
        terminal.answer("[y/N] ", answer);
        let (ended, shown) = terminal.end();
        assert_eq!(ended, Some(code), "{command}: {shown}");
        let want = if code == 0 { "new" } else { "old" };
        assert_eq!(world.get("demo.localhost", "/").expect(200).text(), want, "{command}: {shown}");
    }
    // Without a terminal nobody is asked, and a build server goes on.
    world.release("demo", "prod", &image);
    world.cli(&["promote", "beta", "prod", "--project", "demo"]).expect(0);
}
