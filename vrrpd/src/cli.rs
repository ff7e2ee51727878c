//! SHELL: the daemon in the frame, and the subcommands of its own.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use conf::Tier;
use daemon::{Client, Common, Context, Daemon, Exit, Refused, clock};
use net::Net;
use serde_json::{Value, json};

use crate::accept;
use crate::doctor;
use crate::plan::{Share, share};
use crate::{netlink, run, status, vmac};

/// How long `failover` waits for the VIP to move.
const FAILOVER: Duration = Duration::from_secs(10);
/// Time between two looks of it.
const LOOK: Duration = Duration::from_millis(20);

/// Zeros instead of a secret: as many as the shortest key of an HMAC.
const NO_SECRET: usize = 32;

/// `vrrpd`.
#[derive(Debug)]
pub struct Vrrpd;

/// The subcommands of its own.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Hand a VIP over to another director now.
    ///
    /// This node stays behind the others, over restarts too, until `undrain VIP`, or until the director that took the VIP over is gone: then
    /// this node has it again, with its own priority. If no other director takes it, everything is as before. To keep the VIP away from
    /// this node whatever happens to the others, use `drain VIP`.
    Failover {
        /// The VIP's name, one of its addresses, or `this` for all.
        vip: String,
        /// Why: kept, and shown in `status`.
        #[arg(long, default_value = "failover")]
        why: String,
    },
    /// Remove virtual addresses, routes, rules, interfaces with virtual MACs and the nftables table that a killed vrrpd has left behind.
    Cleanup,
    /// Look at what breaks VRRP on this machine, and say why and how to mend it.
    ///
    /// Rights, interfaces, ARP and filter settings, IPv6, group memberships, bridges, the clock, and who else uses a router's id. Begins
    /// lines with `!` where failover does not work (exit code 1) and with `~` where something could be better.
    Doctor,
}

impl Daemon for Vrrpd {
    const NAME: &'static str = "vrrpd";
    const ABOUT: &'static str = "VRRP failover of the virtual IP addresses";
    const TIER: Tier = Tier::Failover;
    type Command = Command;

    fn run(context: Context) -> anyhow::Result<()> {
        run::run(context)
    }

    fn command(common: &Common, command: Command) -> anyhow::Result<Exit> {
        match command {
            Command::Failover { vip, why } => failover(common, &vip, &why),
            Command::Cleanup => cleanup(common),
            Command::Doctor => {
                let share = own_share(common)?;
                let status = Client::new(common, Vrrpd::NAME).get("/v1/status").ok();
                let status = status.as_ref().map(|envelope| &envelope["data"]);
                let findings = runtime()?.block_on(doctor::examine(&share, status))?;
                let bad = findings
                    .iter()
                    .any(|finding| finding.grade == doctor::Grade::Bad);
                if common.json {
                    print(&format!("{:#}\n", json!(findings)));
                } else {
                    for finding in &findings {
                        print(&format!("{finding}\n"));
                    }
                }
                Ok(if bad { Exit::Failed } else { Exit::Ok })
            }
        }
    }

    fn render_status(data: &Value, out: &mut String) {
        status::render(data, out);
    }

    fn render_down(data: &Value, out: &mut String) {
        status::render_down(data, out);
    }

    fn render_why(answer: &Value) -> Option<String> {
        status::render_why(answer)
    }
}

/// Hands the VIP over and waits until another director has it. If none takes it, the daemon ends the handover by itself.
fn failover(common: &Common, vip: &str, why: &str) -> anyhow::Result<Exit> {
    let client = Client::new(common, Vrrpd::NAME);
    let named = |answer: &Value| -> Vec<(String, Value)> {
        let routers = answer.as_object().into_iter().flatten();
        routers
            .filter(|(name, router)| {
                let family = router["vip"] == vip || has(router, vip);
                // Where nobody else could have it, there is nothing to hand over.
                (vip == "this" && router["alone"] == false) || *name == vip || family
            })
            .map(|(name, router)| (name.clone(), router.clone()))
            .collect()
    };
    let held = |routers: &[(String, Value)]| -> Vec<String> {
        let here = |router: &Value| router["state"] == "master" || router["lingering"] == true;
        let held = routers.iter().filter(|(_, router)| here(router));
        held.map(|(name, _)| name.clone()).collect()
    };
    let routers = named(&client.get("/v1/vips")?);
    // An unknown name is refused by the daemon, which knows the others.
    if !routers.is_empty() && held(&routers).is_empty() {
        let holders: Vec<String> = routers
            .iter()
            .filter_map(|(_, router)| holder(router))
            .collect();
        let where_to = match holders.first() {
            Some(holder) => format!("{holder} holds it: run `vrrpd failover` there"),
            None => "no other director is heard either".to_owned(),
        };
        let reason =
            format!("{vip} is not held here; {where_to}, or `vrrpd drain {vip}` to keep it away");
        return Err(Refused::new(Exit::Refused, reason).into());
    }
    let wish = json!({ "target": vip, "want": "failover", "why": why });
    client.post("/v1/intents", &wish)?;
    let patience = routers
        .iter()
        .filter_map(|(_, router)| router["down_interval_us"].as_u64())
        .map(|micros| 3 * Duration::from_micros(micros))
        .fold(FAILOVER, Duration::max);
    let begun = clock::now();
    loop {
        let routers = named(&client.get("/v1/vips")?);
        let here = held(&routers);
        if here.is_empty() {
            let to: BTreeSet<String> = routers
                .iter()
                .filter_map(|(_, router)| holder(router))
                .collect();
            let to = to.into_iter().collect::<Vec<_>>().join(" and ");
            if common.json {
                print(&format!("{:#}\n", json!({ "target": vip, "to": to })));
            } else {
                print(&format!(
                    "{vip} has moved to {to}; this node stays behind until `vrrpd undrain {vip}`, or until that director is gone\n"
                ));
            }
            return Ok(Exit::Ok);
        }
        let intents = client.get("/v1/intents")?;
        let mut intents = intents["intents"].as_array().into_iter().flatten();
        if !intents.any(|intent| intent["target"] == vip && intent["want"] == "failover") {
            let reason = format!(
                "no other director took {} over: this node has it as before, and the failover is withdrawn",
                here.join(", ")
            );
            return Err(Refused::new(Exit::Failed, reason).into());
        }
        if clock::now().since(begun) >= patience {
            let reason = format!(
                "{} is still held here after {} s; the failover stays in force until `vrrpd undrain {vip}`",
                here.join(", "),
                patience.as_secs()
            );
            return Err(Refused::new(Exit::TimedOut, reason).into());
        }
        runtime()?.block_on(async { tokio::time::sleep(LOOK).await });
    }
}

