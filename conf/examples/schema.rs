//! `cargo run -p conf --example schema > deploy/platform.schema.json`: the schema of the platform file.

#![expect(clippy::print_stdout, reason = "an example program")]

fn main() {
    println!("{:#}", conf::schema());
}
