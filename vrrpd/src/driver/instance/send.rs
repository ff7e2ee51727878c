//! SHELL: what a virtual router sends: adverts, heartbeats on the second network, and announcements of its addresses.

use std::net::IpAddr;

use conf::platform::Checksum;
use daemon::clock;

use super::Instance;
use crate::arp;
use crate::driver::{Shared, chain, faults, heartbeat};
use crate::ndp;
use crate::packet::{self, ChecksumForm, GROUP, GROUP6, Heartbeat, Seal, Version, Way};
use crate::plan::Family;
use crate::socket::SocketError;
use crate::vmac;

impl Instance {
    /// Sends an advert.
    pub(super) fn advertise(&mut self, priority: u8, shared: &mut Shared) {
        if self.wanted.device.is_some() {
            shared.open_frames();
        }
        let port = self.port.and_then(|port| shared.ports.get(port));
        let (Some(port), Some(source)) = (port, self.source) else {
            return;
        };
        let advert = self.router.advert(priority);
        let form = self.form();
        let wall = self.wall();
        let rules = &self.wanted.rules;
        let group = match source {
            IpAddr::V4(_) => IpAddr::V4(GROUP),
            IpAddr::V6(_) => IpAddr::V6(GROUP6),
        };
        let receivers = match &rules.way {
            Way::Multicast => std::slice::from_ref(&group),
            Way::Unicast { peers, .. } => peers,
        };
        for to in receivers {
            let hmac = rules.hmac.as_ref();
            let seal = Seal {
                password: rules.password.as_ref(),
                hmac: hmac.map(|hmac| {
                    self.sequence = self.sequence.next(wall);
                    (hmac, self.sequence)
                }),
            };
            let bytes = packet::encode(&advert, source, *to, form, seal);
            let sent = match (&self.wanted.device, &rules.way) {
                (Some(device), Way::Multicast) => {
                    let frame = vmac::frame(device.mac, source, &bytes);
                    let sent = shared.send_frame(port.index(), &frame);
                    sent.map_err(|error| {
                        SocketError::new("send an advert", &self.wanted.interface, error)
                    })
                }
                _ => port.socket.send(&bytes, *to),
            };
            if let Err(error) = sent {
                self.send_errors += 1;
                let now = clock::now();
                faults::note(&mut self.faults, "send", None, now, || chain(&error));
            }
        }
    }

    /// Tells the other directors over the second network, which may be whole where the first is not.
    pub(super) fn send_heartbeats(&mut self, priority: u8, shared: &Shared) {
        let wall = self.wall();
        let Some(path) = &self.wanted.heartbeat else {
            return;
        };
        let heartbeat = Heartbeat {
            kind: heartbeat::kind(self.key.family),
            vrid: self.wanted.config.vrid,
            priority,
            interval: self.wanted.config.interval,
        };
        let hmac = self.wanted.rules.hmac.as_ref();
        let last = &mut self.sequence;
        let sequence = || {
            *last = last.next(wall);
            *last
        };
        let sent = self
            .second
            .send(path, heartbeat, hmac, sequence, &shared.ports);
        if let Err(error) = sent {
            self.send_errors += 1;
            let now = clock::now();
            faults::note(&mut self.faults, "heartbeat", None, now, || chain(&error));
        }
    }

    /// Tells the network who has the addresses.
    pub(super) fn announce(&mut self, addresses: &[IpAddr], shared: &mut Shared) {
        shared.open_frames();
        for address in addresses {
            let held = self
                .wanted
                .held
                .iter()
                .find(|held| held.address == *address);
            let device = self.wanted.device.as_ref();
            // With a virtual MAC through the interface below: the one above may be so new that nothing is known of it.
            let device =
                device.filter(|device| held.is_some_and(|held| held.interface == device.name));
            let name = match device {
                Some(device) => Some(&device.parent),
                None => held.map(|held| &held.interface),
            };
            let Some(found) = name.and_then(|name| shared.interfaces.get(name)) else {
                continue;
            };
            let Some(mac) = device.map(|device| device.mac).or(found.mac) else {
                continue;
            };
            let frame = match address {
                IpAddr::V4(address) => arp::announcement(mac.0, *address),
                IpAddr::V6(address) => ndp::announcement(mac.0, *address, found.forwards_ipv6),
            };
            if let Err(error) = shared.send_frame(found.index, &frame) {
                self.announcer_errors += 1;
                faults::note(&mut self.faults, "announce", None, clock::now(), || {
                    format!("failed to announce {address}: {error}")
                });
            }
        }
    }

    /// What the checksum of its adverts covers.
    pub(super) fn form(&self) -> ChecksumForm {
        if self.wanted.config.version == Version::V2 {
            return ChecksumForm::Message;
        }
        if self.key.family == Family::Ipv6 {
            return ChecksumForm::PseudoHeader;
        }
        match self.wanted.checksum {
            Checksum::Rfc9568 => ChecksumForm::Message,
            Checksum::PseudoHeader => ChecksumForm::PseudoHeader,
            Checksum::Auto => self.last_form.unwrap_or(ChecksumForm::PseudoHeader),
        }
    }
}
