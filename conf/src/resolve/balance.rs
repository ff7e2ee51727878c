//! CORE: how the server of an upstream is chosen: methods, waiting requests, cookies that bind clients.

use super::{Resolver, given};
use crate::codes;
use crate::decode::At;
use crate::platform::{
    Balance, HashKey, LogEscape, LogFormat, LogPiece, Queue, SameSite, Server, Sticky,
};
use crate::problems::Tiers;
use crate::raw::{balance as raw, layer7};
use crate::unit::Interval;

/// nginx's `queue` waits 60 s; who waits longer than this has gone.
const DEFAULT_QUEUE_TIMEOUT: Interval = Interval::from_secs(10);
const DEFAULT_COOKIE_PATH: &str = "/";

impl Resolver<'_> {
    pub(super) fn balance(&mut self, raw: &layer7::Upstream, key: &str) -> Option<Balance> {
        let Some(balance) = &raw.balance else {
            return Some(Balance::RoundRobin);
        };
        Some(match &balance.value {
            raw::Balance::Word(word) => match word {
                raw::BalanceWord::RoundRobin => Balance::RoundRobin,
                raw::BalanceWord::LeastConn => Balance::LeastConn,
                raw::BalanceWord::IpHash => Balance::IpHash,
                raw::BalanceWord::RandomTwo => Balance::RandomTwo,
            },
            raw::Balance::Table(table) => {
                let written = table.hash.as_ref()?;
                let pieces = self.request_key(written, &format!("{key}.balance.hash"))?;
                Balance::Hash(HashKey {
                    pieces,
                    load_factor: given(&table.load_factor).map(|factor| factor.narrow()),
                })
            }
        })
    }

    /// A key by which requests are told apart before a server is chosen.
    pub(super) fn request_key(&mut self, written: &At<String>, key: &str) -> Option<Vec<LogPiece>> {
        let parsed = LogFormat::parse(written, LogEscape::Default);
        let wrong = match &parsed {
            Err(problem) => Some((problem.message.clone(), problem.help.clone())),
            Ok(format) => {
                let late = |piece: &LogPiece| match piece {
                    LogPiece::Variable(variable) => !variable.is_of_request(),
                    LogPiece::Text(_) => false,
                };
                let variable = |piece: &LogPiece| matches!(piece, LogPiece::Variable(_));
                if format.pieces.iter().any(late) {
                    Some((
                        "the key has a variable that is not known when the request has come"
                            .to_owned(),
                        format!("known are {}", known_variables()),
                    ))
                } else if !format.pieces.iter().any(variable) {
                    Some((
                        format!("`{}` is the same for all requests", written.value),
                        format!("name what tells them apart: {}", known_variables()),
                    ))
                } else {
                    None
                }
            }
        };
        if let Some((message, help)) = wrong {
            self.report(
                codes::REQUEST_KEY,
                Tiers::LAYER7,
                written.span,
                key,
                message,
            )
            .help(help);
            return None;
        }
        Some(parsed.ok()?.pieces)
    }

    /// What concerns the method and the servers together.
    pub(super) fn check_balance(
        &mut self,
        raw: &layer7::Upstream,
        balance: &Balance,
        servers: &[Server],
        key: &str,
    ) {
        let written = raw.servers.iter().flat_map(|servers| &servers.value);
        let tables = written.filter_map(|server| match &server.value {
            layer7::Server::Table(table) => Some(table),
            layer7::Server::Address(_) => None,
        });
        let backups: Vec<_> = tables
            .clone()
            .filter_map(|table| table.backup.as_ref().filter(|backup| backup.value))
            .collect();
        if balance.is_hash()
            && let Some(backup) = backups.first()
        {
            self.report(
                codes::BACKUP_WITH_HASH,
                Tiers::LAYER7,
                backup.span,
                format!("{key}.servers"),
                "a hash sends each client to a server of its own, so there is none in reserve",
            )
            .help("take `backup` out, or choose another `balance`");
        }
        if !servers.is_empty() && backups.len() == servers.len() {
            self.report(
                codes::ONLY_BACKUPS,
                Tiers::LAYER7,
                backups
                    .first()
                    .map_or(Default::default(), |backup| backup.span),
                format!("{key}.servers"),
                format!("every server of `{key}` is a backup server"),
            )
            .help("leave `backup` to those that serve when the others cannot");
        }
        if balance.is_hash()
            && let Some(slow_start) = &raw.slow_start
        {
            self.report(
                codes::SLOW_START_WITH_HASH,
                Tiers::LAYER7,
                slow_start.span,
                format!("{key}.slow_start"),
                "a hash does not know shares that grow: its clients come back at once",
            )
            .help("take `slow_start` out, or choose another `balance`");
        }
        let limited = tables.clone().any(|table| table.max_conns.is_some());
        if let Some(queue) = raw.queue.as_ref().filter(|_| !limited) {
            self.report(
                codes::QUEUE_WITHOUT_LIMIT,
                Tiers::LAYER7,
                queue.span,
                format!("{key}.queue"),
                "requests wait while all servers have `max_conns`, but no server has a limit",
            )
            .help("give servers a `max_conns`, or take `queue` out");
        }
    }

    pub(super) fn queue(&self, raw: &layer7::Upstream) -> Option<Queue> {
        let queue = raw.queue.as_deref()?;
        Some(Queue {
            length: given(&queue.length)?.narrow(),
            timeout: given(&queue.timeout).unwrap_or(DEFAULT_QUEUE_TIMEOUT),
        })
    }

    pub(super) fn sticky(&mut self, raw: &layer7::Upstream, key: &str) -> Option<Sticky> {
        let sticky = raw.sticky.as_ref()?;
        let key = format!("{key}.sticky");
        if let Some(secret) = &sticky.secret {
            let secrets = self.raw.secret.as_ref();
            self.known(
                secrets,
                codes::UNKNOWN_SECRET,
                Tiers::LAYER7,
                secret,
                &format!("{key}.secret"),
                "secret",
            );
        }
        let words = [
            ("name", sticky.cookie.as_ref(), is_token as fn(&str) -> bool),
            ("path", sticky.path.as_ref(), is_cookie_path),
            ("domain", sticky.domain.as_ref(), is_domain),
        ];
        for (word, value, fits) in words {
            if let Some(value) = value.filter(|value| !fits(value)) {
                self.report(
                    codes::BAD_COOKIE,
                    Tiers::LAYER7,
                    value.span,
                    match word {
                        "name" => format!("{key}.cookie"),
                        _ => format!("{key}.{word}"),
                    },
                    format!("`{}` cannot be the {word} of a cookie", value.value),
                )
                .help("write cookie = \"edge_srv\", path = \"/shop\", domain = \"shop.example\"");
            }
        }
        Some(Sticky {
            cookie: sticky.cookie.as_ref()?.value.clone(),
            secret: sticky.secret.as_ref()?.value.clone(),
            max_age: given(&sticky.max_age),
            path: sticky
                .path
                .as_ref()
                .map_or(DEFAULT_COOKIE_PATH, |path| &path.value)
                .to_owned(),
            domain: sticky.domain.as_ref().map(|domain| domain.value.clone()),
            same_site: match given(&sticky.same_site) {
                Some(raw::SameSite::Strict) => SameSite::Strict,
                Some(raw::SameSite::None) => SameSite::None,
                Some(raw::SameSite::Lax) | None => SameSite::Lax,
            },
        })
    }
}

