//! Settings of a service from three places: its command line, the environment, one TOML file; in this order of precedence.
//!
//! The keys of the file are the long flags with `_` for `-`, and a value is checked by the flag's own parser: what can be said in
//! one place can be said in the others, and means the same. So a file is turned into flags that stand before those of the command
//! line, but for what the command line or the environment says already. Assumes flags without short forms. docs/configuration.md
//! tells it to people.

pub mod again;

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use toml::{Spanned, Table, Value};

/// The flag that names the file, and the variable that does.
const FLAG: &str = "config";
const VARIABLE: &str = "FLARESHIFT_CONFIG";
/// Flags that are no settings.
const NO_SETTINGS: [&str; 4] = [FLAG, "check-config", "help", "version"];
/// Longest file: thirty settings of 100 bytes and comments are some kilobytes.
const MAX_BYTES: u64 = 64 * 1024;
/// As alike as two keys must be for one to be meant by the other; what clap asks of flags.
const ALIKE: f64 = 0.7;

/// Why a file of settings is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read the settings {}; check that the file exists and may be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is longer than any settings.
    #[error("{} is larger than {MAX_BYTES} bytes; are these settings?", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// It is no TOML.
    #[error("{}: line {line}: {message}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No flag has this name.
    #[error("{}: line {line}: there is no setting `{key}`{}", path.display(), Meant(meant.as_deref()))]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What stands there.
        key: String,
        /// What may have been meant.
        meant: Option<String>,
    },
    /// The value is of the wrong sort.
    #[error("{}: line {line}: `{key}` takes {wanted}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Which setting.
        key: String,
        /// What it takes.
        wanted: &'static str,
    },
}

struct Meant<'a>(Option<&'a str>);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => f.write_str("; the settings are the long flags of --help, with _ for -"),
        }
    }
}

/// Reads the settings of a program, and what each of them says; ends it with code 2 and a message where they cannot be used.
pub fn parse<P: clap::Parser>() -> (P, again::Values) {
    let given: Vec<OsString> = std::env::args_os().collect();
    let merged = merge(&P::command(), &given, |variable| std::env::var_os(variable));
    let (arguments, file) = merged.unwrap_or_else(|error| {
        let error: &dyn std::error::Error = &error;
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        eprintln!("error: {error}{source}");
        std::process::exit(2);
    });
    let command = P::command();
    let parsed = command.clone().try_get_matches_from(arguments).and_then(|matches| {
        let values = again::Values::of(&command, &matches);
        Ok((P::from_arg_matches(&matches)?, values))
    });
    parsed.unwrap_or_else(|error| {
        if let Some(file) = file.filter(|_| error.use_stderr()) {
            eprintln!("The settings of {} count as flags.", file.display());
        }
        error.exit()
    })
}

/// The command line with what the file adds to it, and which file that is.
fn merge(
    command: &Command,
    given: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<(Vec<OsString>, Option<PathBuf>), Error> {
    let Some(path) = flag(given, FLAG).or_else(|| environment(VARIABLE)).map(PathBuf::from) else {
        return Ok((given.to_vec(), None));
    };
    let said = |arg: &Arg| {
        let by_flag = arg.get_long().is_some_and(|long| is_given(given, long));
        by_flag || arg.get_env().and_then(|name| environment(name.to_str()?)).is_some()
    };
    let mut arguments: Vec<OsString> = given.iter().take(1).cloned().collect();
    for (arg, value) in read(command, &path)? {
        if !said(arg) {
            arguments.extend(value);
        }
    }
    arguments.extend(given.iter().skip(1).cloned());
    Ok((arguments, Some(path)))
}

/// What follows a flag, or stands behind its `=`.
fn flag(given: &[OsString], long: &str) -> Option<OsString> {
    let (exact, prefix) = (format!("--{long}"), format!("--{long}="));
    let mut words = given.iter().skip(1).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word.to_str() == Some(&exact) {
            return words.next().cloned();
        }
        if let Some(value) = word.to_str().and_then(|word| word.strip_prefix(&prefix)) {
            return Some(value.into());
        }
    }
    None
}

