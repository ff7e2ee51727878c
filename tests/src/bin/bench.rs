//! The benchmarks' binary: `bench edge` and `bench idle`. Started by the script `tests/bench`.

fn main() -> std::process::ExitCode {
    tests::bench::cli::main()
}
