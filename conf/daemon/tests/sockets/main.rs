//! The example daemon, driven over its real sockets, signals and subcommands.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a harness starts processes, waits for them with a deadline and says what went wrong"
)]

mod lab;
mod pool;
mod stream;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use lab::{DEADLINE, Lab, exchange, mode, platform, until};
use rustix::process::Signal;
use serde_json::json;

const JSON: &str = "application/json";

#[test]
fn status_says_who_answers_and_a_stop_leaves_no_socket() {
    let lab = Lab::new("one");
    let daemon = lab.start();
    let status = lab.status();
    assert_eq!(status["daemon"], "vrrpd");
    assert_eq!(status["pid"], daemon.child.id());
    assert_eq!(status["node"], "lb1");
    assert_eq!(status["platform"], "one");
    assert_eq!(status["config_hash"].as_str().unwrap().len(), 12);
    assert_eq!(status["data"]["name"], "one");
    assert_eq!(status["warnings"], json!([]));
    assert_eq!(status["ready"], true);
    assert_eq!(
        lab.get("ctl.sock", "/v1/status").json()["pid"],
        status["pid"]
    );
    assert_eq!(lab.get("ro.sock", "/healthz").status, 200);
    assert_eq!(mode(&lab.path("run/ctl.sock")), 0o660);
    assert_eq!(mode(&lab.path("run/ro.sock")), 0o666);
    let screen = lab.expect(&["status"], 0);
    assert!(
        screen.contains("vrrpd 0.1.0 on lb1: ready") && screen.ends_with("name one\n"),
        "{screen}"
    );
    assert!(!screen.contains('\x1b'), "colours without a terminal");
    assert_eq!(daemon.stop(), Some(0));
    assert!(!lab.path("run/ctl.sock").exists() && !lab.path("run/ro.sock").exists());
    let log = lab.read("log");
    assert!(
        log.lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "JSON without a terminal: {log}"
    );
}

#[test]
fn reload_takes_a_good_file_and_refuses_a_bad_one() {
    let lab = Lab::new("one");
    let daemon = lab.start();
    let before = lab.status()["config_hash"].clone();
    lab.write("platform.toml", &platform("two"));
    let printed = lab.expect(&["reload"], 0);
    assert!(
        printed.contains("~ platform name\n    one -> two\n    disruptive: no\n"),
        "{printed}"
    );
    assert_ne!(lab.status()["config_hash"], before);
    assert_eq!(
        lab.metric("vrrpd_config_last_reload_success").as_deref(),
        Some("1")
    );

    lab.write(
        "platform.toml",
        &(platform("three") + "frnt = { addresses = [\"10.0.0.6\"] }\nnonsense"),
    );
    let printed = lab.expect(&["reload"], 78);
    assert!(
        printed.contains("platform.toml:7:") && printed.contains("platform.toml:8:"),
        "every problem with its line: {printed}"
    );
    let answer = lab.post("ctl.sock", "/v1/reload", JSON, "{}");
    assert_eq!(answer.status, 422);
    assert!(answer.json()["problems"].as_array().unwrap().len() >= 2);
    let status = lab.status();
    assert_eq!(status["data"]["name"], "two");
    assert!(
        status["warnings"][0]
            .as_str()
            .unwrap()
            .contains("the last reload was refused"),
        "{status}"
    );
    assert_eq!(
        lab.metric("vrrpd_config_last_reload_success").as_deref(),
        Some("0")
    );
    assert!(lab.events().ends_with(&[
        "config.loaded".to_owned(),
        "config.rejected".to_owned(),
        "config.rejected".to_owned()
    ]));

    lab.write("platform.toml", &platform("three"));
    daemon.signal(Signal::HUP);
    until("SIGHUP reloads", || {
        (lab.status()["data"]["name"] == "three").then_some(())
    });
    until("the refusal is over", || {
        (lab.status()["warnings"] == json!([])).then_some(())
    });
    assert_eq!(
        lab.metric("vrrpd_config_last_reload_success").as_deref(),
        Some("1")
    );
}

