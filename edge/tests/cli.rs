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

/// A platform whose site has the certificate NAME of `folder`, on the listener of `node`.
fn with_certificate(folder: &std::path::Path, node: &str, cert: &str, key: &str) -> String {
    let folder = folder.display();
    format!(
        r#"schema = 1
name = "t"
[network.front]
cidr = ["127.0.0.0/8"]
[node.{node}.on]
front = {{ interface = "lo", addresses = ["127.0.0.1"] }}
[group.web]
nodes = ["{node}"]
[listener.https]
group = "web"
bind = ["127.0.0.1:8443"]
tls = true
[[site]]
hosts = ["*"]
tls = {{ cert = "{folder}/{cert}.crt", key = "{folder}/{key}.key" }}
[[site.route]]
path = "/"
respond = {{ status = 200 }}
"#
    )
}

/// Makes NAME.crt and NAME.key, good from yesterday for so many days.
fn certificate(folder: &std::path::Path, name: &str, days: u32) {
    let mut params = rcgen::CertificateParams::new(vec![format!("{name}.example")]).unwrap();
    let now = std::time::SystemTime::from(daemon::clock::wall());
    let day = std::time::Duration::from_secs(24 * 3600);
    params.not_before = (now - day).into();
    params.not_after = (now + day * days - day / 2).into();
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    std::fs::write(folder.join(format!("{name}.crt")), pem).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

#[test]
fn check_looks_into_the_files_that_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    certificate(folder, "good", 365);
    certificate(folder, "other", 365);
    certificate(folder, "ending", 6);
    certificate(folder, "ended", 0);
    let platform = folder.join("platform.toml");
    let checked = |node: &str, cert: &str, key: &str| {
        std::fs::write(&platform, with_certificate(folder, "edge1", cert, key)).unwrap();
        let output = edge(&["check", "--node", node, &platform.display().to_string()]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = checked("edge1", "good", "good");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("0 errors, 0 warnings"), "{text}");

    let (code, text) = checked("edge1", "good", "other");
    assert_eq!(code, Some(78), "{text}");
    assert!(
        text.contains("error[E0431]") && text.contains("does not belong"),
        "{text}"
    );
    assert!(
        text.contains("platform.toml:15:1") && text.contains("edge      would refuse it"),
        "{text}"
    );

    let (code, text) = checked("edge1", "ending", "ending");
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("warning[W0431]") && text.contains("ends in 5 days"),
        "{text}"
    );
    let (code, text) = checked("edge1", "ended", "ended");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("has ended"), "{text}");

    let (code, text) = checked("edge1", "absent", "good");
    assert_eq!(code, Some(78), "{text}");
    assert!(
        text.contains("error[E0430]") && text.contains("absent.crt cannot be read"),
        "{text}"
    );
}

#[test]
fn files_are_not_missed_where_no_edge_needs_them() {
    let folder = tempfile::tempdir().unwrap();
    let platform = folder.path().join("platform.toml");
    let text = with_certificate(folder.path(), "edge1", "absent", "absent");
    std::fs::write(&platform, text).unwrap();
    // The machine that runs this test is no node of the file.
    let output = edge(&["check", &platform.display().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("0 errors, 0 warnings"), "{text}");
}
