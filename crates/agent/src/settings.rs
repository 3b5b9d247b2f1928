//! The settings of a Stratum proxy, as a person writes them: where miners connect, accounts with weights, pools, limits.
//!
//! One file serves both an agent of a fleet (`--proxy FILE`) and the proxy alone (`flareshift-agent proxy FILE`). Every value is
//! checked while it is read, so that a mistake is told with its line and column. docs/proxy.md lists the keys. Read next: `edge.rs`,
//! which makes a running proxy of them.

use std::fs::File;
use std::io;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use model::toml_file;
use serde::de::{Deserialize, Deserializer, Error as _};
use stratum::downstream;
use stratum::keepalive;
use stratum::target::Difficulty;
use stratum::vardiff;
use stratum::verify::NtimeWindow;

use crate::proxy::{self, Account};

/// Longest file: [`MAX_ACCOUNTS`] with [`MAX_POOLS`] each are some 40 kB.
const MAX_BYTES: u64 = 256 * 1024;
/// Each account has a session of its own with a pool; a farm has one or two, a hosting site one for each customer.
const MAX_ACCOUNTS: usize = 32;
/// Pools of one account, tried in order: with the longest back-off of half a minute the last is reached within minutes.
const MAX_POOLS: usize = 8;
/// Longest account name or password; bitcoin addresses have up to 90 characters.
const MAX_NAME: usize = 160;
/// Ten minutes: longer than a pool's restart or a router's, and two dwells of a usual miner, so that one short outage reverses nobody.
const IDLE_AFTER_S: u64 = 600;

/// Why settings are of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the proxy's settings {}; check that the file exists and may be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is longer than any settings.
    #[error("{} is larger than {MAX_BYTES} bytes; are these settings of a proxy?", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// A key is unknown, or a value is none.
    #[error(transparent)]
    Form(#[from] toml_file::Error),
    /// Each value is one, and together they mean nothing.
    #[error("{}: {what}", path.display())]
    Unsound {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
}

/// How a proxy is to be.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where miners connect, on loopback; port 0 takes a free one.
    #[serde(default = "listen", deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Shares that each miner's difficulty aims at, a minute.
    #[serde(default = "shares_per_minute", deserialize_with = "share_rate")]
    pub shares_per_minute: f64,
    /// Each miner has an upstream session of its own.
    #[serde(default)]
    pub pass_through: bool,
    /// Certificates in PEM that pools may be signed by besides the public authorities; relative to the file.
    pub tls_roots: Option<PathBuf>,
    /// Where shares go.
    #[serde(rename = "account", default)]
    pub accounts: Vec<AccountSettings>,
    /// What bounds memory and patience.
    #[serde(default)]
    pub limits: Limits,
}

/// One account and its pools.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountSettings {
    /// Our user name at its pools.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// Its password; most pools ignore it.
    #[serde(default = "password", deserialize_with = "name")]
    pub password: String,
    /// Its share of the miners, against the weights of the others; 0 gets none.
    #[serde(default = "weight", deserialize_with = "within::<_, 0, 10_000>")]
    pub weight: u64,
    /// Pools, the best first.
    #[serde(deserialize_with = "pools")]
    pub pools: Vec<String>,
}

