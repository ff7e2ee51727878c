//! Tunnel devices that take packets from anybody: the kernel makes one of each kind with its module.

use netlink_packet_route::IpProtocol;
use netlink_packet_route::link::{InfoData, InfoIpTunnel, InfoKind};
use rtnetlink::LinkMessageBuilder;

use crate::address::Added;
use crate::connection::Net;
use crate::error::{Error, Object};

/// A kind of tunnel device, by what is inside and what is outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelKind {
    /// IPv4 in IPv4.
    IpIp,
    /// IPv6 in IPv4.
    Sit,
    /// IPv6, or IPv4, in IPv6.
    Ip6Tnl,
    /// Both in GRE in IPv4.
    Gre,
    /// Both in GRE in IPv6.
    Ip6Gre,
}

impl TunnelKind {
    /// The device that the kernel makes by itself: no addresses of its own, it takes what no other tunnel takes.
    pub const fn device(self) -> &'static str {
        match self {
            TunnelKind::IpIp => "tunl0",
            TunnelKind::Sit => "sit0",
            TunnelKind::Ip6Tnl => "ip6tnl0",
            TunnelKind::Gre => "gre0",
            TunnelKind::Ip6Gre => "ip6gre0",
        }
    }

    /// The kernel module that has it.
    pub const fn module(self) -> &'static str {
        match self {
            TunnelKind::IpIp => "ipip",
            TunnelKind::Sit => "sit",
            TunnelKind::Ip6Tnl => "ip6_tunnel",
            TunnelKind::Gre => "ip_gre",
            TunnelKind::Ip6Gre => "ip6_gre",
        }
    }

    fn info_kind(self) -> InfoKind {
        match self {
            TunnelKind::IpIp => InfoKind::IpIp,
            TunnelKind::Sit => InfoKind::SitTun,
            TunnelKind::Ip6Tnl => InfoKind::Ip6Tnl,
            TunnelKind::Gre => InfoKind::GreTun,
            TunnelKind::Ip6Gre => InfoKind::GreTun6,
        }
    }
}

impl Net {
    /// Asks for the device that takes packets from anybody. The question makes the kernel load the module, which makes the device; where it
    /// makes none by itself (`net.core.fb_tunnels_only_for_init_net`) this one is new. A kernel without the module refuses with EOPNOTSUPP.
    pub async fn add_tunnel(&self, kind: TunnelKind) -> Result<Added, Error> {
        let message = LinkMessageBuilder::<()>::new_with_info_kind(kind.info_kind())
            .name(kind.device().to_owned())
            .build();
        let object = Object::LinkNamed(kind.device().to_owned());
        let request = self.handle().link().add(message).execute();
        let added = self.change("add", object, &[libc::EEXIST], request).await?;
        Ok(if added { Added::New } else { Added::Present })
    }

    /// Says which protocol the IPv6 tunnel device takes out of its packets: 41 (IPv6), 4 (IPv4) or 0 (both).
    pub async fn set_tunnel_protocol(&self, index: u32, protocol: u8) -> Result<(), Error> {
        let protocol = IpProtocol::from(i32::from(protocol));
        let data = InfoData::IpTunnel(vec![InfoIpTunnel::Protocol(protocol)]);
        let message = LinkMessageBuilder::<()>::new_with_info_kind(InfoKind::Ip6Tnl)
            .index(index)
            .set_info_data(data)
            .build();
        let request = self.handle().link().change(message).execute();
        self.change("change", Object::LinkIndex(index), &[], request)
            .await
            .map(drop)
    }

    /// Removes a link. One that is gone is no error.
    pub async fn remove_link(&self, index: u32) -> Result<(), Error> {
        let request = self.handle().link().del(index).execute();
        let absorbed = [libc::ENODEV];
        self.change("delete", Object::LinkIndex(index), &absorbed, request)
            .await
            .map(drop)
    }
}
