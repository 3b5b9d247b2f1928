//! The fleet file: text in, a checked [`Fleet`] or a place and a reason out.
//!
//! Simulator, controller and agent read the same file; this is the one way to read it, so that a file which one of them takes
//! none of the others refuses. Assumes that the caller opens the file (this crate does no I/O) and reads no more than
//! [`MAX_BYTES`] and one byte of it. Read next: [`crate::fleet`] for what is checked, [`toml_file`] for places, docs/fleet.md for the keys.

use std::path::{Path, PathBuf};

use crate::fleet::Fleet;
use crate::report::Finding;
use crate::toml_file;

/// Longest description: ten thousand modules of 4 KiB.
pub const MAX_BYTES: u64 = 40_960_000;

/// Why a description is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read; made by whoever opens it.
    #[error("cannot read the fleet file {}; check that it exists and may be read", path.display())]
    Unreadable {
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
    #[error(transparent)]
    Form(#[from] toml_file::Error),
    /// It reads well and describes something that cannot be, or that the reader does not take.
    #[error("{}", lines(path, findings))]
    Unsound {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        findings: Vec<Finding>,
    },
}

/// Parses and checks the text of a description; `path` is for messages.
pub fn parse(path: &Path, text: &str) -> Result<Fleet, Error> {
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    let fleet: Fleet = toml_file::read(path, text)?;
    let findings = fleet.findings();
    if findings.is_empty() { Ok(fleet) } else { Err(Error::Unsound { path: path.into(), findings }) }
}

/// A finding a line, each with the file, as compilers write them.
fn lines(path: &Path, findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{}: {finding}", path.display())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, expected: &str) {
        let error = parse(Path::new("fleet.toml"), text).expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn an_empty_file_is_an_empty_fleet() {
        assert_eq!(parse(Path::new("f"), "").unwrap(), Fleet::default());
    }

    #[test]
    fn errors_name_file_line_column_and_key() {
        check("[[site]]\nid = \"Well 7\"\n", "fleet.toml: line 2, column 6, at `id = \"Well 7\"`: ");
        check("[[site]]\nid = \"Well 7\"\n", "no site id");
        check("[[site]\n", "fleet.toml: line 1, column");
        check(
            "[[offering]]\nid = \"a\"\nprise = 3\n",
            "line 3, column 1, at `prise = 3`: unknown field `prise`",
        );
        check("[[planet]]", "at `[[planet]]`: unknown field `planet`");
        check("[[site]]\nid = 7", "line 2, column 6, at `id = 7`: ");
        // No float is a price, least of all one that is no number.
        for price in ["nan", "inf", "45.5"] {
            let text = format!("[[site]]\ngrid = {{ import = 9, price = {price} }}\n");
            check(&text, "fleet.toml: line 2, column 30, at `grid = {");
            check(&text, "floating point");
        }
        // A key that is missing is told by the table that lacks it.
        check("[[offering]]\nid = \"a\"\n", "line 1, column 1, at `[[offering]]`: missing field");
    }

    #[test]
    fn what_is_unsound_stands_a_line_each() {
        let offering = "[[offering]]\nid = \"a\"\ntier = \"spot\"\ngpu = \"H100\"\nprice = 1\nnotice = 0\nsla_permille = 0\n";
        check(&offering.repeat(3), "fleet.toml: offering a [duplicate-id]: stands twice");
        let error = parse(Path::new("fleet.toml"), &offering.repeat(3)).unwrap_err();
        assert_eq!(error.to_string().lines().count(), 2, "{error}");
    }

    #[test]
    fn a_shell_pool_that_cannot_be_is_told_by_its_place() {
        let site = "[[site]]\nid = \"s\"\nnominal = 60000\nunmanaged = 0\ngas_price = 0\nrelay = true\nsimulated = true\n\
                    governor = { mode = \"isochronous\" }\nbuffer = { capacity = 1 }\ngas = {}\ngensets = {}\n";
        let module =
            "[[module]]\nid = \"m\"\nsite = \"s\"\nwired = true\nlimit = 9\ncooling = 9\nauxiliary = 0\n";
        let bays = "[module.pools.bays]\ngpu = \"kilowatt\"\nservers = 2\ngpus = 100\nidle = 0\nactive = 100000\ncap_min = 100000\n";
        let pool = format!("{site}{module}{bays}");
        assert_eq!(parse(Path::new("f"), &pool).unwrap().modules[0].pools.len(), 1);
        let curve = format!("{pool}curve = [{{ power = 60000, pace = 700 }}]\n");
        check(&curve, "fleet.toml: module m pool bays [shell]: is sold by the kilowatt");
        check(
            &pool.replace("idle = 0", "idle = 5"),
            "module m pool bays [shell]: is sold by the kilowatt: needs `idle = 0`",
        );
        check(&pool.replace("gpus = 100", "gpus = 2.5"), "floating point `2.5`, expected u32");
        check(&pool.replace("gpus = 100", "gpus = 0"), "module m pool bays [pool]: needs gpus above zero");
    }

    #[test]
    fn a_tier_may_be_spelled_as_tenants_know_it() {
        for tier in ["on_demand", "on-demand"] {
            let offering = format!(
                "[[offering]]\nid = \"a\"\ntier = \"{tier}\"\ngpu = \"H100\"\nprice = 1\nnotice = 0\nsla_permille = 0\n"
            );
            let fleet = parse(Path::new("f"), &offering).unwrap();
            assert_eq!(fleet.offerings[0].tier, crate::workload::Tier::OnDemand, "{tier}");
        }
    }

    #[test]
    fn a_file_without_end_is_refused_before_it_is_parsed() {
        let text = "#".repeat(usize::try_from(MAX_BYTES).unwrap() + 1);
        check(&text, "is larger than 40960000 bytes");
    }
}
