//! CORE: VIPs and their virtual routers.

use std::collections::BTreeMap;

use super::moved::family;
use super::{Resolver, given, values};
use crate::codes;
use crate::decode::{At, Element};
use crate::platform::{
    Checksum, Heartbeat, Hmac, HmacMode, LinkDelay, Preempt, SyncGroup, Unicast, Vip, VrrpSettings,
};
use crate::problems::Tiers;
use crate::raw::failover::{
    Checksum as RawChecksum, Hmac as RawHmac, HmacMode as RawHmacMode, LinkDelay as RawLinkDelay,
    Unicast as RawUnicast, Vip as RawVip, Vrrp, VrrpDefaults,
};
use crate::unit::Interval;

/// Takeover in under 350 ms.
const DEFAULT_ADVERT_INTERVAL: Interval = Interval::from_millis(100);
const DEFAULT_VERSION: u8 = 3;
/// RFC 9568 section 6.1.
const DEFAULT_DOWN_TIMER_ADVERTS: u8 = 3;
/// From the same network (RFC 9568 section 5.1.1.3).
const DEFAULT_TTL: u8 = 255;
/// As keepalived's `time_window`.
const DEFAULT_HMAC_WINDOW: Interval = Interval::from_secs(5);
const DEFAULT_UNREADY_PENALTY: u8 = 100;
const DEFAULT_VERDICT_HOLD: Interval = Interval::from_secs(30);
/// As keepalived's garp_master_repeat and garp_master_delay.
const DEFAULT_GARP_REPEAT: u8 = 5;
const DEFAULT_GARP_DELAY: Interval = Interval::from_secs(5);
/// keepalived never repeats; after a healed split nobody would re-announce for the ARP timeout, which can be hours.
const DEFAULT_GARP_REFRESH: Interval = Interval::from_secs(60);

impl<'a> Resolver<'a> {
    pub(super) fn vips(&mut self) -> BTreeMap<String, Vip> {
        self.elements(self.raw.vip.as_ref(), Self::vip)
    }

    fn vip(&mut self, name: &str, element: &'a Element<RawVip>) -> Option<Vip> {
        let raw = &element.raw;
        let key = format!("vip.{name}");
        if let Some(network) = &raw.network {
            self.known_network(network, Tiers::VIP, &format!("{key}.network"));
        }
        let bare = raw.family.is_some();
        self.list(
            // One without addresses says so.
            raw.addresses
                .as_ref()
                .filter(|list| !bare || !list.is_empty()),
            Tiers::VIP,
            &format!("{key}.addresses"),
            |moved| {
                moved
                    .cidr()
                    .map_or_else(String::new, |cidr| cidr.0.addr().to_string())
            },
        );
        self.list(
            raw.directors.as_ref(),
            Tiers::VIP,
            &format!("{key}.directors"),
            String::clone,
        );
        for director in raw.directors.iter().flat_map(|directors| &directors.value) {
            self.known_node(director, Tiers::VIP, &format!("{key}.directors"));
        }
        let vrrp = raw.vrrp.as_ref().and_then(|vrrp| self.vrrp(&key, vrrp));
        let addresses = self.moved(&format!("{key}.addresses"), raw, raw.addresses.as_ref());
        let unadvertised = self.moved(
            &format!("{key}.unadvertised"),
            raw,
            raw.unadvertised.as_ref(),
        );
        let hooks = self.hooks(&key, raw.hooks.as_ref());
        let routes = self.vip_routes(&key, raw);
        let rules = self.vip_rules(&key, raw);
        let network = raw.network.as_ref()?.value.clone();
        Some(Vip {
            name: name.to_owned(),
            addresses,
            family: given(&raw.family).map(family),
            unadvertised,
            routes,
            rules,
            network,
            directors: values(raw.directors.as_ref()),
            vrrp: vrrp?,
            hooks,
            place: self.place(element.name),
        })
    }

