//! The real kernel, in a network namespace of the test's own.
//!
//! Each test starts itself again under `unshare` (with a user namespace where it is not root), so no root is needed and nothing of the
//! machine is touched.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy's allowance covers test functions only, not what they share"
)]

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use net::{
    Added, Error, Event, Net, NewAddress, OWN_PROTOCOL, Removed, Route, RouteKind, RoutingWatch,
    Rule, Scope, Watch, sysctl,
};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder};

const INSIDE: &str = "WEIR_NET_TEST_INSIDE";

fn in_namespace<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(body());
        return;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "a namespace of its own is entered before the first thread starts"
    )]
    let status = std::process::Command::new("unshare")
        .args(own_namespace())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("this test needs `unshare` (Debian: util-linux)");
    assert!(
        status.success(),
        "{test} failed inside its namespace (are user namespaces allowed?)"
    );
}

/// The options of `unshare`: root needs no user namespace, which not every machine (nor a chroot) allows.
fn own_namespace() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &["--net"]
    } else {
        &["--map-root-user", "--user", "--net"]
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn veth(net: &Net) -> (net::Link, net::Link) {
    let pair = LinkVeth::new("va.100", "vb").build();
    net.handle().link().add(pair).execute().await.unwrap();
    for name in ["va.100", "vb"] {
        let index = net.link(name).await.unwrap().index;
        let up = LinkUnspec::new_with_index(index).up().build();
        net.handle().link().change(up).execute().await.unwrap();
    }
    (
        net.link("va.100").await.unwrap(),
        net.link("vb").await.unwrap(),
    )
}

#[test]
fn addresses_are_added_once_and_removed_once() {
    in_namespace("addresses_are_added_once_and_removed_once", || async {
        let net = Net::connect().unwrap();
        let (a, _) = veth(&net).await;
        assert!(a.is_working() && a.mac.is_some() && a.mtu == 1500, "{a:?}");
        for vip in ["192.0.2.100", "2001:db8::100"] {
            let prefix_len = if vip.contains(':') { 128 } else { 32 };
            let new = NewAddress::new(a.index, ip(vip), prefix_len);
            assert_eq!(net.add_address(&new).await.unwrap(), Added::New);
            assert_eq!(net.add_address(&new).await.unwrap(), Added::Present);
            let listed = net.addresses().await.unwrap();
            let found = listed
                .iter()
                .find(|found| found.address == ip(vip))
                .unwrap();
            assert!(found.is_own() && !found.unusable, "{found:?}");
            assert_eq!((found.link, found.prefix_len), (a.index, prefix_len));
            let removed = net.remove_address(a.index, ip(vip), prefix_len).await;
            assert_eq!(removed.unwrap(), Removed::Gone);
            let removed = net.remove_address(a.index, ip(vip), prefix_len).await;
            assert_eq!(removed.unwrap(), Removed::Absent);
        }
        let error = net
            .add_address(&NewAddress::new(9999, ip("192.0.2.1"), 24))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to add address 192.0.2.1/24 on interface number 9999"
        );
        assert!(std::error::Error::source(&error).is_some());
        let error = net.link("none").await.unwrap_err();
        assert_eq!(error.to_string(), "there is no interface none");
    });
}

