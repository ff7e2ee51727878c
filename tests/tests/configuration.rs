//! Wrong files: every mistake is named, and running daemons keep running. Any kernel; needs root.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::{Daemon, Kind, Picture, bin_dir, http, repository, wait};

const INVALID: i32 = 78;

fn ten_mistakes() -> PathBuf {
    repository().join("tests/platforms/ten_mistakes.toml")
}

/// The lines of the file that say what is wrong with them: `# wrong: …` at the end of a line.
fn marked_lines() -> Vec<usize> {
    let text = std::fs::read_to_string(ten_mistakes()).expect("the file");
    text.lines()
        .enumerate()
        .filter(|(_, line)| line.contains("# wrong:"))
        .map(|(index, _)| index + 1)
        .collect()
}

#[test]
fn check_names_all_ten_mistakes_with_their_lines() {
    let lines = marked_lines();
    assert_eq!(lines.len(), 10);
    for daemon in ["edge", "director", "vrrpd"] {
        let output = Command::new(bin_dir().join(daemon))
            .arg("check")
            .arg(ten_mistakes())
            .output()
            .expect("it starts");
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            output.status.code(),
            Some(INVALID),
            "{daemon} check: {text}"
        );
        let missing: Vec<_> = lines
            .iter()
            .filter(|line| !text.contains(&format!("ten_mistakes.toml:{line}:")))
            .collect();
        assert!(
            missing.is_empty(),
            "{daemon} check does not name the lines {missing:?}:\n{text}"
        );
    }
}

#[test]
fn running_daemons_refuse_a_wrong_file_and_keep_running() {
    let mut picture = Picture::new();
    let config = picture.platform("dr");
    picture.start_apps();
    picture.start("edge1", Kind::Edge, &config);
    picture.start("lb1", Kind::Vrrpd, &config);
    wait::until("lb1 holds the VIP", Duration::from_secs(10), || {
        picture.masters() == ["lb1"]
    });
    let pids = [("edge1", Kind::Edge), ("lb1", Kind::Vrrpd)]
        .map(|(node, kind)| picture.daemon(node, kind).pid());

    std::fs::copy(ten_mistakes(), &config).expect("the file is copied");
    for (node, kind) in [("edge1", Kind::Edge), ("lb1", Kind::Vrrpd)] {
        let daemon = picture.daemon(node, kind);
        let output = daemon.command(&["reload"]);
        assert_eq!(
            output.status.code(),
            Some(INVALID),
            "{node}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        daemon.signal(rustix::process::Signal::HUP);
        wait::for_a_while(Duration::from_millis(300));
        assert!(daemon.runs(), "{node}");
    }
    assert_eq!(picture.masters(), ["lb1"]);
    let answer = picture.node("client").run(|| {
        http::get_tcp(
            SocketAddr::from(([10, 0, 0, 11], 80)),
            "your_domain.com",
            "/",
        )
    });
    assert_eq!(answer.expect("an answer").status, 200);
    assert_eq!(
        [("edge1", Kind::Edge), ("lb1", Kind::Vrrpd)]
            .map(|(node, kind)| picture.daemon(node, kind).pid()),
        pids
    );
}

#[test]
fn a_mistake_in_a_site_does_not_stop_vrrpd_from_reloading() {
    let mut picture = Picture::new();
    let config = picture.platform("dr");
    picture.start_apps();
    picture.start("edge1", Kind::Edge, &config);
    picture.start("lb1", Kind::Vrrpd, &config);
    wait::until("lb1 holds the VIP", Duration::from_secs(10), || {
        picture.masters() == ["lb1"]
    });

    let text = std::fs::read_to_string(&config).expect("the file");
    let text = text.replace(
        "upstream = \"backend_servers\"",
        "upstream = \"backend_server\"",
    );
    let text = text.replace(
        "vrrp = { id = 51,",
        "vrrp = { id = 51, priorities = [200, 100],",
    );
    std::fs::write(&config, text).expect("the file is written");

    let edge = picture.daemon("edge1", Kind::Edge).command(&["reload"]);
    assert_eq!(
        edge.status.code(),
        Some(INVALID),
        "the mistake is in edge's share: {}",
        String::from_utf8_lossy(&edge.stderr)
    );
    let vrrpd = picture.daemon("lb1", Kind::Vrrpd).command(&["reload"]);
    assert_eq!(
        vrrpd.status.code(),
        Some(0),
        "{}{}",
        String::from_utf8_lossy(&vrrpd.stdout),
        String::from_utf8_lossy(&vrrpd.stderr)
    );
    wait::until("the new priority", Duration::from_secs(5), || {
        // Without a director the penalty of 100 may be subtracted.
        let priority = picture
            .daemon("lb1", Kind::Vrrpd)
            .metric("vrrp_priority", "");
        (100.0..=200.0).contains(&priority)
    });
    assert_eq!(picture.masters(), ["lb1"]);
}

#[test]
fn a_director_whose_kernel_has_no_ipvs_says_what_to_load() {
    let mut picture = Picture::new();
    let config = picture.platform("dr");
    let base = picture.base("lb1");
    let node = picture.lab.node("lb1");
    let mut director = Daemon::launch(node, Kind::Director, &config, &base);
    if std::path::Path::new("/proc/net/ip_vs").exists() {
        println!("this kernel has ip_vs: the director must find it");
        director.wait_ready();
    } else {
        let asked = |path: &str| director.get(path).ok();
        wait::until("a warning", Duration::from_secs(10), || {
            asked("/v1/status").is_some_and(|answer| answer.body.contains("modprobe ip_vs"))
        });
        let ready = asked("/readyz").expect("an answer");
        assert_eq!(ready.status, 503, "{}", ready.body);
        assert!(director.runs(), "it waits for the module");
    }
    director.stop();
    picture.daemons.clear();
}
