//! What the kernel refuses, and what it lacks: each error names the object and the remedy, and the rest goes on. Needs ip_vs.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ipvs_netlink::{
    Change, Client, Destination, DestinationKey, Forward, Protocol, Service, ServiceKey,
};
use serde_json::Value;
use tests::farm::{Farm, VIP4};
use tests::{bin_dir, http, ipvs, wait};

const SOON: Duration = Duration::from_secs(15);

fn service(name: &str, port: u16, scheduler: &str) -> String {
    format!(
        "[virtual_service.{name}]\nvips = [\"web\"]\nports = [{port}]\nforward = \"dr\"\npath_check = false\nscheduler = \"{scheduler}\"\n\
         real_servers = [{{ group = \"servers\" }}]\ncheck = {{ kind = \"tcp\", port = 9, initial = \"up\", interval = \"1h\" }}\n"
    )
}

fn warnings(status: &Value) -> String {
    let list = status["warnings"].as_array().cloned().unwrap_or_default();
    let texts: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    texts.join("\n")
}

/// Answers of a running director's status that has a warning with all these words.
fn warned_of(farm: &mut Farm, words: &[&str]) -> String {
    wait::some(&format!("a warning of {words:?}"), SOON, || {
        let text = warnings(&farm.director().status());
        words.iter().all(|word| text.contains(word)).then_some(text)
    })
}

#[test]
fn a_scheduler_that_the_kernel_has_not_is_named_and_stops_nothing_else() {
    let mut farm = Farm::new(1);
    let text =
        service("first", 80, "rr") + &service("second", 81, "twos") + &service("third", 82, "wlc");
    farm.direct(&text);
    let table = ipvs::table(farm.node("lb1"));
    let there: Vec<&String> = table.keys().collect();
    assert_eq!(
        there,
        [
            "TCP 10.0.0.100:80",
            "TCP 10.0.0.100:82",
            "TCP [fd00:1::100]:80",
            "TCP [fd00:1::100]:82"
        ]
    );
    let text = warned_of(&mut farm, &["10.0.0.100:81", "twos", "ip_vs_twos"]);
    println!("{text}");
}

#[test]
fn what_somebody_else_did_meanwhile_is_met_and_named() {
    let farm = Farm::new(1);
    let key = |port| ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: VIP4,
        port,
    };
    let lb1 = farm.node("lb1");
    lb1.sh("ipvsadm", &["-A", "-t", "10.0.0.100:80", "-s", "rr"]);
    lb1.sh(
        "ipvsadm",
        &["-a", "-t", "10.0.0.100:80", "-r", "10.0.0.11:80", "-g"],
    );
    let server = |last: u8| Destination::new([10, 0, 0, last].into(), 80, Forward::DirectRoute, 1);
    let gone = DestinationKey {
        address: [10, 0, 0, 77].into(),
        port: 80,
    };
    let changes = vec![
        Change::AddService(Service::new(key(80), "rr")),
        Change::AddDestination(key(80), server(11)),
        Change::AddDestination(key(80), server(12)),
        Change::DeleteDestination(key(80), gone),
        Change::SetDestination(key(81), server(12)),
        Change::DeleteService(key(81)),
        Change::AddService(Service::new(key(82), "rr")),
    ];
    let results = lb1.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let client = Client::connect().await.expect("a client");
            client.apply(changes).await
        })
    });
    let results: Vec<String> = results
        .into_iter()
        .map(|result| result.map_or_else(|error| error.to_string(), |()| "done".to_owned()))
        .collect();
    for (result, words) in results.iter().zip([
        &["10.0.0.100:80", "os error 17", "already"][..],
        &["10.0.0.11:80", "os error 17", "already"],
        &["done"],
        &["10.0.0.77:80", "os error 2", "no such destination"],
        &["10.0.0.100:81", "os error 3", "no such service"],
        &["10.0.0.100:81", "os error 3", "no such service"],
        &["done"],
    ]) {
        assert!(
            words.iter().all(|word| result.contains(word)),
            "{words:?}: {result}"
        );
    }
    let table = ipvs::table(lb1);
    assert_eq!(table["TCP 10.0.0.100:80"].1.len(), 2);
    assert!(table.contains_key("TCP 10.0.0.100:82"));
}

/// A director without the right to change the network.
struct Powerless(Child);

impl Drop for Powerless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_the_right_the_director_says_which_and_goes_on() {
    let farm = Farm::new(1);
    let config = farm.folder.join("platform.toml");
    std::fs::write(&config, farm.platform(&service("web", 80, "rr"))).expect("a file");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"]);
    command
        .arg(bin_dir().join("director"))
        .args(["--node", "lb1"]);
    command.arg("--config").arg(&config);
    command.arg("--run-dir").arg(farm.folder.join("run"));
    command.arg("--state-dir").arg(farm.folder.join("state"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _director = Powerless(
        farm.node("lb1")
            .run(|| command.spawn())
            .expect("setpriv of util-linux"),
    );
    let socket = farm.folder.join("run/ro.sock");
    let status = || -> Option<Value> {
        let answer = http::get_unix(&socket, "/v1/status").ok()?;
        let envelope: Value = serde_json::from_str(&answer.body).ok()?;
        Some(envelope["data"].clone())
    };
    let text = wait::some("a warning of the missing right", SOON, || {
        let text = warnings(&status()?);
        text.contains("CAP_NET_ADMIN").then_some(text)
    });
    assert!(text.contains("IPVS is not available"), "{text}");
    assert!(ipvs::table(farm.node("lb1")).is_empty());
    let ready = http::get_unix(&socket, "/readyz").expect("an answer");
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert_eq!(
        status().expect("a status")["vips"][0]["state"],
        "table_missing"
    );
}
