//! Flags that say where decisions are kept, and how an etcd lets us in; shared by the service and by the commands about its store.
//!
//! Read next: `../maintenance.rs` for those commands.

use std::path::PathBuf;

use store::{Access, Error, Location, Store};

/// Where decisions are kept.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Where decisions are kept: embedded:DIR or etcd://HOST:PORT[,HOST:PORT...][/INSTALLATION], with TLS etcds://.
    #[arg(
        long,
        global = true,
        value_name = "ADDRESS",
        env = "FLARESHIFT_STORE",
        hide_env_values = true,
        default_value = "embedded:./data/controller"
    )]
    pub store: String,
    /// Prefix of this installation's keys in an etcd that several share; what the address says when left out.
    #[arg(long, global = true, value_name = "NAME", env = "FLARESHIFT_INSTALLATION")]
    pub installation: Option<String>,
    /// Certificates (PEM) of the authority that signed etcd's.
    #[arg(long, global = true, value_name = "FILE", env = "FLARESHIFT_ETCD_CA")]
    pub etcd_ca: Option<PathBuf>,
    /// Certificate (PEM) towards etcd, where it asks for one.
    #[arg(long, global = true, value_name = "FILE", env = "FLARESHIFT_ETCD_CERT")]
    pub etcd_cert: Option<PathBuf>,
    /// Private key (PEM) of that certificate.
    #[arg(long, global = true, value_name = "FILE", env = "FLARESHIFT_ETCD_KEY")]
    pub etcd_key: Option<PathBuf>,
    /// User of etcd, where it knows users.
    #[arg(long, global = true, value_name = "NAME", env = "FLARESHIFT_ETCD_USER")]
    pub etcd_user: Option<String>,
    /// File with that user's password.
    #[arg(long, global = true, value_name = "FILE", env = "FLARESHIFT_ETCD_PASSWORD_FILE")]
    pub etcd_password_file: Option<PathBuf>,
}

impl Place {
    /// The place without certificates or users, for tests.
    pub fn at(store: impl Into<String>) -> Self {
        Self {
            store: store.into(),
            installation: None,
            etcd_ca: None,
            etcd_cert: None,
            etcd_key: None,
            etcd_user: None,
            etcd_password_file: None,
        }
    }

    /// Where, installation included.
    pub fn location(&self) -> Result<Location, Error> {
        let location: Location = self.store.parse()?;
        match &self.installation {
            Some(name) => location.with_installation(name),
            None => Ok(location),
        }
    }

    /// Whether other controllers may stand by on it.
    pub fn is_shared(&self) -> Result<bool, Error> {
        Ok(!matches!(self.location()?, Location::Embedded { .. }))
    }

    /// Opens it. An etcd that is not there is no error yet.
    pub async fn open(&self) -> Result<Store, Error> {
        let access = Access {
            ca: self.etcd_ca.clone(),
            certificate: self.etcd_cert.clone(),
            key: self.etcd_key.clone(),
            user: self.etcd_user.clone(),
            password_file: self.etcd_password_file.clone(),
        };
        store::open_at(self.location()?, access).await
    }
}
