//! What holds for the repository as a whole: who depends on whom, that cores read no clock, that each package says what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// The dependency table of ARCHITECTURE.md: package, its folder, and which of ours it may use.
const PACKAGES: [(&str, &str, &[&str]); 9] = [
    ("conf", "conf", &[]),
    ("daemon", "conf/daemon", &["conf"]),
    ("ipvs-netlink", "director/ipvs", &[]),
    ("probe", "director/probe", &["conf"]),
    ("net", "vrrpd/net", &[]),
    ("edge", "edge", LIBRARIES),
    ("director", "director", LIBRARIES),
    ("vrrpd", "vrrpd", LIBRARIES),
    (
        "tests",
        "tests",
        &[
            "conf",
            "daemon",
            "ipvs-netlink",
            "probe",
            "net",
            "edge",
            "director",
            "vrrpd",
        ],
    ),
];
const LIBRARIES: &[&str] = &["conf", "daemon", "ipvs-netlink", "probe", "net"];
const DAEMONS: [&str; 3] = ["edge", "director", "vrrpd"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the workspace")
        .to_owned()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(
            [
                "--locked",
                "--offline",
                "--filter-platform",
                "x86_64-unknown-linux-gnu",
            ]
            .map(str::to_owned),
        )
        .exec()
        .expect("cargo metadata")
}

/// The names of everything that is built into `package`, with their versions.
fn built_into(metadata: &Metadata, package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let nodes: BTreeMap<&PackageId, _> =
        resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let start = metadata
        .workspace_packages()
        .into_iter()
        .find(|found| found.name == package)
        .expect("a member");
    let mut seen = BTreeSet::from([&start.id]);
    let mut open = vec![&start.id];
    while let Some(id) = open.pop() {
        for dependency in &nodes[id].deps {
            let built = dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind != DependencyKind::Development);
            if built && seen.insert(&dependency.pkg) {
                open.push(&dependency.pkg);
            }
        }
    }
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for found in metadata
        .packages
        .iter()
        .filter(|found| seen.contains(&found.id))
    {
        names
            .entry(found.name.to_string())
            .or_default()
            .insert(found.version.to_string());
    }
    names
}

#[test]
fn our_packages_depend_on_one_another_as_the_table_says() {
    let metadata = metadata();
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let known: BTreeSet<&str> = PACKAGES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        names, known,
        "a package beyond these needs its reason in ARCHITECTURE.md and a line here"
    );
    for (name, folder, may) in PACKAGES {
        let member = members
            .iter()
            .find(|member| member.name == name)
            .expect("a member");
        let path = member.manifest_path.parent().expect("a folder");
        assert_eq!(path.as_std_path(), root().join(folder), "{name}");
        for dependency in member
            .dependencies
            .iter()
            .filter(|dependency| known.contains(dependency.name.as_str()))
        {
            assert!(
                may.contains(&dependency.name.as_str()),
                "{name} must not depend on {}",
                dependency.name
            );
        }
    }
}

#[test]
fn only_edge_pulls_in_the_proxy_engine() {
    let metadata = metadata();
    let engine = |package: &str| {
        built_into(&metadata, package)
            .into_keys()
            .find(|name| name.starts_with("pingora"))
    };
    for package in ["director", "vrrpd"] {
        assert_eq!(engine(package), None, "{package}");
    }
    assert!(engine("edge").is_some(), "else this test could not fail");
}

#[test]
fn one_tls_provider_and_one_netlink() {
    let metadata = metadata();
    let others = [
        "aws-lc-rs",
        "aws-lc-sys",
        "boring",
        "boring-sys",
        "native-tls",
        "openssl",
        "openssl-sys",
        "s2n-tls",
    ];
    let mut providers = BTreeSet::new();
    let mut netlink: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for daemon in DAEMONS {
        for (name, versions) in built_into(&metadata, daemon) {
            assert!(
                !others.contains(&name.as_str()),
                "{daemon} pulls in {name}; the one TLS provider is ring"
            );
            if name == "ring" {
                providers.extend(versions.clone());
            }
            if name.starts_with("netlink-") || name == "rtnetlink" {
                netlink.entry(name).or_default().extend(versions);
            }
        }
    }
    assert_eq!(providers.len(), 1, "versions of ring: {providers:?}");
    assert!(
        netlink.contains_key("netlink-proto"),
        "else this test could not fail"
    );
    for (name, versions) in netlink {
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

/// Every source file of the packages.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open: Vec<PathBuf> = PACKAGES
        .iter()
        .map(|(_, folder, _)| root().join(folder).join("src"))
        .collect();
    while let Some(folder) = open.pop() {
        for entry in
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The file's lines without comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
}

#[test]
fn cores_never_read_a_clock() {
    let mut cores = 0;
    let mut offences = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a readable source");
        if !text.starts_with("//! CORE") {
            continue;
        }
        cores += 1;
        for (number, line) in code(&text) {
            for clock in [
                "Instant::now",
                ".elapsed(",
                "SystemTime",
                "Timestamp::now",
                "Zoned::now",
                "clock::now",
                "clock::wall",
            ] {
                if line.contains(clock) {
                    offences.push(format!("{}:{number}: {clock}", path.display()));
                }
            }
        }
    }
    assert!(
        cores >= 10,
        "only {cores} cores found: has the first line of the files changed?"
    );
    assert!(
        offences.is_empty(),
        "a core takes `now` as an argument:\n{}",
        offences.join("\n")
    );
}

#[test]
fn every_source_says_what_it_is() {
    let mut offences = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a readable source");
        let tests_beside = path.file_stem().is_some_and(|stem| stem == "tests");
        if !text.starts_with("//!") && !tests_beside {
            offences.push(format!("{}: the first line is no `//!`", path.display()));
        }
        if path.file_name().is_some_and(|name| name == "mod.rs") {
            offences.push(format!(
                "{}: `foo.rs` beside `foo/`, no mod.rs",
                path.display()
            ));
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn every_package_has_a_readme() {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .map(|(_, folder, _)| *folder)
        .filter(|folder| !root().join(folder).join("README.md").is_file())
        .collect();
    assert!(missing.is_empty(), "no README.md in {missing:?}");
}
