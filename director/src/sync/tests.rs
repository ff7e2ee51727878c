//! Which steps lead from what the kernel runs to what the file says.

use std::path::Path;

use conf::Tier;

use super::*;

fn platform(sync: &str, more: &str) -> Platform {
    let text = format!(
        r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[network.inside]
cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5"] }}
inside = {{ interface = "eth1", addresses = ["10.1.0.5"] }}
[node.lb2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6"] }}
inside = {{ interface = "eth1", addresses = ["10.1.0.6"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51 }}
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
real_servers = [{{ address = "10.0.0.11" }}]
check = {{ kind = "tcp" }}
{sync}
{more}
"#
    );
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
    report
        .platform_for(Tier::Layer4)
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .clone()
}

const SYNC: &str = "[connection_sync]\nnetwork = \"inside\"\nid = 7\n";

fn want(sync: &str) -> Wanted {
    wanted(&platform(sync, ""), "lb1").unwrap()
}

fn running(daemons: &[Daemon]) -> Found {
    Found {
        daemons: daemons.to_vec(),
        mtu: Some(1500),
        ports: Some(1),
        tcp_timeout: 900,
    }
}

fn words(steps: &[Step]) -> Vec<String> {
    steps
        .iter()
        .map(|step| match step {
            Step::Start(daemon) => format!("+{}", daemon.role),
            Step::Stop(daemon) => format!("-{}", daemon.role),
            Step::Ports(ports) => format!("ports {ports}"),
        })
        .collect()
}

#[test]
fn both_roles_run_with_what_fits_into_the_mtu() {
    let wanted = want(SYNC);
    for (mtu, backup, master) in [
        (1500, 1472, 1472),
        (9000, 8972, 8972),
        (1400, 1472, 1372),
        (65_536, 65_507, 65_507),
    ] {
        let lengths = wanted.daemons(mtu).map(|daemon| daemon.max_len);
        assert_eq!(lengths, [backup, master], "{mtu}");
    }
    let steps = diff(&running(&[]), Some(&wanted), false).unwrap();
    assert_eq!(words(&steps), ["+backup", "+master"]);
    let Step::Start(daemon) = &steps[0] else {
        panic!("{steps:?}")
    };
    assert_eq!(
        (daemon.interface.as_str(), settings(daemon)),
        (
            "eth1",
            "id 7, 224.0.0.81 port 8848, ttl 1, messages of 1472 bytes".to_owned()
        )
    );
    let again = diff(&running(&wanted.daemons(1500)), Some(&wanted), true).unwrap();
    assert_eq!(again, [], "applying twice does nothing");
}

#[test]
fn a_missing_role_is_started_and_a_wrong_one_replaced() {
    let wanted = want(SYNC);
    let [backup, master] = wanted.daemons(1500);
    let steps = diff(&running(std::slice::from_ref(&master)), Some(&wanted), true).unwrap();
    assert_eq!(words(&steps), ["+backup"]);
    let other = Daemon {
        sync_id: 8,
        ..master
    };
    let steps = diff(&running(&[other, backup]), Some(&wanted), true).unwrap();
    assert_eq!(words(&steps), ["-master", "+master"]);
}

#[test]
fn without_synchronisation_only_our_own_daemons_are_stopped() {
    let found = running(&want(SYNC).daemons(1500));
    assert_eq!(diff(&found, None, false), Ok(vec![]));
    assert_eq!(
        words(&diff(&found, None, true).unwrap()),
        ["-backup", "-master"]
    );
}

#[test]
fn a_missing_interface_is_named_and_nothing_is_stopped() {
    let wanted = want(SYNC);
    let mut found = running(&wanted.daemons(1500));
    found.mtu = None;
    let problem = diff(&found, Some(&wanted), true).unwrap_err();
    assert_eq!(
        problem,
        "connections are not synchronised: there is no interface eth1, which the file names for network `inside`"
    );
}

#[test]
fn another_number_of_threads_needs_both_roles_stopped() {
    let platform = platform(SYNC, "[director]\nsysctl = { sync_ports = 4 }");
    let wanted = wanted(&platform, "lb1").unwrap();
    let steps = diff(&running(&wanted.daemons(1500)), Some(&wanted), true).unwrap();
    assert_eq!(
        words(&steps),
        ["ports 4", "-backup", "-master", "+backup", "+master"]
    );
}

#[test]
fn a_node_that_directs_nothing_runs_none() {
    assert_eq!(wanted(&platform(SYNC, ""), "edge1"), None);
    assert_eq!(wanted(&platform("", ""), "lb1"), None);
}
