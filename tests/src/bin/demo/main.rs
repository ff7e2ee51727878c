//! The demo: the blueprint's picture under load, each part taken down in turn and brought back. Ends with 0 only if every promise held.
//!
//! Started by `tests/demo`, which builds, and puts it into User-mode Linux where the kernel has no IPVS.

mod phases;
mod screen;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tests::{Picture, in_uml, need_ipvs, repository, wait};

use phases::Demo;
use screen::Screen;

fn main() -> ExitCode {
    let keep = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--keep") => true,
        Some(other) => {
            eprintln!("error: unknown option {other}; usage: tests/demo [--keep]");
            return ExitCode::from(2);
        }
    };
    end_waits_at_signals();
    // A panic unwinds through the picture, whose Drop removes everything.
    let outcome = std::panic::catch_unwind(|| run(keep));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        _ if wait::interrupted() => {
            println!("interrupted; everything is removed");
            ExitCode::from(130)
        }
        Ok(false) => ExitCode::FAILURE,
        Err(_) => {
            println!("demo: 0 passed, 1 failed (it could not go on; the reason stands above)");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C and SIGTERM end every wait by a panic, and so the demo, with everything removed.
fn end_waits_at_signals() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
            let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            wait::interrupt();
        });
    });
}

fn run(keep: bool) -> bool {
    need_ipvs();
    let begun = Instant::now();
    let screen = Screen::new();
    screen.picture();
    let mut picture = Picture::new();
    let config = repository().join("deploy/examples/demo.toml");
    screen.step("nine nodes are up; the daemons start");
    picture.start_blueprint(&config);
    screen.step("the first answer came through the VIP");
    let mut demo = Demo::new(picture, screen);
    demo.all_phases();
    let kept = demo.summary(begun.elapsed());
    if keep {
        demo.screen.how_to_look_inside(&demo.picture, &config);
        while !wait::interrupted() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    if in_uml() {
        println!("(User-mode Linux: one slow processor; times are shown and decide nothing)");
    }
    kept
}