    pub(super) fn sync_groups(&mut self) -> BTreeMap<String, SyncGroup> {
        self.elements(self.raw.sync_group.as_ref(), |resolver, name, element| {
            let hooks = format!("sync_group.{name}");
            let hooks = resolver.hooks(&hooks, element.raw.hooks.as_ref());
            let key = format!("sync_group.{name}.vips");
            let vips = element.raw.vips.as_ref();
            resolver.list(vips, Tiers::FAILOVER, &key, String::clone);
            for vip in vips.iter().flat_map(|vips| &vips.value) {
                let named = resolver.raw.vip.as_ref();
                resolver.known(named, codes::UNKNOWN_VIP, Tiers::FAILOVER, vip, &key, "VIP");
            }
            Some(SyncGroup {
                name: name.to_owned(),
                vips: values(vips),
                hooks,
                place: resolver.place(element.name),
            })
        })
    }

    fn vrrp(&mut self, vip: &str, raw: &At<Vrrp>) -> Option<VrrpSettings> {
        let key = format!("{vip}.vrrp");
        let none = VrrpDefaults::default();
        let defaults = self
            .raw
            .defaults
            .as_ref()
            .and_then(|defaults| defaults.vrrp.as_deref())
            .unwrap_or(&none);
        if let Some(heartbeat) = &raw.heartbeat {
            self.known_network(heartbeat, Tiers::FAILOVER, &format!("{key}.heartbeat"));
        }
        let advert_interval = given(&raw.advert_interval)
            .or(given(&defaults.advert_interval))
            .unwrap_or(DEFAULT_ADVERT_INTERVAL);
        if let Some(password) = &raw.password {
            let secrets = self.raw.secret.as_ref();
            self.known(
                secrets,
                codes::UNKNOWN_SECRET,
                Tiers::FAILOVER,
                password,
                &format!("{key}.password"),
                "secret",
            );
        }
        for key_of in raw.hmac.iter().flat_map(|hmac| hmac.keys.iter()) {
            for secret in key_of.value.iter().filter_map(|key| key.secret.as_ref()) {
                let key = format!("{key}.hmac.keys");
                let secrets = self.raw.secret.as_ref();
                self.known(
                    secrets,
                    codes::UNKNOWN_SECRET,
                    Tiers::FAILOVER,
                    secret,
                    &key,
                    "secret",
                );
            }
        }
        let hmac = raw
            .hmac
            .as_ref()
            .and_then(|hmac| self.hmac(&key, hmac, advert_interval));
        let track = self.tracks(&key, raw);
        Some(VrrpSettings {
            id: given(&raw.id)?,
            advert_interval,
            down_timer_adverts: given(&raw.down_timer_adverts)
                .or(given(&defaults.down_timer_adverts))
                .map_or(DEFAULT_DOWN_TIMER_ADVERTS, |adverts| adverts.narrow()),
            priorities: values(raw.priorities.as_ref()),
            preempt: self.preempt(&key, raw, defaults),
            link_delay: link_delay_of(raw.link_delay.as_deref()),
            startup_delay: given(&raw.startup_delay)
                .or(given(&defaults.startup_delay))
                .unwrap_or(Interval::from_secs(0)),
            checksum: match given(&raw.checksum).or(given(&defaults.checksum)) {
                Some(RawChecksum::Rfc9568) => Checksum::Rfc9568,
                Some(RawChecksum::PseudoHeader) => Checksum::PseudoHeader,
                Some(RawChecksum::Auto) | None => Checksum::Auto,
            },
            version: given(&raw.version).map_or(DEFAULT_VERSION, |version| version.narrow()),
            unicast: raw
                .unicast
                .as_ref()
                .and_then(|unicast| unicast_of(&unicast.value)),
            virtual_mac: given(&raw.virtual_mac).unwrap_or(false),
            accept: given(&raw.accept).unwrap_or(true),
            password: raw.password.as_ref().map(|name| name.value.clone()),
            hmac,
            unready_penalty: given(&raw.unready_penalty)
                .or(given(&defaults.unready_penalty))
                .map_or(DEFAULT_UNREADY_PENALTY, |penalty| penalty.narrow()),
            verdict_hold: given(&raw.verdict_hold)
                .or(given(&defaults.verdict_hold))
                .unwrap_or(DEFAULT_VERDICT_HOLD),
            track,
            heartbeat: raw.heartbeat.as_ref().map(|network| Heartbeat {
                network: network.value.clone(),
            }),
            garp_repeat: given(&raw.garp_repeat)
                .or(given(&defaults.garp_repeat))
                .map_or(DEFAULT_GARP_REPEAT, |repeat| repeat.narrow()),
            garp_delay: given(&raw.garp_delay)
                .or(given(&defaults.garp_delay))
                .unwrap_or(DEFAULT_GARP_DELAY),
            garp_refresh: given(&raw.garp_refresh)
                .or(given(&defaults.garp_refresh))
                .unwrap_or(DEFAULT_GARP_REFRESH),
        })
    }