/// Limits, each with its default.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Miners connected at once.
    #[serde(deserialize_with = "within::<_, 1, 100_000>")]
    pub connections: u64,
    /// Difficulty of a new connection.
    #[serde(deserialize_with = "difficulty")]
    pub first_difficulty: Difficulty,
    /// Easiest that is handed out.
    #[serde(deserialize_with = "difficulty")]
    pub lowest_difficulty: Difficulty,
    /// Hardest that is handed out.
    #[serde(deserialize_with = "difficulty")]
    pub highest_difficulty: Difficulty,
    /// From connecting to being authorized.
    #[serde(deserialize_with = "within::<_, 1, 3_600>")]
    pub handshake_seconds: u64,
    /// Longest silence of a miner.
    #[serde(deserialize_with = "within::<_, 10, 86_400>")]
    pub idle_seconds: u64,
    /// Header hashes remembered for each miner, 64 bytes each.
    #[serde(deserialize_with = "within::<_, 256, 1_000_000>")]
    pub duplicates: u64,
    /// From losing all pools of an account to the first job of our own.
    #[serde(deserialize_with = "within::<_, 1, 60>")]
    pub keep_alive_after_seconds: u64,
    /// How long such a job lasts.
    #[serde(deserialize_with = "within::<_, 60, 3_600>")]
    pub keep_alive_rotate_seconds: u64,
    /// From losing every pool until an agent's miners may be put to sleep, as far as the island needs them neither as ballast nor as
    /// reserve; 0 = never.
    #[serde(deserialize_with = "within::<_, 0, 86_400>")]
    pub idle_after_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let session = downstream::Config::default();
        let keep_alive = keepalive::Config::default();
        Self {
            connections: 1_024,
            first_difficulty: session.vardiff.start,
            lowest_difficulty: session.vardiff.floor,
            highest_difficulty: session.vardiff.ceiling,
            handshake_seconds: session.handshake_ms / 1_000,
            idle_seconds: session.idle_ms / 1_000,
            duplicates: session.seen_budget as u64,
            keep_alive_after_seconds: keep_alive.after_ms / 1_000,
            keep_alive_rotate_seconds: keep_alive.rotate_ms / 1_000,
            idle_after_seconds: IDLE_AFTER_S,
        }
    }
}

impl Settings {
    /// The usual case, which needs no file: one account at one pool.
    pub fn plain(listen: SocketAddr, pool: String, account: String) -> Self {
        let account =
            AccountSettings { name: account, password: password(), weight: weight(), pools: vec![pool] };
        Self {
            listen,
            shares_per_minute: shares_per_minute(),
            pass_through: false,
            tls_roots: None,
            accounts: vec![account],
            limits: Limits::default(),
        }
    }

    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = File::open(path).and_then(|file| io::read_to_string(file.take(MAX_BYTES + 1)));
        let text = text.map_err(|source| Error::Unreadable { path: path.into(), source })?;
        Self::parse(path, &text)
    }

    /// Checks a text; `path` is for messages, and what relative paths in it begin at.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_BYTES {
            return Err(Error::TooLarge { path: path.into() });
        }
        let mut settings: Self = toml_file::read(path, text)?;
        if let Some(what) = settings.unsound() {
            return Err(Error::Unsound { path: path.into(), what });
        }
        let beside = path.parent().unwrap_or(Path::new(""));
        settings.tls_roots = settings.tls_roots.map(|roots| beside.join(roots));
        Ok(settings)
    }

    /// What no single value tells.
    fn unsound(&self) -> Option<String> {
        let limits = &self.limits;
        if self.accounts.is_empty() {
            return Some(
                "no account; add [[account]] with a name and pools = [\"stratum+tcp://HOST:PORT\"]".into(),
            );
        }
        if self.accounts.len() > MAX_ACCOUNTS {
            return Some(format!(
                "{} accounts; at most {MAX_ACCOUNTS} are served by one proxy",
                self.accounts.len()
            ));
        }
        if self.accounts.iter().all(|account| account.weight == 0) {
            return Some("every account has weight 0; give one of them a weight of 1 or more".into());
        }
        let order = [limits.lowest_difficulty, limits.first_difficulty, limits.highest_difficulty];
        if !order.is_sorted() {
            return Some(
                "limits: lowest_difficulty <= first_difficulty <= highest_difficulty must hold".into(),
            );
        }
        None
    }

    /// The weights, in order of the accounts.
    pub fn weights(&self) -> Vec<u32> {
        self.accounts.iter().map(AccountSettings::weight).collect()
    }

    /// What sessions with miners are to be like.
    pub(crate) fn session(&self) -> downstream::Config {
        let limits = &self.limits;
        downstream::Config {
            vardiff: vardiff::Config {
                shares_per_minute: self.shares_per_minute,
                floor: limits.lowest_difficulty,
                ceiling: limits.highest_difficulty,
                start: limits.first_difficulty,
            },
            window: NtimeWindow::default(),
            seen_budget: usize::try_from(limits.duplicates).unwrap_or(usize::MAX),
            handshake_ms: limits.handshake_seconds * 1_000,
            idle_ms: limits.idle_seconds * 1_000,
        }
    }

    /// Jobs of our own.
    pub(crate) fn keep_alive(&self) -> keepalive::Config {
        keepalive::Config {
            after_ms: self.limits.keep_alive_after_seconds * 1_000,
            rotate_ms: self.limits.keep_alive_rotate_seconds * 1_000,
        }
    }

    /// When miners may sleep for want of pay; `None` = never.
    pub(crate) fn idle_after_ms(&self) -> Option<u64> {
        let seconds = Some(self.limits.idle_after_seconds).filter(|seconds| *seconds > 0);
        seconds.map(|seconds| seconds * 1_000)
    }
}

