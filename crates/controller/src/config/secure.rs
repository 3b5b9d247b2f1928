//! Flags of TLS: the controller's certificates and the authority of its callers.
//!
//! Agents and operators come by gRPC and show certificates; tenants come by REST with their keys, and may see another certificate
//! there, such as one of a public authority. Read next: docs/tls.md.

use std::path::PathBuf;

use service::tls::{Error, Server, ServerFiles};

/// The flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Tls {
    /// Certificate (PEM) of this controller, with what stands between it and its authority. With it gRPC and REST speak TLS
    /// (docs/tls.md). SIGHUP reads the files again.
    #[arg(long, value_name = "FILE", env = "FLARESHIFT_TLS_CERT", hide_env_values = true)]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of that certificate.
    #[arg(long, value_name = "FILE", env = "FLARESHIFT_TLS_KEY", hide_env_values = true)]
    pub tls_key: Option<PathBuf>,
    /// Certificates (PEM) of the authority that signs those of agents and operators; whoever shows none of it is not let in.
    #[arg(long, value_name = "FILE", env = "FLARESHIFT_TLS_CLIENT_CA", hide_env_values = true)]
    pub tls_client_ca: Option<PathBuf>,
    /// Another certificate (PEM) for tenants' REST; the same when left out.
    #[arg(long, value_name = "FILE", env = "FLARESHIFT_REST_TLS_CERT", hide_env_values = true)]
    pub rest_tls_cert: Option<PathBuf>,
    /// Private key (PEM) of that other certificate.
    #[arg(long, value_name = "FILE", env = "FLARESHIFT_REST_TLS_KEY", hide_env_values = true)]
    pub rest_tls_key: Option<PathBuf>,
}

/// A flag with its file.
type Given = (&'static str, PathBuf);

impl Tls {
    /// The files of gRPC, if it speaks TLS.
    pub fn grpc(&self) -> Result<Option<ServerFiles>, Error> {
        let own = both(("tls-cert", &self.tls_cert), ("tls-key", &self.tls_key))?;
        match (own, &self.tls_client_ca) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Error::Missing { given: "tls-client-ca", missing: "tls-cert" }),
            (Some(_), None) => Err(Error::Missing { given: "tls-cert", missing: "tls-client-ca" }),
            (Some((certificate, key)), Some(ca)) => {
                Ok(Some(ServerFiles { certificate, key, client_ca: Some(("tls-client-ca", ca.clone())) }))
            }
        }
    }

    /// The files of REST, if it speaks TLS.
    pub fn rest(&self) -> Result<Option<ServerFiles>, Error> {
        let own = both(("rest-tls-cert", &self.rest_tls_cert), ("rest-tls-key", &self.rest_tls_key))?;
        let files = match own {
            Some((certificate, key)) => Some(ServerFiles { certificate, key, client_ca: None }),
            None => self.grpc()?.map(|files| ServerFiles { client_ca: None, ..files }),
        };
        Ok(files)
    }

    /// Reads the files for gRPC and for REST.
    pub fn read(&self) -> Result<[Option<Server>; 2], Error> {
        let [grpc, rest] = [self.grpc()?, self.rest()?].map(|files| files.map(Server::read).transpose());
        Ok([grpc?, rest?])
    }
}

/// A certificate and its key, both or none.
fn both(
    certificate: (&'static str, &Option<PathBuf>),
    key: (&'static str, &Option<PathBuf>),
) -> Result<Option<(Given, Given)>, Error> {
    match (certificate, key) {
        ((_, None), (_, None)) => Ok(None),
        ((flag, Some(certificate)), (key_flag, Some(key))) => {
            Ok(Some(((flag, certificate.clone()), (key_flag, key.clone()))))
        }
        ((given, Some(_)), (missing, None)) | ((missing, None), (given, Some(_))) => {
            Err(Error::Missing { given, missing })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn certificate_key_and_authority_come_together_and_rest_may_have_its_own() {
        let tls = |given: &str| {
            let file = |name: &str| given.split(' ').any(|given| given == name).then(|| PathBuf::from(name));
            Tls {
                tls_cert: file("cert"),
                tls_key: file("key"),
                tls_client_ca: file("ca"),
                rest_tls_cert: file("rest-cert"),
                rest_tls_key: file("rest-key"),
            }
        };
        let shown = |files: Result<Option<ServerFiles>, Error>| match files {
            Ok(None) => "plain".to_owned(),
            Ok(Some(files)) => {
                let ca = files.client_ca.map(|(_, ca)| format!(" {}", ca.display())).unwrap_or_default();
                format!("{} {}{ca}", files.certificate.1.display(), files.key.1.display())
            }
            Err(error) => error.to_string(),
        };
        let check = |given: &str, grpc: &str, rest: &str| {
            let tls = tls(given);
            assert_eq!((shown(tls.grpc()).as_str(), shown(tls.rest()).as_str()), (grpc, rest), "{given}");
        };
        let missing =
            |given: &str, missing: &str| format!("--{given} is given without --{missing}; TLS needs both");
        check("", "plain", "plain");
        check("cert key ca", "cert key ca", "cert key");
        check("cert key ca rest-cert rest-key", "cert key ca", "rest-cert rest-key");
        check("rest-cert rest-key", "plain", "rest-cert rest-key");
        check("rest-key", "plain", &missing("rest-tls-key", "rest-tls-cert"));
        for (given, expected) in [
            ("cert", missing("tls-cert", "tls-key")),
            ("key ca", missing("tls-key", "tls-cert")),
            ("cert key", missing("tls-cert", "tls-client-ca")),
            ("ca", missing("tls-client-ca", "tls-cert")),
        ] {
            check(given, &expected, &expected);
        }
    }
}
