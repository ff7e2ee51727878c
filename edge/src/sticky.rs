//! CORE: cookies that bind a client to its server.
//!
//! The cookie's value is an HMAC of upstream and server under a secret that all edges share: it names the server to those who have the key,
//! tells others neither its address nor its name, and cannot be made up. Servers are known by it across reloads, restarts and edges.

use conf::platform::{SameSite, Sticky};
use http::HeaderMap;
use http::header::COOKIE;
use ring::hmac;

/// Bytes of the HMAC that the cookie carries.
const TAG: usize = 16;
/// Bytes of the key.
pub const KEY: usize = 32;

/// The key that signs.
#[derive(Debug, Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// The key of these bytes.
    pub fn new(bytes: &[u8; KEY]) -> Key {
        Key(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn tag(&self, upstream: &str, server: &str) -> String {
        let text = ["weir sticky", upstream, server].join("\0");
        let whole = hmac::sign(&self.0, text.as_bytes());
        let bytes = whole.as_ref().iter().take(TAG);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The cookies of an upstream.
#[derive(Debug)]
pub struct Binder {
    name: String,
    /// By server, in the balancer's order.
    tags: Vec<String>,
    /// What stands in Set-Cookie behind the value.
    attributes: String,
}

impl Binder {
    /// Cookies as `sticky` says for these servers of `upstream`.
    pub fn new<'a>(
        sticky: &Sticky,
        key: &Key,
        upstream: &str,
        servers: impl Iterator<Item = &'a str>,
    ) -> Binder {
        let mut attributes = format!("; Path={}", sticky.path);
        if let Some(domain) = &sticky.domain {
            attributes.push_str(&format!("; Domain={domain}"));
        }
        if let Some(age) = sticky.max_age {
            attributes.push_str(&format!("; Max-Age={}", age.as_duration().as_secs()));
        }
        attributes.push_str("; HttpOnly; SameSite=");
        attributes.push_str(match sticky.same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        });
        Binder {
            name: sticky.cookie.clone(),
            tags: servers.map(|server| key.tag(upstream, server)).collect(),
            attributes,
        }
    }

    /// The server that the request's cookie names, if there is such a server still.
    pub fn bound(&self, fields: &HeaderMap) -> Option<usize> {
        let values = fields.get_all(COOKIE).iter();
        let pairs = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        let mut ours = pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.name)
            .map(|(_, value)| value.trim_matches('"'));
        ours.find_map(|value| self.tags.iter().position(|tag| tag == value))
    }

    /// The value of Set-Cookie that binds to `server`. `secure`: the client came by TLS, and may bring the cookie that way only.
    pub fn set_cookie(&self, server: usize, secure: bool) -> Option<String> {
        let tag = self.tags.get(server)?;
        let secure = if secure { "; Secure" } else { "" };
        Some(format!("{}={tag}{}{secure}", self.name, self.attributes))
    }
}

#[cfg(test)]
mod tests {
    use conf::unit::Interval;

    use super::*;

    fn sticky() -> Sticky {
        Sticky {
            cookie: "edge_srv".to_owned(),
            secret: "key".to_owned(),
            max_age: None,
            path: "/".to_owned(),
            domain: None,
            same_site: SameSite::Lax,
        }
    }

    fn binder(key: u8, servers: &[&str]) -> Binder {
        let key = Key::new(&[key; KEY]);
        Binder::new(&sticky(), &key, "app", servers.iter().copied())
    }

    fn cookie(text: &str) -> HeaderMap {
        [(COOKIE, text.parse().unwrap())].into_iter().collect()
    }

    /// The name and value that a client brings back.
    fn brought(set: &str) -> String {
        set.split(';').next().unwrap().to_owned()
    }

    #[test]
    fn a_cookie_leads_back_to_its_server() {
        let one = binder(1, &["a:1", "b:1"]);
        let set = one.set_cookie(1, false).unwrap();
        assert!(
            set.starts_with("edge_srv=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"),
            "{set}"
        );
        assert!(!set.contains("b:1"), "the server's address stays inside");
        let pair = brought(&set);
        assert_eq!(one.bound(&cookie(&pair)), Some(1));
        assert_eq!(one.bound(&cookie(&format!("x=1; {pair};y=2"))), Some(1));
        // Another edge, and a platform with other servers.
        let other = binder(1, &["new:1", "b:1", "a:1"]);
        assert_eq!(other.bound(&cookie(&pair)), Some(1));
        assert_eq!(binder(1, &["a:1"]).bound(&cookie(&pair)), None, "gone");
    }

    #[test]
    fn nobody_else_makes_one() {
        let one = binder(1, &["a:1", "b:1"]);
        let forged = brought(&binder(2, &["a:1"]).set_cookie(0, false).unwrap());
        let cut = &brought(&one.set_cookie(0, false).unwrap())[..30];
        for text in [
            forged.as_str(),
            cut,
            "edge_srv=",
            "edge_srv=0",
            "edge_srv",
            "",
        ] {
            assert_eq!(one.bound(&cookie(text)), None, "{text}");
        }
        let pair = brought(&one.set_cookie(0, false).unwrap());
        let renamed = pair.replace("edge_srv", "other");
        assert_eq!(one.bound(&cookie(&renamed)), None);
        // The same server of another upstream has another cookie.
        let key = Key::new(&[1; KEY]);
        let others = Binder::new(&sticky(), &key, "api", ["a:1"].into_iter());
        assert_eq!(others.bound(&cookie(&pair)), None);
    }

    #[test]
    fn attributes_are_the_file_s() {
        let sticky = Sticky {
            max_age: Some(Interval::from_secs(3600)),
            path: "/shop".to_owned(),
            domain: Some("shop.example".to_owned()),
            same_site: SameSite::None,
            ..sticky()
        };
        let key = Key::new(&[1; KEY]);
        let binder = Binder::new(&sticky, &key, "app", ["a:1"].into_iter());
        let set = binder.set_cookie(0, true).unwrap();
        let attributes = set.split_once(';').unwrap().1;
        assert_eq!(
            attributes,
            " Path=/shop; Domain=shop.example; Max-Age=3600; HttpOnly; SameSite=None; Secure"
        );
        assert_eq!(binder.set_cookie(1, true), None);
    }
}
