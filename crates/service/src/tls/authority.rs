//! An authority made on the spot, which signs what tests and load generators need: keys are new each time and open nothing.
//!
//! Assumes that nobody trusts it but who made it. For real ones: docs/tls.md.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType, date_time_ymd,
};

use super::{Client, ClientFlags, ServerFiles};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM.
    pub pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one of this name; two of one name are told apart by their signatures alone.
    pub fn new(name: &str) -> Result<Self, Error> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// A listener's certificate, good for these names and addresses.
    pub fn server(&self, names: &[&str]) -> Result<Pair, Error> {
        self.sign(CertificateParams::new(owned(names))?, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate with these URIs.
    pub fn client(&self, uris: &[&str]) -> Result<Pair, Error> {
        self.sign(of_uris(uris)?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// The same, good no more since the begin of 2001.
    pub fn expired(&self, uris: &[&str]) -> Result<Pair, Error> {
        let mut params = of_uris(uris)?;
        params.not_after = date_time_ymd(2001, 1, 1);
        self.sign(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, purpose: ExtendedKeyUsagePurpose) -> Result<Pair, Error> {
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }

    /// What somebody with this certificate shows to controllers that this authority signed.
    pub fn shown(&self, pair: &Pair) -> Client {
        Client::from_pem(&self.pem, &pair.certificate, &pair.key)
    }
}

impl Pair {
    /// Writes them to `NAME.pem` and `NAME.key` in a directory.
    pub fn write(&self, dir: &Path, name: &str) -> std::io::Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        std::fs::write(&certificate, &self.certificate)?;
        std::fs::write(&key, &self.key)?;
        Ok((certificate, key))
    }

    /// Writes them, and their authority to `ca.pem`, for a listener that asks for certificates of the same authority.
    pub fn serve(&self, authority: &Authority, dir: &Path, name: &str) -> std::io::Result<ServerFiles> {
        let (certificate, key) = self.write(dir, name)?;
        std::fs::write(dir.join("ca.pem"), &authority.pem)?;
        Ok(ServerFiles {
            certificate: ("tls-cert", certificate),
            key: ("tls-key", key),
            client_ca: Some(("tls-client-ca", dir.join("ca.pem"))),
        })
    }

    /// Writes them, and their authority to `ca.pem`, for a client.
    pub fn flags(&self, authority: &Authority, dir: &Path, name: &str) -> std::io::Result<ClientFlags> {
        let (certificate, key) = self.write(dir, name)?;
        std::fs::write(dir.join("ca.pem"), &authority.pem)?;
        Ok(ClientFlags { tls_ca: Some(dir.join("ca.pem")), tls_cert: Some(certificate), tls_key: Some(key) })
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn of_uris(uris: &[&str]) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new([])?;
    let uris = uris.iter().map(|uri| Ok(SanType::URI((*uri).try_into()?)));
    params.subject_alt_names = uris.collect::<Result<_, Error>>()?;
    Ok(params)
}
