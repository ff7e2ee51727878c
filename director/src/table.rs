//! CORE: an IPVS table as a value, and the steps that change it.
//!
//! The kernel's table, the wanted one and the in-memory one of tests are all [`Table`]s. [`Table::apply`] does what the kernel would do with
//! a step, refusals included, so that a plan can be tried without a kernel.

use std::collections::BTreeMap;
use std::fmt;

use daemon::plan::{PlanAction, PlanStep};
use ipvs_netlink::{
    Change, Destination, DestinationKey, Forward, Service, ServiceKey, Tunnel, TunnelChecksum,
};

/// A table of services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// The services by key.
    pub services: BTreeMap<ServiceKey, TableService>,
}

/// A service and its destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableService {
    /// The service.
    pub service: Service,
    /// Its destinations, in the canonical order: by address and port.
    pub destinations: BTreeMap<DestinationKey, Destination>,
}

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Adds a service without destinations.
    AddService(Service),
    /// Changes a service in place.
    SetService {
        /// What it is.
        from: Service,
        /// What it becomes.
        to: Service,
    },
    /// Adds a destination.
    AddDestination(ServiceKey, Destination),
    /// Changes a destination in place.
    SetDestination {
        /// The service.
        service: ServiceKey,
        /// What it is.
        from: Destination,
        /// What it becomes.
        to: Destination,
    },
    /// Deletes a destination.
    DeleteDestination(ServiceKey, Destination),
    /// Deletes a service.
    DeleteService(ServiceKey),
}

impl Step {
    /// The service that is changed.
    pub fn service(&self) -> ServiceKey {
        match self {
            Step::AddService(service) => service.key,
            Step::SetService { to, .. } => to.key,
            Step::AddDestination(key, _)
            | Step::DeleteDestination(key, _)
            | Step::DeleteService(key) => *key,
            Step::SetDestination { service, .. } => *service,
        }
    }

    /// Whether it takes something away: done last, and only when what it depends on was done.
    pub fn takes_away(&self) -> bool {
        match self {
            Step::DeleteDestination(..) | Step::DeleteService(_) => true,
            Step::SetDestination { from, to, .. } => to.weight < from.weight,
            Step::AddService(_) | Step::SetService { .. } | Step::AddDestination(..) => false,
        }
    }

    /// The kernel's request.
    pub fn change(&self) -> Change {
        match self.clone() {
            Step::AddService(service) => Change::AddService(service),
            Step::SetService { to, .. } => Change::SetService(to),
            Step::AddDestination(key, destination) => Change::AddDestination(key, destination),
            Step::SetDestination { service, to, .. } => Change::SetDestination(service, to),
            Step::DeleteDestination(key, destination) => {
                Change::DeleteDestination(key, destination.key)
            }
            Step::DeleteService(key) => Change::DeleteService(key),
        }
    }

