//! The program's command line without a running daemon.

#![expect(clippy::unwrap_used, reason = "a helper of tests may fail a test")]

use std::process::{Command, Output};

#[expect(
    clippy::disallowed_methods,
    reason = "the program under test is a program"
)]
fn edge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edge"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn help_names_the_subcommands() {
    let output = edge(&["--help"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success());
    for word in ["check", "plan", "reload", "status", "drain", "why"] {
        assert!(text.contains(word), "{word} is missing:\n{text}");
    }
}

#[test]
fn exit_codes_are_those_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("platform.toml").display().to_string();
    let run = folder.path().display().to_string();
    assert_eq!(
        edge(&["status", "--run-dir", &run]).status.code(),
        Some(4),
        "nobody answers"
    );
    assert_eq!(edge(&["no-such-subcommand"]).status.code(), Some(2));
    std::fs::write(
        &path,
        "schema = 1\nname = \"t\"\n[upstream.a]\nserver = []\n",
    )
    .unwrap();
    let output = edge(&["check", &path]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}
