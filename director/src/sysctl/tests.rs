//! The profile follows the file; what deviates is shown with its reason.

use std::collections::BTreeMap;
use std::path::Path;

use conf::Tier;

use super::*;

fn platform(more: &str) -> Platform {
    let text = format!(
        r#"
schema = 1
name = "t"
network.front.cidr = ["10.0.0.0/24"]
network.inside.cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = {{ interface = "bond0.100", addresses = ["10.0.0.5"] }}
inside = {{ interface = "eth1", addresses = ["10.1.0.5"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1"]
vrrp = {{ id = 51 }}
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
real_servers = [{{ address = "10.0.0.11" }}]
check = {{ kind = "tcp" }}
{more}
"#
    );
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
    report
        .platform_for(Tier::Layer4)
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .clone()
}

fn values(more: &str, sloppy: bool) -> BTreeMap<String, String> {
    profile(&platform(more), "lb1", true, sloppy)
        .into_iter()
        .map(|tunable| (tunable.path, tunable.want))
        .collect()
}

#[test]
fn the_profile_holds_every_row_of_the_reference() {
    let values = values("[connection_sync]\nnetwork = \"inside\"\nid = 7\n", false);
    let vs: Vec<String> = values
        .iter()
        .filter_map(|(path, want)| Some(format!("{} {want}", path.strip_prefix("net/ipv4/vs/")?)))
        .collect();
    assert_eq!(
        vs,
        [
            "amemthresh 8192",
            "backup_only 0",
            "conn_reuse_mode 1",
            "conntrack 0",
            "drop_entry 1",
            "expire_nodest_conn 1",
            "expire_quiescent_template 1",
            "pmtu_disc 1",
            "run_estimation 1",
            "schedule_icmp 1",
            "sloppy_tcp 0",
            "sync_refresh_period 10",
            "sync_retries 2",
            "sync_threshold 0 0",
        ]
    );
    assert_eq!(values["net/ipv4/ip_forward"], "1");
    assert_eq!(values["net/ipv4/conf/bond0.100/send_redirects"], "0");
}

#[test]
fn the_site_chooses_and_a_takeover_switches_one() {
    let more = "[director]\nsysctl = { conntrack = true, run_estimation = false, drop_entry = 0, amemthresh = 100 }\n";
    let values = values(more, true);
    for (name, want) in [
        ("conntrack", "1"),
        ("run_estimation", "0"),
        ("drop_entry", "0"),
        ("amemthresh", "100"),
        ("sloppy_tcp", "1"),
    ] {
        assert_eq!(values[&format!("net/ipv4/vs/{name}")], want, "{name}");
    }
    assert!(!values.contains_key("net/ipv4/vs/sync_threshold"));
}

#[test]
fn a_plan_says_what_a_tunable_holds_and_why_that_matters() {
    let deviation = |found: Option<&str>| Deviation {
        path: "net/ipv4/vs/sync_threshold".to_owned(),
        want: "0 0".to_owned(),
        found: found.map(str::to_owned),
        why: "idle connections too",
        reason: String::new(),
    };
    let step = deviation(Some("3\t50")).plan_step().unwrap();
    assert_eq!(
        (step.what.as_str(), step.detail.as_str()),
        (
            "kernel tunable net/ipv4/vs/sync_threshold",
            "3 50 -> 0 0: idle connections too"
        )
    );
    assert_eq!(deviation(None).plan_step(), None, "this kernel has none");
}
