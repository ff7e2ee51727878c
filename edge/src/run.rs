//! SHELL: the `run` subcommand: phases, from nothing bound to nothing open.
//!
//! The control runtime (this thread) holds the control sockets, readiness, health checks and names; requests are handled by the data threads.

use std::sync::{Arc, PoisonError};

use anyhow::Context as _;
use daemon::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::apply::Engine;
use crate::control::EdgeControl;
use crate::observe::metrics;

/// Works until told to stop.
pub(crate) fn run(context: &Context) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("failed to start the control runtime")?;
    let result = runtime.block_on(work(context));
    // A lookup of a name may hang in the C library for half a minute; nobody needs its answer any more.
    runtime.shutdown_background();
    result
}

async fn work(context: &Context) -> anyhow::Result<()> {
    let mut rotate = signal(SignalKind::user_defined1()).context("failed to handle SIGUSR1")?;
    let (engine, changes) = Engine::new(&context.loaded).await?;
    metrics::register(
        &engine,
        &mut context
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    let served = context
        .serve(Arc::new(EdgeControl::new(Arc::clone(&engine))))
        .await?;
    engine.open(&context.loaded).await?;
    served.ready();
    tracing::info!("ready");
    tokio::select! {
        () = served.stop_requested() => {}
        () = engine.follow(changes) => {}
        () = async {
            while rotate.recv().await.is_some() {
                engine.shared.log.reopen();
            }
            std::future::pending::<()>().await;
        } => {}
    }
    tokio::select! {
        () = engine.stop() => {}
        () = served.stop_insisted() => tracing::warn!("told twice to stop: connections are cut"),
    }
    engine.end().await;
    Ok(())
}
