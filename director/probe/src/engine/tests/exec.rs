//! Programs of every system: the shell and what it finds.

use super::*;

/// Whom programs run as here: nobody, where the test may become it, else whoever runs the test.
fn user() -> String {
    match rustix::process::geteuid().as_raw() {
        0 => "nobody".to_owned(),
        own => own.to_string(),
    }
}

fn exec(user: &str, command: &[&str]) -> CheckKind {
    CheckKind::Exec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        user: user.to_owned(),
    }
}

async fn shell(script: &str, timeout: u64) -> Result<String, String> {
    let address = "10.0.0.11:8080".parse().unwrap();
    let kind = exec(&user(), &["/bin/sh", "-c", script, "name", "an argument"]);
    verdict(&target(address, kind, timeout))
        .await
        .map(|answer| answer.reason)
}

#[tokio::test]
async fn the_exit_code_decides_and_the_first_line_is_the_reason() {
    let cases = [
        ("exit 0", Ok("exit 0")),
        ("echo; echo fine; echo more", Ok("exit 0: fine")),
        ("exit 3", Err("exit 3")),
        ("echo no disk >&2; exit 1", Err("exit 1: no disk")),
        ("printf 'a\\tb\\001c'; exit 2", Err("exit 2: a.b.c")),
        ("kill -9 $$", Err("ended by signal 9")),
    ];
    for (script, expected) in cases {
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(shell(script, 10_000).await, expected, "{script}");
    }
}

#[tokio::test]
async fn it_gets_an_environment_of_its_own() {
    let said = shell(
        "env | grep -v ^PWD= | grep -v ^_= | sort | tr '\\n' ' '",
        10_000,
    )
    .await;
    let expected = "exit 0: LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin WEIR_CHECK_ADDRESS=10.0.0.11 WEIR_CHECK_PORT=8080";
    assert!(
        said.as_deref().unwrap().starts_with(&expected[..60]),
        "{said:?}"
    );
    assert!(said.unwrap().contains("WEIR_CHECK_ADDRESS=10.0.0.11 "));
    let said = shell("echo \"$0 $1 $(pwd) $(cat)\"", 10_000).await;
    assert_eq!(said.unwrap(), "exit 0: name an argument /");
}

#[tokio::test]
async fn it_runs_without_rights() {
    let script = "grep -E '^(CapEff|CapPrm|CapAmb|NoNewPrivs)' /proc/self/status | tr -d '\\t\\n'; id -u; id -G";
    let said = shell(script, 10_000).await.unwrap();
    let nothing = "0000000000000000";
    assert!(
        said.starts_with(&format!(
            "exit 0: CapPrm:{nothing}CapEff:{nothing}CapAmb:{nothing}NoNewPrivs:1"
        )),
        "{said}"
    );
    if rustix::process::geteuid().is_root() {
        let said = shell("echo $(id -un) $(id -Gn)", 10_000).await.unwrap();
        assert_eq!(said, "exit 0: nobody nogroup");
    }
}

#[tokio::test]
async fn at_the_timeout_the_whole_group_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let pids = folder.path().join("pids");
    let script = format!(
        "sleep 600 & echo $! $$ > {0}.new; mv {0}.new {0}; wait",
        pids.display()
    );
    let error = shell(&script, 700).await.unwrap_err();
    assert_eq!(error, "exit: timed out after 700ms");
    let pids = std::fs::read_to_string(pids).unwrap();
    let alive = || {
        pids.split_whitespace().any(|pid| {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Whoever reaps orphans here may be slow: the dead wait as Z.
            !state.is_empty() && !state.contains(") Z ")
        })
    };
    let gone = async {
        while alive() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("nobody of the group is left");
}

#[tokio::test]
async fn what_it_leaves_behind_is_killed_and_not_waited_for() {
    let said = shell("sleep 600 & echo started", 10_000).await;
    assert_eq!(said.unwrap(), "exit 0: started");
}

#[tokio::test]
async fn a_flood_of_output_is_cut() {
    let said = shell("head -c 3000000 /dev/zero | tr '\\0' x; exit 4", 20_000).await;
    let error = said.unwrap_err();
    assert!(
        error.starts_with("exit 4: xxx") && error.ends_with('…'),
        "{error}"
    );
    assert!(error.chars().count() < 200);
}

#[tokio::test]
async fn what_cannot_or_must_not_run_says_why() {
    let address: SocketAddr = "10.0.0.11:80".parse().unwrap();
    let outcome = async |user: &str, command: &[&str]| {
        verdict(&target(address, exec(user, command), 10_000))
            .await
            .unwrap_err()
    };
    let error = outcome(&user(), &["/bin/no-such-program"]).await;
    assert!(error.contains("/no-such-program: No such file"), "{error}");
    let error = outcome(&user(), &["/etc/passwd"]).await;
    assert!(error.contains("cannot be started"), "{error}");
    let error = outcome("root", &["/bin/true"]).await;
    assert_eq!(error, "user `root` is root");
    let error = outcome("no such user", &["/bin/true"]).await;
    assert_eq!(error, "user `no such user` is not in /etc/passwd");
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let program = folder.path().join("check");
    std::os::unix::fs::symlink("/bin/true", &program).unwrap();
    let error = outcome(&user(), &[program.to_str().unwrap()]).await;
    assert!(error.contains("is writable by others"), "{error}");
}