impl AccountSettings {
    fn weight(&self) -> u32 {
        u32::try_from(self.weight).unwrap_or(u32::MAX)
    }

    pub(crate) fn to_account(&self) -> Account {
        Account {
            name: self.name.clone(),
            password: self.password.clone(),
            weight: self.weight(),
            pools: self.pools.clone(),
        }
    }
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 3333))
}

fn shares_per_minute() -> f64 {
    vardiff::Config::default().shares_per_minute
}

fn password() -> String {
    "x".to_owned()
}

fn weight() -> u64 {
    1
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    let address: Option<SocketAddr> = text.parse().ok();
    match address {
        Some(address) if address.ip().is_loopback() => Ok(address),
        Some(_) => Err(D::Error::custom(
            "expected an address on loopback, such as 127.0.0.1:3333: there is no authentication yet, and anyone on the network \
             could mine in your name",
        )),
        None => Err(D::Error::custom("expected an address with a port, such as 127.0.0.1:3333")),
    }
}

fn share_rate<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let rate = f64::deserialize(from)?;
    let sound = (1.0..=600.0).contains(&rate);
    sound
        .then_some(rate)
        .ok_or_else(|| D::Error::custom("expected a number of shares a minute from 1 to 600"))
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let sound = (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    sound.then_some(text).ok_or_else(|| {
        D::Error::custom(format!("expected 1 to {MAX_NAME} characters without control characters"))
    })
}

/// A whole number of a range.
fn within<'de, D: Deserializer<'de>, const LEAST: u64, const MOST: u64>(from: D) -> Result<u64, D::Error> {
    let wrong = || D::Error::custom(format!("expected a whole number from {LEAST} to {MOST}"));
    let number = i64::deserialize(from).map_err(|_| wrong())?;
    u64::try_from(number).ok().filter(|number| (LEAST..=MOST).contains(number)).ok_or_else(wrong)
}

fn difficulty<'de, D: Deserializer<'de>>(from: D) -> Result<Difficulty, D::Error> {
    let value = f64::deserialize(from)?;
    let sound = Difficulty::new(value).ok().filter(|difficulty| *difficulty >= Difficulty::floor());
    sound.ok_or_else(|| {
        D::Error::custom("expected a difficulty of at least 2^-20 (0.00000095367431640625), such as 65536")
    })
}

fn pools<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let pools: Vec<Pool> = Vec::deserialize(from)?;
    if !(1..=MAX_POOLS).contains(&pools.len()) {
        return Err(D::Error::custom(format!("expected 1 to {MAX_POOLS} pools, the best first")));
    }
    Ok(pools.into_iter().map(|Pool(text)| text).collect())
}

/// A pool's address that reads.
#[derive(serde::Deserialize)]
#[serde(try_from = "String")]
struct Pool(String);

