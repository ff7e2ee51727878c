//! CORE: what can be changed, and the requests for it.

use crate::model::{
    Daemon, DaemonRole, Destination, DestinationKey, Service, ServiceKey, Timeouts,
};
use crate::wire::{self, Message, command};

/// One change of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a service.
    AddService(Service),
    /// Changes a service in place: its connections live on, also when the scheduler changes.
    SetService(Service),
    /// Deletes a service and its destinations.
    DeleteService(ServiceKey),
    /// Adds a destination to a service.
    AddDestination(ServiceKey, Destination),
    /// Changes a destination in place.
    SetDestination(ServiceKey, Destination),
    /// Deletes a destination.
    DeleteDestination(ServiceKey, DestinationKey),
    /// Starts a synchronisation daemon.
    AddDaemon(Daemon),
    /// Stops a synchronisation daemon. Kernels were seen to hang when this follows the start at once: wait some milliseconds between the two.
    DeleteDaemon(DaemonRole),
    /// Sets the timeouts that are not 0.
    SetTimeouts(Timeouts),
    /// Sets the counters of one service to zero, or all.
    ZeroCounters(Option<ServiceKey>),
}

impl Change {
    /// The request's command and attributes.
    pub fn encode(&self) -> Message {
        match self {
            Change::AddService(service) => wire::on_service(command::NEW_SERVICE, service),
            Change::SetService(service) => wire::on_service(command::SET_SERVICE, service),
            Change::DeleteService(key) => wire::on_service_key(command::DEL_SERVICE, key),
            Change::AddDestination(service, destination) => {
                wire::on_destination(command::NEW_DEST, service, destination)
            }
            Change::SetDestination(service, destination) => {
                wire::on_destination(command::SET_DEST, service, destination)
            }
            Change::DeleteDestination(service, key) => {
                wire::on_destination_key(command::DEL_DEST, service, key)
            }
            Change::AddDaemon(daemon) => wire::new_daemon(daemon),
            Change::DeleteDaemon(role) => wire::delete_daemon(*role),
            Change::SetTimeouts(timeouts) => wire::set_timeouts(timeouts),
            Change::ZeroCounters(None) => wire::empty(command::ZERO),
            Change::ZeroCounters(Some(key)) => wire::on_service_key(command::ZERO, key),
        }
    }
}
