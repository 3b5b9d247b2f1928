//! Files of certificates and keys in PEM, each checked whole when it is read: what a handshake would only hint at is told here with
//! the flag, the file and what to do.
//!
//! Assumes: ring is the provider wherever our programs speak TLS. Next: `server.rs`, `client.rs`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, RootCertStore};

use super::der::{Validity, validity};
use super::{Ago, Error, Unfit};

/// Largest file that is read: a chain has a few KiB, a bundle of every public authority 250.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A file by the flag that names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    pub(super) flag: &'static str,
    pub(super) path: &'a Path,
}

/// The provider, named, since another dependency may bring another one, and a default would then panic.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl Named<'_> {
    pub(super) fn unfit(self, why: Unfit) -> Error {
        Error::File { flag: self.flag, path: self.path.to_owned(), why }
    }

    pub(super) fn read(self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read =
            File::open(self.path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        let length = read.map_err(|error| self.unfit(Unfit::Unreadable(error)))?;
        if length as u64 > MAX_FILE_BYTES {
            return Err(self.unfit(Unfit::Large(MAX_FILE_BYTES)));
        }
        Ok(bytes)
    }

    /// The certificates in these bytes, at least one.
    fn certificates(self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let found = found.map_err(|error| self.unfit(Unfit::Form(error.to_string())))?;
        if found.is_empty() { Err(self.unfit(Unfit::NoCertificate)) } else { Ok(found) }
    }

    /// The authorities in these bytes.
    pub(super) fn roots(self, pem: &[u8]) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(pem)? {
            roots.add(certificate).map_err(|error| self.unfit(Unfit::Form(error.to_string())))?;
        }
        Ok(roots)
    }
}

/// A certificate with what stands between it and its authority, its key, and up to when it is good.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    pub(super) until: i64,
}

/// Certificate and key in these bytes: they read, go with each other and are good now.
pub(super) fn pair(certificate: (Named<'_>, &[u8]), key: (Named<'_>, &[u8])) -> Result<Pair, Error> {
    let (named, pem) = certificate;
    let chain = named.certificates(pem)?;
    let (key_named, key_pem) = key;
    let private = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => key_named.unfit(Unfit::NoKey),
        error => key_named.unfit(Unfit::Form(error.to_string())),
    })?;
    let checked = CertifiedKey::from_der(chain.clone(), private.clone_key(), &provider());
    checked.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => key_named.unfit(Unfit::OtherKey(named.path.to_owned())),
        rustls::Error::InvalidCertificate(_) => named.unfit(Unfit::Form(error.to_string())),
        error => key_named.unfit(Unfit::Form(error.to_string())),
    })?;
    let times = chain.first().and_then(|leaf| validity(leaf));
    let times = times.ok_or_else(|| named.unfit(Unfit::Form("its validity cannot be read".into())))?;
    in_time(times, now()).map_err(|why| named.unfit(why))?;
    Ok(Pair { chain, key: private, until: times.until })
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Whether a certificate is good at a time.
fn in_time(Validity { from, until }: Validity, now: i64) -> Result<(), Unfit> {
    if now > until {
        Err(Unfit::Expired(Ago(now - until)))
    } else if now < from {
        Err(Unfit::Early(Ago(from - now)))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_good_from_its_first_second_to_its_last() {
        let check = |now: i64, expected: &str| {
            let told = in_time(Validity { from: 1_000, until: 2_000 }, now).err().map(|why| why.to_string());
            assert_eq!(told.unwrap_or_default(), expected, "{now}");
        };
        check(1_000, "");
        check(2_000, "");
        check(999, "the certificate is good only in 1 s; check this machine's clock");
        check(2_001, "the certificate expired 1 s ago; renew it");
        check(2_000 + 3 * 86_400, "the certificate expired 3 days ago; renew it");
    }
}