/// The director that a virtual router of the status heard last.
fn holder(router: &Value) -> Option<String> {
    let peers = router["peers"].as_object()?.iter();
    let alive = peers.filter(|(_, peer)| peer["priority"] != 0);
    let last = alive.min_by_key(|(_, peer)| peer["heard_ms_ago"].as_u64());
    last.map(|(address, _)| address.clone())
}

/// Whether a virtual router of the status holds `address`.
fn has(router: &Value, address: &str) -> bool {
    let mut addresses = router["addresses"].as_array().into_iter().flatten();
    addresses.any(|held| {
        held.as_str()
            .and_then(|held| held.split('/').next())
            .is_some_and(|held| held == address)
    })
}

/// Removes every route and rule with our tag, and every address with it from interfaces other than the loopback (there `director real-server` keeps its own).
fn cleanup(common: &Common) -> anyhow::Result<Exit> {
    if Client::new(common, Vrrpd::NAME).get("/v1/status").is_ok() {
        let reason = "vrrpd is running: it takes its addresses away itself when it stops (or `vrrpd failover this`)";
        return Err(Refused::new(Exit::Refused, reason).into());
    }
    let share = own_share(common).unwrap_or_default();
    let names: Vec<String> = runtime()?.block_on(async {
        let net = Net::connect()?;
        // Before the addresses that they may name as their source.
        let mut removed = netlink::remove_all().await?;
        let links = net.links().await?;
        for link in links.iter().filter(|link| vmac::is_device(link)) {
            net.remove_link(link.index).await?;
            removed.push(format!("interface {}", link.name));
        }
        for link in links.iter().filter(|link| !link.loopback) {
            for address in net
                .addresses()
                .await?
                .iter()
                .filter(|a| a.link == link.index)
            {
                let ours = share
                    .routers
                    .values()
                    .flat_map(|wanted| &wanted.held)
                    .any(|held| held.address == address.address && held.interface == link.name);
                // Kernels before 5.18 keep no tag: there only what the file names is ours.
                if address.is_own() || (ours && address.protocol.is_none()) {
                    net.remove_address(link.index, address.address, address.prefix_len)
                        .await?;
                    removed.push(format!("{} from {}", address.address, link.name));
                }
            }
        }
        // Without nftables in the kernel there is no table either.
        if accept::keeper::clean().await.unwrap_or(false) {
            removed.push(format!("nftables table {}", accept::TABLE));
        }
        anyhow::Ok(removed)
    })?;
    for name in &names {
        print(&format!("removed {name}\n"));
    }
    if names.is_empty() {
        print("no virtual address, route or rule was left behind\n");
    }
    Ok(Exit::Ok)
}

/// This node's share of the file, without a running daemon.
fn own_share(common: &Common) -> anyhow::Result<Share> {
    let report = conf::load(&common.config);
    let platform = report.platform_for(Tier::Failover).map_err(|problems| {
        let count = problems.len();
        Refused::new(
            Exit::Config,
            format!(
                "{} has {count} problems that concern vrrpd: `vrrpd check` names them",
                common.config.display()
            ),
        )
    })?;
    let names = common.node_names();
    let known = names
        .iter()
        .find(|name| report.unknown_node(name).is_none());
    let Some(node) = known else {
        let reason = format!(
            "{} has no node {}: name this one with --node",
            common.config.display(),
            names.join(" or ")
        );
        return Err(Refused::new(Exit::Config, reason).into());
    };
    // What is asked here needs no secret, and must work without.
    let secrets = platform.secrets.keys();
    let secrets = secrets.map(|name| (name.clone(), vec![0; NO_SECRET]));
    let secrets = secrets.collect();
    Ok(share(platform, node, &secrets))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Prints to standard output. A reader that went away is no error.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