#[test]
fn options_of_addresses_are_there_and_can_change() {
    in_namespace("options_of_addresses_are_there_and_can_change", || async {
        let net = Net::connect().unwrap();
        let (a, _) = veth(&net).await;
        let listed = async |address: IpAddr| {
            let listed = net.addresses().await.unwrap().into_iter();
            let mut found = listed.filter(|found| found.address == address);
            (found.next().unwrap(), found.count())
        };

        let mut four = NewAddress::new(a.index, ip("192.0.2.100"), 24);
        four.label = Some("va.100:web".to_owned());
        four.scope = Scope::Link;
        four.broadcast = Some("192.0.2.255".parse().unwrap());
        four.no_prefix_route = true;
        net.add_address(&four).await.unwrap();
        let (there, others) = listed(four.address).await;
        assert!(four.fits(&there) && others == 0, "{there:?}");
        assert_eq!(there.label.as_deref(), Some("va.100:web"));
        assert_eq!(
            (there.scope, there.broadcast),
            (Scope::Link, four.broadcast)
        );
        assert!(there.no_prefix_route);
        let plain = NewAddress::new(a.index, four.address, 24);
        assert!(!plain.fits(&there));
        net.change_address(&plain).await.unwrap();
        let (there, others) = listed(four.address).await;
        assert!(plain.fits(&there) && others == 0, "{there:?}");
        assert_eq!(there.label.as_deref(), Some("va.100"));
        // The kernel refuses the label, and the address is gone for it.
        let mut wrong = plain.clone();
        wrong.label = Some("va.100:much-too-long".to_owned());
        let error = net.change_address(&wrong).await.unwrap_err();
        assert!(matches!(error, Error::NotPutBack { .. }), "{error:?}");
        assert_eq!(error.raw_os_error(), Some(libc::ERANGE));
        let there = net.addresses().await.unwrap();
        assert!(there.iter().all(|there| there.address != four.address));

        let mut six = NewAddress::new(a.index, ip("2001:db8::100"), 128);
        six.deprecated = true;
        net.add_address(&six).await.unwrap();
        let (there, _) = listed(six.address).await;
        assert!(six.fits(&there) && there.deprecated, "{there:?}");
        // In place: nobody sees it go.
        let mut watch = Watch::open(net.clone()).unwrap();
        watch.next().await.unwrap();
        six.deprecated = false;
        net.change_address(&six).await.unwrap();
        let (there, others) = listed(six.address).await;
        assert!(
            six.fits(&there) && others == 0 && there.is_own(),
            "{there:?}"
        );
        let told = tokio::time::timeout(Duration::from_secs(5), watch.next()).await;
        assert_eq!(told.unwrap().unwrap(), Event::Address(there));
    });
}

#[test]
fn routes_and_neighbours_are_listed() {
    in_namespace("routes_and_neighbours_are_listed", || async {
        let net = Net::connect().unwrap();
        let (a, _) = veth(&net).await;
        let own = NewAddress::new(a.index, ip("192.0.2.1"), 24);
        net.add_address(&own).await.unwrap();
        let mut route = Route::to(ip("198.51.100.0"), 24);
        route.gateway = Some(ip("192.0.2.2"));
        route.link = Some(a.index);
        assert!(net.add_route(&route).await.unwrap());
        assert!(!net.add_route(&route).await.unwrap());
        let routes = net.routes().await.unwrap();
        assert!(routes.contains(&route), "{routes:#?}");
        assert!(net.remove_route(&route).await.unwrap());
        assert!(!net.remove_route(&route).await.unwrap());

        let mac = [2, 0, 0, 0, 0, 9];
        let add = net.handle().neighbours().add(a.index, ip("192.0.2.9"));
        add.link_layer_address(&mac).execute().await.unwrap();
        let found = net.mac_of(a.index, ip("192.0.2.9")).await.unwrap();
        assert_eq!(found, Some(net::Mac(mac)));
        assert_eq!(net.mac_of(a.index, ip("192.0.2.8")).await.unwrap(), None);
    });
}

#[test]
fn a_watch_begins_with_everything_and_reports_changes_in_order() {
    in_namespace(
        "a_watch_begins_with_everything_and_reports_changes_in_order",
        || async {
            let net = Net::connect().unwrap();
            let (a, b) = veth(&net).await;
            let mut watch = Watch::open(net.clone()).unwrap();
            let Event::Everything(snapshot) = watch.next().await.unwrap() else {
                panic!("the first event is a snapshot");
            };
            // Beside them may stand what loaded modules put into every namespace (tunl0, sit0).
            let names: Vec<&str> = snapshot.links.iter().map(|link| &*link.name).collect();
            assert!(
                ["lo", "va.100", "vb"]
                    .iter()
                    .all(|name| names.contains(name)),
                "{names:?}"
            );

            let vip = ip("192.0.2.100");
            let new = NewAddress::new(a.index, vip, 32);
            net.add_address(&new).await.unwrap();
            net.remove_address(a.index, vip, 32).await.unwrap();
            let down = LinkUnspec::new_with_index(b.index).down().build();
            net.handle().link().change(down).execute().await.unwrap();

            let mut seen = Vec::new();
            while seen.len() < 3 {
                let event = tokio::time::timeout(Duration::from_secs(5), watch.next());
                match event.await.expect("an event within 5 s").unwrap() {
                    Event::Address(address) if address.address == vip => seen.push("added"),
                    Event::AddressGone(address) if address.address == vip => seen.push("removed"),
                    Event::Link(link) if link.index == a.index && !link.carrier => {
                        seen.push("carrier lost");
                    }
                    _ => {}
                }
            }
            assert_eq!(seen, ["added", "removed", "carrier lost"]);
        },
    );
}

