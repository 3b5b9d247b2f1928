//! Where the store is, as people write it: `embedded:DIR` or `etcd://host:port[,host:port…][/prefix]`, with TLS `etcds://…`.
//!
//! Assumes: a build without the feature `etcd` still understands the address, so that it can say what is missing.
//! Read next: `embedded.rs`, `etcd.rs`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::access::Access;
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
        tls: bool,
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
        match (text.strip_prefix("etcd://"), text.strip_prefix("etcds://")) {
            (Some(rest), _) => parse_etcd(rest, false),
            (_, Some(rest)) => parse_etcd(rest, true),
            (None, None) => Err(Error::refused(format!(
                "the store {text:?} is neither embedded:DIR nor etcd://HOST:PORT[,HOST:PORT...][/PREFIX] (etcds:// with TLS)"
            ))),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded { dir } => write!(f, "embedded:{}", dir.display()),
            Self::Etcd { endpoints, prefix, tls } => {
                let scheme = if *tls { "etcds" } else { "etcd" };
                write!(f, "{scheme}://{}/{}", endpoints.join(","), prefix.trim_end_matches('/'))
            }
        }
    }
}

impl Location {
    /// Another installation in the same etcd.
    pub fn with_installation(self, name: &str) -> Result<Self, Error> {
        match self {
            Self::Embedded { .. } => {
                Err(Error::refused("an embedded store holds one installation; leave the installation out"))
            }
            Self::Etcd { endpoints, tls, .. } => {
                Ok(Self::Etcd { endpoints, tls, prefix: installation(name)? })
            }
        }
    }
}

/// Opens the store at an address, with neither certificates nor a user.
pub async fn open(address: &str) -> Result<Store, Error> {
    open_at(address.parse()?, Access::default()).await
}

/// Opens the store at a location. An etcd that is not there is no error yet: each call says so until it is.
pub async fn open_at(location: Location, access: Access) -> Result<Store, Error> {
    access.check(&location)?;
    match location {
        Location::Embedded { dir } => {
            let opened = tokio::task::spawn_blocking(move || embedded::open(&dir)).await;
            opened.map_err(|source| Error::corrupt("the embedded store panicked and its file", source))?
        }
        Location::Etcd { endpoints, prefix, tls } => open_etcd(endpoints, prefix, tls, access).await,
    }
}

#[cfg(feature = "etcd")]
async fn open_etcd(
    endpoints: Vec<String>,
    prefix: String,
    tls: bool,
    access: Access,
) -> Result<Store, Error> {
    let options = crate::etcd::Options { prefix, tls, access, ..Default::default() };
    crate::etcd::connect(&endpoints, options).await
}

#[cfg(not(feature = "etcd"))]
async fn open_etcd(_: Vec<String>, _: String, _: bool, _: Access) -> Result<Store, Error> {
    Err(Error::refused(
        "this build has no etcd; use embedded:DIR, or the flareshift-controller binary, or build with the feature `etcd` (which needs protoc)",
    ))
}

fn parse_etcd(rest: &str, tls: bool) -> Result<Location, Error> {
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
    Ok(Location::Etcd { endpoints, prefix: installation(prefix)?, tls })
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
        check("etcds://a:1,b:2", "etcds://a:1,b:2/flareshift");
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

    #[test]
    fn another_installation_in_the_same_etcd() {
        let other = |text: &str, name: &str| text.parse::<Location>().unwrap().with_installation(name);
        assert_eq!(other("etcds://a:1/one", "two").unwrap().to_string(), "etcds://a:1/two");
        assert!(other("etcd://a:1", "sp ace").unwrap_err().to_string().contains("key prefix"));
        assert!(other("embedded:d", "two").unwrap_err().to_string().contains("holds one installation"));
    }

    #[cfg(not(feature = "etcd"))]
    #[tokio::test]
    async fn a_build_without_etcd_says_how_to_get_it() {
        let text = open("etcd://a:1").await.unwrap_err().to_string();
        assert!(text.contains("this build has no etcd") && text.contains("feature `etcd`"), "{text}");
    }
}
