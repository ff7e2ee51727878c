//! CORE: what moves the priority of a node.

use super::{Resolver, given};
use crate::codes;
use crate::decode::At;
use crate::platform::{Effect, Local, Subject, Track};
use crate::problems::Tiers;
use crate::raw::failover::{Track as RawTrack, Vrrp};
use crate::resolve::check::OWN_ADDRESS;
use crate::source::Span;

impl Resolver<'_> {
    pub(super) fn tracks(&mut self, key: &str, raw: &Vrrp) -> Vec<Track> {
        let mut tracks = Vec::new();
        let written = raw.track.iter().flat_map(|tracks| &tracks.value);
        for (index, track) in written.enumerate() {
            let key = format!("{key}.track[{index}]");
            let subject = self.subject(&key, track);
            let effect = self.effect(&key, track);
            if let (Some(subject), Some(effect)) = (subject, effect) {
                tracks.push(Track {
                    subject,
                    effect,
                    place: self.place(track.span),
                });
            }
        }
        tracks
    }

    /// The one kind that is given.
    fn subject(&mut self, key: &str, track: &At<RawTrack>) -> Option<Subject> {
        let kinds = [
            ("check", track.check.as_ref().map(|given| given.span)),
            (
                "interface",
                track.interface.as_ref().map(|given| given.span),
            ),
            ("file", track.file.as_ref().map(|given| given.span)),
            ("process", track.process.as_ref().map(|given| given.span)),
            ("address", track.address.as_ref().map(|given| given.span)),
            ("route", track.route.as_ref().map(|given| given.span)),
        ];
        let kinds: Vec<(&str, Span)> = kinds
            .into_iter()
            .filter_map(|(name, span)| Some((name, span?)))
            .collect();
        let key = match kinds.as_slice() {
            [(name, _)] => format!("{key}.{name}"),
            [] => {
                self.track_kind(
                    track.span,
                    key,
                    "this entry says not what is tracked".to_owned(),
                );
                return None;
            }
            [(first, _), (second, span), ..] => {
                let message =
                    format!("an entry tracks one thing, and this one has `{first}` and `{second}`");
                self.track_kind(*span, key, message);
                return None;
            }
        };
        if let Some(check) = &track.check {
            let mut check_of = self.check_of(check, &key, Tiers::FAILOVER)?;
            let address = *check_of.address.get_or_insert(OWN_ADDRESS);
            if check_of.port.is_none() && check_of.kind.needs_port() {
                self.report(
                    codes::TRACK_PORT,
                    Tiers::FAILOVER,
                    check.span,
                    key,
                    format!("the tracked check goes to {address}, but no port is given"),
                )
                .help(
                    "set `port`: there is no virtual service here that a port could be taken from",
                );
            }
            return Some(Subject::Check(Box::new(check_of)));
        }
        let (local, span, wrong) = if let Some(name) = &track.interface {
            let wrong = !is_name(&name.value, 15);
            let wrong =
                wrong.then_some("an interface's name has 1 to 15 characters, no `/` and no blank");
            (Local::Interface(name.value.clone()), name.span, wrong)
        } else if let Some(path) = &track.file {
            let wrong = !path.value.starts_with('/') || path.value.contains('\0');
            let wrong = wrong.then_some("the path of a tracked file begins with `/`");
            (Local::File(path.value.clone()), path.span, wrong)
        } else if let Some(name) = &track.process {
            let wrong = !is_name(&name.value, 255);
            let wrong = wrong.then_some("a process is named without its path, and without blanks");
            (Local::Process(name.value.clone()), name.span, wrong)
        } else if let Some(address) = &track.address {
            (Local::Address(address.value), address.span, None)
        } else {
            let route = track.route.as_ref()?;
            let net = route.value.0;
            let wrong = (net.trunc() != net)
                .then_some("a route is written with the first address of its network");
            let local = Local::Route {
                destination: net.addr(),
                prefix_len: net.prefix_len(),
            };
            (local, route.span, wrong)
        };
        if let Some(wrong) = wrong {
            self.report(codes::TRACK_VALUE, Tiers::FAILOVER, span, key, wrong);
            return None;
        }
        Some(Subject::Local(local))
    }

    fn track_kind(&mut self, span: Span, key: &str, message: String) {
        self.report(codes::TRACK_KIND, Tiers::FAILOVER, span, key, message)
            .help("give one of `check`, `interface`, `file`, `process`, `address`, `route`");
    }

    fn effect(&mut self, key: &str, track: &At<RawTrack>) -> Option<Effect> {
        let fault = given(&track.fault).unwrap_or(false);
        let (span, message) = match (&track.weight, fault) {
            (Some(weight), false) if weight.value.0 != 0 => {
                return Some(Effect::Weight(weight.value.narrow()));
            }
            (None, true) => return Some(Effect::Fault),
            (Some(weight), false) => (weight.span, "a weight of 0 moves nothing"),
            (Some(weight), true) => (
                weight.span,
                "an entry has a weight or is a fault, and this one is both",
            ),
            (None, false) => (
                track.span,
                "this entry has neither a weight nor `fault = true`",
            ),
        };
        self.report(codes::TRACK_EFFECT, Tiers::FAILOVER, span, key, message)
            .help("`weight` moves the priority; `fault = true` leaves the VIP to the others");
        None
    }
}

fn is_name(name: &str, longest: usize) -> bool {
    let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    !name.is_empty() && name.len() <= longest && !name.contains(bad)
}