fn is_given(given: &[OsString], long: &str) -> bool {
    let flag = |word: &OsString| {
        let name = word.to_str()?.strip_prefix("--")?;
        (name.split('=').next() == Some(long)).then_some(())
    };
    given.iter().skip(1).take_while(|word| *word != "--").any(|word| flag(word).is_some())
}

/// The file's settings as flags.
fn read<'a>(command: &'a Command, path: &Path) -> Result<Vec<(&'a Arg, Option<OsString>)>, Error> {
    let text = File::open(path).and_then(|file| io::read_to_string(file.take(MAX_BYTES + 1)));
    let text = text.map_err(|source| Error::Unreadable { path: path.into(), source })?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(Error::TooLarge { path: path.into() });
    }
    settings(command, path, &text)
}

fn settings<'a>(
    command: &'a Command,
    path: &Path,
    text: &str,
) -> Result<Vec<(&'a Arg, Option<OsString>)>, Error> {
    let line = |byte: usize| text.get(..byte).unwrap_or(text).matches('\n').count() + 1;
    // Parsed twice: for the values, and for the places of the keys.
    let form = |error: toml::de::Error| Error::Form {
        path: path.into(),
        line: line(error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    };
    let values: Table = toml::from_str(text).map_err(form)?;
    let places: std::collections::BTreeMap<Spanned<String>, toml::Value> =
        toml::from_str(text).map_err(form)?;
    let mut settings = Vec::new();
    for key in places.keys() {
        let (name, line) = (key.get_ref(), line(key.span().start));
        let Some(arg) = known(command).find(|arg| key_of(arg).as_deref() == Some(name.as_str())) else {
            let meant = nearest(command, name);
            return Err(Error::Unknown { path: path.into(), line, key: name.clone(), meant });
        };
        let value = values.get(name).map_or(Err("a value"), |value| as_flag(arg, value));
        let value =
            value.map_err(|wanted| Error::Value { path: path.into(), line, key: name.clone(), wanted });
        settings.push((arg, value?));
    }
    Ok(settings)
}

/// The flags that are settings.
fn known(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| !NO_SETTINGS.contains(&long)))
}

fn key_of(arg: &Arg) -> Option<String> {
    arg.get_long().map(|long| long.replace('-', "_"))
}

/// The setting whose name is most alike.
fn nearest(command: &Command, key: &str) -> Option<String> {
    let key = key.replace('-', "_");
    let alike = known(command).filter_map(key_of).map(|known| (strsim::jaro(&known, &key), known));
    let best = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(alike, _)| *alike > ALIKE).map(|(_, known)| known)
}

