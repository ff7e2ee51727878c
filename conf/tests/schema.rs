//! The schema, the decoder and the commented sample know the same keys and accept the same documents.
//!
//! `UPDATE_GOLDEN=1 cargo test -p conf --test schema` writes `deploy/platform.schema.json` anew.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy's exception for tests covers test functions only, not their helpers"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

#[test]
fn the_committed_schema_is_the_decoder_s() {
    let path = deploy().join("platform.schema.json");
    let rendered = format!("{:#}\n", conf::schema());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        committed, rendered,
        "UPDATE_GOLDEN=1 cargo test -p conf --test schema"
    );
}

#[test]
fn decoder_and_schema_know_the_same_keys() {
    let mut from_schema = BTreeSet::new();
    let schema = conf::schema();
    collect("", &schema, &schema, &mut from_schema);
    from_schema.retain(|path| !path.starts_with("override"));
    assert_eq!(conf::key_paths(), from_schema);
    assert!(from_schema.len() > 150, "{}", from_schema.len());
}

#[test]
fn the_sample_shows_every_key() {
    let sample = std::fs::read_to_string(deploy().join("platform.toml")).unwrap();
    let words: BTreeSet<&str> = sample
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    let missing: Vec<String> = conf::key_paths()
        .into_iter()
        .filter(|path| {
            let key = path.trim_end_matches("[]").rsplit('.').next().unwrap();
            !words.contains(key)
        })
        .collect();
    assert!(
        missing.is_empty(),
        "deploy/platform.toml does not show {missing:?}"
    );
    let report = conf::load(&deploy().join("platform.toml"));
    assert!(report.problems.is_empty(), "{}", report.render(false));
}

/// The sample with every single `#key = …` line switched on by itself is read without a problem of shape: the comments do not lie.
#[test]
fn what_the_sample_has_in_comments_can_be_switched_on() {
    let sample = std::fs::read_to_string(deploy().join("platform.toml")).unwrap();
    let lines: Vec<&str> = sample.lines().collect();
    let mut tried = 0;
    for (number, line) in lines.iter().enumerate() {
        let Some(setting) = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
        else {
            continue;
        };
        let key = setting.split(" =").next().unwrap();
        // A value that stands in the open as well would stand twice; an include needs its files; and the tables in comments are whole.
        let table = lines[..number]
            .iter()
            .rev()
            .find(|line| line.trim_start_matches('#').starts_with('['));
        if key.starts_with("include") || table.is_some_and(|table| table.starts_with('#')) {
            continue;
        }
        let start = lines[..number]
            .iter()
            .rposition(|line| line.starts_with('['))
            .unwrap();
        let end = number
            + lines[number..]
                .iter()
                .position(|line| line.starts_with('['))
                .unwrap_or(lines.len() - number);
        let mut on: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        for other in &mut on[start..end] {
            if other.starts_with(&format!("{key} =")) {
                *other = format!("#{other}");
            }
        }
        on[number] = setting.to_owned();
        let text = on.join("\n");
        let report = conf::load_with(Path::new("platform.toml"), &|_| Ok(text.clone()));
        let shape: Vec<_> = report
            .problems
            .iter()
            .filter(|problem| is_shape(problem.code))
            .collect();
        assert!(shape.is_empty(), "{setting}: {}", report.render(false));
        tried += 1;
    }
    assert!(tried > 60, "{tried}");
}

fn collect(path: &str, schema: &Value, root: &Value, paths: &mut BTreeSet<String>) {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let name = target.rsplit('/').next().unwrap();
        return collect(path, &root["definitions"][name], root, paths);
    }
    for choices in ["anyOf", "allOf", "oneOf"] {
        for choice in schema
            .get(choices)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            collect(path, choice, root, paths);
        }
    }
    for (key, below) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        if !path.starts_with("override.") {
            collect(&path, below, root, paths);
        }
        paths.insert(path);
    }
    if let Some(items) = schema.get("items") {
        collect(&format!("{path}[]"), items, root, paths);
    }
    if let Some(below) = schema
        .get("additionalProperties")
        .filter(|below| below.is_object())
    {
        collect(&format!("{path}.*"), below, root, paths);
    }
}

/// Codes of problems that a schema can know of.
fn is_shape(code: &str) -> bool {
    ("E0003"..="E0009").contains(&code) || code == "E0506" || code == "E0002"
}

