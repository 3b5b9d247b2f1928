//! Versions of this program and of the controller that answered.

use api::operator as wire;
use serde::Serialize;

use super::View;
use super::show::yes_no;
use super::table::pairs;

/// Both versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// This program's version.
    pub client: String,
    /// The controller's; `null` when none was asked or none answered.
    pub server: Option<Server>,
}

/// What a controller says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// The controller's version.
    pub version: String,
    /// Packages of the API that it serves.
    pub packages: Vec<String>,
    /// Where its state is kept.
    pub store: String,
    /// It accepts modules whose plant is simulated.
    pub accepts_simulated: bool,
}

impl Versions {
    /// This program's version, and the controller's where one answered.
    pub fn new(server: Option<wire::Version>) -> Self {
        Self { client: env!("CARGO_PKG_VERSION").to_owned(), server: server.map(Server::from) }
    }
}

impl View for Versions {
    fn table(&self) -> String {
        let server = |value: fn(&Server) -> String| self.server.as_ref().map(value).unwrap_or_default();
        pairs(&[
            ("Client", self.client.clone()),
            ("Controller", server(|server| server.version.clone())),
            ("Serves", server(|server| server.packages.join(", "))),
            ("Store", server(|server| server.store.clone())),
            ("Accepts simulated", server(|server| yes_no(server.accepts_simulated))),
        ])
    }
}

impl From<wire::Version> for Server {
    fn from(version: wire::Version) -> Self {
        let wire::Version { version, packages, store, accepts_simulated } = version;
        Self { version, packages, store, accepts_simulated }
    }
}