#[test]
fn lost_events_are_made_good_by_a_snapshot() {
    in_namespace("lost_events_are_made_good_by_a_snapshot", || async {
        let net = Net::connect().unwrap();
        let (a, _) = veth(&net).await;
        let mut watch = Watch::open(net.clone()).unwrap();
        watch.next().await.unwrap();
        // More events than the receive buffer holds, however large the machine allows it to be.
        for round in 0..20_000u32 {
            let address = IpAddr::from([10, (round >> 15) as u8, (round >> 7) as u8, 1]);
            net.add_address(&NewAddress::new(a.index, address, 32))
                .await
                .unwrap();
            net.remove_address(a.index, address, 32).await.unwrap();
        }
        let last = ip("192.0.2.100");
        net.add_address(&NewAddress::new(a.index, last, 32))
            .await
            .unwrap();
        loop {
            let event = tokio::time::timeout(Duration::from_secs(10), watch.next());
            if let Event::Everything(snapshot) = event.await.expect("a snapshot").unwrap() {
                assert!(snapshot.addresses.iter().any(|found| found.address == last));
                break;
            }
        }
        // Events from before the snapshot would tell of states that are long over.
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(100), watch.next()).await {
            if let Event::Address(old) | Event::AddressGone(old) = event.unwrap() {
                assert!(old.address.is_ipv6(), "old: {old:?}");
            }
        }
    });
}

#[test]
fn a_macvlan_is_made_once_with_its_mac_and_no_address() {
    in_namespace(
        "a_macvlan_is_made_once_with_its_mac_and_no_address",
        || async {
            let net = Net::connect().unwrap();
            let (a, _) = veth(&net).await;
            let mac = net::Mac([0, 0, 0x5e, 0, 1, 51]);
            let name = "vrrp4.51";
            let added = net.add_macvlan(name, a.index, mac).await;
            assert_eq!(added.unwrap(), Added::New);
            let added = net.add_macvlan(name, a.index, mac).await;
            assert_eq!(added.unwrap(), Added::Present);
            let made = net.link(name).await.unwrap();
            assert_eq!((made.mac, made.parent), (Some(mac), Some(a.index)));
            assert_eq!(made.kind.as_deref(), Some("macvlan"));
            assert!(!made.up, "{made:?}");
            let mode = sysctl::Key::ipv6(name, "addr_gen_mode");
            assert_eq!(sysctl::read_number(&mode).unwrap(), 1, "none");
            net.set_link_up(made.index, true).await.unwrap();
            let addresses = net.addresses().await.unwrap();
            assert!(addresses.iter().all(|found| found.link != made.index));
            net.remove_link(made.index).await.unwrap();
            assert!(net.link(name).await.is_err());
            let error = net.add_macvlan(name, 9999, mac).await.unwrap_err();
            assert_eq!(error.to_string(), "failed to add interface vrrp4.51");
        },
    );
}

#[test]
fn sysctls_are_written_only_where_they_differ() {
    in_namespace("sysctls_are_written_only_where_they_differ", || async {
        let net = Net::connect().unwrap();
        veth(&net).await;
        let key = sysctl::Key::ipv4("va.100", "arp_ignore");
        let changed = sysctl::ensure(&key, 1).unwrap();
        assert_eq!(changed, sysctl::Ensured::Changed { from: 0 });
        assert_eq!(sysctl::ensure(&key, 1).unwrap(), sysctl::Ensured::Already);
        assert_eq!(sysctl::read_number(&key).unwrap(), 1);
    });
}

