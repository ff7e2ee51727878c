//! The director: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    daemon::main::<director::cli::Director>()
}
