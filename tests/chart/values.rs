//! The values: the schema accepts the defaults and refuses what is unknown; each is described, and listed in the book.

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::{assert_file, chart, checkout, read};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("the schema accepts the default values", accepts_defaults),
        Trial::test("the schema refuses wrong values", refuses),
        Trial::test("the schema has each value", is_complete),
        Trial::test("the book lists each value", are_listed),
        Trial::test("the chart is of this version", has_version),
    ]
}

/// Where the table is in the page of the book.
const BEGIN: &str = "<!-- Written by tests/chart.rs -->\n";
const END: &str = "<!-- End of what is written -->\n";

fn parsed(path: &str) -> Result<Value, Failed> {
    Ok(serde_saphyr::from_str(&read(&chart().join(path))?)?)
}

fn schema() -> Result<Value, Failed> {
    Ok(serde_json::from_str(&read(
        &chart().join("values.schema.json"),
    )?)?)
}

fn accepts_defaults() -> Result<(), Failed> {
    let validator = jsonschema::validator_for(&schema()?)?;
    let values = parsed("values.yaml")?;
    let errors: Vec<String> = (validator.iter_errors(&values))
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(errors.join("\n").into())
}

fn refuses() -> Result<(), Failed> {
    let validator = jsonschema::validator_for(&schema()?)?;
    for wrong in [
        json!({"replicas": 2}),
        json!({"controller": {"replicas": 0}}),
        json!({"controller": {"podCidrs": ["10.0.0.1"]}}),
        json!({"image": {"agentDigest": "latest"}}),
        json!({"components": {"nodeFacts": "yes"}}),
        json!({"components": {"nodeFact": true}}),
        json!({"agents": {"maxUnavailable": "ten"}}),
        json!({"otlp": {"endpoint": "collector:4318"}}),
        json!({"otlp": {"protocol": "http/json"}}),
        json!({"prometheus": {"runbooks": "https://example.org/docs/"}}),
    ] {
        if validator.is_valid(&wrong) {
            return Err(format!("the schema accepts {wrong}").into());
        }
    }
    Ok(())
}

/// A value: its path, its description, and its default.
struct Described {
    path: Vec<String>,
    description: String,
    default: Value,
}

/// The values with their descriptions: a comment that begins with `--` describes the next key.
fn described() -> Result<Vec<Described>, Failed> {
    let all = parsed("values.yaml")?;
    let text = read(&chart().join("values.yaml"))?;
    let mut found = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut description: Option<String> = None;
    for line in text.lines() {
        let content = line.trim_start();
        let depth = (line.len() - content.len()) / 2;
        if let Some(begin) = content.strip_prefix("# -- ") {
            description = Some(begin.to_owned());
        } else if let (Some(more), Some(words)) = (content.strip_prefix("# "), &mut description) {
            words.push(' ');
            words.push_str(more);
        } else if let Some((key, _)) = content.split_once(':')
            && !content.starts_with(['#', '-'])
        {
            path.truncate(depth);
            path.push(key.to_owned());
            if let Some(description) = description.take() {
                found.push(Described {
                    default: Value::Null,
                    path: path.clone(),
                    description,
                });
            }
        }
    }
    for value in &mut found {
        let pointer = format!("/{}", value.path.join("/"));
        value.default = (all.pointer(&pointer))
            .ok_or_else(|| format!("values.yaml has no {pointer}"))?
            .clone();
    }
    Ok(found)
}

/// The paths of the values in the schema: those that are no object with properties of its own, and `resources`.
fn leaves(schema: &Value, path: &str, found: &mut Vec<String>) {
    let properties = schema["properties"].as_object();
    match properties {
        Some(properties) if !path.ends_with(".resources") => {
            for (key, value) in properties {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(value, &path, found);
            }
        }
        Some(_) | None => found.push(path.to_owned()),
    }
}

fn is_complete() -> Result<(), Failed> {
    let mut checked = Vec::new();
    leaves(&schema()?, "", &mut checked);
    // Helm sets it for charts of which this one is a part.
    checked.retain(|path| path != "global");
    checked.sort();
    let mut described: Vec<String> = (described()?.iter())
        .map(|value| value.path.join("."))
        .collect();
    described.sort();
    if checked == described {
        return Ok(());
    }
    Err(format!("the schema has {checked:#?}, values.yaml describes {described:#?}").into())
}

fn are_listed() -> Result<(), Failed> {
    let mut table = "| value | default | what it is |\n| --- | --- | --- |\n".to_owned();
    for value in described()? {
        let (path, description) = (value.path.join("."), value.description);
        let row = format!("| `{path}` | `{}` | {description} |\n", value.default);
        table.push_str(&row);
    }
    let page = checkout().join("docs/helm.md");
    let text = read(&page)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("docs/helm.md has no table")?;
    let (_, after) = rest.split_once(END).ok_or("the table has no end")?;
    assert_file(&page, &format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

fn has_version() -> Result<(), Failed> {
    let chart = parsed("Chart.yaml")?;
    let version = Value::from(env!("CARGO_PKG_VERSION"));
    if chart["version"] == version && chart["appVersion"] == version {
        return Ok(());
    }
    Err(format!("Chart.yaml must be of version {version}").into())
}