#[test]
fn routes_and_rules_of_ours_are_told_from_others() {
    in_namespace("routes_and_rules_of_ours_are_told_from_others", || async {
        let net = Net::connect_strict().unwrap();
        let (a, _) = veth(&net).await;
        for own in [("192.0.2.1", 24), ("2001:db8::1", 64)] {
            let own = NewAddress::new(a.index, ip(own.0), own.1);
            net.add_address(&own).await.unwrap();
        }
        let of = |to: &str, prefix_len, via: &str, protocol| {
            let mut route = Route::to(ip(to), prefix_len);
            route.gateway = Some(ip(via));
            route.link = Some(a.index);
            route.table = 1000;
            route.protocol = protocol;
            route
        };
        // Side by side with another one's, which differs in its metric alone.
        let mut foreign = of("198.51.100.0", 24, "192.0.2.2", 4);
        foreign.metric = Some(9);
        let four = of("198.51.100.0", 24, "192.0.2.3", OWN_PROTOCOL);
        let six = of("2001:db8:1::", 48, "2001:db8::3", OWN_PROTOCOL);
        let mut hole = Route::to(ip("2001:db8:2::"), 48);
        (hole.kind, hole.protocol) = (RouteKind::Blackhole, OWN_PROTOCOL);
        let mut hole4 = Route::to(ip("203.0.113.0"), 24);
        (hole4.kind, hole4.protocol) = (RouteKind::Prohibit, OWN_PROTOCOL);
        let mut far = of("0.0.0.0", 0, "10.99.99.1", OWN_PROTOCOL);
        far.onlink = true;
        let ours = [&four, &six, &hole, &hole4, &far];
        assert!(net.add_route(&foreign).await.unwrap());
        for route in ours {
            assert!(net.add_route(route).await.unwrap(), "{route:?}");
            assert!(!net.add_route(route).await.unwrap(), "{route:?}");
        }
        let listed = net.routes_of(OWN_PROTOCOL).await.unwrap();
        assert_eq!(listed.len(), ours.len(), "{listed:?}");
        for route in ours {
            assert!(
                listed.iter().any(|there| route.fits(there)),
                "{route:?} in {listed:?}"
            );
        }
        assert!(!listed.iter().any(|there| foreign.fits(there)));
        let other_way = of("198.51.100.0", 24, "192.0.2.4", OWN_PROTOCOL);
        assert!(other_way.is_same(&four) && !other_way.fits(&four));
        net.replace_route(&other_way).await.unwrap();
        let listed = net.routes_of(OWN_PROTOCOL).await.unwrap();
        let in_place = |route: &Route| listed.iter().any(|there| route.fits(there));
        assert!(in_place(&other_way) && !in_place(&four), "{listed:?}");

        let mut watch = RoutingWatch::open(OWN_PROTOCOL).unwrap();
        assert!(net.remove_route(&foreign).await.unwrap());
        let nothing = tokio::time::timeout(Duration::from_millis(50), watch.gone()).await;
        assert!(nothing.is_err(), "it was another one's");
        for route in [&other_way, &six, &hole, &hole4, &far] {
            assert!(net.remove_route(route).await.unwrap(), "{route:?}");
            assert!(!net.remove_route(route).await.unwrap());
        }
        let told = tokio::time::timeout(Duration::from_secs(5), watch.gone()).await;
        told.unwrap().unwrap();
        assert_eq!(net.routes_of(OWN_PROTOCOL).await.unwrap(), []);

        let rule = Rule {
            ipv4: true,
            priority: 1000,
            table: 1000,
            from: Some("192.0.2.100/32".parse().unwrap()),
            to: None,
            mark: Some((7, 0xff)),
            input: Some("va.100".to_owned()),
            protocol: OWN_PROTOCOL,
        };
        let six = Rule {
            ipv4: false,
            from: None,
            to: Some("2001:db8:1::/48".parse().unwrap()),
            mark: None,
            ..rule.clone()
        };
        let mut foreign = rule.clone();
        (foreign.protocol, foreign.priority) = (4, 1001);
        for rule in [&rule, &six, &foreign] {
            assert!(net.add_rule(rule).await.unwrap(), "{rule:?}");
            assert!(!net.add_rule(rule).await.unwrap(), "{rule:?}");
        }
        let listed = net.rules().await.unwrap();
        let own: Vec<&Rule> = listed.iter().filter(|rule| rule.is_own()).collect();
        assert_eq!(own, [&six, &rule], "{listed:?}");
        for rule in [&rule, &six] {
            assert!(net.remove_rule(rule).await.unwrap(), "{rule:?}");
            assert!(!net.remove_rule(rule).await.unwrap());
        }
        // What another one has put there is not taken away by its twin.
        let mut twin = foreign.clone();
        twin.protocol = OWN_PROTOCOL;
        assert!(!net.remove_rule(&twin).await.unwrap());
        let listed = net.rules().await.unwrap();
        assert!(listed.contains(&foreign), "{listed:?}");
        let told = tokio::time::timeout(Duration::from_secs(5), watch.gone()).await;
        told.unwrap().unwrap();
    });
}

/// As `ip route append` does it: behind what is there.
async fn append(net: &Net, message: RouteMessage) {
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
    let mut answers = net.handle().clone().request(message).unwrap();
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            assert_eq!(error.code, None, "{error:?}");
        }
    }
}

