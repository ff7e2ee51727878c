//! SHELL: the few system calls that std and rustix do not wrap.

/// Ignores SIGHUP until a handler for it is installed: a reload that is asked for while the daemon starts must not kill it.
pub(crate) fn ignore_hangup() {
    // SAFETY: SIG_IGN installs no handler, so no code of ours runs in signal context; SIGHUP is a valid signal number.
    unsafe {
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
    }
}
