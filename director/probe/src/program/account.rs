//! CORE: a user in the system's list of users, `passwd(5)`.

/// Whom a program runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The account of `user`, a name or a number, in the text of `/etc/passwd`. The error says why there is none that may be used.
pub(super) fn find(passwd: &str, user: &str) -> Result<Account, String> {
    let number: Option<u32> = user.parse().ok();
    let accounts = passwd.lines().filter_map(parse);
    let mut wanted =
        accounts.filter(|(name, account)| *name == user || Some(account.uid) == number);
    let (_, account) = wanted
        .next()
        .ok_or_else(|| format!("user `{user}` is not in /etc/passwd"))?;
    if account.uid == 0 {
        return Err(format!("user `{user}` is root"));
    }
    Ok(account)
}

/// `name:password:uid:gid:…`
fn parse(line: &str) -> Option<(&str, Account)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, Account { uid, gid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/:\n# x\nbroken:x:one\nnobody:x:65534:65533:nobody:/:/bin/false\n1000:x:7:8::/:\n";

    #[test]
    fn names_and_numbers_but_never_root() {
        let nobody = Account {
            uid: 65534,
            gid: 65533,
        };
        assert_eq!(find(PASSWD, "nobody"), Ok(nobody));
        assert_eq!(find(PASSWD, "65534"), Ok(nobody));
        assert_eq!(find(PASSWD, "1000"), Ok(Account { uid: 7, gid: 8 }));
        for (user, reason) in [
            ("root", "user `root` is root"),
            ("0", "user `0` is root"),
            ("toor", "user `toor` is root"),
            ("broken", "user `broken` is not in /etc/passwd"),
            ("", "user `` is not in /etc/passwd"),
            ("no", "user `no` is not in /etc/passwd"),
        ] {
            assert_eq!(find(PASSWD, user), Err(reason.to_owned()));
        }
    }
}
