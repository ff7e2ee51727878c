//! SHELL: what the director needs of IPVS, the kernel's implementation of it, and one in memory that can be told to fail.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error as _;
use std::sync::Mutex;

use async_trait::async_trait;
use ipvs_netlink::{Change, Client, Info, ServiceKey, Timeouts};
use tokio::sync::Mutex as AsyncMutex;

use crate::observe::{Activity, Observation};
use crate::table::{Step, Table, TableService};

/// Why IPVS did not do what was asked: one sentence with the whole chain of causes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IpvsError(pub String);

impl From<&ipvs_netlink::Error> for IpvsError {
    fn from(error: &ipvs_netlink::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self(text)
    }
}

/// Our needs.
#[async_trait]
pub trait Ipvs: Send + Sync + 'static {
    /// Reads the whole table.
    async fn observe(&self) -> Result<Observation, IpvsError>;

    /// Carries out steps in their order; one answer each.
    async fn apply(&self, steps: &[Step]) -> Vec<Result<(), IpvsError>>;

    /// Version and size of the connection table.
    async fn info(&self) -> Result<Info, IpvsError>;

    /// The timeouts of connections.
    async fn timeouts(&self) -> Result<Timeouts, IpvsError>;

    /// Sets the timeouts that are not 0.
    async fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), IpvsError>;
}

/// The kernel's IPVS. Connects when first used, and again after the connection was lost, so that `modprobe ip_vs` is all it takes.
#[derive(Debug, Default)]
pub struct Kernel {
    client: AsyncMutex<Option<Client>>,
}

impl Kernel {
    /// Sends one change that is no step of a plan.
    pub async fn change(&self, change: Change) -> Result<(), IpvsError> {
        let mut client = self.client.lock().await;
        let result = connected(&mut client).await?.change(change).await;
        forget_lost(&mut client, &result);
        result.map_err(|error| IpvsError::from(&error))
    }
}

async fn connected(client: &mut Option<Client>) -> Result<&mut Client, IpvsError> {
    let connected = match client.take() {
        Some(connected) => connected,
        None => Client::connect()
            .await
            .map_err(|error| IpvsError::from(&error))?,
    };
    Ok(client.insert(connected))
}

fn forget_lost<T>(client: &mut Option<Client>, result: &Result<T, ipvs_netlink::Error>) {
    if result
        .as_ref()
        .is_err_and(ipvs_netlink::Error::is_connection_lost)
    {
        *client = None;
    }
}

async fn dump(client: &Client) -> Result<Observation, ipvs_netlink::Error> {
    let mut observed = Observation::default();
    for entry in client.table().await? {
        let (service, found) = (entry.service, entry.destinations);
        let key = service.service.key;
        let mut destinations = BTreeMap::new();
        let mut order = Vec::new();
        for found in found {
            let activity = Activity {
                active: found.active,
                inactive: found.inactive,
                stats: found.stats,
            };
            observed
                .destinations
                .insert((key, found.destination.key), activity);
            order.push(found.destination.key);
            destinations.insert(found.destination.key, found.destination);
        }
        if matches!(service.service.scheduler.as_str(), "mh" | "sh" | "dh") {
            observed.order.insert(key, order);
        }
        observed.services.insert(key, service.stats);
        observed.table.services.insert(
            key,
            TableService {
                service: service.service,
                destinations,
            },
        );
    }
    Ok(observed)
}

#[async_trait]
impl Ipvs for Kernel {
    async fn observe(&self) -> Result<Observation, IpvsError> {
        let mut client = self.client.lock().await;
        let result = dump(connected(&mut client).await?).await;
        forget_lost(&mut client, &result);
        result.map_err(|error| IpvsError::from(&error))
    }

    async fn apply(&self, steps: &[Step]) -> Vec<Result<(), IpvsError>> {
        let mut client = self.client.lock().await;
        let results = match connected(&mut client).await {
            Ok(client) => client.apply(steps.iter().map(Step::change).collect()).await,
            Err(error) => return steps.iter().map(|_| Err(error.clone())).collect(),
        };
        for result in &results {
            forget_lost(&mut client, result);
        }
        results
            .into_iter()
            .map(|result| result.map_err(|error| IpvsError::from(&error)))
            .collect()
    }

