//! An engine without a network: it answers what it was told, for tests and benchmarks of what stands above.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use conf::platform::Endpoint;

use super::{Answer, CheckError, Engine};
use crate::Target;

/// Every target is alive, except those that were told to fail.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<Endpoint, String>>);

impl Memory {
    /// From now on checks of `address` fail with this reason.
    pub fn fail(&self, address: impl Into<Endpoint>, reason: impl Into<String>) {
        self.failing().insert(address.into(), reason.into());
    }

    /// From now on checks of `address` succeed again.
    pub fn heal(&self, address: impl Into<Endpoint>) {
        self.failing().remove(&address.into());
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, BTreeMap<Endpoint, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Engine for Memory {
    async fn check(&self, target: &Target) -> Result<Answer, CheckError> {
        match self.failing().get(&target.address) {
            Some(reason) => Err(CheckError::Answer(reason.clone())),
            None => Ok(Answer::alive("alive")),
        }
    }
}
