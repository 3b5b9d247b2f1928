//! Log lines of a service: to standard error, as text or as JSON.
//!
//! The message is a constant phrase and the data are fields, so that a line of JSON can be searched by field. What is shown may change
//! while the process runs; what it looks like may not.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::traces::TARGET;

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

impl Display for Filter {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Filter {
    /// What is sent as traces is no part of log lines, unless somebody asks for it by its name.
    pub fn compiled(&self) -> EnvFilter {
        EnvFilter::new(format!("{TARGET}=off,{}", self.0))
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
pub struct Log(reload::Handle<EnvFilter, Registry>);

impl Log {
    /// Shows these lines from now on.
    pub fn show(&self, filter: &Filter) -> bool {
        self.0.reload(filter.compiled()).is_ok()
    }
}

/// Begins to log.
pub fn init(flags: &Flags) -> Log {
    begin(flags, Vec::new())
}

/// Begins to log, and to hand to others what they take. Each takes by a filter of its own.
pub(crate) fn begin(flags: &Flags, mut others: Vec<Box<dyn Layer<Registry> + Send + Sync>>) -> Log {
    let (filter, handle) = reload::Layer::new(flags.log.compiled());
    let lines = fmt::layer().with_writer(std::io::stderr);
    others.push(match flags.log_format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().with_filter(filter).boxed(),
    });
    tracing_subscriber::registry().with(others).init();
    Log(handle)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tracing::Subscriber;
    use tracing::level_filters::LevelFilter;

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

    #[test]
    fn spans_that_are_sent_stand_in_no_line_unless_asked_for() {
        let check = |filter: &str, shown: bool| {
            let filter: Filter = filter.parse().unwrap();
            let subscriber =
                Registry::default().with(vec![fmt::layer().with_filter(filter.compiled()).boxed()]);
            // What is not shown is not even looked at: a line of the reflex costs a comparison.
            let most = if filter.0 == "trace" { LevelFilter::TRACE } else { LevelFilter::INFO };
            assert_eq!(Subscriber::max_level_hint(&subscriber), Some(most), "{filter}");
            tracing::subscriber::with_default(subscriber, || {
                let sent = tracing::info_span!(target: TARGET, "sent");
                let other = tracing::info_span!("other");
                assert_eq!((!sent.is_disabled(), !other.is_disabled()), (shown, true), "{filter}");
            });
        };
        check(USUAL, false);
        check("trace", false);
        check("info,otlp=info", true);
    }
}
