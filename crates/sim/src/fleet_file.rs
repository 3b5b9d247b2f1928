//! The fleet file for the simulator: loaded from disk, and written so that it reads back the same.
//!
//! How it is parsed stands in [`model::fleet_file`]. `deploy/fleet.toml` is the documented example, equal to
//! [`crate::reference::fleet`].

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use model::fleet::Fleet;
use model::fleet_file::{self, Error, MAX_BYTES};
use serde_json::Value;

/// Reads and checks a description.
pub fn load(path: &Path) -> Result<Fleet, Error> {
    let text = File::open(path).and_then(|file| io::read_to_string(file.take(MAX_BYTES + 1)));
    let text = text.map_err(|source| Error::Unreadable { path: path.into(), source })?;
    fleet_file::parse(path, &text)
}

/// Writes a description that reads back as the same fleet.
pub fn to_toml(fleet: &Fleet) -> String {
    let mut out = String::new();
    if let Ok(Value::Object(root)) = serde_json::to_value(fleet) {
        for (name, entries) in ["site", "module", "offering"].map(|name| (name, root.get(name))) {
            for entry in entries.and_then(Value::as_array).into_iter().flatten() {
                // A writer into a String cannot fail.
                let _ = write!(out, "[[{name}]]\n{}", table(name, entry));
                out.push('\n');
            }
        }
    }
    out
}

/// The lines of one table: its plain values first, as TOML demands, then the tables in it.
fn table(path: &str, value: &Value) -> String {
    let (mut plain, mut nested) = (String::new(), String::new());
    for (key, value) in value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        if is_inline(value) {
            let _ = writeln!(plain, "{key} = {}", inline(value));
        } else {
            let path = format!("{path}.{key}");
            let body = table(&path, value);
            let has_plain = value.as_object().is_some_and(|fields| fields.values().any(is_inline));
            let header = if has_plain { format!("\n[{path}]\n") } else { String::new() };
            let _ = write!(nested, "{header}{body}");
        }
    }
    plain + &nested
}

/// Whether a value stands on its key's line: anything but a table that holds tables or more than four values.
fn is_inline(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.len() <= 4 && !fields.values().any(|value| value.is_object()),
        _ => true,
    }
}

fn inline(value: &Value) -> String {
    let join = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            format!(
                "{{ {} }}",
                join(fields.map(|(key, value)| format!("{key} = {}", inline(value))).collect())
            )
        }
        Value::Array(values) => format!("[{}]", join(values.iter().map(inline).collect())),
        // JSON's escapes in strings are TOML's as well.
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reference;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let mut with_storage = reference::one_module();
        with_storage.sites[0].storage = Some(model::site::Storage {
            power: model::Watts::kilo(100),
            energy: model::WattSeconds::kilowatt_hours(200),
            efficiency_permille: 880,
            response: None,
            reserve: model::Span::minutes(5),
            wear: model::MicroDollars::dollars(20),
        });
        with_storage.sites[0].governor = model::site::Governor::Droop { permille: 45 };
        with_storage.modules[0]
            .groups
            .values_mut()
            .for_each(|group| group.model = "the \"best\"\\one".into());
        for fleet in [reference::one_module(), reference::fleet(), with_storage] {
            let text = to_toml(&fleet);
            let read = fleet_file::parse(Path::new("fleet.toml"), &text).map_err(|error| error.to_string());
            assert_eq!(read, Ok(fleet), "{text}");
        }
    }

    #[test]
    fn the_documented_example_is_the_reference_fleet() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/fleet.toml");
        assert_eq!(load(&path).unwrap(), reference::fleet());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_file_and_what_to_do() {
        let text = to_toml(&reference::one_module()).replace("wired = true", "wired = false");
        let error = fleet_file::parse(Path::new("fleet.toml"), &text).expect_err("unwired").to_string();
        assert!(error.starts_with("fleet.toml: site well-7 [wiring]"), "{error}");
        assert!(error.contains("set `wired = true` on exactly one"), "{error}");
        let error = load(Path::new("/nowhere/fleet.toml")).expect_err("no such file").to_string();
        assert!(error.contains("cannot read the fleet file /nowhere/fleet.toml"), "{error}");
    }
}
