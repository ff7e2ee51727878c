//! SHELL: the one promise to the runtime that no type can make.

#![expect(unsafe_code, reason = "everything unsafe of this package is here")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets the current runtime tell when `descriptor` can be read.
pub(crate) fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open until it is dropped and always gives the same descriptor; the AsyncFd owns it.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    registered.map_err(Into::into)
}
