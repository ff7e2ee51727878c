//! CORE: the JSON schema of the file, for editors; written from the same declarations as the decoder.
//!
//! `deploy/platform.schema.json` is this schema, committed; a test keeps the two alike.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::decode::Decode;
use crate::raw::Root;

/// The schema of a platform file. `[override]` takes the same tables, with nothing required.
pub fn schema() -> Value {
    let schema = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<Root>();
    let mut schema = schema.to_value();
    without_null(&mut schema);
    // An included file has only some of the keys, and an override only what it changes; so the editor asks for nothing at the top.
    let properties = schema["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    if let Some(root) = schema.as_object_mut() {
        root.remove("required");
        root.insert("title".to_owned(), json!("Weir platform file"));
    }
    let mut overrides = json!({
        "description": "What this environment changes: values replace or join those of the same key path.",
        "type": "object",
        "properties": properties.iter().map(|(key, value)| (key.clone(), open(value))).collect::<Map<_, _>>(),
        "additionalProperties": false
    });
    if let Some(keys) = overrides["properties"].as_object_mut() {
        keys.remove("include");
    }
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.insert("override".to_owned(), overrides);
    }
    schema
}

/// Every key path that the decoder knows: `.` before a key, `.*` for any name, `[]` for an item of a list.
pub fn key_paths() -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    Root::key_paths("", &mut paths);
    paths
        .into_iter()
        .map(|path| path.trim_start_matches('.').to_owned())
        .collect()
}

/// Only the type of an overridden value is said: required keys and the like are judged after the merge.
fn open(value: &Value) -> Value {
    match value.get("type") {
        Some(kind) => json!({ "type": kind }),
        None => json!({}),
    }
}

/// TOML has no null: a key that is not wanted is left out.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".to_owned(), only);
                }
            }
            for key in ["anyOf", "oneOf"] {
                if let Some(Value::Array(choices)) = map.get_mut(key) {
                    choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
                    if let ([only], "anyOf") = (choices.as_slice(), key) {
                        let only = only.clone();
                        map.remove(key);
                        merge(map, only);
                    }
                }
            }
            map.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// In draft 7 a `$ref` hides its neighbours, so it is wrapped where a description stands beside it.
fn merge(map: &mut Map<String, Value>, only: Value) {
    match only {
        Value::Object(only) if only.contains_key("$ref") && map.contains_key("description") => {
            map.insert("allOf".to_owned(), json!([only]));
        }
        Value::Object(only) => {
            for (key, value) in only {
                map.entry(key).or_insert(value);
            }
        }
        _ => {}
    }
}
