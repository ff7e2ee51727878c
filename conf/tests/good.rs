//! Files that must be read without a problem.

use std::path::{Path, PathBuf};

use conf::Tier;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_good_file_is_read_without_an_error() {
    let mut files = Vec::new();
    for folder in ["conf/tests/good", "deploy/examples"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    assert!(files.len() >= 3);
    for file in files {
        let report = conf::load(&file);
        assert!(!report.has_errors(), "{}", report.render(false));
    }
}

#[test]
fn the_demo_changes_the_blueprint_s_timings_and_nothing_else() {
    let examples = root().join("deploy/examples");
    let blueprint = conf::load(&examples.join("blueprint.toml")).platform;
    let demo = conf::load(&examples.join("demo.toml")).platform;
    assert_eq!(blueprint.vips["web"].vrrp.advert_interval.as_millis(), 1000);
    assert_eq!(demo.vips["web"].vrrp.advert_interval.as_millis(), 100);
    assert_eq!(
        demo.vips["web"].vrrp.track[0].check.interval.as_millis(),
        500
    );
    assert_eq!(demo.vips["web"].vrrp.id, blueprint.vips["web"].vrrp.id);
    assert_eq!(
        demo.virtual_services["web"].real_servers,
        blueprint.virtual_services["web"].real_servers
    );
    assert_ne!(demo.hash(Tier::Layer4), blueprint.hash(Tier::Layer4));
    assert_eq!(demo.sites, blueprint.sites);
}
