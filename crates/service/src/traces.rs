//! Traces: spans of what a service does, sent by OTLP to whoever collects them.
//!
//! Spans are those of `tracing`, under one target ([`TARGET`]) that log lines do not show. They are sent in a build with the feature
//! `otlp`, where an address is given; without either nobody takes them, and each costs a look at a flag. Losing spans is always better
//! than waiting for whoever takes them. Decision 0020 says why so; docs/observability.md names the spans. Read next: `traces/otlp.rs`.

#[cfg(feature = "otlp")]
mod otlp;

use axum::http::{HeaderMap, Uri};
use tracing::Span;

use crate::log::{self, Log};

/// The target of every span that is sent.
pub const TARGET: &str = "otlp";

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This build sends none.
    #[error(
        "--otlp-endpoint: this build sends no traces; build it with `cargo build --release -p {package} --features otlp`"
    )]
    NotBuilt {
        /// What to build.
        package: &'static str,
    },
    /// An address that nothing can be sent to.
    #[error(
        "{address:?} is no address of an OTLP receiver; write http://HOST:PORT of its gRPC port, usually 4317 (there is no TLS yet: run a collector beside it)"
    )]
    Endpoint {
        /// What was given.
        address: String,
    },
}

/// What a service's command line says of its traces. Doc comments are its help texts.
#[derive(Clone, Debug, clap::Args)]
#[group(id = "traces")]
pub struct Flags {
    /// Where traces are sent: an OTLP receiver's gRPC, as http://HOST:PORT. Off when left out. In a build with the feature `otlp`
    /// (docs/observability.md).
    #[arg(long, global = true, value_name = "URL", env = "FLARESHIFT_OTLP_ENDPOINT", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,
    /// The share of traces that is sent, 0 to 1. A request that brings a traceparent goes by that instead.
    #[arg(
        long,
        global = true,
        value_name = "SHARE",
        env = "FLARESHIFT_OTLP_SAMPLE",
        hide_env_values = true,
        default_value_t = 1.0,
        value_parser = share
    )]
    pub otlp_sample: f64,
}

/// Whose spans they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The program, such as `flareshift-agent`.
    pub service: &'static str,
    /// Which of them, such as the module that it serves.
    pub instance: String,
    /// The program's version.
    pub version: &'static str,
}

/// Sends spans for as long as it lives.
pub struct Traces {
    #[cfg(feature = "otlp")]
    pipeline: Option<otlp::Pipeline>,
}

impl Traces {
    /// Sends what is left, within a bound. Spans end with the runtime that they are of, so this comes after it.
    pub fn end(self) {
        #[cfg(feature = "otlp")]
        drop(self.pipeline);
    }
}

impl Flags {
    /// Refuses an address that this build cannot send to. `package` is what would have to be built for it.
    pub fn check(&self, package: &'static str) -> Result<(), Error> {
        match &self.otlp_endpoint {
            None => Ok(()),
            Some(_) if !cfg!(feature = "otlp") => Err(Error::NotBuilt { package }),
            Some(address) => check_address(address),
        }
    }
}

/// Begins to log, and to send spans where an address is given for them: by the flags, or by OpenTelemetry's own variables.
pub fn begin(flags: &Flags, logging: &log::Flags, source: Source) -> (Log, Traces) {
    #[cfg(feature = "otlp")]
    {
        otlp::begin(flags, logging, source)
    }
    #[cfg(not(feature = "otlp"))]
    {
        let _ = (flags, source);
        (log::init(logging), Traces {})
    }
}

/// Makes a span part of the trace that a request came with, by its header `traceparent` (W3C Trace Context).
pub fn adopt(span: &Span, headers: &HeaderMap) {
    #[cfg(feature = "otlp")]
    otlp::adopt(span, headers);
    #[cfg(not(feature = "otlp"))]
    let _ = (span, headers);
}

/// The headers that make what is asked of another service part of a span's trace; none where nobody takes the span.
pub fn carried(span: &Span) -> HeaderMap {
    #[cfg(feature = "otlp")]
    {
        otlp::carried(span)
    }
    #[cfg(not(feature = "otlp"))]
    {
        let _ = span;
        HeaderMap::new()
    }
}

fn check_address(address: &str) -> Result<(), Error> {
    let sound = address.parse::<Uri>().is_ok_and(|uri| {
        let whole = uri.path() == "/" && uri.query().is_none();
        uri.scheme_str() == Some("http") && whole && uri.host().is_some_and(|host| !host.is_empty())
    });
    if sound { Ok(()) } else { Err(Error::Endpoint { address: address.to_owned() }) }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1, such as 0.05".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_that_spans_can_be_sent_to_is_taken() {
        let check = |address: &str, sound: bool| {
            assert_eq!(check_address(address).is_ok(), sound, "{address}");
        };
        check("http://127.0.0.1:4317", true);
        check("http://collector:4317/", true);
        check("http://[::1]:4317", true);
        check("https://collector:4317", false);
        check("http://collector:4318/v1/traces", false);
        check("collector:4317", false);
        check("127.0.0.1", false);
        check("", false);
    }

    #[test]
    fn a_build_without_traces_says_which_has_them() {
        let flags =
            |endpoint: Option<&str>| Flags { otlp_endpoint: endpoint.map(str::to_owned), otlp_sample: 1.0 };
        assert!(flags(None).check("agent").is_ok());
        let refused = flags(Some("http://h:1")).check("agent").map_err(|error| error.to_string());
        match cfg!(feature = "otlp") {
            true => assert_eq!(refused, Ok(())),
            false => assert!(refused.is_err_and(|error| error.contains("-p agent --features otlp"))),
        }
        let error = flags(Some("https://h:1")).check("controller").map_err(|error| error.to_string());
        let wanted = if cfg!(feature = "otlp") { "http://HOST:PORT" } else { "-p controller" };
        assert!(error.as_ref().is_err_and(|error| error.contains(wanted)), "{error:?}");
    }

    #[test]
    fn a_share_is_a_number_from_nothing_to_all() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(share(text).ok(), expected, "{text}");
        check("0", Some(0.0));
        check("0.05", Some(0.05));
        check("1", Some(1.0));
        check("1.1", None);
        check("-0.1", None);
        check("NaN", None);
        check("all", None);
    }
}
