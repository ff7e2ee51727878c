//! CORE: hook programs.

use std::collections::BTreeMap;

use super::{Resolver, given};
use crate::codes;
use crate::decode::At;
use crate::platform::{Hooks, Occasion};
use crate::problems::Tiers;
use crate::raw::failover::Hooks as RawHooks;
use crate::unit::Interval;

const DEFAULT_TIMEOUT: Interval = Interval::from_secs(10);

impl Resolver<'_> {
    pub(super) fn hooks(&mut self, of: &str, raw: Option<&At<RawHooks>>) -> Option<Hooks> {
        let raw = raw?;
        let mut programs = BTreeMap::new();
        for (occasion, command) in [
            (Occasion::Master, &raw.master),
            (Occasion::Backup, &raw.backup),
            (Occasion::Fault, &raw.fault),
            (Occasion::Stop, &raw.stop),
            (Occasion::Any, &raw.any),
            (Occasion::LowerMaster, &raw.lower_master),
        ] {
            let Some(command) = command else { continue };
            let key = format!("{of}.hooks.{}", occasion.word());
            match command.first() {
                None => {
                    self.report(
                        codes::EMPTY_LIST,
                        Tiers::FAILOVER,
                        command.span,
                        &key,
                        format!("`{key}` names no program"),
                    )
                    .help("name the program's file and its arguments, or take the key out");
                }
                Some(program) if !program.starts_with('/') => {
                    self.report(
                        codes::RELATIVE_PATH,
                        Tiers::FAILOVER,
                        program.span,
                        &key,
                        format!("`{}` is not an absolute path", program.value),
                    )
                    .help("there is no shell and no search path: name the program's file");
                }
                Some(_) => {
                    let words = command.iter().map(|word| word.value.clone());
                    programs.insert(occasion, words.collect());
                }
            }
        }
        if let Some(timeout) = raw.timeout.as_ref().filter(|timeout| timeout.is_zero()) {
            self.report(
                codes::ZERO_TIME,
                Tiers::FAILOVER,
                timeout.span,
                format!("{of}.hooks.timeout"),
                format!("`{of}.hooks.timeout` is zero"),
            )
            .help("no program could ever end in time; the default is 10s");
        }
        Some(Hooks {
            programs,
            timeout: given(&raw.timeout).unwrap_or(DEFAULT_TIMEOUT),
        })
    }
}
