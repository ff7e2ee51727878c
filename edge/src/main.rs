//! The `edge` program: the frame of `conf/daemon` around [`edge::Edge`].

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<edge::Edge>()
}
