//! SHELL: what the keeper needs of nftables: the kernel, and a ruleset in memory that can be told to fail.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use net::nft::{Content, Counter, Nft, Table};

/// A ruleset that holds tables.
#[async_trait]
pub trait Filter: Send + Sync + std::fmt::Debug {
    /// The number of its generation: while that stays, nobody has changed anything.
    async fn generation(&mut self) -> Result<u32, net::Error>;
    /// What it holds of a table.
    async fn read(&mut self, table: &str) -> Result<Option<Content>, net::Error>;
    /// The counters of a table's rules.
    async fn counters(&mut self, table: &str) -> Result<Vec<Counter>, net::Error>;
    /// Puts a table in place as a whole, or changes nothing.
    async fn replace(&mut self, table: &Table) -> Result<(), net::Error>;
    /// Removes a table; false if there was none.
    async fn remove(&mut self, table: &str) -> Result<bool, net::Error>;
}

/// The kernel's, by a socket that is opened when it is needed, and anew after an error.
#[derive(Debug, Default)]
pub struct KernelFilter(Option<Nft>);

impl KernelFilter {
    async fn with<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Nft) -> Result<T, net::Error>,
    ) -> Result<T, net::Error> {
        let mut nft = match self.0.take() {
            Some(nft) => nft,
            None => Nft::open()?,
        };
        let result = work(&mut nft).await;
        if result.is_ok() {
            self.0 = Some(nft);
        }
        result
    }
}

#[async_trait]
impl Filter for KernelFilter {
    async fn generation(&mut self) -> Result<u32, net::Error> {
        self.with(async |nft| nft.generation().await).await
    }

    async fn read(&mut self, table: &str) -> Result<Option<Content>, net::Error> {
        self.with(async |nft| nft.read(table).await).await
    }

    async fn counters(&mut self, table: &str) -> Result<Vec<Counter>, net::Error> {
        self.with(async |nft| nft.counters(table).await).await
    }

    async fn replace(&mut self, table: &Table) -> Result<(), net::Error> {
        self.with(async |nft| nft.replace(table).await).await
    }

    async fn remove(&mut self, table: &str) -> Result<bool, net::Error> {
        self.with(async |nft| nft.remove(table).await).await
    }
}

/// A ruleset in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct InMemory(Arc<Mutex<Ruleset>>);

/// What it holds.
#[derive(Debug, Default)]
pub struct Ruleset {
    /// Contents by table.
    pub tables: BTreeMap<String, Content>,
    /// The counters of all tables.
    pub counters: Vec<Counter>,
    /// Counts changes.
    pub generation: u32,
    /// How often a table was put in place.
    pub replaced: u32,
    /// How often a table was read.
    pub read: u32,
    /// What every request is answered with, if not 0: an error number.
    pub refuse: i32,
}

impl InMemory {
    /// Looks at it, or changes it as somebody else would.
    pub fn ruleset(&self) -> MutexGuard<'_, Ruleset> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> Result<MutexGuard<'_, Ruleset>, net::Error> {
        let ruleset = self.ruleset();
        match ruleset.refuse {
            0 => Ok(ruleset),
            code => Err(net::Error::Refused {
                attempt: "put in place",
                object: net::Object::Nft("table in memory".to_owned()),
                source: io::Error::from_raw_os_error(code),
            }),
        }
    }
}

#[async_trait]
impl Filter for InMemory {
    async fn generation(&mut self) -> Result<u32, net::Error> {
        Ok(self.asked()?.generation)
    }

    async fn read(&mut self, table: &str) -> Result<Option<Content>, net::Error> {
        let mut ruleset = self.asked()?;
        ruleset.read += 1;
        Ok(ruleset.tables.get(table).cloned())
    }

    async fn counters(&mut self, _: &str) -> Result<Vec<Counter>, net::Error> {
        Ok(self.asked()?.counters.clone())
    }

    async fn replace(&mut self, table: &Table) -> Result<(), net::Error> {
        let mut ruleset = self.asked()?;
        ruleset.tables.insert(table.name.clone(), table.content());
        ruleset.counters.clear();
        ruleset.generation += 1;
        ruleset.replaced += 1;
        Ok(())
    }

    async fn remove(&mut self, table: &str) -> Result<bool, net::Error> {
        let mut ruleset = self.asked()?;
        ruleset.generation += 1;
        Ok(ruleset.tables.remove(table).is_some())
    }
}