    /// The line that `plan` prints for it.
    pub fn plan_step(&self) -> PlanStep {
        let (action, what, detail, disruptive) = match self {
            Step::AddService(service) => (
                PlanAction::Add,
                format!("virtual server {}", service.key),
                describe(service),
                false,
            ),
            Step::SetService { from, to } => (
                PlanAction::Change,
                format!("virtual server {}", to.key),
                format!("{} -> {}", describe(from), describe(to)),
                false,
            ),
            Step::AddDestination(key, to) => (
                PlanAction::Add,
                format!("real server {} of {key}", to.key),
                format!(
                    "{} weight {}{}",
                    describe_forward(to.forward),
                    to.weight,
                    thresholds(to)
                ),
                false,
            ),
            Step::SetDestination { service, from, to } => {
                let mut detail = Vec::new();
                if from.weight != to.weight {
                    detail.push(format!("weight {} -> {}", from.weight, to.weight));
                }
                if from.forward != to.forward {
                    let (from, to) = (describe_forward(from.forward), describe_forward(to.forward));
                    detail.push(format!("{from} -> {to}"));
                }
                let bounds =
                    |bounds: &Destination| (bounds.upper_threshold, bounds.lower_threshold);
                if bounds(from) != bounds(to) {
                    let ((upper, lower), (new_upper, new_lower)) = (bounds(from), bounds(to));
                    detail.push(format!(
                        "thresholds {upper}/{lower} -> {new_upper}/{new_lower}"
                    ));
                }
                let disruptive = from.forward != to.forward;
                (
                    PlanAction::Change,
                    format!("real server {} of {service}", to.key),
                    detail.join(", "),
                    disruptive,
                )
            }
            Step::DeleteDestination(key, destination) => (
                PlanAction::Remove,
                format!("real server {} of {key}", destination.key),
                describe_forward(destination.forward),
                true,
            ),
            Step::DeleteService(key) => (
                PlanAction::Remove,
                format!("virtual server {key}"),
                String::new(),
                true,
            ),
        };
        PlanStep {
            action,
            what,
            detail,
            disruptive,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.change().fmt(f)
    }
}

/// A service's settings in the words of `ipvsadm`.
pub fn describe(service: &Service) -> String {
    let mut text = service.scheduler.clone();
    let flags: Vec<String> = [
        (service.flags.fallback, "fallback"),
        (service.flags.port, "port"),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .map(|(_, name)| format!("{}-{name}", service.scheduler))
    .collect();
    if !flags.is_empty() {
        text.push_str(&format!(" ({})", flags.join(",")));
    }
    if let Some(persistence) = service.persistence {
        text.push_str(&format!(" persistent {}", persistence.timeout));
        if persistence.prefix_len != service.key.family().host_prefix() {
            text.push_str(&format!(" mask {}", persistence.prefix_len));
        }
    }
    if service.flags.one_packet {
        text.push_str(" ops");
    }
    text
}

/// How packets reach a destination, tunnels with their encapsulation: `Tunnel (gue port 6080, csum)`.
pub fn describe_forward(forward: Forward) -> String {
    let Forward::Tunnel(tunnel) = forward else {
        return forward.to_string();
    };
    let (kind, checksum) = match tunnel {
        Tunnel::IpIp => ("ipip".to_owned(), TunnelChecksum::None),
        Tunnel::Gue { port, checksum } => (format!("gue port {port}"), checksum),
        Tunnel::Gre { checksum } => ("gre".to_owned(), checksum),
    };
    let checksum = match checksum {
        TunnelChecksum::None => "",
        TunnelChecksum::Checksum => ", csum",
        TunnelChecksum::Remote => ", remcsum",
    };
    format!("{forward} ({kind}{checksum})")
}

fn thresholds(destination: &Destination) -> String {
    match (destination.upper_threshold, destination.lower_threshold) {
        (0, 0) => String::new(),
        (upper, lower) => format!(" thresholds {upper}/{lower}"),
    }
}

/// Why a table refused a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It exists already.
    #[error("it exists already")]
    Exists,
    /// There is no such service.
    #[error("there is no such service")]
    NoService,
    /// There is no such destination.
    #[error("there is no such destination")]
    NoDestination,
}

impl Table {
    /// Carries out one step as the kernel would.
    pub fn apply(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::AddService(service) => {
                if self.services.contains_key(&service.key) {
                    return Err(Refusal::Exists);
                }
                self.services.insert(
                    service.key,
                    TableService {
                        service: service.clone(),
                        destinations: BTreeMap::new(),
                    },
                );
            }
            Step::SetService { to, .. } => self.service_mut(&to.key)?.service = to.clone(),
            Step::AddDestination(key, destination) => {
                let destinations = &mut self.service_mut(key)?.destinations;
                if destinations.contains_key(&destination.key) {
                    return Err(Refusal::Exists);
                }
                destinations.insert(destination.key, *destination);
            }
            Step::SetDestination { service, to, .. } => {
                *self
                    .service_mut(service)?
                    .destinations
                    .get_mut(&to.key)
                    .ok_or(Refusal::NoDestination)? = *to;
            }
            Step::DeleteDestination(key, destination) => {
                self.service_mut(key)?
                    .destinations
                    .remove(&destination.key)
                    .ok_or(Refusal::NoDestination)?;
            }
            Step::DeleteService(key) => {
                self.services.remove(key).ok_or(Refusal::NoService)?;
            }
        }
        Ok(())
    }

    /// The destination of a service.
    pub fn destination(&self, service: &ServiceKey, key: &DestinationKey) -> Option<&Destination> {
        self.services.get(service)?.destinations.get(key)
    }

    fn service_mut(&mut self, key: &ServiceKey) -> Result<&mut TableService, Refusal> {
        self.services.get_mut(key).ok_or(Refusal::NoService)
    }
}