impl TryFrom<String> for Pool {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if proxy::is_pool(&text) {
            return Ok(Pool(text));
        }
        Err(format!(
            "{text:?}: expected HOST:PORT, stratum+tcp://HOST:PORT, or stratum+ssl://HOST:PORT for TLS"
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<Settings, Error> {
        Settings::parse(Path::new("farm/proxy.toml"), text)
    }

    const LEAST: &str = "[[account]]\nname = \"farm\"\npools = [\"pool.example:3333\"]\n";

    #[test]
    fn an_account_with_a_pool_is_enough() {
        let settings = parse(LEAST).unwrap();
        let plain =
            Settings::plain("127.0.0.1:3333".parse().unwrap(), "pool.example:3333".into(), "farm".into());
        assert_eq!(settings, plain);
        assert_eq!((settings.session(), settings.keep_alive()), Default::default());
        assert_eq!(settings.weights(), [1]);
        assert_eq!(settings.idle_after_ms(), Some(600_000));
        let never = parse(&format!("{LEAST}[limits]\nidle_after_seconds = 0")).unwrap();
        assert_eq!(never.idle_after_ms(), None);
    }

    #[test]
    fn the_example_in_the_documentation_reads_and_says_every_default() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/proxy.toml"));
        let settings = Settings::read(path).unwrap();
        let accounts: Vec<(&str, u64, usize)> =
            settings.accounts.iter().map(|a| (a.name.as_str(), a.weight, a.pools.len())).collect();
        assert_eq!(accounts, [("farm", 3, 2), ("partner", 1, 1)]);
        assert_eq!(settings.limits, Limits::default());
        let (rate, listen) = (settings.shares_per_minute, settings.listen);
        assert_eq!((rate, listen), (shares_per_minute(), super::listen()));
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_what_was_expected() {
        let check = |text: &str, place: &str, expected: &str| {
            let error = parse(text).unwrap_err().to_string();
            let place = format!("farm/proxy.toml: line {place}");
            assert!(error.starts_with(&place) && error.contains(expected), "{error}");
        };
        check(
            "lisen = \"127.0.0.1:1\"",
            "1, column 1, at `lisen",
            "unknown field `lisen`, expected one of `listen`",
        );
        check("listen = \"localhost\"", "1, column 10", "expected an address with a port");
        check("listen = \"0.0.0.0:3333\"", "1, column 10", "expected an address on loopback");
        check("\nshares_per_minute = 0", "2, column 21", "from 1 to 600");
        check("[limits]\nconnections = 0", "2, column 15", "expected a whole number from 1 to 100000");
        check("[limits]\nidle_seconds = \"1h\"", "2, column 16", "expected a whole number from 10 to 86400");
        check("[limits]\nlowest_difficulty = -1.0", "2, column 21", "expected a difficulty");
        check("[limits]\nqueue = 1", "2, column 1", "unknown field `queue`");
        check("[[account]]\nname = \"\"\npools = [\"a:1\"]", "2, column 8", "expected 1 to 160 characters");
        check(
            "[[account]]\nname = \"f\"\npools = [\"a:1\", \"https://b:1\"]",
            "3, column 9",
            "\"https://b:1\": expected HOST:PORT, stratum+tcp://HOST:PORT, or stratum+ssl://HOST:PORT",
        );
        check("[[account]]\nname = \"f\"\npools = []", "3, column 9", "expected 1 to 8 pools");
        check("[[account]]\nname = \"f\"\nweight = -1\npools = [\"a:1\"]", "3, column 10", "from 0 to 10000");
        check("[[account]]\nname = \"f\"\n", "1, column 1", "missing field `pools`");
        check("[[account]\n", "1, column", "");
    }

    #[test]
    fn what_means_nothing_together_is_told_by_the_file() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("farm/proxy.toml") && error.contains(expected), "{error}");
        };
        check("", "no account; add [[account]]");
        check("[[account]]\nname = \"f\"\nweight = 0\npools = [\"a:1\"]", "every account has weight 0");
        check(&LEAST.repeat(33), "33 accounts; at most 32");
        check(
            &format!("{LEAST}[limits]\nlowest_difficulty = 2.0\nfirst_difficulty = 1.0"),
            "lowest_difficulty <= first",
        );
        check(&"#".repeat(300_000), "is larger than 262144 bytes");
    }

    #[test]
    fn certificates_stand_beside_the_file() {
        let settings = parse(&format!("tls_roots = \"ca.pem\"\n{LEAST}")).unwrap();
        assert_eq!(settings.tls_roots, Some("farm/ca.pem".into()));
    }
}
