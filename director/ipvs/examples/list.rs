//! Prints the table in the columns of `ipvsadm -Ln`. Needs CAP_NET_ADMIN.

#![expect(clippy::print_stdout, reason = "an example that prints")]

use ipvs_netlink::{Client, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let client = Client::connect().await?;
    let info = client.info().await?;
    let (major, minor, patch) = info.version;
    println!(
        "IP Virtual Server version {major}.{minor}.{patch} (size={})",
        info.connection_table_size
    );
    for entry in client.table().await? {
        let service = entry.service.service;
        println!("{} {}", service.key, service.scheduler);
        for found in entry.destinations {
            let destination = found.destination;
            println!(
                "  -> {:<28} {:<7} {:<6} {:<10} {}",
                destination.key.to_string(),
                destination.forward.to_string(),
                destination.weight,
                found.active,
                found.inactive
            );
        }
    }
    Ok(())
}
