//! Nodes on one or more networks, a virtual clock, and everything that goes wrong: a million events, and what must hold after each.
//!
//! Everything follows from a seed, which a failing run prints; `WEIR_SEED=…` runs that one alone and tells what happens in it,
//! `WEIR_EVENTS=…` sets how many events each test goes through. `world` is the nodes and networks, `trouble` what is done to them,
//! `rules` what must hold. `tests/segment.rs` has single cases.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "clippy's allowance covers test functions only, not what they share"
)]

mod rules;
mod trouble;
mod world;

use world::{Setup, World};

/// Events of one test in CI.
const EVENTS: u64 = 1_000_000;
/// Troubles of one world, in rounds that end in calm.
const ROUNDS: usize = 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Goes through worlds until so many events have happened.
fn simulate(grouped: bool, salt: u64) {
    let wanted = number("WEIR_EVENTS").unwrap_or(EVENTS);
    let alone = number("WEIR_SEED");
    let mut events = 0;
    let mut seed = alone.unwrap_or(0);
    let mut takeovers = 0;
    while events < wanted {
        let mut random = fastrand::Rng::with_seed(seed ^ salt);
        let setup = Setup::any(&mut random, grouped);
        let mut world = World::new(seed, setup, random, alone.is_some());
        for _ in 0..ROUNDS {
            world.trouble();
            world.calm();
        }
        events += world.events();
        takeovers += world.takeovers();
        if alone.is_some() {
            return;
        }
        seed += 1;
    }
    assert!(events >= wanted, "only {events} events");
    assert!(
        takeovers > events / 2000,
        "only {takeovers} takeovers in {events} events of {seed} worlds: nothing happens in them"
    );
}

#[test]
fn a_million_events_of_single_vips() {
    simulate(false, 0x51);
}

#[test]
fn a_million_events_of_sync_groups() {
    simulate(true, 0x6709);
}
