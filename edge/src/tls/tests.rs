use super::*;

#[test]
fn suites_and_versions_are_those_of_the_file() {
    let settings = |min_version, ciphers: &[&str]| EdgeTls {
        min_version,
        ciphers: ciphers
            .iter()
            .map(|name| CipherSuite::named(name).unwrap())
            .collect(),
        ticket_keys: None,
        handshake_timeout: conf::unit::Interval::from_secs(10),
    };
    let all = Spoken::new(&settings(TlsVersion::V12, &[]));
    assert_eq!(all.provider.cipher_suites.len(), CIPHER_SUITES.len());
    assert_eq!(all.versions.len(), 2);
    let modern = Spoken::new(&settings(TlsVersion::V13, &[]));
    assert_eq!(modern.versions, [&rustls::version::TLS13]);
    let chosen = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"];
    let old = Spoken::new(&settings(TlsVersion::V12, &chosen));
    assert_eq!(old.versions, [&rustls::version::TLS12]);
    let suites = old.provider.cipher_suites.iter();
    let suites: Vec<u16> = suites.map(|suite| u16::from(suite.suite())).collect();
    assert_eq!(suites, [0xc02f]);
    assert!(old.ordered && !all.ordered);
}
