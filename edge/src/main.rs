//! The `edge` program: the frame of `conf/daemon` around [`edge::Edge`].

use std::process::ExitCode;

/// glibc's allocator took a sixth of the processor time of a proxied request (`tests/bench edge`, perf).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daemon::main::<edge::Edge>()
}
