//! Log lines of a service: to standard error, as text or as JSON.
//!
//! The message is a constant phrase and the data are fields, so that a line of JSON can be searched by field. What is shown may change
//! while the process runs; what it looks like may not.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What is shown unless somebody says otherwise: everything from `info` on; of object_store only warnings, since what it tries again
/// is told by whoever waits for it.
const USUAL: &str = "info,object_store=warn";

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one object a line.
    Json,
}

/// Which lines are shown, such as `info,store=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl FromStr for Filter {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EnvFilter::builder().parse(text).map(|_| Self(text.to_owned()))
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self(USUAL.to_owned())
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Filter {
    fn compiled(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

/// What a service's command line says of its log. Doc comments are its help texts. Its clap group has a name of its own, since the
/// command lines that take it in have one too.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "logging")]
pub struct Flags {
    /// Which log lines are shown, such as info,store=debug; SIGHUP reads it again.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "FLARESHIFT_LOG",
        hide_env_values = true,
        default_value_t
    )]
    pub log: Filter,
    /// What log lines look like.
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "FLARESHIFT_LOG_FORMAT",
        hide_env_values = true,
        value_enum,
        default_value_t
    )]
    pub log_format: Format,
}

/// The log of this process.
pub struct Log(Box<dyn Fn(EnvFilter) -> bool + Send + Sync>);

impl Log {
    /// Shows these lines from now on.
    pub fn show(&self, filter: &Filter) -> bool {
        (self.0)(filter.compiled())
    }
}

/// Begins to log.
pub fn init(flags: &Flags) -> Log {
    let lines = tracing_subscriber::fmt().with_env_filter(flags.log.compiled()).with_writer(std::io::stderr);
    match flags.log_format {
        Format::Text => {
            let lines = lines.with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            Log(Box::new(move |filter| handle.reload(filter).is_ok()))
        }
        Format::Json => {
            let lines = lines.json().with_filter_reloading();
            let handle = lines.reload_handle();
            lines.init();
            Log(Box::new(move |filter| handle.reload(filter).is_ok()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_used_says_so_and_the_usual_one_can() {
        let check = |text: &str, sound: bool| assert_eq!(text.parse::<Filter>().is_ok(), sound, "{text}");
        check(USUAL, true);
        check("info,store=debug", true);
        check("warn,agent::proxy=trace", true);
        check("store=loud", false);
        assert_eq!(Filter::default().to_string(), USUAL);
    }
}