    async fn info(&self) -> Result<Info, IpvsError> {
        let mut client = self.client.lock().await;
        let result = connected(&mut client).await?.info().await;
        forget_lost(&mut client, &result);
        result.map_err(|error| IpvsError::from(&error))
    }

    async fn timeouts(&self) -> Result<Timeouts, IpvsError> {
        let mut client = self.client.lock().await;
        let result = connected(&mut client).await?.timeouts().await;
        forget_lost(&mut client, &result);
        result.map_err(|error| IpvsError::from(&error))
    }

    async fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), IpvsError> {
        self.change(Change::SetTimeouts(timeouts)).await
    }
}

/// What a kernel starts with.
const KERNEL_TIMEOUTS: Timeouts = Timeouts {
    tcp: 900,
    tcp_fin: 120,
    udp: 300,
};

/// A table in memory, for tests.
#[derive(Debug, Default)]
pub struct InMemory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    observed: Observation,
    unavailable: Option<String>,
    refused: BTreeSet<ServiceKey>,
    refuses_additions: bool,
    applied: VecDeque<Step>,
    timeouts: Option<Timeouts>,
}

impl InMemory {
    /// A table that holds this.
    pub fn new(table: Table) -> Self {
        let memory = Self::default();
        memory.with(|state| state.observed.table = table);
        memory
    }

    /// Every request fails from now on, or works again.
    pub fn set_unavailable(&self, reason: Option<&str>) {
        self.with(|state| state.unavailable = reason.map(str::to_owned));
    }

    /// Steps on this service fail from now on.
    pub fn refuse(&self, service: ServiceKey) {
        self.with(|state| {
            state.refused.insert(service);
        });
    }

    /// Nothing can be added from now on.
    pub fn refuse_additions(&self) {
        self.with(|state| state.refuses_additions = true);
    }

    /// Changes the table as somebody else would.
    pub fn edit(&self, change: impl FnOnce(&mut Observation)) {
        self.with(|state| change(&mut state.observed));
    }

    /// The steps that were carried out since the last call.
    pub fn take_applied(&self) -> Vec<Step> {
        self.with(|state| state.applied.drain(..).collect())
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(
            &mut self
                .state
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

#[async_trait]
impl Ipvs for InMemory {
    async fn observe(&self) -> Result<Observation, IpvsError> {
        self.with(|state| match &state.unavailable {
            Some(reason) => Err(IpvsError(reason.clone())),
            None => Ok(state.observed.clone()),
        })
    }

    async fn apply(&self, steps: &[Step]) -> Vec<Result<(), IpvsError>> {
        self.with(|state| {
            let mut results = Vec::new();
            for step in steps {
                let result = if let Some(reason) = &state.unavailable {
                    Err(IpvsError(reason.clone()))
                } else if state.refused.contains(&step.service())
                    || (state.refuses_additions
                        && matches!(step, Step::AddService(_) | Step::AddDestination(..)))
                {
                    Err(IpvsError(format!("failed to {step}: refused")))
                } else {
                    state
                        .observed
                        .table
                        .apply(step)
                        .map_err(|refusal| IpvsError(format!("failed to {step}: {refusal}")))
                };
                if result.is_ok() {
                    state.applied.push_back(step.clone());
                }
                results.push(result);
            }
            results
        })
    }

    async fn info(&self) -> Result<Info, IpvsError> {
        self.with(|state| match &state.unavailable {
            Some(reason) => Err(IpvsError(reason.clone())),
            None => Ok(Info {
                version: (1, 2, 1),
                connection_table_size: 4096,
            }),
        })
    }

    async fn timeouts(&self) -> Result<Timeouts, IpvsError> {
        self.with(|state| match &state.unavailable {
            Some(reason) => Err(IpvsError(reason.clone())),
            None => Ok(state.timeouts.unwrap_or(KERNEL_TIMEOUTS)),
        })
    }

    async fn set_timeouts(&self, timeouts: Timeouts) -> Result<(), IpvsError> {
        let found = self.timeouts().await?;
        self.with(|state| state.timeouts = Some(crate::timeouts::changed(found, timeouts)));
        Ok(())
    }
}
