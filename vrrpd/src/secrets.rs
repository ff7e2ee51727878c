//! SHELL: the files with the secrets of this node's virtual routers, read whole at the start and at every reload.

use std::collections::BTreeMap;

use conf::Platform;
pub use daemon::secret::SecretError;
use daemon::secret::{self, hexadecimal};

use crate::packet::{LONGEST_KEY, PASSWORD, SHORTEST_KEY};

/// The contents, by the secrets' names in the platform file.
pub type Secrets = BTreeMap<String, Vec<u8>>;

/// Reads what the virtual routers of `node` use. The end of the last line is no part of a secret.
pub fn read(platform: &Platform, node: &str) -> Result<Secrets, SecretError> {
    let mut secrets = Secrets::new();
    for (_, vip) in platform.vips_of_director(node) {
        for name in vip.vrrp.secrets() {
            let Some(secret) = platform.secrets.get(name) else {
                continue;
            };
            let (name, file) = (name.clone(), secret.file.clone());
            let content = secret::read(&name, &file)?;
            let judged = if vip.vrrp.password.as_ref() == Some(&name) {
                password(content)
            } else {
                key(&content)
            };
            match judged {
                Ok(content) => secrets.insert(name, content),
                Err(what) => return Err(SecretError::Content { name, file, what }),
            };
        }
    }
    Ok(secrets)
}

fn password(content: Vec<u8>) -> Result<Vec<u8>, String> {
    if content.is_empty() || content.len() > PASSWORD {
        return Err(format!(
            "holds {} bytes: a password of VRRP version 2 has 1 to {PASSWORD}",
            content.len()
        ));
    }
    Ok(content)
}

/// A key of the HMAC: hexadecimal digits, which survive every editor.
fn key(content: &[u8]) -> Result<Vec<u8>, String> {
    let lengths = SHORTEST_KEY..=LONGEST_KEY;
    hexadecimal(content)
        .filter(|bytes| lengths.contains(&bytes.len()))
        .ok_or_else(|| {
            format!(
                "holds no key: {} to {} hexadecimal digits (openssl rand -hex 32)",
                SHORTEST_KEY * 2,
                LONGEST_KEY * 2
            )
        })
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn platform(file: &Path, vrrp: &str) -> Platform {
        let text = format!(
            r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5"] }}
[node.lb2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51, {vrrp} }}
[secret.old]
file = "{}"
"#,
            file.display()
        );
        let report = conf::load_with(Path::new("p.toml"), &|_| Ok(text.clone()));
        assert!(!report.has_errors(), "{:#?}", report.problems);
        report.platform
    }

    #[test]
    fn a_password_is_short_and_nobody_else_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let platform = platform(
            &file,
            "version = 2, advert_interval = \"1s\", password = \"old\"",
        );
        let said = |node: &str| read(&platform, node).map_err(|error| error.to_string());
        let missing = read(&platform, "lb1").unwrap_err();
        let chain = format!("{:#}", anyhow::Error::new(missing));
        let cause = "cannot be read: No such file or directory (os error 2)";
        assert!(chain.ends_with(cause), "once: {chain}");
        assert_eq!(
            said("edge1"),
            Ok(Secrets::new()),
            "only who needs it reads it"
        );
        for (content, mode, result) in [
            ("s3cret12\n", 0o600, Ok(b"s3cret12".to_vec())),
            ("short", 0o640, Ok(b"short".to_vec())),
            ("s3cret12", 0o644, Err("mode 644: take the rights")),
            ("s3cret12", 0o660, Err("mode 660")),
            ("s3cret123", 0o600, Err("holds 9 bytes")),
            ("\n", 0o600, Err("holds 0 bytes")),
        ] {
            write(&file, content).unwrap();
            set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            match (said("lb1"), result) {
                (Ok(found), Ok(wanted)) => assert_eq!(found["old"], wanted),
                (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{found}"),
                (found, _) => panic!("{content:?} {mode:o}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_key_is_hexadecimal() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let platform = platform(&file, "hmac = { keys = [{ id = 1, secret = \"old\" }] }");
        for (content, bytes) in [
            ("0f".repeat(32) + "\n", Some(vec![15; 32])),
            ("AB".repeat(64), Some(vec![0xab; 64])),
            ("0f".repeat(31), None),
            ("0f".repeat(65), None),
            ("0g".repeat(32), None),
            ("0f".repeat(32) + "0", None),
        ] {
            write(&file, &content).unwrap();
            set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            match (read(&platform, "lb1"), bytes) {
                (Ok(found), Some(wanted)) => assert_eq!(found["old"], wanted),
                (Err(error), None) => assert!(error.to_string().contains("openssl rand -hex 32")),
                (found, _) => panic!("{content:?}: {found:?}"),
            }
        }
    }
}