fn known_variables() -> &'static str {
    "$remote_addr, $realip_remote_addr, $host, $request_uri, $uri, $args, $request_method, $scheme and $http_NAME"
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let extra = "!#$%&'*+-.^_`|~";
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

/// RFC 6265 section 4.1.1: no control character and no `;`.
fn is_cookie_path(text: &str) -> bool {
    text.starts_with('/') && text.chars().all(|c| c.is_ascii_graphic() && c != ';')
}

fn is_domain(text: &str) -> bool {
    super::site::labels(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::LogVariable;

    #[test]
    fn every_variable_of_the_help_is_one_of_the_request() {
        for name in LogVariable::NAMES {
            let parsed = LogFormat::parse(&format!("${name}"), LogEscape::Default).unwrap();
            let LogPiece::Variable(variable) = &parsed.pieces[0] else {
                panic!("{name} is a variable");
            };
            let told = known_variables()
                .split([',', ' '])
                .any(|word| word.strip_prefix('$') == Some(name));
            assert_eq!(told, variable.is_of_request(), "{name}");
        }
    }

    #[test]
    fn parts_of_cookies() {
        assert!(is_token("edge_srv") && !is_token("a b") && !is_token("") && !is_token("a;b"));
        assert!(is_cookie_path("/shop") && !is_cookie_path("shop") && !is_cookie_path("/a;b"));
        assert!(is_domain("shop.example") && !is_domain("shop example"));
    }
}
