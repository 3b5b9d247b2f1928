//! Settings read a second time, while the process runs: what differs from those in force, by key.
//!
//! The command line and the environment of a process do not change, so only the file can bring something new; it is judged as at the
//! start, whole, before anything of it counts. Which keys may change while it runs is each program's own to say.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{ArgMatches, Parser};

use super::{key_of, known, merge};

/// Why settings that were read again are of no use: the old ones stay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] super::Error),
    /// A value, in the words of the command line's parser.
    #[error("{0}")]
    Value(String),
}

/// What each setting says, by its key in the file; defaults too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, Vec<OsString>>);

/// What new settings change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings that may change while the process runs, in order, as `key = value`.
    pub taken: Vec<String>,
    /// Keys that may not, in order: the old values stay in force.
    pub refused: Vec<String>,
}

impl Values {
    /// What these arguments of a program say.
    pub(super) fn of(command: &clap::Command, matches: &ArgMatches) -> Self {
        let value = |arg: &clap::Arg| {
            let raw = matches.try_get_raw(arg.get_id().as_str()).ok().flatten();
            Some((key_of(arg)?, raw.into_iter().flatten().map(Into::into).collect()))
        };
        Self(known(command).filter_map(value).collect())
    }

    /// Takes over what may change of newer values, and says what that is; of the others the old values stay.
    pub fn take(&mut self, newer: &Self, reloaded: &[&str]) -> Changes {
        let mut changes = Changes::default();
        for (key, value) in &newer.0 {
            if self.0.get(key) == Some(value) {
                continue;
            }
            if reloaded.contains(&key.as_str()) {
                self.0.insert(key.clone(), value.clone());
                let value = value.iter().map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(", ");
                changes.taken.push(format!("{key} = {value}"));
            } else {
                changes.refused.push(key.clone());
            }
        }
        changes
    }
}

/// Reads the settings of this process again.
pub fn read<P: Parser>() -> Result<(P, Values), Error> {
    let given: Vec<OsString> = std::env::args_os().collect();
    from(&given, |variable| std::env::var_os(variable))
}

fn from<P: Parser>(
    given: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<(P, Values), Error> {
    let command = P::command();
    let (arguments, _) = merge(&command, given, environment)?;
    let value = |error: clap::Error| Error::Value(error.to_string().trim().to_owned());
    let matches = command.clone().try_get_matches_from(arguments).map_err(value)?;
    let values = Values::of(&command, &matches);
    Ok((P::from_arg_matches(&matches).map_err(value)?, values))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[arg(long, default_value_t = 5)]
        price: u32,
        #[arg(long)]
        place: Option<String>,
        #[arg(long)]
        simulated: bool,
        #[arg(long)]
        config: Option<PathBuf>,
    }

    struct File(PathBuf);

    impl File {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("again-{name}-{}.toml", std::process::id())))
        }

        fn read(&self, text: &str, more: &[&str]) -> Result<(Flags, Values), Error> {
            std::fs::write(&self.0, text).unwrap();
            let config = format!("--config={}", self.0.display());
            let given = ["program", &config].iter().chain(more).map(OsString::from).collect::<Vec<_>>();
            from(&given, |_| None)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn what_may_change_is_taken_and_what_may_not_is_named_each_time() {
        let file = File::new("changes");
        let (_, mut values) = file.read("price = 5\nplace = \"a\"", &[]).unwrap();
        let mut check = |text: &str, more: &[&str], taken: &[&str], refused: &[&str]| {
            let (_, newer) = file.read(text, more).unwrap();
            let changes = values.take(&newer, &["price"]);
            assert_eq!((changes.taken, changes.refused), (named(taken), named(refused)), "{text}");
        };
        fn named(keys: &[&str]) -> Vec<String> {
            keys.iter().map(|key| (*key).to_owned()).collect()
        }
        check("place = \"a\"", &[], &[], &[]);
        check("place = \"a\"\nprice = 7", &[], &["price = 7"], &[]);
        check("place = \"b\"\nprice = 7", &[], &[], &["place"]);
        check("place = \"b\"\nprice = 8\nsimulated = true", &[], &["price = 8"], &["place", "simulated"]);
        check("price = 8", &[], &[], &["place"]);
        check("place = \"a\"\nprice = 9", &["--price", "8"], &[], &[]);
    }

    #[test]
    fn what_cannot_be_used_changes_nothing_and_says_why() {
        let file = File::new("refusals");
        let check = |text: &str, expected: &str| {
            let error = file.read(text, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("pric = 5", "did you mean `price`?");
        check("price = \"much\"", "invalid value 'much' for '--price <PRICE>'");
        check("price = ", "line 1");
        let (flags, _) = file.read("price = 6\nsimulated = true", &[]).unwrap();
        assert_eq!((flags.price, flags.place, flags.simulated), (6, None, true));
        assert!(flags.config.is_some());
    }
}
