//! SHELL: the daemon as the subcommand frame sees it, and its own subcommand `real-server`.

use std::sync::Arc;

use conf::Tier;
use daemon::verdict::Verdicts;
use daemon::{Common, Context, Daemon, Exit, Facts, clock};
use probe::Prober;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::access::filter::KernelFilter;
use crate::access::keeper::Keeper;
use crate::control::DirectorControl;
use crate::driver::{Driver, Parts};
use crate::ipvs::Kernel;
use crate::marking::Marking;
use crate::metrics::{CheckMetrics, Metrics};
use crate::probe_thread::ProbeThread;
use crate::real_server::{self, RealServerCommand};
use crate::reconcile::Reconciler;
use crate::render;
use crate::state::StateFile;
use crate::sync;

use crate::sysctl;

/// Commands that wait for the loop; more askers wait outside.
const COMMANDS: usize = 64;

/// The daemon `director`.
#[derive(Debug)]
pub struct Director;

/// The director's own subcommands.
#[derive(Debug, clap::Subcommand)]
pub enum Own {
    /// On a real server of DR or TUN services: ARP settings and the VIPs on the loopback interface, watched and undone at the end.
    RealServer(RealServerCommand),
}

impl Daemon for Director {
    const NAME: &'static str = "director";
    const ABOUT: &'static str = "Layer-4 control plane for the kernel's IPVS";
    const TIER: Tier = Tier::Layer4;
    type Command = Own;

    fn run(context: Context) -> anyhow::Result<()> {
        // A long round delays no check, and a dump of a thousand services wakes no other thread between its messages.
        let probes = ProbeThread::start()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(direct(context, probes.handle()))
    }

    fn command(common: &Common, command: Own) -> anyhow::Result<Exit> {
        match command {
            Own::RealServer(command) => real_server::command(common, command),
        }
    }

    fn render_why(answer: &serde_json::Value) -> Option<String> {
        Some(render::why(answer))
    }

    fn render_status(data: &serde_json::Value, out: &mut String) {
        render::status(data, out);
    }

    fn render_down(data: &serde_json::Value, out: &mut String) {
        render::down(data, out);
    }
}

async fn direct(context: Context, probes: &Handle) -> anyhow::Result<()> {
    let metrics = Metrics::default();
    context
        .registry
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .register_collector(Box::new(metrics.clone()));
    probe::raise_descriptor_limit();
    let (prober, changes) = {
        let _on = probes.enter();
        Prober::new(fastrand::u64(..), clock::now)
    };
    context
        .registry
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .register_collector(Box::new(CheckMetrics::new(prober.view())));
    let state = StateFile::open(&context.state_dir);
    let loaded = &context.loaded;
    let mut reconciler = Reconciler::new(
        Arc::clone(&loaded.platform),
        &loaded.node,
        state.remembered(),
    );
    reconciler.handle_remembered(state.drains(clock::now(), clock::wall()));
    let (verdicts, receiver) = watch::channel(Verdicts::default());
    let (facts, known_facts) = watch::channel(Facts::default());
    let (sender, mut commands) = mpsc::channel(COMMANDS);
    let mut driver = Driver::new(Parts {
        ipvs: Arc::new(Kernel::default()),
        reconciler,
        prober,
        marking: Marking::default(),
        access: Keeper::new(KernelFilter::default()),
        state,
        metrics,
        events: context.events.clone(),
        verdicts,
        facts,
        sync: sync::keeper::Keeper::new(
            Arc::new(sync::worker::Worker::default()),
            &context.state_dir,
        ),
        tunables: sysctl::ensure,
    });
    // The stored intents wait in the queue before the first round, which must not give weight to what is drained.
    let served = context
        .serve(Arc::new(DirectorControl {
            commands: sender,
            verdicts: receiver,
            facts: known_facts,
        }))
        .await?;
    driver.start(&mut commands).await;
    served.ready();
    driver
        .run(changes, &mut commands, served.stop_requested())
        .await;
    driver.stop(&mut commands, served.stop_insisted()).await;
    drop(served);
    Ok(())
}
