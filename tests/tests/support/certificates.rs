//! Certificates of a whole installation, made by the very lines that docs/tls.md tells people to type.
//!
//! Assumes an `openssl` on the PATH, as every Debian has. Next: `fleet.rs`, which starts programs with them.

use std::path::Path;
use std::process::Command;

use super::fleet::SITES;
use super::{TempDir, repository};

/// The modules of the reference fleet's sites.
const MODULES: [(&str, [&str; 3]); 2] = [
    (SITES[0], ["well-7-mine", "well-7-gpu", "well-7-hybrid"]),
    (SITES[1], ["mesa-2-mine", "mesa-2-gpu", "mesa-2-hybrid"]),
];

/// A directory with the authority's certificate, one for the controller (`here`), for operator ada, and for each site's agents.
pub struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// New ones, for a controller on loopback and the reference fleet.
    pub fn new() -> Self {
        let certificates = Self { dir: TempDir::new("certificates") };
        certificates.renew();
        certificates
    }

    /// All of them anew, by a new authority.
    pub fn renew(&self) {
        let mut lines = documented();
        lines.push_str("\nissue here 1 IP:127.0.0.1 serverAuth\n");
        for (site, modules) in MODULES {
            let names: Vec<String> =
                modules.iter().map(|module| format!("URI:flareshift:module/{module}")).collect();
            lines.push_str(&format!("issue {site} 1 {} clientAuth\n", names.join(",")));
        }
        let ran = Command::new("sh").args(["-e", "-c", &lines]).current_dir(self.dir.path()).output();
        let ran = ran.expect("a shell is on the PATH");
        assert!(ran.status.success(), "{lines}: {}", String::from_utf8_lossy(&ran.stderr));
    }

    /// The flags of a controller.
    pub fn served(&self) -> Vec<String> {
        self.flags([("--tls-cert", "here.pem"), ("--tls-key", "here.key"), ("--tls-client-ca", "ca.pem")])
    }

    /// The flags of whoever holds this certificate.
    pub fn shown(&self, name: &str) -> Vec<String> {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        self.flags([("--tls-cert", &certificate), ("--tls-key", &key), ("--tls-ca", "ca.pem")])
    }

    fn flags(&self, files: [(&str, &str); 3]) -> Vec<String> {
        files.into_iter().flat_map(|(flag, file)| [flag.to_owned(), self.dir.at(file)]).collect()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// The first shell lines of docs/tls.md.
fn documented() -> String {
    let text = std::fs::read_to_string(repository("docs/tls.md")).unwrap();
    let (_, rest) = text.split_once("```sh\n").expect("docs/tls.md has shell lines");
    rest.split_once("```").expect("they end").0.to_owned()
}
