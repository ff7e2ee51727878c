use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::Chain;
use super::expression::prefix_mask;
use super::*;
use crate::nft::{Rate, Statement};

fn rule(statements: Vec<Statement>) -> Rule {
    Rule {
        statements,
        comment: "web: denied".to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `nft --debug=mnl add rule inet t c …` of nftables 1.0.6 sends.
#[test]
fn a_rule_is_encoded_as_nft_encodes_it() {
    let rule = rule(vec![
        Statement::Family(Family::V4),
        Statement::Protocol(6),
        Statement::Ports {
            first: 80,
            last: 90,
        },
        Statement::TcpSyn,
        Statement::Over(Rate {
            per_second: 10,
            burst: 7,
        }),
        Statement::Count,
        Statement::Jump("d".to_owned()),
    ]);
    let expected = concat!(
        // meta nfproto ipv4
        "24000180090001006d6574610000000014000280080002000000000f0800010000000001",
        "2c00018008000100636d700020000280080001000000000108000200000000000c0003800500010002000000",
        // meta l4proto tcp
        "24000180090001006d657461000000001400028008000200000000100800010000000001",
        "2c00018008000100636d700020000280080001000000000108000200000000000c0003800500010006000000",
        // th dport 80-90
        "340001800c0001007061796c6f6164002400028008000100000000010800020000000002",
        "08000300000000020800040000000002",
        "2c00018008000100636d700020000280080001000000000108000200000000050c0003800600010000500000",
        "2c00018008000100636d700020000280080001000000000108000200000000030c00038006000100005a0000",
        // tcp flags & (syn|ack|fin|rst) == syn
        "340001800c0001007061796c6f6164002400028008000100000000010800020000000002",
        "080003000000000d0800040000000001",
        "4c0001800c00010062697477697365003c00028008000100000000010800020000000001",
        "080006000000000008000300000000010c00048005000100170000000c0005800500010000000000",
        "2c00018008000100636d700020000280080001000000000108000200000000000c0003800500010002000000",
        // limit rate over 10/second burst 7 packets
        "440001800a0001006c696d6974000000340002800c000100000000000000000a0c0002000000000000000001",
        "080003000000000708000500000000010800040000000000",
        // counter, jump d
        "140001800c000100636f756e74657200",
        "04000280380001800e000100696d6d656469617465000000240002800800010000000000",
        "180002801400028008000100fffffffd0600020064000000",
    );
    assert_eq!(hex(&expressions(&rule)), expected);
}

#[test]
fn masks_have_as_many_ones_as_the_prefix() {
    assert_eq!(prefix_mask(24, Family::V4), [255, 255, 255, 0]);
    assert_eq!(prefix_mask(0, Family::V4), [0; 4]);
    let mut mask = [0; 16];
    mask[..8].fill(255);
    assert_eq!(prefix_mask(64, Family::V6), mask);
    assert_eq!(prefix_mask(128, Family::V6), [255; 16]);
}

#[test]
fn rules_that_differ_have_different_fingerprints() {
    let syn = rule(vec![Statement::TcpSyn, Statement::Drop]);
    let other = rule(vec![Statement::SctpInit, Statement::Drop]);
    assert_ne!(fingerprint(&syn), fingerprint(&other));
    let renamed = Rule {
        comment: "x".to_owned(),
        ..syn.clone()
    };
    assert_eq!(fingerprint(&syn), fingerprint(&renamed));
}

#[test]
fn what_is_sent_is_what_is_read() {
    let rule = rule(vec![Statement::TcpSyn, Statement::Count, Statement::Drop]);
    let sent = new_rule("t", "web", &rule);
    let (found, counter) = decode_rule(&sent.body).unwrap();
    assert_eq!(found, fingerprint(&rule));
    assert_eq!(
        (&*counter.chain, &*counter.comment, counter.packets),
        ("web", "web: denied", 0)
    );

    let set = Set {
        name: "vips".to_owned(),
        family: Family::V6,
        kind: SetKind::Chains(BTreeMap::from([(
            "2001:db8::1".parse().unwrap(),
            "web".to_owned(),
        )])),
    };
    let all: Vec<Element> = elements(&set).collect();
    assert_eq!(decode_elements(&new_elements("t", &set, &all).body), all);
    assert_eq!(
        decode_set(&new_set("t", &set, 1).body).unwrap().0,
        "vips".to_owned()
    );
}

#[test]
fn ten_thousand_networks_fit_into_their_messages() {
    let networks = (0..10_000_u32)
        .map(|index| format!("2001:db8:{:x}::/64", index * 2).parse().unwrap())
        .collect();
    let table = Table {
        name: "t".to_owned(),
        chains: vec![Chain {
            name: "c".to_owned(),
            hook: Some((Hook::Prerouting, -300)),
            rules: Vec::new(),
        }],
        sets: vec![
            Set {
                name: "s".to_owned(),
                family: Family::V6,
                kind: SetKind::Networks(networks),
            },
            Set {
                name: "d".to_owned(),
                family: Family::V4,
                kind: SetKind::Sources {
                    size: 10,
                    timeout: Duration::from_secs(1),
                },
            },
        ],
        ..Table::default()
    };
    let requests = replace(&table);
    let sent: usize = requests
        .iter()
        .filter(|request| request.command == command::NEW_ELEMENTS)
        .map(|request| decode_elements(&request.body).len())
        .sum();
    assert_eq!(sent, 20_000);
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_generation(&bytes);
        let _ = decode_table(&bytes);
        let _ = decode_chain(&bytes);
        let _ = decode_rule(&bytes);
        let _ = decode_set(&bytes);
        let _ = decode_elements(&bytes);
    }

    #[test]
    fn a_broken_answer_breaks_nothing(at in 0_usize..400, to in any::<u8>()) {
        let rule = rule(vec![Statement::TcpSyn, Statement::Count, Statement::Drop]);
        let mut body = new_rule("t", "web", &rule).body;
        if let Some(byte) = body.get_mut(at) {
            *byte = to;
        }
        let _ = decode_rule(&body);
    }
}
