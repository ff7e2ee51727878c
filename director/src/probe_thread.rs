//! SHELL: the thread on which checks run, apart from the loop.
//!
//! A runtime with one thread, not a pool of one: the pool would wake itself through a descriptor for every check.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a runtime; ends with this, and whatever was spawned on it.
#[derive(Debug)]
pub struct ProbeThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ProbeThread {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("probes".to_owned())
            .spawn(move || {
                // A sender that was dropped means the same.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where to spawn: `let _on = probes.handle().enter();`.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for ProbeThread {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_spawned_runs_there_and_ends_with_it() {
        let probes = ProbeThread::start().unwrap();
        let (sender, receiver) = oneshot::channel();
        let (alive, ended) = oneshot::channel::<()>();
        probes.handle().spawn(async move {
            let _ = sender.send(std::thread::current().name().map(str::to_owned));
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert_eq!(receiver.await.unwrap().as_deref(), Some("probes"));
        drop(probes);
        assert!(ended.await.is_err(), "its tasks are gone");
    }
}