/// A value as the flag would be written; `None` for a switch that is off. An error is what the setting takes.
fn as_flag(arg: &Arg, value: &Value) -> Result<Option<OsString>, &'static str> {
    let long = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            Value::Boolean(true) => Ok(Some(format!("--{long}").into())),
            Value::Boolean(false) => Ok(None),
            _ => Err("true or false"),
        };
    }
    let text = match (value, arg.get_value_delimiter()) {
        (Value::Array(values), Some(delimiter)) => {
            let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
            texts.ok_or("a list of texts")?.join(&delimiter.to_string())
        }
        (Value::String(text), _) => text.clone(),
        (Value::Integer(number), _) => number.to_string(),
        (Value::Float(number), _) => number.to_string(),
        (_, Some(_)) => return Err("a text or a list of texts"),
        (_, None) => return Err("a text or a number"),
    };
    Ok(Some(format!("--{long}={text}").into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Debug, PartialEq, Parser)]
    struct Flags {
        #[arg(long)]
        config: Option<PathBuf>,
        #[arg(long, env = "X_LISTEN", default_value = "127.0.0.1:1")]
        listen: std::net::SocketAddr,
        #[arg(long, required = true)]
        fleet: Option<String>,
        #[arg(long)]
        accept_simulated: bool,
        #[arg(long, default_value_t = 1.5)]
        price_usd: f64,
        #[arg(long, value_delimiter = ',', conflicts_with = "fleet_only")]
        controller: Vec<String>,
        #[arg(long)]
        fleet_only: bool,
    }

    /// A file that goes with its owner.
    struct Written(PathBuf);

    impl Written {
        fn new(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("service-settings-{}-{name}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// What comes of a file, words of the command line and one variable.
    fn flags(file: &Written, words: &str, variable: Option<(&str, &str)>) -> Result<Flags, String> {
        let path = file.0.to_str().unwrap();
        let given: Vec<OsString> =
            ["program"].into_iter().chain(words.split_whitespace()).map(Into::into).collect();
        let environment = |name: &str| {
            let set = variable.filter(|(known, _)| *known == name).map(|(_, value)| value);
            set.or((name == VARIABLE).then_some(path)).map(OsString::from)
        };
        let (merged, from) =
            merge(&Flags::command(), &given, environment).map_err(|error| error.to_string())?;
        assert_eq!(from.as_deref(), Some(file.0.as_path()));
        Flags::try_parse_from(merged).map_err(|error| error.to_string())
    }

    use clap::CommandFactory;

    #[test]
    fn a_flag_beats_the_environment_and_that_the_file_and_that_the_default() {
        let file = Written::new("order", "listen = \"127.0.0.1:2\"\nfleet = \"f\"\n");
        let listen = |words: &str, variable| flags(&file, words, variable).unwrap().listen.port();
        assert_eq!(listen("", None), 2);
        assert_eq!(listen("--listen 127.0.0.1:4", None), 4);
        assert_eq!(listen("--listen=127.0.0.1:4", Some(("X_LISTEN", "127.0.0.1:3"))), 4);
        // The variable itself is read by clap; here only the file's setting must make room for it.
        assert_eq!(listen("", Some(("X_LISTEN", "127.0.0.1:3"))), 1);
    }

    #[test]
    fn values_of_each_sort_become_flags() {
        let text = "fleet = \"f\"\naccept_simulated = true\nfleet_only = false\nprice_usd = 66222\ncontroller = [\"a\", \"b\"]\n";
        let file = Written::new("sorts", text);
        let read = flags(&file, "", None).unwrap();
        assert_eq!((read.accept_simulated, read.fleet_only, read.price_usd), (true, false, 66_222.0));
        assert_eq!(read.controller, ["a", "b"]);
        assert_eq!(flags(&file, "--controller c", None).unwrap().controller, ["c"], "replaced, not added to");
        assert!(flags(&file, "--fleet-only", None).unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn a_mistake_names_its_line_and_what_was_meant() {
        let check = |text: &str, expected: &str| {
            let file = Written::new("mistake", text);
            let error = flags(&file, "", None).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check(
            "fleet = \"f\"\nlisten_ = \"x\"\n",
            "line 2: there is no setting `listen_`; did you mean `listen`?",
        );
        check("accept-simulated = true\n", "did you mean `accept_simulated`?");
        check("zzz = 1\n", "there is no setting `zzz`; the settings are the long flags");
        check("config = \"other\"\n", "there is no setting `config`");
        check(
            "fleet = \"f\"\naccept_simulated = \"yes\"\n",
            "line 2: `accept_simulated` takes true or false",
        );
        check("fleet = [\"f\"]\n", "`fleet` takes a text or a number");
        check("controller = [1]\n", "`controller` takes a list of texts");
        check("[fleet]\na = 1\n", "`fleet` takes a text or a number");
        check("fleet = \"f\"\nfleet = \"g\"\n", "line 2: duplicate key");
        check("fleet = \"f\"\nlisten = \"here\"\n", "invalid value 'here' for '--listen");
        check("listen = \"127.0.0.1:2\"\n", "--fleet <FLEET>");
    }

    #[test]
    fn the_file_is_named_by_the_flag_before_the_variable() {
        let given = |words: &str| -> Vec<OsString> { words.split(' ').map(Into::into).collect() };
        assert_eq!(flag(&given("p --config a.toml"), FLAG), Some("a.toml".into()));
        assert_eq!(flag(&given("p --fleet f --config=b.toml"), FLAG), Some("b.toml".into()));
        assert_eq!(flag(&given("p -- --config c.toml"), FLAG), None);
        assert_eq!(flag(&given("p --configure c"), FLAG), None);
        let nothing = merge(&Flags::command(), &given("p --fleet f"), |_| None).unwrap();
        assert_eq!(nothing, (given("p --fleet f"), None));
        let missing = merge(&Flags::command(), &given("p --config /nowhere/s.toml"), |_| None);
        assert!(missing.unwrap_err().to_string().contains("cannot read the settings /nowhere/s.toml"));
    }
}
