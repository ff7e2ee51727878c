//! SHELL: a thread of its own that asks the kernel about its synchronisation daemons, starts and stops them.
//!
//! The kernel carries a request out while it is being sent, and was seen not to return for a minute when a daemon is stopped right behind its
//! start. So these requests have a thread and a netlink socket of their own, every answer a deadline, and a start is followed by a pause.

use std::time::Duration;

use async_trait::async_trait;
use conf::Moment;
use daemon::clock;
use ipvs_netlink::{Change, Client};
use net::Net;
use net::sysctl::{self, Key};
use tokio::sync::{mpsc, oneshot};

use super::{Found, Step};
use crate::ipvs::IpvsError;

/// How long an answer is waited for: longer than the client waits for the kernel.
const DEADLINE: Duration = Duration::from_secs(8);
/// Between an acknowledged start and a stop; 10 ms were enough in every trial.
const PAUSE: Duration = Duration::from_millis(50);
const PORTS: &str = "net/ipv4/vs/sync_ports";

/// Our needs.
#[async_trait]
pub trait SyncKernel: Send + Sync + 'static {
    /// Looks at the daemons, and at an interface.
    async fn observe(&self, interface: Option<&str>) -> Result<Found, IpvsError>;

    /// Carries out steps in their order and stops at the first that is refused; one answer for each that was tried.
    async fn apply(&self, steps: &[Step]) -> Vec<Result<(), IpvsError>>;
}

enum Job {
    Observe(Option<String>, oneshot::Sender<Result<Found, IpvsError>>),
    Apply(Vec<Step>, oneshot::Sender<Vec<Result<(), IpvsError>>>),
}

/// The kernel, asked by a thread that is started with the first question.
#[derive(Debug, Default)]
pub struct Worker {
    jobs: std::sync::Mutex<Option<mpsc::Sender<Job>>>,
}

impl Worker {
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Result<T, IpvsError> {
        let (sender, receiver) = oneshot::channel();
        let jobs = self.jobs()?;
        // Full: the thread has not come back from the kernel yet.
        jobs.try_send(job(sender)).map_err(|_| {
            IpvsError(
                "the kernel has not answered an earlier request about its synchronisation daemons"
                    .to_owned(),
            )
        })?;
        match tokio::time::timeout(DEADLINE, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(IpvsError(
                "the thread that asks about synchronisation daemons has ended".to_owned(),
            )),
            Err(_) => Err(IpvsError(format!(
                "the kernel has not answered about its synchronisation daemons within {} s",
                DEADLINE.as_secs()
            ))),
        }
    }

    fn jobs(&self) -> Result<mpsc::Sender<Job>, IpvsError> {
        let mut jobs = self
            .jobs
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(jobs) = jobs.as_ref().filter(|jobs| !jobs.is_closed()) {
            return Ok(jobs.clone());
        }
        // One job at a time: who asks while it is busy is told so.
        let (sender, receiver) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("ipvs-sync".to_owned())
            .spawn(move || work(receiver))
            .map_err(|error| IpvsError(format!("cannot start a thread: {error}")))?;
        Ok(jobs.insert(sender).clone())
    }
}

#[async_trait]
impl SyncKernel for Worker {
    async fn observe(&self, interface: Option<&str>) -> Result<Found, IpvsError> {
        let interface = interface.map(str::to_owned);
        self.ask(|answer| Job::Observe(interface, answer)).await?
    }

    async fn apply(&self, steps: &[Step]) -> Vec<Result<(), IpvsError>> {
        let steps = steps.to_vec();
        match self.ask(|answer| Job::Apply(steps, answer)).await {
            Ok(results) => results,
            Err(error) => vec![Err(error)],
        }
    }
}

fn work(mut jobs: mpsc::Receiver<Job>) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot ask about synchronisation daemons");
            return;
        }
    };
    runtime.block_on(async {
        let mut kernel = Connection::default();
        while let Some(job) = jobs.recv().await {
            // An asker that no longer waits needs no answer, and what it wanted done may be wrong by now.
            match job {
                Job::Observe(_, answer) if answer.is_closed() => {}
                Job::Apply(_, answer) if answer.is_closed() => {}
                Job::Observe(interface, answer) => {
                    let found = kernel.observe(interface.as_deref()).await;
                    let _ = answer.send(found);
                }
                Job::Apply(steps, answer) => {
                    let results = kernel.apply(steps).await;
                    let _ = answer.send(results);
                }
            }
        }
    });
}

#[derive(Default)]
struct Connection {
    client: Option<Client>,
    net: Option<Net>,
    started: Option<Moment>,
}

impl Connection {
    async fn observe(&mut self, interface: Option<&str>) -> Result<Found, IpvsError> {
        let mtu = match interface {
            Some(interface) => self.mtu(interface).await?,
            None => None,
        };
        let client = self.client().await?;
        let daemons = client.daemons().await;
        let timeouts = client.timeouts().await;
        self.forget_lost(&daemons);
        let daemons = daemons.map_err(|error| IpvsError::from(&error))?;
        let timeouts = timeouts.map_err(|error| IpvsError::from(&error))?;
        Ok(Found {
            daemons,
            mtu,
            ports: sysctl::read_number(&Key::new(PORTS))
                .ok()
                .and_then(|ports| u32::try_from(ports).ok()),
            tcp_timeout: timeouts.tcp,
        })
    }

    async fn apply(&mut self, steps: Vec<Step>) -> Vec<Result<(), IpvsError>> {
        let mut results = Vec::new();
        for step in steps {
            let result = self.step(&step).await;
            let failed = result.is_err();
            results.push(result);
            // A start behind a stop that failed would be refused, and behind an old number of threads it would keep that.
            if failed {
                break;
            }
        }
        results
    }

    async fn step(&mut self, step: &Step) -> Result<(), IpvsError> {
        let change = match step {
            Step::Start(daemon) => Change::AddDaemon(daemon.clone()),
            Step::Stop(daemon) => {
                if let Some(started) = self.started.take() {
                    tokio::time::sleep(PAUSE.saturating_sub(clock::now().since(started))).await;
                }
                Change::DeleteDaemon(daemon.role)
            }
            Step::Ports(ports) => {
                return sysctl::write(&Key::new(PORTS), i64::from(*ports)).map_err(|error| {
                    IpvsError(format!(
                        "{error}: set net.ipv4.vs.sync_ports in /etc/sysctl.d and restart"
                    ))
                });
            }
        };
        let result = self.client().await?.change(change).await;
        self.forget_lost(&result);
        if matches!(step, Step::Start(_)) {
            self.started = Some(clock::now());
        }
        result.map_err(|error| IpvsError::from(&error))
    }

    async fn client(&mut self) -> Result<&Client, IpvsError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::connect()
                .await
                .map_err(|error| IpvsError::from(&error))?,
        };
        Ok(self.client.insert(client))
    }

    async fn mtu(&mut self, interface: &str) -> Result<Option<u32>, IpvsError> {
        let net = match self.net.take() {
            Some(net) => net,
            None => Net::connect().map_err(|error| IpvsError(error.to_string()))?,
        };
        let links = self.net.insert(net).links().await;
        match links {
            Ok(links) => Ok(links
                .iter()
                .find(|link| link.name == interface)
                .map(|link| link.mtu)),
            Err(error) => {
                self.net = None;
                Err(IpvsError(error.to_string()))
            }
        }
    }

    fn forget_lost<T>(&mut self, result: &Result<T, ipvs_netlink::Error>) {
        if result
            .as_ref()
            .is_err_and(ipvs_netlink::Error::is_connection_lost)
        {
            self.client = None;
        }
    }
}
