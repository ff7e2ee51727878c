//! Files that must be read without a problem.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use conf::Tier;
use conf::platform::{
    CheckKind, Effect, Forward, HostPattern, PortSpec, Preempt, Protocol, Scheduler,
};
use conf::unit::Interval;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_good_file_is_read_without_an_error() {
    let mut files = Vec::new();
    for folder in ["conf/tests/good", "deploy/examples"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    assert!(files.len() >= 3);
    for file in files {
        let report = conf::load(&file);
        assert!(!report.has_errors(), "{}", report.render(false));
    }
}

#[test]
fn the_blueprint_says_what_the_classic_stack_says() {
    let report = conf::load(&root().join("deploy/examples/blueprint.toml"));
    assert!(report.problems.is_empty(), "{}", report.render(false));
    let platform = report.platform;

    let vip = &platform.vips["web"];
    assert_eq!(vip.addresses[0].address, IpAddr::from([10, 0, 0, 100]));
    assert_eq!(vip.directors, ["lb1", "lb2"]);
    let track = &vip.vrrp.track[0];
    assert_eq!(track.effect, Effect::Weight(-20));
    let check = track.check().unwrap();
    assert_eq!(check.interval, Interval::from_secs(2));
    assert_eq!(check.address, Some(IpAddr::from([127, 0, 0, 1])));
    let low = i16::from(vip.priority_of("lb1").unwrap().get()) - 20;
    assert!(
        low < i16::from(vip.priority_of("lb2").unwrap().get()),
        "the failing check moves the VIP"
    );

    let service = &platform.virtual_services["web"];
    assert_eq!(
        (service.protocol, service.forward),
        (Protocol::Tcp, Forward::Dr)
    );
    assert_eq!(
        service.ports,
        [PortSpec {
            first: 80,
            last: 80
        }]
    );
    assert_eq!(service.scheduler.name, "rr");
    assert_eq!(
        service.persistence.unwrap().timeout,
        Interval::from_secs(300)
    );
    assert_eq!(service.check.kind, CheckKind::Tcp);
    assert_eq!(service.check.interval, Interval::from_secs(5));
    assert_eq!(service.check.timeout, Interval::from_secs(3));
    let servers: Vec<_> = service
        .real_servers
        .iter()
        .map(|server| (server.address, server.weight.get()))
        .collect();
    assert_eq!(
        servers,
        [
            (IpAddr::from([10, 0, 0, 11]), 1),
            (IpAddr::from([10, 0, 0, 12]), 1)
        ]
    );
    assert!(!service.two_box);

    let upstream = &platform.upstreams["backend_servers"];
    let servers: Vec<_> = upstream
        .servers
        .iter()
        .map(|server| (server.address.to_string(), server.weight.get()))
        .collect();
    let wanted = ["192.168.1.100:80", "192.168.1.101:80", "192.168.1.102:80"];
    assert_eq!(servers, wanted.map(|address| (address.to_owned(), 5)));
    assert_eq!(
        platform.sites[0].hosts,
        [HostPattern::Exact("your_domain.com".to_owned())]
    );
    assert_eq!(platform.listeners_of("edge1").count(), 1);
    assert_eq!(
        platform.listeners_of("lb1").next().unwrap().1.bind[0].port(),
        Some(80)
    );
}

#[test]
fn defaults_are_filled_in_and_names_resolved() {
    let platform = conf::load(&root().join("conf/tests/good/design.toml")).platform;
    let vip = &platform.vips["web"];
    assert_eq!(vip.priority_of("lb1").unwrap().get(), 250);
    assert_eq!(vip.priority_of("lb2").unwrap().get(), 240);
    assert_eq!(vip.vrrp.preempt, Preempt::After(Interval::from_secs(0)));
    assert_eq!(vip.vrrp.unready_penalty, 100);
    let service = &platform.virtual_services["web"];
    let addresses: Vec<String> = service
        .real_servers
        .iter()
        .map(|server| server.address.to_string())
        .collect();
    assert_eq!(
        addresses,
        ["10.0.0.11", "10.0.0.12", "2001:db8::11", "2001:db8::12"]
    );
    assert_eq!(
        service.scheduler,
        Scheduler {
            name: "mh".to_owned(),
            fallback: true,
            port: true
        }
    );
    assert_eq!(platform.edge.readiness.as_ref().unwrap().port, 8181);
    assert_eq!(
        platform.upstreams["backend_servers"].servers[2]
            .address
            .to_string(),
        "app.internal:8080"
    );
}

#[test]
fn includes_are_followed_relative_to_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let site = |host: &str| {
        format!(
            "[[site]]\nhosts = [\"{host}\"]\n[[site.route]]\npath = \"/\"\nupstream = \"backend_servers\"\n"
        )
    };
    std::fs::create_dir(folder.path().join("sites")).unwrap();
    let blueprint = std::fs::read_to_string(root().join("deploy/examples/blueprint.toml")).unwrap();
    write("blueprint.toml", &blueprint);
    write(
        "platform.toml",
        "include = [\"blueprint.toml\", \"sites/*.toml\"]\n",
    );
    write("sites/b.toml", &site("b.example"));
    write("sites/a.toml", &site("a.example"));
    write("sites/.a.toml.swp", "not a file of ours");
    write("sites/a.toml~", "nor this one");
    let report = conf::load(&folder.path().join("platform.toml"));
    assert!(report.problems.is_empty(), "{}", report.render(false));
    let hosts: Vec<String> = report
        .platform
        .sites
        .iter()
        .map(|site| site.hosts[0].to_string())
        .collect();
    assert_eq!(hosts, ["your_domain.com", "a.example", "b.example"]);
    assert!(
        report.platform.sites[1]
            .place
            .file
            .ends_with("sites/a.toml")
    );
}

