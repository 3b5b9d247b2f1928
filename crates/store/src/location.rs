//! Where the store is, as people write it: `embedded:DIR` or `etcd://host:port[,host:port…][/prefix]`.
//!
//! Assumes: a build without the feature `etcd` still understands the address, so that it can say what is missing.
//! Read next: `embedded.rs`, `etcd.rs`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::embedded;
use crate::error::Error;
use crate::key::{DEFAULT_INSTALLATION, installation};
use crate::port::Store;

/// Endpoints of one etcd: a cluster has three to seven members.
const MAX_ENDPOINTS: usize = 16;

/// A parsed address of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Embedded {
        dir: PathBuf,
    },
    /// `endpoints` are `host:port`; `prefix` ends in a slash.
    Etcd {
        endpoints: Vec<String>,
        prefix: String,
    },
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(dir) = text.strip_prefix("embedded:") {
            if dir.is_empty() {
                return Err(Error::refused("embedded: needs a directory, as in embedded:./data"));
            }
            return Ok(Self::Embedded { dir: dir.into() });
        }
        match text.strip_prefix("etcd://") {
            Some(rest) => parse_etcd(rest),
            None => Err(Error::refused(format!(
                "the store {text:?} is neither embedded:DIR nor etcd://HOST:PORT[,HOST:PORT...][/PREFIX]"
            ))),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded { dir } => write!(f, "embedded:{}", dir.display()),
            Self::Etcd { endpoints, prefix } => {
                write!(f, "etcd://{}/{}", endpoints.join(","), prefix.trim_end_matches('/'))
            }
        }
    }
}

/// Opens the store at an address. An etcd that is not there is no error yet: each call says so until it is.
pub async fn open(address: &str) -> Result<Store, Error> {
    match address.parse()? {
        Location::Embedded { dir } => {
            let opened = tokio::task::spawn_blocking(move || embedded::open(&dir)).await;
            opened.map_err(|source| Error::corrupt("the embedded store panicked and its file", source))?
        }
        Location::Etcd { endpoints, prefix } => open_etcd(endpoints, prefix).await,
    }
}

#[cfg(feature = "etcd")]
async fn open_etcd(endpoints: Vec<String>, prefix: String) -> Result<Store, Error> {
    crate::etcd::connect(&endpoints, crate::etcd::Options { prefix, ..Default::default() }).await
}

#[cfg(not(feature = "etcd"))]
async fn open_etcd(_: Vec<String>, _: String) -> Result<Store, Error> {
    Err(Error::refused(
        "this build has no etcd; use embedded:DIR, or the flareshift-controller binary, or build with the feature `etcd` (which needs protoc)",
    ))
}

fn parse_etcd(rest: &str) -> Result<Location, Error> {
    let (hosts, prefix) = match rest.split_once('/') {
        Some((hosts, "")) => (hosts, DEFAULT_INSTALLATION),
        Some((hosts, prefix)) => (hosts, prefix),
        None => (rest, DEFAULT_INSTALLATION),
    };
    let endpoints: Vec<String> = hosts.split(',').map(str::to_owned).collect();
    if endpoints.len() > MAX_ENDPOINTS {
        return Err(Error::refused(format!("an etcd has at most {MAX_ENDPOINTS} endpoints")));
    }
    for endpoint in &endpoints {
        let port = endpoint.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        if port.and_then(|port| port.parse::<u16>().ok()).is_none() {
            return Err(Error::refused(format!("the etcd endpoint {endpoint:?} is not HOST:PORT")));
        }
    }
    Ok(Location::Etcd { endpoints, prefix: installation(prefix)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match text.parse::<Location>() {
            Ok(location) => location.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{text}: {shown}");
    }

    #[test]
    fn addresses_are_read_and_written() {
        check("embedded:./data", "embedded:./data");
        check("etcd://127.0.0.1:2379", "etcd://127.0.0.1:2379/flareshift");
        check("etcd://a:1,b:2,[::1]:3/", "etcd://a:1,b:2,[::1]:3/flareshift");
        check("etcd://a:1/plant/one/", "etcd://a:1/plant/one");
    }

    #[test]
    fn wrong_addresses_say_what_is_expected() {
        check("", "neither embedded:DIR nor etcd://");
        check("redis://x", "neither embedded:DIR nor etcd://");
        check("embedded:", "needs a directory");
        check("etcd://", "is not HOST:PORT");
        check("etcd://host", "is not HOST:PORT");
        check("etcd://a:1,,b:2", "is not HOST:PORT");
        check("etcd://a:99999", "is not HOST:PORT");
        check("etcd://a:1/sp ace", "key prefix");
    }

    #[cfg(not(feature = "etcd"))]
    #[tokio::test]
    async fn a_build_without_etcd_says_how_to_get_it() {
        let text = open("etcd://a:1").await.unwrap_err().to_string();
        assert!(text.contains("this build has no etcd") && text.contains("feature `etcd`"), "{text}");
    }
}
