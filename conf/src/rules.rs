//! CORE: what concerns several elements or tiers at once, judged over the resolved platform.

use crate::Platform;
use crate::resolve::Resolver;

/// Reports every problem between elements.
pub(crate) fn judge(_platform: &Platform, _resolver: &mut Resolver<'_>) {}