#[test]
fn the_demo_changes_the_blueprint_s_timings_and_nothing_else() {
    let examples = root().join("deploy/examples");
    let blueprint = conf::load(&examples.join("blueprint.toml")).platform;
    let demo = conf::load(&examples.join("demo.toml")).platform;
    assert_eq!(blueprint.vips["web"].vrrp.advert_interval.as_millis(), 1000);
    assert_eq!(demo.vips["web"].vrrp.advert_interval.as_millis(), 100);
    assert_eq!(
        demo.vips["web"].vrrp.track[0]
            .check()
            .unwrap()
            .interval
            .as_millis(),
        500
    );
    assert_eq!(demo.vips["web"].vrrp.id, blueprint.vips["web"].vrrp.id);
    assert_eq!(
        demo.virtual_services["web"].real_servers,
        blueprint.virtual_services["web"].real_servers
    );
    assert_ne!(demo.hash(Tier::Layer4), blueprint.hash(Tier::Layer4));
    assert_eq!(demo.sites, blueprint.sites);
}

#[test]
fn times_and_sizes_of_a_route_are_its_own_or_the_defaults() {
    let file = |defaults: &str, route: &str| {
        let text = std::fs::read_to_string(root().join("deploy/examples/blueprint.toml")).unwrap();
        let text = text.replacen("path = \"/\"", &format!("path = \"/\"\n{route}"), 1) + defaults;
        let report = conf::load_with("platform.toml".as_ref(), &|_| Ok(text.clone()));
        assert!(!report.has_errors(), "{}", report.render(false));
        let route = report.platform.sites[0].routes[0].clone();
        let total = route
            .timeouts
            .total
            .map(|total| total.as_duration().as_secs());
        (total, route.buffer_request.get())
    };
    let defaults = "\n[defaults.timeouts]\ntotal = \"9s\"\n";
    assert_eq!(file("", ""), (None, 0));
    assert_eq!(
        file(defaults, "buffer_request = \"1MiB\""),
        (Some(9), 1 << 20)
    );
    assert_eq!(
        file(defaults, "timeouts = { total = \"2s\" }"),
        (Some(2), 0)
    );
    assert_eq!(file(defaults, "timeouts = { total = \"0s\" }"), (None, 0));
}
