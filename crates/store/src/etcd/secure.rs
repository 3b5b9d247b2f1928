//! Reads the files of an [`Access`], and says of each that cannot be used which it is and what is wrong with it.
//!
//! The client library takes any bytes and fails later, at each connection and without a name; so everything is parsed here
//! first, by the same TLS library.
//! Assumes: ring is the provider, which `etcd-client`'s feature `tls-ring` brings too.
//! Read next: `member.rs`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_client::{Certificate, Identity, TlsOptions};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::access::Access;
use crate::error::Error;

/// Largest file that is read: a chain has a few KiB, a bundle of every public authority 250.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Longest password: etcd hashes 72 bytes of it.
const MAX_PASSWORD_BYTES: usize = 72;

/// A user of etcd.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl std::fmt::Debug for Login {
    /// The password stays out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// The options for TLS; checked whole.
pub(super) fn tls(access: &Access) -> Result<TlsOptions, Error> {
    let ca = access.ca.as_deref().ok_or_else(|| Error::refused("etcds:// needs the CA file"))?;
    let ca_pem = read(ca, "the certificate authority of etcd")?;
    let roots = roots(ca, &ca_pem)?;
    let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(&ca_pem));
    if let (Some(certificate), Some(key)) = (&access.certificate, &access.key) {
        let certificate_pem = read(certificate, "the certificate towards etcd")?;
        let key_pem = read(key, "the private key towards etcd")?;
        check_pair(roots, (certificate, &certificate_pem), (key, &key_pem))?;
        options = options.identity(Identity::from_pem(certificate_pem, key_pem));
    }
    Ok(options)
}

/// Who we are in etcd's own list, if anybody.
pub(super) fn login(access: &Access) -> Result<Option<Login>, Error> {
    let (Some(user), Some(path)) = (&access.user, &access.password_file) else { return Ok(None) };
    let bytes = read(path, "the password towards etcd")?;
    let text = String::from_utf8(bytes)
        .map_err(|_| unusable(path, "the password towards etcd", "it is not UTF-8"))?;
    // An editor leaves a line end behind.
    let password = text.trim_end_matches(['\n', '\r']).to_owned();
    if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
        let why = format!("it must hold 1 to {MAX_PASSWORD_BYTES} bytes");
        return Err(unusable(path, "the password towards etcd", why));
    }
    Ok(Some(Login { user: user.clone(), password }))
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, Error> {
    let what = "the certificate authority of etcd";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, what, pem)? {
        roots.add(certificate).map_err(|error| unusable(path, what, error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path, what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| unusable(path, what, error))?;
    if found.is_empty() {
        return Err(unusable(path, what, "it has no block that begins with -----BEGIN CERTIFICATE-----"));
    }
    Ok(found)
}

/// The key reads, and is that of the certificate.
fn check_pair(
    roots: RootCertStore,
    (certificate, certificate_pem): (&PathBuf, &[u8]),
    (key, key_pem): (&PathBuf, &[u8]),
) -> Result<(), Error> {
    let chain = certificates(certificate, "the certificate towards etcd", certificate_pem)?;
    let what = "the private key towards etcd";
    let private = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| unusable(key, what, error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::refused(format!("this build has no usable TLS: {error}")))?;
    let paired = config.with_root_certificates(roots).with_client_auth_cert(chain, private);
    let why = |error| format!("it does not go with {}: {error}", certificate.display());
    paired.map(drop).map_err(|error| unusable(key, what, why(error)))
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
    let length = read.map_err(|error: io::Error| unusable(path, what, error))?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(unusable(path, what, format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

fn unusable(path: &Path, what: &str, why: impl std::fmt::Display) -> Error {
    Error::refused(format!("{what}, {}, cannot be used: {why}", path.display()))
}
