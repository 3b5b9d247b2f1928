//! The end that connects: the controller's authority, our own certificate, and what a failure means.
//!
//! Files are read at each connection, so that renewed ones count from the next one on. Assumes that an address is a URL, and that
//! its host is what the controller's certificate is good for. Next: `agent/src/session.rs`, `cli/src/operator/connect.rs`.

use std::path::PathBuf;
#[cfg(feature = "tls")]
use std::time::Duration;

use tonic::transport::Endpoint;

use super::{BUILT_IN, Error};

/// A handshake that takes longer has failed, as the controller's end sees it too. An endpoint's own limit ends with the connection of
/// TCP, which the kernel of a busy controller makes without it: who waited without a limit then waited for ever.
#[cfg(feature = "tls")]
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Certificates towards controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct ClientFlags {
    /// Certificates (PEM) of the authority that signed the controllers'; with https:// addresses (docs/tls.md).
    #[arg(long, global = true, value_name = "FILE", env = "FLARESHIFT_TLS_CA", hide_env_values = true)]
    pub tls_ca: Option<PathBuf>,
    /// Certificate (PEM) that says who we are.
    #[arg(long, global = true, value_name = "FILE", env = "FLARESHIFT_TLS_CERT", hide_env_values = true)]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of that certificate.
    #[arg(long, global = true, value_name = "FILE", env = "FLARESHIFT_TLS_KEY", hide_env_values = true)]
    pub tls_key: Option<PathBuf>,
}

/// What is shown to a controller and what its certificate is held against, in PEM; checked.
#[derive(Clone)]
pub struct Client {
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "there is none in this build"))]
    ca: Vec<u8>,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "there is none in this build"))]
    certificate: Vec<u8>,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "there is none in this build"))]
    key: Vec<u8>,
}

impl ClientFlags {
    /// Whether any certificate is given.
    pub fn any(&self) -> bool {
        self.files().iter().any(|(_, file)| file.is_some())
    }

    fn files(&self) -> [(&'static str, &Option<PathBuf>); 3] {
        [("tls-ca", &self.tls_ca), ("tls-cert", &self.tls_cert), ("tls-key", &self.tls_key)]
    }

    /// Reads and checks the files. `None` where none is given.
    pub fn read(&self) -> Result<Option<Client>, Error> {
        let given = self.files().into_iter().find(|(_, file)| file.is_some());
        let missing = self.files().into_iter().find(|(_, file)| file.is_none());
        match (given, missing) {
            (None, _) => Ok(None),
            (Some((given, _)), Some((missing, _))) => Err(Error::Missing { given, missing }),
            (Some(_), None) => self.read_all(),
        }
    }

    #[cfg(feature = "tls")]
    fn read_all(&self) -> Result<Option<Client>, Error> {
        use super::files::{Named, pair};
        let [ca, certificate, key] =
            self.files().map(|(flag, file)| file.as_deref().map(|path| Named { flag, path }));
        let (Some(ca), Some(certificate), Some(key)) = (ca, certificate, key) else { return Ok(None) };
        let client = Client { ca: ca.read()?, certificate: certificate.read()?, key: key.read()? };
        ca.roots(&client.ca)?;
        pair((certificate, &client.certificate), (key, &client.key))?;
        Ok(Some(client))
    }

    #[cfg(not(feature = "tls"))]
    fn read_all(&self) -> Result<Option<Client>, Error> {
        Err(Error::NoTls)
    }

    /// Whether every one of these controllers can be reached by these files: all with TLS, or all without.
    pub fn check<'a>(&self, addresses: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
        let client = self.read()?;
        for address in addresses {
            if client.is_some() && !is_secure(address) {
                return Err(Error::Unused { address: address.to_owned() });
            }
            endpoint(address, client.as_ref())?;
        }
        Ok(())
    }

    /// The way to a controller, by what the files hold now.
    pub fn endpoint(&self, address: &str) -> Result<Endpoint, Error> {
        // Not even read where they are of no use: who says http:// means it.
        let client = if is_secure(address) { self.read()? } else { None };
        endpoint(address, client.as_ref())
    }
}

/// Whether an address is reached with TLS.
pub fn is_secure(address: &str) -> bool {
    address.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
}

/// The way to a controller.
fn endpoint(address: &str, client: Option<&Client>) -> Result<Endpoint, Error> {
    let plain = Endpoint::from_shared(address.to_owned());
    let plain = plain.map_err(|_| Error::Address { address: address.to_owned() })?;
    match client {
        _ if !is_secure(address) => Ok(plain),
        Some(client) => client.secure(plain),
        None if BUILT_IN => Err(Error::NoFiles { address: address.to_owned() }),
        None => Err(Error::NoTls),
    }
}

impl Client {
    /// One of these texts in PEM.
    pub fn from_pem(ca: &str, certificate: &str, key: &str) -> Self {
        Self { ca: ca.into(), certificate: certificate.into(), key: key.into() }
    }

    /// The same way, with TLS.
    #[cfg(feature = "tls")]
    pub fn secure(&self, endpoint: Endpoint) -> Result<Endpoint, Error> {
        use tonic::transport::{Certificate, ClientTlsConfig, Identity};
        let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let config = ClientTlsConfig::new()
            .domain_name(host)
            .timeout(HANDSHAKE)
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, &self.key));
        endpoint.tls_config(config).map_err(|error| {
            let why =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Error::Library(why)
        })
    }

    /// Says that this build has none.
    #[cfg(not(feature = "tls"))]
    pub fn secure(&self, _: Endpoint) -> Result<Endpoint, Error> {
        Err(Error::NoTls)
    }
}

const STRANGER: &str =
    "the controller's certificate is not signed by --tls-ca: name the authority that signed it";
const UNKNOWN: &str =
    "the controller does not know who signed --tls-cert: have it signed by its --tls-client-ca";

/// What TLS says of a failure, and what to do. By the words: what the other end says reaches us through HTTP/2's errors, which keep
/// nothing else.
const ADVICE: [(&str, &str); 12] = [
    ("UnknownIssuer", STRANGER),
    ("BadSignature", STRANGER),
    (
        "certificate not valid for name",
        "the controller's certificate is for other names: use one of them, or add this one to it",
    ),
    (
        "certificate expired",
        "the controller's certificate has expired: renew it there, or correct this machine's clock",
    ),
    (
        "certificate not valid yet",
        "the controller's certificate is not valid yet: correct this machine's clock",
    ),
    (
        "certificate does not allow",
        "what answers there shows no controller's certificate: make it with extendedKeyUsage serverAuth",
    ),
    ("InvalidContentType", "no TLS is spoken there: write http://, or name the port that speaks TLS"),
    ("alert: CertificateRequired", "the controller lets nobody in without a certificate: give --tls-cert"),
    ("alert: UnknownCA", UNKNOWN),
    ("alert: DecryptError", UNKNOWN),
    ("alert: CertificateExpired", "--tls-cert has expired: renew it"),
    ("this address speaks TLS", "write https:// and give --tls-ca, --tls-cert and --tls-key"),
];

/// What to do where a connection with TLS failed right after it stood, and nothing says why: with TLS 1.3 a client's certificate is judged
/// when the client believes that it is connected, and what the other end says of it may be lost.
pub const PERHAPS: &str = "the controller may not have taken --tls-cert: its log says why";

/// What to do about a connection that failed, where TLS is why.
pub fn advice(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut at = Some(error);
    while let Some(error) = at {
        let text = error.to_string();
        if let Some((_, advice)) = ADVICE.iter().find(|(word, _)| text.contains(word)) {
            return Some(advice);
        }
        at = error.source();
    }
    None
}
