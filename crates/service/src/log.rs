//! Log lines of a service: to standard error, as text or as JSON.
//!
//! The message is a constant phrase and the data are fields, so that a line of JSON can be searched by field.

use tracing_subscriber::EnvFilter;

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one object a line.
    Json,
}

/// Begins to log. What is shown is said by FLARESHIFT_LOG; without it, or where it does not parse, everything from `info` on; of
/// object_store only warnings, since what it tries again is told by whoever waits for it.
pub fn init(format: Format) {
    let filter = EnvFilter::try_from_env("FLARESHIFT_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,object_store=warn"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => lines.init(),
        Format::Json => lines.json().init(),
    }
}
