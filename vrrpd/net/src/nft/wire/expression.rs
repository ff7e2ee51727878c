//! CORE: the rules of an nftables table, each statement as the kernel's own small instructions over registers.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::attribute::Writer;
use super::{ACCEPT, JUMP};
use crate::nft::interval::key;
use crate::nft::{Family, Rate, Rule, Statement};

const DROP: u32 = 0;
const LIMIT_OVER: u32 = 1;

/// The registers: that of the verdict, and the one that we compute in (`enum nft_registers`).
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;

const EQUAL: u32 = 0;
const NOT_LESS: u32 = 5;
const NOT_GREATER: u32 = 3;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// The expressions of a rule, each as the kernel's own small instructions over registers.
pub(super) fn expressions(rule: &Rule) -> Vec<u8> {
    let mut list = Writer::default();
    for statement in &rule.statements {
        encode(&mut list, statement);
    }
    list.into_bytes()
}

fn encode(list: &mut Writer, statement: &Statement) {
    match statement {
        Statement::Family(family) => {
            meta(list, 15);
            compare(list, EQUAL, &[protocol_family(*family)]);
        }
        Statement::Protocol(number) => {
            meta(list, 16);
            compare(list, EQUAL, &[*number]);
        }
        Statement::Ports { first, last } => {
            load(list, TRANSPORT_HEADER, 2, 2);
            if first == last {
                compare(list, EQUAL, &first.to_be_bytes());
            } else {
                compare(list, NOT_LESS, &first.to_be_bytes());
                compare(list, NOT_GREATER, &last.to_be_bytes());
            }
        }
        Statement::TcpSyn => {
            // FIN 0x01, SYN 0x02, RST 0x04, ACK 0x10.
            load(list, TRANSPORT_HEADER, 13, 1);
            mask(list, &[0x17]);
            compare(list, EQUAL, &[0x02]);
        }
        Statement::SctpInit => {
            load(list, TRANSPORT_HEADER, 12, 1);
            compare(list, EQUAL, &[1]);
        }
        Statement::Source {
            family,
            set,
            inside,
        } => {
            load_source(list, *family);
            expression(list, "lookup", |data| {
                data.text(1, set);
                data.u32(2, REGISTER);
                if !inside {
                    data.u32(5, 1);
                }
            });
        }
        Statement::Destination { family, set } => {
            load_destination(list, *family);
            expression(list, "lookup", |data| {
                data.text(1, set);
                data.u32(2, REGISTER);
            });
        }
        Statement::IcmpType { first, last } => {
            load(list, TRANSPORT_HEADER, 0, 1);
            compare(list, NOT_LESS, &[*first]);
            compare(list, NOT_GREATER, &[*last]);
        }
        Statement::JumpByDestination { family, map } => {
            load_destination(list, *family);
            expression(list, "lookup", |data| {
                data.text(1, map);
                data.u32(2, REGISTER);
                data.u32(3, VERDICT);
            });
        }
        Statement::Over(rate) => expression(list, "limit", |data| limit(data, *rate)),
        Statement::OverBySource {
            family,
            prefix_len,
            set,
            rate,
        } => {
            load_source(list, *family);
            let whole = match family {
                Family::V4 => 32,
                Family::V6 => 128,
            };
            if *prefix_len < whole {
                mask(list, &prefix_mask(*prefix_len, *family));
            }
            expression(list, "dynset", |data| {
                data.text(1, set);
                data.u32(3, 1);
                data.u32(4, REGISTER);
                data.nested(7, |inner| {
                    inner.text(1, "limit");
                    inner.nested(2, |data| limit(data, *rate));
                });
            });
        }
        Statement::Count => expression(list, "counter", |_| {}),
        Statement::Drop => immediate(list, DROP, None),
        Statement::Accept => immediate(list, ACCEPT, None),
        Statement::Jump(chain) => immediate(list, JUMP, Some(chain)),
    }
}

fn expression(list: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    list.nested(1, |element| {
        element.text(1, name);
        element.nested(2, data);
    });
}

fn meta(list: &mut Writer, key: u32) {
    expression(list, "meta", |data| {
        data.u32(2, key);
        data.u32(1, REGISTER);
    });
}

fn load(list: &mut Writer, base: u32, offset: u32, length: u32) {
    expression(list, "payload", |data| {
        data.u32(1, REGISTER);
        data.u32(2, base);
        data.u32(3, offset);
        data.u32(4, length);
    });
}

fn load_source(list: &mut Writer, family: Family) {
    match family {
        Family::V4 => load(list, NETWORK_HEADER, 12, 4),
        Family::V6 => load(list, NETWORK_HEADER, 8, 16),
    }
}

fn load_destination(list: &mut Writer, family: Family) {
    match family {
        Family::V4 => load(list, NETWORK_HEADER, 16, 4),
        Family::V6 => load(list, NETWORK_HEADER, 24, 16),
    }
}

fn compare(list: &mut Writer, operator: u32, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.u32(1, REGISTER);
        data.u32(2, operator);
        data.nested(3, |data| data.bytes(1, value));
    });
}

fn mask(list: &mut Writer, mask: &[u8]) {
    expression(list, "bitwise", |data| {
        data.u32(1, REGISTER);
        data.u32(2, REGISTER);
        // Mask and exclusive or, the only operation of kernels before 5.6.
        data.u32(6, 0);
        data.u32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
        data.nested(4, |data| data.bytes(1, mask));
        data.nested(5, |data| data.bytes(1, &vec![0; mask.len()]));
    });
}

fn immediate(list: &mut Writer, code: u32, chain: Option<&str>) {
    expression(list, "immediate", |data| {
        data.u32(1, VERDICT);
        data.nested(2, |data| verdict(data, code, chain));
    });
}

pub(super) fn verdict(data: &mut Writer, code: u32, chain: Option<&str>) {
    data.nested(2, |verdict| {
        verdict.u32(1, code);
        if let Some(chain) = chain {
            verdict.text(2, chain);
        }
    });
}

fn limit(data: &mut Writer, rate: Rate) {
    data.bytes(1, &u64::from(rate.per_second.max(1)).to_be_bytes());
    // Per this many seconds.
    data.bytes(2, &1_u64.to_be_bytes());
    data.u32(3, rate.burst.max(1));
    data.u32(5, LIMIT_OVER);
    data.u32(4, 0);
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
fn protocol_family(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

pub(super) fn prefix_mask(prefix_len: u8, family: Family) -> Vec<u8> {
    let ones = u128::MAX
        .checked_shl(128_u32.saturating_sub(prefix_len.into()))
        .unwrap_or(0);
    match family {
        Family::V4 => key(
            ones.checked_shr(96).unwrap_or(0) & u128::from(u32::MAX),
            family,
        ),
        Family::V6 => key(ones, family),
    }
}
