//! SHELL: the thread that owns the socket, and jobs for it.

use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::exchange::Exchange;

/// Jobs that may wait; whoever brings one more waits too, until its own deadline.
const WAITING: usize = 16;

/// Something to do with the socket.
type Job = Box<dyn FnOnce(&mut Exchange) + Send>;

/// Why a job has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// It was not done in time.
    TimedOut,
    /// The thread has ended.
    Closed,
}

/// The thread. It ends when this is dropped, after the job that it is at.
#[derive(Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    pub(super) fn start(mut exchange: Exchange) -> io::Result<Self> {
        let (jobs, mut queue) = mpsc::channel::<Job>(WAITING);
        std::thread::Builder::new()
            .name("ipvs-netlink".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut exchange);
                }
            })?;
        Ok(Self { jobs })
    }

    /// Does something with the socket. A job that is late is still done to its end; nobody hears of it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&mut Exchange) -> T + Send + 'static,
    ) -> Result<T, Silence> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |exchange: &mut Exchange| {
            // Whoever asked may have gone; a job that nobody waits for is not begun.
            if !answer.is_closed() {
                let _ = answer.send(work(exchange));
            }
        });
        let done = async {
            self.jobs.send(job).await.map_err(|_| Silence::Closed)?;
            answered.await.map_err(|_| Silence::Closed)
        };
        tokio::time::timeout(timeout, done)
            .await
            .unwrap_or(Err(Silence::TimedOut))
    }
}
