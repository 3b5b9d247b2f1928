//! How an etcd lets us in: whom we trust, who we are, and what we know.
//!
//! Assumes nothing of a build: without the feature `etcd` it is read all the same, so that what is wrong is said early.
//! Read next: `etcd/secure.rs`, which reads the files.

use std::path::PathBuf;

use crate::error::Error;
use crate::location::Location;

/// Files and names for one etcd. Nothing in it: no TLS, no user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Certificates (PEM) of the authorities that may have signed etcd's own.
    pub ca: Option<PathBuf>,
    /// Our certificate (PEM), with what stands between it and its authority.
    pub certificate: Option<PathBuf>,
    /// The private key of our certificate (PEM).
    pub key: Option<PathBuf>,
    /// Our name in etcd's own list of users.
    pub user: Option<String>,
    /// A file with the user's password, and nothing else.
    pub password_file: Option<PathBuf>,
}

impl Access {
    /// Whether it fits the place: refuses what would silently do nothing, and a password that would travel in the clear.
    pub fn check(&self, location: &Location) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::refused(what));
        let (tls, endpoints) = match location {
            Location::Embedded { .. } if *self != Self::default() => {
                return refuse(
                    "an embedded store takes no certificate and no user; leave them out, or name an etcd",
                );
            }
            Location::Embedded { .. } => return Ok(()),
            Location::Etcd { tls, endpoints, .. } => (*tls, endpoints),
        };
        let files = self.ca.is_some() || self.certificate.is_some() || self.key.is_some();
        if files && !tls {
            return refuse("certificates are of no use without TLS; write etcds:// instead of etcd://");
        }
        if tls && self.ca.is_none() {
            return refuse(
                "etcds:// needs the certificate of the authority that signed etcd's own (the CA file)",
            );
        }
        if self.certificate.is_some() != self.key.is_some() {
            return refuse("a client certificate and its private key go together; give both files or none");
        }
        if self.user.is_some() != self.password_file.is_some() {
            return refuse("a user of etcd and the file with the password go together; give both or none");
        }
        if self.user.is_some() && !tls && !endpoints.iter().all(|endpoint| is_loopback(endpoint)) {
            return refuse("a password would travel in the clear; write etcds:// instead of etcd://");
        }
        Ok(())
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_do() {
        let file = || Some(PathBuf::from("f"));
        let ca = || Access { ca: file(), ..Access::default() };
        let user = || Access { user: Some("u".into()), password_file: file(), ..Access::default() };
        let check = |location: &str, access: Access, expected: Option<&str>| {
            let outcome = access.check(&location.parse().unwrap());
            match (outcome, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(expected)) => {
                    assert!(error.to_string().contains(expected), "{location}: {error}");
                }
                (outcome, expected) => panic!("{location}: {outcome:?}, not {expected:?}"),
            }
        };
        check("embedded:d", Access::default(), None);
        check("embedded:d", user(), Some("takes no certificate"));
        check("etcd://a:1", Access::default(), None);
        check("etcd://a:1", ca(), Some("write etcds://"));
        check("etcds://a:1", Access::default(), Some("the CA file"));
        check("etcds://a:1", ca(), None);
        check("etcds://a:1", Access { certificate: file(), ..ca() }, Some("give both files"));
        check("etcds://a:1", Access { key: file(), ..ca() }, Some("give both files"));
        check("etcds://a:1", Access { certificate: file(), key: file(), ..ca() }, None);
        check("etcds://a:1", Access { user: Some("u".into()), ..ca() }, Some("give both or none"));
        check("etcds://a:1", Access { ca: file(), ..user() }, None);
        check("etcd://10.0.0.1:1", user(), Some("in the clear"));
        check("etcd://127.0.0.1:1,[::1]:2,localhost:3", user(), None);
    }
}