fn decoder_accepts(document: &Value) -> Result<(), String> {
    let text = toml::to_string(document).unwrap();
    let report = conf::load_with(Path::new("platform.toml"), &|_| Ok(text.clone()));
    match report
        .problems
        .iter()
        .find(|problem| is_shape(problem.code))
    {
        None => Ok(()),
        Some(problem) => Err(format!("{problem}\n{text}")),
    }
}

/// As much of a validator as our schema needs.
fn schema_accepts(value: &Value, schema: &Value, root: &Value) -> bool {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let name = target.rsplit('/').next().unwrap();
        if !schema_accepts(value, &root["definitions"][name], root) {
            return false;
        }
    }
    let choices = |key: &str| schema.get(key).and_then(Value::as_array);
    let any = |key: &str| {
        choices(key).is_none_or(|choices| {
            choices
                .iter()
                .any(|choice| schema_accepts(value, choice, root))
        })
    };
    let all = choices("allOf").is_none_or(|choices| {
        choices
            .iter()
            .all(|choice| schema_accepts(value, choice, root))
    });
    let number_within = |key: &str, within: fn(i64, i64) -> bool| match (
        schema.get(key).and_then(Value::as_i64),
        value.as_i64(),
    ) {
        (Some(limit), Some(number)) => within(number, limit),
        _ => true,
    };
    let matches = match (
        schema.get("pattern").and_then(Value::as_str),
        value.as_str(),
    ) {
        (Some(pattern), Some(text)) => regex::Regex::new(pattern).unwrap().is_match(text),
        _ => true,
    };
    let format = match (schema.get("format").and_then(Value::as_str), value.as_str()) {
        (Some("ip"), Some(text)) => text.parse::<std::net::IpAddr>().is_ok(),
        _ => true,
    };
    let kind = match schema.get("type").and_then(Value::as_str) {
        None => true,
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("the schema has the type {other}"),
    };
    kind && any("anyOf")
        && any("oneOf")
        && all
        && number_within("minimum", |number, limit| number >= limit)
        && number_within("maximum", |number, limit| number <= limit)
        && matches
        && format
        && schema.get("const").is_none_or(|word| word == value)
        && object_accepts(value, schema, root)
        && value.as_array().into_iter().flatten().all(|item| {
            schema
                .get("items")
                .is_none_or(|items| schema_accepts(item, items, root))
        })
}

fn object_accepts(value: &Value, schema: &Value, root: &Value) -> bool {
    let Some(fields) = value.as_object() else {
        return true;
    };
    let required = schema.get("required").and_then(Value::as_array);
    let complete = required
        .into_iter()
        .flatten()
        .all(|key| fields.contains_key(key.as_str().unwrap()));
    let properties = schema.get("properties").and_then(Value::as_object);
    complete
        && fields.iter().all(|(key, field)| {
            if let Some(below) = properties.and_then(|properties| properties.get(key)) {
                return schema_accepts(field, below, root);
            }
            match schema.get("additionalProperties") {
                None => true,
                Some(Value::Bool(allowed)) => *allowed,
                Some(below) => schema_accepts(field, below, root),
            }
        })
}

/// Takes choices from a list of numbers, so that proptest can shrink them.
struct Choices<'c> {
    numbers: &'c [u32],
    next: usize,
}

impl Choices<'_> {
    fn below(&mut self, limit: usize) -> usize {
        let number = self
            .numbers
            .get(self.next % self.numbers.len().max(1))
            .copied()
            .unwrap_or(0);
        self.next += 1;
        number.wrapping_add(u32::try_from(self.next).unwrap()) as usize % limit
    }
}

/// At least one for each pattern of the schema.
const SAMPLES: &[&str] = &[
    "100ms",
    "1.5s",
    "2 m",
    "7d",
    "0s",
    "32KiB",
    "20/s",
    "1MB",
    "0B",
    "0%",
    "5 %",
    "100%",
    "10.0.0.0/24",
    "2001:db8::/64",
    "10.0.0.1/32",
    "127.0.0.1:9181",
    "[::1]:80",
    "8000-8010",
    "200-399",
    "2xx",
];