#[test]
fn a_mistake_of_another_tier_does_not_keep_this_one_from_reloading() {
    let lab = Lab::new("one");
    let _daemon = lab.start();
    lab.write("platform.toml", &(platform("two") + "[[site]]\nhosts = [\"a.example\"]\n[[site.route]]\npath = \"/\"\nupstream = \"none\"\n"));
    lab.expect(&["reload"], 0);
    let status = lab.status();
    assert_eq!(status["data"]["name"], "two");
    assert!(
        status["warnings"][0]
            .as_str()
            .unwrap()
            .contains("another daemon refuses the file"),
        "{status}"
    );
    let printed = lab.expect(&["check"], 78);
    assert!(
        printed.contains("vrrpd     would take it")
            && printed.contains("edge      would refuse it"),
        "{printed}"
    );
    let judged: serde_json::Value =
        serde_json::from_slice(&lab.ask(&["check", "--json"]).stdout).unwrap();
    assert_eq!(judged["daemons"]["vrrpd"]["takes"], true);
    assert_eq!(judged["daemons"]["edge"]["takes"], false);
}

#[test]
fn a_file_without_this_node_or_against_the_daemon_is_refused() {
    let lab = Lab::new("one");
    let _daemon = lab.start();
    lab.write("platform.toml", &platform("two").replace("lb1", "lb2"));
    let printed = lab.expect(&["reload"], 78);
    assert!(printed.contains("`lb1`"), "{printed}");
    lab.write("platform.toml", &platform("unwanted"));
    let printed = lab.expect(&["reload"], 5);
    assert!(printed.contains("not wanted"), "{printed}");
    assert_eq!(lab.status()["data"]["name"], "one");
}

#[test]
fn a_daemon_does_not_start_with_a_bad_file() {
    let lab = Lab::new("one");
    lab.write("platform.toml", "schema = 1\nname = 7\n");
    let printed = lab.expect(&["run", "--node", "lb1"], 78);
    assert!(printed.contains("platform.toml:2:8"), "{printed}");
    lab.write("platform.toml", &platform("one"));
    let printed = lab.expect(&["run", "--node", "lb9"], 78);
    assert!(printed.contains("lb9"), "{printed}");
    let line: serde_json::Value =
        serde_json::from_str(&printed).expect("without a terminal the last words are JSON too");
    assert_eq!(
        (&line["level"], &line["exit"]),
        (&json!("ERROR"), &json!(78))
    );
    fs::remove_file(lab.path("platform.toml")).unwrap();
    lab.expect(&["run", "--node", "lb1"], 78);
}

