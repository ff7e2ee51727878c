//! `cargo run -p conf --example check FILE`: every problem of a platform file.

#![expect(clippy::print_stdout, reason = "an example program")]

fn main() {
    for path in std::env::args().skip(1) {
        let report = conf::load(std::path::Path::new(&path));
        println!("{}", report.render(false));
    }
}
