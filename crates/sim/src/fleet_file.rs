//! A fleet description as a TOML file: read with errors that name file, line and column, and written so that it reads back the
//! same. `deploy/fleet.toml` is the documented example, equal to [`crate::reference::fleet`].

use std::fmt::Write;
use std::path::{Path, PathBuf};

use model::fleet::Fleet;
use model::report::Finding;
use serde_json::Value;

/// Longest description: ten thousand modules of 4 KiB.
pub const MAX_BYTES: u64 = 40_960_000;

/// Why a description is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}; check that it exists and may be read", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is longer than any fleet.
    #[error("{} is larger than {MAX_BYTES} bytes; is it a fleet description?", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// It is no TOML, or not of the form of a fleet.
    #[error("{}: line {line}, column {column}: {message}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Which column, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// It reads well and describes something that cannot be.
    #[error("{}: {}", path.display(), list(findings))]
    Unsound {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        findings: Vec<Finding>,
    },
}

/// Reads and checks a description.
pub fn load(path: &Path) -> Result<Fleet, Error> {
    let io = |source| Error::Io { path: path.into(), source };
    if std::fs::metadata(path).map_err(io)?.len() > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    from_toml(path, &std::fs::read_to_string(path).map_err(io)?)
}

/// Reads and checks the text of a description; `path` is for messages.
pub fn from_toml(path: &Path, text: &str) -> Result<Fleet, Error> {
    let fleet: Fleet = toml::from_str(text).map_err(|error| {
        let (line, column) = place(text, error.span().map_or(0, |span| span.start));
        Error::Form { path: path.into(), line, column, message: error.message().to_owned() }
    })?;
    let findings = fleet.findings();
    if findings.is_empty() { Ok(fleet) } else { Err(Error::Unsound { path: path.into(), findings }) }
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

/// Line and column, both from 1, of a byte of the text.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte.min(text.len())).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reference;

    const PATH: &str = "fleet.toml";

    fn check_error(text: &str, parts: &[&str]) {
        let error = from_toml(Path::new(PATH), text).expect_err(text).to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let mut with_storage = reference::one_module();
        with_storage.sites[0].storage = Some(model::site::Storage {
            power: model::Watts::kilo(100),
            energy: model::WattSeconds::kilowatt_hours(200),
        });
        with_storage.sites[0].governor = model::site::Governor::Droop { permille: 45 };
        with_storage.modules[0]
            .groups
            .values_mut()
            .for_each(|group| group.model = "the \"best\"\\one".into());
        for fleet in [reference::one_module(), reference::fleet(), with_storage] {
            let text = to_toml(&fleet);
            assert_eq!(from_toml(Path::new(PATH), &text).map_err(|e| e.to_string()), Ok(fleet), "{text}");
        }
    }

    #[test]
    fn the_documented_example_is_the_reference_fleet() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/fleet.toml");
        assert_eq!(load(&path).unwrap(), reference::fleet());
    }

    #[test]
    fn errors_name_file_line_and_column() {
        check_error("[[site]]\nid = \"Well 7\"\n", &["fleet.toml: line 2, column 6", "no site id"]);
        check_error("[[site]\n", &["fleet.toml: line 1, column"]);
        check_error("[[offering]]\nid = \"a\"\nprise = 3\n", &["line 3, column 1", "prise"]);
        let text = to_toml(&reference::one_module()).replace("wired = true", "wired = false");
        check_error(&text, &["fleet.toml: site well-7 [wiring]", "set `wired = true` on exactly one"]);
        let error = load(Path::new("/nowhere/fleet.toml")).expect_err("no such file").to_string();
        assert!(error.contains("cannot read /nowhere/fleet.toml"), "{error}");
    }
}