#[test]
fn a_place_that_another_program_shares_is_told() {
    in_namespace("a_place_that_another_program_shares_is_told", || async {
        let net = Net::connect_strict().unwrap();
        let (a, _) = veth(&net).await;
        for own in [("192.0.2.1", 24), ("2001:db8::1", 64)] {
            let own = NewAddress::new(a.index, ip(own.0), own.1);
            net.add_address(&own).await.unwrap();
        }
        let of = |to: &str, prefix_len, via: &str| {
            let mut route = Route::to(ip(to), prefix_len);
            route.gateway = Some(ip(via));
            (route.link, route.table) = (Some(a.index), 1000);
            route.protocol = OWN_PROTOCOL;
            route
        };
        let four = of("198.51.100.0", 24, "192.0.2.3");
        let six = of("2001:db8:1::", 48, "2001:db8::3");
        for route in [&four, &six] {
            let shared = net.is_shared(route).await;
            assert!(!shared.unwrap(), "there is no such table");
            net.add_route(route).await.unwrap();
            assert!(!net.is_shared(route).await.unwrap(), "it is alone");
        }
        let other = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix("198.51.100.0".parse().unwrap(), 24)
            .protocol(RouteProtocol::Static)
            .table_id(1000);
        // Another type of service, another metric, another table: other places.
        let beside = [
            other.clone().tos(0x10).output_interface(a.index).build(),
            other.clone().priority(9).output_interface(a.index).build(),
            other
                .clone()
                .table_id(1001)
                .output_interface(a.index)
                .build(),
        ];
        for beside in beside {
            append(&net, beside).await;
            assert!(!net.is_shared(&four).await.unwrap());
        }
        // Of a kind that nobody here makes.
        append(&net, other.kind(RouteType::Throw).build()).await;
        assert!(net.is_shared(&four).await.unwrap());
        // The kernel makes one route of two next hops.
        let other = RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix("2001:db8:1::".parse().unwrap(), 48)
            .gateway("2001:db8::4".parse().unwrap())
            .output_interface(a.index)
            .protocol(RouteProtocol::Static)
            .priority(1024)
            .table_id(1000);
        append(&net, other.build()).await;
        assert!(net.is_shared(&six).await.unwrap());
        // Ours alone can be taken away.
        let ours = net.routes_of(OWN_PROTOCOL).await.unwrap();
        let hops: Vec<&Route> = ours.iter().filter(|there| there.is_same(&six)).collect();
        assert!(hops.len() == 2 && hops.iter().any(|there| six.fits(there)));
        let mut removed = 0;
        for hop in hops {
            removed += usize::from(net.remove_route(hop).await.unwrap());
        }
        assert_eq!(removed, 1, "the other one has another protocol");
        let left = net.routes().await.unwrap().into_iter();
        let left: Vec<Route> = left.filter(|there| there.is_same(&six)).collect();
        assert!(left.len() == 1 && left[0].gateway == Some(ip("2001:db8::4")));
    });
}

#[test]
fn a_wider_rule_stands_beside_a_narrower_one() {
    in_namespace("a_wider_rule_stands_beside_a_narrower_one", || async {
        let net = Net::connect_strict().unwrap();
        for ipv4 in [true, false] {
            let prefix = if ipv4 {
                "192.0.2.100/32"
            } else {
                "2001:db8::/64"
            };
            let narrow = Rule {
                ipv4,
                priority: 1000,
                table: 1000,
                from: Some(prefix.parse().unwrap()),
                to: None,
                mark: None,
                input: None,
                protocol: OWN_PROTOCOL,
            };
            let wide = Rule {
                from: None,
                ..narrow.clone()
            };
            let foreign = Rule {
                protocol: 4,
                ..narrow.clone()
            };
            assert!(net.add_rule(&foreign).await.unwrap());
            assert!(net.add_rule(&narrow).await.unwrap(), "beside its twin");
            assert!(net.add_rule(&wide).await.unwrap(), "beside a narrower one");
            for rule in [&foreign, &narrow, &wide] {
                assert!(!net.add_rule(rule).await.unwrap(), "{rule:?}");
                let listed = net.rules().await.unwrap().into_iter();
                assert_eq!(listed.filter(|there| there == rule).count(), 1);
            }
            // Of ours the first one goes that has what is named.
            assert!(!wide.may_take(&foreign));
            assert!(wide.may_take(&narrow) && !narrow.may_take(&wide));
            assert!(net.remove_rule(&wide).await.unwrap());
            let listed = net.rules().await.unwrap();
            assert!(!listed.contains(&narrow) && listed.contains(&wide));
            assert!(net.add_rule(&narrow).await.unwrap(), "it had been taken");
            assert!(net.remove_rule(&wide).await.unwrap());
            let listed = net.rules().await.unwrap();
            assert!(listed.contains(&narrow) && !listed.contains(&wide));
            assert!(listed.contains(&foreign));
        }
    });
}
