//! CORE: certificates and the listeners on which they are shown.

use super::Judge;
use crate::codes;
use crate::problems::Tiers;

impl Judge<'_, '_> {
    pub(super) fn tls(&mut self) {
        let (raw, platform) = (self.raw, self.platform);
        if self.unclear_site() {
            return;
        }
        for (name, element) in raw.listener.iter().flat_map(|listeners| &listeners.0) {
            let Some(listener) = platform.listeners.get(name).filter(|found| found.tls) else {
                continue;
            };
            let mut sites = raw.site.iter().flat_map(|sites| &sites.value.0);
            let shown = sites.any(|site| {
                let named = site.raw.listeners.as_ref();
                let served = named
                    .is_none_or(|named| named.value.iter().any(|name| name.value == listener.name));
                served && site.raw.tls.is_some()
            });
            if shown {
                continue;
            }
            let span = element
                .raw
                .tls
                .as_ref()
                .map_or(element.name, |tls| tls.span);
            self.report(
                codes::NO_CERTIFICATE,
                Tiers::LAYER7,
                span,
                format!("listener.{name}.tls"),
                format!("no site has a certificate for listener `{name}`: no client could connect"),
            )
            .help("add `tls = { cert = …, key = … }` to the sites that are served on it");
        }
        let sites = raw.site.iter().flat_map(|sites| &sites.value.0);
        for (index, site) in sites.enumerate() {
            let Some(tls) = &site.raw.tls else { continue };
            let named = site.raw.listeners.as_ref();
            let mut listeners = platform.listeners.values().filter(|listener| {
                named.is_none_or(|named| named.value.iter().any(|name| name.value == listener.name))
            });
            if !listeners.any(|listener| listener.tls) {
                self.report(
                    codes::UNUSED_CERTIFICATE,
                    Tiers::LAYER7,
                    tls.span,
                    format!("site[{index}].tls"),
                    "this certificate is never shown: no listener of the site speaks TLS",
                )
                .help("set `tls = true` at a listener");
            }
        }
    }
}
