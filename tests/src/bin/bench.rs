//! The benchmarks' binary: `bench edge`, `bench idle`, `bench director`, `bench failover`, `bench vrrpd-scale`. Started by the script `tests/bench`.

fn main() -> std::process::ExitCode {
    tests::bench::cli::main()
}
