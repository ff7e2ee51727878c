//! SHELL: the system calls that no crate of ours wraps: time stamps of received packets, frames on packet sockets, scheduling,
//! memory, the state of the clock.

#![expect(
    unsafe_code,
    reason = "system calls; everything unsafe of this package is here"
)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// Asks for the arrival time of every packet (SO_TIMESTAMPNS, wall clock).
pub(crate) fn enable_timestamps(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` outlives the call, and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            length_of::<libc::c_int>(),
        )
    };
    check(result as isize).map(|_| ())
}

/// A packet as the kernel delivers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Delivery {
    /// Its bytes in the buffer.
    pub(crate) length: usize,
    /// Its arrival time since the epoch.
    pub(crate) stamp: Option<Duration>,
    /// Over IPv6, which delivers no header: sender, receiver and hop limit.
    pub(crate) source: Option<Ipv6Addr>,
    pub(crate) destination: Option<Ipv6Addr>,
    pub(crate) hop_limit: Option<u8>,
}

/// Asks for the receiver and the hop limit of every IPv6 packet (RFC 3542 sections 6.1, 6.3), and takes only the groups that it joins.
pub(crate) fn enable_ipv6_details(socket: BorrowedFd<'_>) -> io::Result<()> {
    // linux/in6.h; not in libc for every target.
    const IPV6_MULTICAST_ALL: libc::c_int = 29;
    for (option, value) in [
        (libc::IPV6_RECVPKTINFO, 1),
        (libc::IPV6_RECVHOPLIMIT, 1),
        (IPV6_MULTICAST_ALL, 0),
    ] {
        let value: libc::c_int = value;
        // SAFETY: `value` outlives the call, and the length is its size.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IPV6,
                option,
                (&raw const value).cast(),
                length_of::<libc::c_int>(),
            )
        };
        check(result as isize)?;
    }
    Ok(())
}

/// Reads one packet without waiting, with what the kernel tells about it.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Delivery> {
    // Large enough for one timespec, one in6_pktinfo and one number, and aligned for their headers.
    let mut control = [0u64; 24];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: sockaddr_in6 is plain data for which zero bytes are valid.
    let mut sender: libc::sockaddr_in6 = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: msghdr is plain data for which zero bytes are valid.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = (&raw mut sender).cast();
    message.msg_namelen = length_of::<libc::sockaddr_in6>();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<[u64; 24]>();
    // SAFETY: every pointer in `message` points to memory of the stated length that outlives the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let mut delivery = Delivery {
        length: check(length)?,
        ..Delivery::default()
    };
    if i32::from(sender.sin6_family) == libc::AF_INET6 {
        delivery.source = Some(Ipv6Addr::from(sender.sin6_addr.s6_addr));
    }
    // SAFETY: the kernel has filled `message`; the macros stay within its control buffer.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: the macros return null or a header within the control buffer, which is aligned.
        let (level, kind) = unsafe { ((*header).cmsg_level, (*header).cmsg_type) };
        // SAFETY: as above.
        let data = unsafe { libc::CMSG_DATA(header) };
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: this kind of message holds one timespec; it may be unaligned.
                let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
                let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
                let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
                delivery.stamp = Some(Duration::new(seconds, nanos));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: this kind of message holds one in6_pktinfo; it may be unaligned.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                delivery.destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                // SAFETY: this kind of message holds one number; it may be unaligned.
                let limit = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                delivery.hop_limit = u8::try_from(limit).ok();
            }
            _ => {}
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(delivery)
}

/// Sends a whole Ethernet frame through an interface.
pub(crate) fn send_frame(socket: BorrowedFd<'_>, interface: u32, frame: &[u8]) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain data for which zero bytes are valid.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    // Both come from the frame: the Ethernet header is ours.
    if let [t0, t1, t2, t3, t4, t5, _, _, _, _, _, _, high, low, ..] = *frame {
        address.sll_protocol = u16::from_be_bytes([high, low]).to_be();
        address.sll_halen = 6;
        address.sll_addr = [t0, t1, t2, t3, t4, t5, 0, 0];
    }
    // SAFETY: frame and address outlive the call, and the lengths are theirs.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            length_of::<libc::sockaddr_ll>(),
        )
    };
    check(sent).map(|_| ())
}

/// Gives the calling thread real-time scheduling (SCHED_RR); threads and processes it starts do not inherit it.
pub(crate) fn set_realtime(priority: u8) -> io::Result<()> {
    let parameter = libc::sched_param {
        sched_priority: i32::from(priority),
    };
    // SAFETY: `parameter` outlives the call; 0 is the calling thread.
    let result = unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_RR | libc::SCHED_RESET_ON_FORK,
            &raw const parameter,
        )
    };
    check(result as isize).map(|_| ())
}

/// Keeps every page that this process touches in memory (mlockall, on fault: what it never touches takes none).
pub(crate) fn lock_memory() -> io::Result<()> {
    // SAFETY: takes flags and no pointers.
    let result =
        unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    check(result as isize).map(|_| ())
}

/// Whether something keeps the wall clock right, as far as the kernel was told (adjtimex; STA_UNSYNC in `linux/timex.h`).
pub(crate) fn is_clock_synchronised() -> bool {
    // SAFETY: timex is plain data for which zero bytes are valid; with `modes` 0 nothing is changed.
    let mut timex: libc::timex = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `timex` outlives the call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}

/// Registers a descriptor with the runtime.
pub(crate) fn asynchronous(descriptor: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the registration holds the owner of the descriptor, which always gives the same number and closes it only after the
    // registration has ended.
    let registered = unsafe { AsyncFd::register(descriptor) };
    registered.map_err(io::Error::from)
}
