//! The nftables ruleset of a node, for scenarios that look at it or meddle with it.

use net::nft::{Chain, Content, Nft, Table};

use crate::netns::Node;

/// The director's table.
pub const TABLE: &str = "weir_director";

/// What a table of a node holds, if there is such a table.
pub fn content(node: &Node, table: &str) -> Option<Content> {
    with(node, async |nft| nft.read(table).await)
}

/// Whether the kernel has nftables for the family inet.
pub fn works(node: &Node) -> bool {
    let table = Table {
        name: "probe".to_owned(),
        ..Table::default()
    };
    with(node, async |nft| {
        let made = nft.replace(&table).await.is_ok();
        if made {
            nft.remove(&table.name).await?;
        }
        Ok(made)
    })
}

/// Removes a table, as `nft delete table inet …` does.
pub fn remove(node: &Node, table: &str) {
    with(node, async |nft| nft.remove(table).await);
}

/// Makes a table that is none of ours, with a chain in it, and returns what it holds.
pub fn make_foreign(node: &Node, name: &str) -> Content {
    let table = Table {
        name: name.to_owned(),
        comment: "of the site".to_owned(),
        chains: vec![Chain {
            name: "arriving".to_owned(),
            hook: Some((net::nft::Hook::Prerouting, -100)),
            rules: Vec::new(),
        }],
        sets: Vec::new(),
    };
    with(node, async |nft| nft.replace(&table).await);
    table.content()
}

fn with<T: Send>(
    node: &Node,
    work: impl AsyncFnOnce(&mut Nft) -> Result<T, net::Error> + Send,
) -> T {
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut nft = Nft::open().expect("an nftables socket");
            let result = work(&mut nft).await;
            result
                .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
        })
    })
}
