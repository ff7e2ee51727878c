//! VRRP failover of the virtual IP addresses: see the library for the tour.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<vrrpd::Vrrpd>()
}
