//! Interfaces of the kind macvlan: a second Ethernet address on an interface.

use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, MacVlanMode,
};
use rtnetlink::{LinkMacVlan, LinkUnspec};

use crate::address::Added;
use crate::connection::Net;
use crate::error::{Error, Object};
use crate::link::Mac;

impl Net {
    /// Makes a macvlan on the link with number `parent`; it is down, and will make no IPv6 address of its own. One of that name is left alone.
    ///
    /// The mode is VEPA. Like one in private mode it exchanges nothing with others on the parent, but what another machine sends to a
    /// group from the same Ethernet address still reaches the parent: in private mode it goes to the macvlan alone
    /// (`macvlan_handle_frame` in the kernel's `drivers/net/macvlan.c`), and two masters of one virtual router would not hear each other.
    pub async fn add_macvlan(&self, name: &str, parent: u32, mac: Mac) -> Result<Added, Error> {
        let message = LinkMacVlan::new(name, parent, MacVlanMode::Vepa)
            .address(mac.0.to_vec())
            .build();
        let object = Object::LinkNamed(name.to_owned());
        let request = self.handle().link().add(message).execute();
        if !self.change("add", object, &[libc::EEXIST], request).await? {
            return Ok(Added::Present);
        }
        let index = self.link(name).await?.index;
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let spec = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]);
        let message = LinkUnspec::new_with_index(index)
            .append_extra_attribute(spec)
            .build();
        let request = self.handle().link().set(message).execute();
        // Without IPv6 there is nothing to prevent.
        let absorbed = [libc::EAFNOSUPPORT, libc::EINVAL, libc::EOPNOTSUPP];
        self.change("change", Object::LinkIndex(index), &absorbed, request)
            .await?;
        Ok(Added::New)
    }
}