    /// The keys, each once, and one of them signs.
    fn hmac(&mut self, vrrp: &str, raw: &At<RawHmac>, advert: Interval) -> Option<Hmac> {
        let mut keys: Vec<(u8, String)> = Vec::new();
        let written = raw.keys.iter().flat_map(|keys| &keys.value);
        for key in written {
            let (Some(id), Some(secret)) = (&key.id, &key.secret) else {
                continue;
            };
            let number = id.value.narrow();
            if keys.iter().any(|(known, _)| *known == number) {
                self.report(
                    codes::HMAC_KEY_TWICE,
                    Tiers::FAILOVER,
                    id.span,
                    format!("{vrrp}.hmac.keys"),
                    format!("the key number {number} is given twice"),
                )
                .help("the number travels with each advert and says which key signed it");
            }
            keys.push((number, secret.value.clone()));
        }
        let first = keys.first().map(|(id, _)| *id);
        let active = match &raw.active {
            Some(active) => active.value.narrow(),
            None => first?,
        };
        if let Some(written) = raw.active.as_ref()
            && !keys.iter().any(|(id, _)| *id == active)
        {
            self.report(
                codes::HMAC_NO_ACTIVE,
                Tiers::FAILOVER,
                written.span,
                format!("{vrrp}.hmac.active"),
                format!("no key has the number {active}"),
            )
            .help("name the number of one of `keys`: that key signs");
        }
        let three = Interval::from_micros(advert.as_micros().saturating_mul(3));
        Some(Hmac {
            keys,
            active,
            mode: match given(&raw.mode) {
                Some(RawHmacMode::ReceiveOnly) => HmacMode::ReceiveOnly,
                Some(RawHmacMode::Permissive) => HmacMode::Permissive,
                Some(RawHmacMode::Enforce) | None => HmacMode::Enforce,
            },
            window: given(&raw.window).unwrap_or(three.max(DEFAULT_HMAC_WINDOW)),
        })
    }

    fn preempt(&mut self, key: &str, raw: &Vrrp, defaults: &VrrpDefaults) -> Preempt {
        let preempt = given(&raw.preempt)
            .or(given(&defaults.preempt))
            .unwrap_or(true);
        if let (false, Some(delay)) = (preempt, &raw.preempt_delay) {
            self.report(
                codes::DELAY_WITHOUT_PREEMPT,
                Tiers::FAILOVER,
                delay.span,
                format!("{key}.preempt_delay"),
                "`preempt_delay` has no meaning while `preempt` is false: the VIP is never taken back",
            )
            .help("take one of the two out");
        }
        if preempt {
            let delay = given(&raw.preempt_delay).or(given(&defaults.preempt_delay));
            Preempt::After(delay.unwrap_or(Interval::from_secs(0)))
        } else {
            Preempt::Never
        }
    }
}

fn unicast_of(raw: &RawUnicast) -> Option<Unicast> {
    let (ttl, min_ttl) = match raw {
        RawUnicast::Switch(false) => return None,
        RawUnicast::Switch(true) => (None, None),
        RawUnicast::Table(table) => (given(&table.ttl), given(&table.min_ttl)),
    };
    Some(Unicast {
        ttl: ttl.map_or(DEFAULT_TTL, |ttl| ttl.narrow()),
        min_ttl: min_ttl.map_or(DEFAULT_TTL, |ttl| ttl.narrow()),
    })
}

fn link_delay_of(raw: Option<&RawLinkDelay>) -> LinkDelay {
    let or_none = |delay: Option<Interval>| delay.unwrap_or(Interval::from_secs(0));
    LinkDelay {
        down: or_none(raw.and_then(|raw| given(&raw.down))),
        up: or_none(raw.and_then(|raw| given(&raw.up))),
    }
}
