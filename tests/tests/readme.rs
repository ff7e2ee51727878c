//! What the README says in code is what the files say.

fn read(path: &str) -> String {
    std::fs::read_to_string(tests::repository().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_readme_quotes_the_blueprint() {
    let blueprint = read("deploy/examples/blueprint.toml");
    let lines: Vec<&str> = blueprint.lines().collect();
    let readme = read("README.md");
    let (_, after) = readme
        .split_once("```toml\n")
        .expect("README.md has a toml block");
    let (quoted, _) = after.split_once("\n```").expect("the block ends");
    for line in quoted.lines().filter(|line| !line.trim().is_empty()) {
        assert!(lines.contains(&line), "not in blueprint.toml: {line}");
    }
}

#[test]
fn the_readme_links_to_files_that_exist() {
    let readme = read("README.md");
    let mut links = 0;
    for link in readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        links += 1;
        assert_exists(link);
    }
    assert!(links > 5, "README.md has {links} links");
}

fn assert_exists(link: &str) {
    assert!(
        tests::repository().join(link).exists(),
        "README.md links to {link}, which does not exist"
    );
}