#[test]
fn intents_survive_a_restart_and_can_be_taken_back() {
    let lab = Lab::new("one");
    let daemon = lab.start();
    lab.expect(&["drain", "lb1", "--why", "disk swap"], 0);
    lab.expect(&["weight", "lb1", "7"], 0);
    lab.expect(&["hold", "--for", "30m"], 0);
    let printed = lab.expect(&["drain", "lb9"], 5);
    assert!(printed.contains("there is no node `lb9`"), "{printed}");
    lab.expect(&["weight", "lb1", "heavy"], 2);
    lab.expect(&["hold", "--for", "soon"], 2);
    daemon.crash();

    let _daemon = lab.start();
    let status = lab.status();
    let wants: Vec<_> = status["intents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|intent| intent["want"].as_str().unwrap())
        .collect();
    assert_eq!(wants, ["drain", "weight", "hold"]);
    assert_eq!(
        status["data"]["intents_seen"], 3,
        "the daemon is told at its start"
    );
    assert_eq!(status["intents"][0]["why"], "disk swap");
    assert!(
        status["intents"][0]["who"]
            .as_str()
            .unwrap()
            .contains("(process "),
        "{status}"
    );
    assert!(
        lab.expect(&["status"], 0)
            .starts_with("operator: drain lb1: disk swap (by ")
    );
    lab.expect(&["undrain", "lb1"], 0);
    lab.expect(&["undrain", "lb1"], 5);
    lab.expect(&["weight", "lb1", "file"], 0);
    lab.expect(&["unhold"], 0);
    assert_eq!(lab.status()["intents"], json!([]));
    assert_eq!(lab.metric("vrrpd_intents").as_deref(), Some("0"));
}

#[test]
fn an_intent_ends_by_itself() {
    let lab = Lab::new("one");
    let _daemon = lab.start();
    lab.expect(&["drain", "lb1", "--for", "300ms"], 0);
    until("the drain ends", || {
        (lab.status()["data"]["intents_seen"] == 0).then_some(())
    });
    assert_eq!(lab.status()["intents"], json!([]));
    until("the end is an event", || {
        (lab.events().last().unwrap() == "intent.ended").then_some(())
    });
}

#[test]
fn unreadable_intents_are_set_aside_and_said() {
    let lab = Lab::new("one");
    fs::create_dir(lab.path("state")).unwrap();
    lab.write("state/intents.json", "{ broken");
    let _daemon = lab.start();
    assert!(
        lab.status()["warnings"][0]
            .as_str()
            .unwrap()
            .contains("intents.json.unreadable")
    );
    assert_eq!(lab.read("state/intents.json.unreadable"), "{ broken");
}

#[test]
fn plan_tells_and_changes_nothing() {
    let lab = Lab::new("one");
    let _daemon = lab.start();
    let printed = lab.expect(&["plan"], 0);
    assert!(printed.contains("already runs"), "{printed}");
    lab.write("other.toml", &platform("two"));
    let other = lab.path("other.toml");
    let printed = lab.expect(&["plan", other.to_str().unwrap()], 3);
    assert!(
        printed.contains("one -> two") && printed.contains("1 thing would change, 0 disruptive"),
        "{printed}"
    );
    lab.write("other.toml", "schema = 1\n");
    lab.expect(&["plan", other.to_str().unwrap()], 78);
    assert_eq!(lab.status()["data"]["name"], "one");
    assert_eq!(
        lab.status()["warnings"],
        json!([]),
        "a plan is not a refused reload"
    );
    lab.write("platform.toml", &platform("three"));
    lab.expect(&["plan"], 3);
    assert_eq!(lab.status()["data"]["name"], "one");
}

#[test]
fn apply_returns_by_itself_unless_confirmed() {
    let lab = Lab::new("one");
    let _daemon = lab.start();
    lab.write("platform.toml", &platform("two"));
    let printed = lab.expect(&["apply", "--yes", "--confirm", "1h"], 0);
    assert!(printed.contains("on trial until"), "{printed}");
    assert_eq!(lab.status()["data"]["name"], "two");
    let printed = lab.expect(&["reload"], 5);
    assert!(printed.contains("on trial"), "{printed}");
    lab.expect(&["rollback"], 0);

    lab.write("platform.toml", &platform("two"));
    let printed = lab.expect(&["apply", "--yes", "--confirm", "100ms"], 0);
    assert!(printed.contains("one -> two"), "{printed}");
    until("the daemon returns", || {
        (lab.status()["data"]["name"] == "one").then_some(())
    });
    until("the file is put back", || {
        (lab.read("platform.toml") == platform("one")).then_some(())
    });
    until("the operator is told", || {
        lab.status()["warnings"][0]
            .as_str()
            .is_some_and(|warning| warning.contains("was not confirmed"))
            .then_some(())
    });
    lab.expect(&["confirm"], 5);

    lab.write("new.toml", &platform("three"));
    let new = lab.path("new.toml");
    lab.expect(
        &["apply", new.to_str().unwrap(), "--yes", "--confirm", "1m"],
        0,
    );
    assert_eq!(
        lab.read("platform.toml"),
        platform("one"),
        "nothing is written before it is confirmed"
    );
    assert!(
        lab.status()["warnings"][0]
            .as_str()
            .unwrap()
            .contains("on trial until")
    );
    lab.expect(&["confirm"], 0);
    assert_eq!(lab.read("platform.toml"), platform("three"));
    assert_eq!(lab.status()["trial"], json!(null));
    lab.expect(&["reload"], 0);
    assert_eq!(lab.status()["data"]["name"], "three");
    let events = lab.events();
    for event in ["config.trial", "config.returned", "config.confirmed"] {
        assert!(
            events.iter().any(|seen| seen == event),
            "{event}: {events:?}"
        );
    }
}

#[test]
fn apply_asks_first_and_rollback_goes_back_step_by_step() {
    let lab = Lab::new("one");
    let daemon = lab.start();
    for name in ["two", "three"] {
        lab.write("new.toml", &platform(name));
        let new = lab.path("new.toml");
        lab.expect(&["apply", new.to_str().unwrap()], 2);
        lab.expect(&["apply", new.to_str().unwrap(), "--yes"], 0);
        assert_eq!(lab.read("platform.toml"), platform(name));
    }
    lab.expect(&["rollback"], 0);
    assert_eq!(lab.status()["data"]["name"], "two");
    assert_eq!(lab.read("platform.toml"), platform("two"));
    assert_eq!(daemon.stop(), Some(0));
    let _daemon = lab.start();
    lab.expect(&["rollback"], 0);
    assert_eq!(lab.status()["data"]["name"], "one");
    lab.expect(&["rollback"], 5);
}

#[test]
fn rollback_ends_a_trial_and_a_crash_on_trial_starts_with_the_file_before() {
    let lab = Lab::new("one");
    let daemon = lab.start();
    lab.write("platform.toml", &platform("two"));
    lab.expect(&["apply", "--yes", "--confirm", "1h"], 0);
    lab.expect(&["rollback"], 0);
    assert_eq!(lab.status()["data"]["name"], "one");
    assert_eq!(lab.read("platform.toml"), platform("one"));

    lab.write("platform.toml", &platform("two"));
    lab.expect(&["apply", "--yes", "--confirm", "1h"], 0);
    daemon.crash();
    let daemon = lab.start();
    let status = lab.status();
    assert_eq!(status["data"]["name"], "one");
    assert!(
        status["warnings"][0]
            .as_str()
            .unwrap()
            .contains("was on trial when the daemon ended"),
        "{status}"
    );
    assert_eq!(lab.read("platform.toml"), platform("one"));

    // A file that the operator has written since counts more than the one from before.
    lab.write("platform.toml", &platform("two"));
    lab.expect(&["apply", "--yes", "--confirm", "1h"], 0);
    daemon.crash();
    lab.write("platform.toml", &platform("three"));
    let _daemon = lab.start();
    assert_eq!(lab.status()["data"]["name"], "three");
}

#[test]
fn an_included_file_goes_back_with_the_rest() {
    let lab = Lab::new("one");
    let main = platform("one").replacen('\n', "\ninclude = [\"more/*.toml\"]\n", 1);
    fs::create_dir(lab.path("more")).unwrap();
    lab.write("platform.toml", &main);
    lab.write("more/groups.toml", "[group.web]\nnodes = [\"lb1\"]\n");
    let _daemon = lab.start();
    let before = lab.status()["config_hash"].clone();
    lab.write(
        "more/groups.toml",
        "[group.web]\nnodes = [\"lb1\"]\n[group.all]\nnodes = [\"lb1\"]\n",
    );
    lab.write("platform.toml", &main.replace("\"one\"", "\"two\""));
    lab.expect(&["reload"], 0);
    lab.expect(&["rollback"], 0);
    assert_eq!(lab.status()["config_hash"], before);
    assert_eq!(lab.read("platform.toml"), main);
    assert_eq!(
        lab.read("more/groups.toml"),
        "[group.web]\nnodes = [\"lb1\"]\n"
    );
    fs::create_dir(lab.path("elsewhere")).unwrap();
    fs::create_dir(lab.path("elsewhere/more")).unwrap();
    lab.write("elsewhere/platform.toml", &main);
    lab.write(
        "elsewhere/more/groups.toml",
        "[group.web]\nnodes = [\"lb1\"]\n",
    );
    let elsewhere = lab.path("elsewhere/platform.toml");
    let printed = lab.expect(&["apply", "--yes", elsewhere.to_str().unwrap()], 5);
    assert!(printed.contains("includes other files"), "{printed}");
}

#[test]
fn one_instance_per_run_folder() {
    let lab = Lab::new("one");
    let daemon = lab.start();
    let printed = lab.expect(&["run", "--node", "lb1"], 5);
    assert!(
        printed.contains(&format!("another vrrpd (process {})", daemon.child.id())),
        "{printed}"
    );
    assert_eq!(
        lab.get("ro.sock", "/readyz").status,
        200,
        "the first one is not harmed"
    );
    daemon.crash();
    assert!(
        lab.path("run/ctl.sock").exists(),
        "a crash leaves its sockets"
    );
    let _daemon = lab.start();
    assert_eq!(lab.get("ctl.sock", "/readyz").status, 200);
}

#[test]
fn what_is_no_proper_request_is_refused() {
    let lab = Lab::new("one");
    let _daemon = lab.start();
    let large = format!("{{\"target\":\"{}\"}}", "x".repeat(80_000));
    for (socket, path, kind, body, status) in [
        ("ctl.sock", "/v1/intents", JSON, "{", 400),
        (
            "ctl.sock",
            "/v1/intents",
            JSON,
            "{\"target\":\"lb1\",\"want\":\"explode\"}",
            400,
        ),
        (
            "ctl.sock",
            "/v1/intents",
            JSON,
            "{\"target\":\"lb1\",\"want\":\"drain\",\"until\":\"1h\"}",
            400,
        ),
        ("ctl.sock", "/v1/intents", JSON, large.as_str(), 413),
        (
            "ctl.sock",
            "/v1/reload",
            JSON,
            "{\"file\":\"/etc/passwd\"}",
            400,
        ),
        ("ctl.sock", "/v1/reload", "text/plain", "{}", 415),
        (
            "ctl.sock",
            "/v1/reload",
            "application/x-www-form-urlencoded",
            "",
            415,
        ),
        ("ctl.sock", "/v1/apply", JSON, "{\"confirm\":\"0s\"}", 400),
        ("ctl.sock", "/v1/nothing", JSON, "{}", 404),
        ("ro.sock", "/v1/reload", JSON, "{}", 405),
        (
            "ro.sock",
            "/v1/intents",
            JSON,
            "{\"target\":\"lb1\",\"want\":\"drain\"}",
            405,
        ),
        ("ro.sock", "/v1/extra", JSON, "{}", 405),
    ] {
        let answer = lab.post(socket, path, kind, body);
        assert_eq!(
            answer.status, status,
            "{socket} {path} {body:.60}: {}",
            answer.body
        );
        assert!(answer.json()["error"].is_string(), "{}", answer.body);
    }
    assert_eq!(lab.get("ctl.sock", "/v1/reload").status, 405);
    assert_eq!(lab.get("ro.sock", "/v1/extra").body, "extra\n");
    assert_eq!(lab.raw("ctl.sock", "nonsense\r\n\r\n").status, 400);
    assert_eq!(lab.status()["intents"], json!([]));
    assert!(
        !lab.events()
            .iter()
            .any(|event| event.starts_with("config.")),
        "{:?}",
        lab.events()
    );
}

#[test]
fn exit_codes_of_questions() {
    let lab = Lab::new("one");
    let printed = lab.expect(&["status"], 4);
    assert!(
        printed.contains("ro.sock") && printed.contains("is it running"),
        "{printed}"
    );
    lab.expect(&["reload"], 4);
    lab.expect(&["no-such-subcommand"], 2);
    lab.expect(&["--help"], 0);
    lab.expect(&["check"], 0);
    lab.expect(&["check", "--node", "lb9"], 78);
    lab.expect(&["explain", "E9999"], 2);
    lab.expect(&["explain", "E0407"], 0);
    let schema: serde_json::Value =
        serde_json::from_str(&lab.expect(&["config", "schema"], 0)).unwrap();
    assert!(schema["properties"]["vip"].is_object(), "{schema}");
    let _daemon = lab.start();
    assert_eq!(
        lab.expect(&["why", "10.0.0.1:80", "--from", "10.0.0.2"], 0),
        "you asked for {\"args\":[\"10.0.0.1:80\",\"--from\",\"10.0.0.2\"]}\n"
    );
    assert_eq!(
        lab.expect(&["why", "a", "--json", "--no-color"], 0),
        "[\n  \"you asked for {\\\"args\\\":[\\\"a\\\"]}\"\n]\n"
    );
}

#[test]
fn metrics_and_status_over_tcp_follow_the_file() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    // Both are bound at once, so that they differ.
    let (first, second) = {
        let both = (free(), free());
        (both.0.local_addr().unwrap(), both.1.local_addr().unwrap())
    };
    let with = |address: &dyn std::fmt::Display| {
        platform("one") + &format!("[vrrpd.monitoring]\nmetrics = \"{address}\"\n")
    };
    let get = |address: std::net::SocketAddr, host: &str, method: &str| {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Some(exchange(
            stream,
            &format!(
                "{method} /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            ),
        ))
    };
    let lab = Lab::new("one");
    lab.write("platform.toml", &with(&first));
    let _daemon = lab.start();
    let answer = until("metrics", || get(first, "localhost", "GET"));
    assert!(
        answer.status == 200 && answer.body.contains("vrrpd_build_info{"),
        "{answer:?}"
    );
    assert_eq!(get(first, "evil.example", "GET").unwrap().status, 421);
    assert_eq!(get(first, "localhost", "POST").unwrap().status, 405);

    lab.write("platform.toml", &with(&second));
    lab.expect(&["reload"], 0);
    until("the address moves", || get(second, "127.0.0.1", "GET"));
    until("the old one is closed", || {
        get(first, "localhost", "GET").is_none().then_some(())
    });

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    lab.write("platform.toml", &with(&taken.local_addr().unwrap()));
    lab.expect(&["reload"], 0);
    until("the warning", || {
        lab.status()["warnings"][0]
            .as_str()
            .is_some_and(|warning| warning.contains("metrics and status are not served"))
            .then_some(())
    });
}

#[test]
fn the_service_manager_is_told() {
    let lab = Lab::new("one");
    let socket = UnixDatagram::bind(lab.path("notify")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let receive = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let receive_until = |word: &str| until(word, || receive().contains(word).then_some(()));
    let daemon = lab.start_with(|command| {
        command
            .env("NOTIFY_SOCKET", lab.path("notify"))
            .env("WATCHDOG_USEC", "200000")
            .env_remove("WATCHDOG_PID");
    });
    receive_until("READY=1");
    receive_until("WATCHDOG=1");
    lab.expect(&["reload"], 0);
    receive_until("RELOADING=1");
    receive_until("READY=1");
    daemon.signal(Signal::TERM);
    receive_until("STOPPING=1");
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_daemon() {
    let lab = Lab::new("one");
    let _daemon = lab.start_with(|command| {
        command.stderr(Stdio::piped());
    });
    until("ready", || {
        (lab.get("ro.sock", "/readyz").status == 200).then_some(())
    });
    lab.write("platform.toml", &"x".repeat(1000));
    // More than a pipe holds.
    for _ in 0..400 {
        assert_eq!(lab.post("ctl.sock", "/v1/reload", JSON, "{}").status, 422);
    }
    assert_eq!(lab.status()["data"]["name"], "one");
}