/// A document that the schema allows.
fn generate(schema: &Value, root: &Value, choices: &mut Choices<'_>) -> Value {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let name = target.rsplit('/').next().unwrap();
        return generate(&root["definitions"][name], root, choices);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        if let Some(list) = schema.get(key).and_then(Value::as_array) {
            return generate(&list[choices.below(list.len())], root, choices);
        }
    }
    if let Some(word) = schema.get("const") {
        return word.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") if schema.get("pattern").is_some() => {
            let pattern = schema["pattern"].as_str().unwrap();
            if pattern.contains("{5}") {
                return json!("52:54:00:12:34:56");
            }
            let pattern = regex::Regex::new(pattern).unwrap();
            let fitting: Vec<&&str> = SAMPLES
                .iter()
                .filter(|sample| pattern.is_match(sample))
                .collect();
            json!(fitting[choices.below(fitting.len())])
        }
        Some("string") if schema.get("format").is_some() => {
            json!(["10.0.0.5", "2001:db8::5"][choices.below(2)])
        }
        Some("string") => json!(["a", "/b", "shop.example:80", ""][choices.below(4)]),
        Some("integer") => {
            let low = schema["minimum"].as_i64().unwrap();
            let high = schema
                .get("maximum")
                .and_then(Value::as_i64)
                .unwrap_or(low + 1000);
            json!([low, high][choices.below(2)])
        }
        Some("boolean") => json!(choices.below(2) == 0),
        Some("array") => (0..choices.below(3))
            .map(|_| generate(&schema["items"], root, choices))
            .collect(),
        Some("object") => generate_object(schema, root, choices),
        other => panic!("the schema has the type {other:?}"),
    }
}

fn generate_object(schema: &Value, root: &Value, choices: &mut Choices<'_>) -> Value {
    let mut fields = Map::new();
    let required: BTreeSet<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (key, below) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        // What an override or an include leads to is judged after merging.
        if ["override", "include"].contains(&key.as_str()) {
            continue;
        }
        if required.contains(key.as_str())
            || ["schema", "name"].contains(&key.as_str()) && schema.get("title").is_some()
            || choices.below(3) == 0
        {
            fields.insert(key.clone(), generate(below, root, choices));
        }
    }
    if let Some(below) = schema
        .get("additionalProperties")
        .filter(|below| below.is_object())
    {
        for name in ["a", "b"].iter().take(choices.below(3)) {
            fields.insert((*name).to_owned(), generate(below, root, choices));
        }
    }
    Value::Object(fields)
}

/// Breaks something somewhere: an unknown key, a value of another type, a key taken away.
fn spoil(value: &mut Value, choices: &mut Choices<'_>) {
    let deeper = choices.below(4) != 0;
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let index = choices.below(fields.len());
            let key = fields.keys().nth(index).unwrap().clone();
            match choices.below(3) {
                _ if deeper => spoil(fields.get_mut(&key).unwrap(), choices),
                0 => {
                    fields.insert("unknown_key".to_owned(), json!(1));
                }
                1 => {
                    fields.remove(&key);
                }
                _ => {
                    fields.insert(key, other_value(choices));
                }
            }
        }
        Value::Array(items) if !items.is_empty() && deeper => {
            let index = choices.below(items.len());
            spoil(&mut items[index], choices);
        }
        other => *other = other_value(choices),
    }
}

fn other_value(choices: &mut Choices<'_>) -> Value {
    [
        json!("?!"),
        json!(-7),
        json!(true),
        json!([]),
        json!({}),
        json!(1.5),
        json!(99_999_999_999_i64),
    ][choices.below(7)]
    .clone()
}

static SCHEMA: LazyLock<Value> = LazyLock::new(conf::schema);

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_the_schema_allows_the_decoder_reads(numbers in prop::collection::vec(any::<u32>(), 1..200)) {
        let schema = &*SCHEMA;
        let document = generate(schema, schema, &mut Choices { numbers: &numbers, next: 0 });
        prop_assert!(schema_accepts(&document, schema, schema), "{document:#}");
        prop_assert_eq!(decoder_accepts(&document), Ok(()));
    }

    #[test]
    fn what_the_schema_refuses_the_decoder_refuses(numbers in prop::collection::vec(any::<u32>(), 1..200)) {
        let schema = &*SCHEMA;
        let mut choices = Choices { numbers: &numbers, next: 0 };
        let mut document = generate(schema, schema, &mut choices);
        spoil(&mut document, &mut choices);
        // The top of an included file may lack anything; the decoder wants these two of the whole.
        prop_assume!(document.get("schema").is_some() && document.get("name").is_some());
        let accepted = decoder_accepts(&document);
        prop_assert_eq!(schema_accepts(&document, schema, schema), accepted.is_ok(), "{:?}", accepted);
    }
}
