//! Where shares go: accounts with weights, each with its pools in order of priority.
//!
//! Assumes that the first account is the one of [`super::Config`] itself, so that the usual case needs nothing of this.
//! Next: `upstream.rs`, which keeps one session for each account.

use std::fmt;

use stratum::keepalive;
use stratum::reconnect::Address;

use super::wire::Roots;

/// What goes beyond one pool under one account.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// Pools for the first account when its own is away, the best first.
    pub backups: Vec<String>,
    /// The first account's share of the miners, against the weights of the others.
    pub weight: u32,
    /// Further accounts.
    pub others: Vec<Account>,
    /// Jobs of our own, for when an account's pools are all away.
    pub keep_alive: keepalive::Config,
    /// Wall milliseconds from losing every pool until miners may be put to sleep for want of pay; `None` = never. Never either with
    /// pass-through, where no pool is seen to be there before a miner is.
    pub idle_after_ms: Option<u64>,
    /// Authorities beside the public ones by which a pool's certificate may be signed.
    pub roots: Roots,
    /// Each miner has a session with its account's pools of its own, and all of the extranonce2 that the pool gives.
    pub pass_through: bool,
}

impl Default for Upstreams {
    fn default() -> Upstreams {
        Upstreams {
            backups: Vec::new(),
            weight: 1,
            others: Vec::new(),
            keep_alive: keepalive::Config::default(),
            idle_after_ms: None,
            roots: Roots::default(),
            pass_through: false,
        }
    }
}

/// An account, or several pools' accounts of one name.
#[derive(Clone, Debug)]
pub struct Account {
    /// Our user name there.
    pub name: String,
    /// Its password; most pools ignore it.
    pub password: String,
    /// Its share of the miners, against the weights of the others.
    pub weight: u32,
    /// As `host:port` or with a scheme, the best first.
    pub pools: Vec<String>,
}

/// A pool's address, and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PoolAddress {
    pub(super) address: Address,
    pub(super) tls: bool,
}

/// An account whose pools' addresses were read.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) weight: u32,
    pub(super) pools: Vec<PoolAddress>,
}

/// The accounts of a configuration; an error is the text that is no address.
pub(super) fn routes(config: &super::Config) -> Result<Vec<Route>, String> {
    let pools = std::iter::once(&config.pool).chain(&config.upstreams.backups).cloned().collect();
    let first = Account {
        name: config.account.clone(),
        password: config.password.clone(),
        weight: config.upstreams.weight,
        pools,
    };
    let route = |account: &Account| {
        let pools = account.pools.iter().map(|text| parse(text).ok_or_else(|| text.clone()));
        Ok(Route {
            name: account.name.clone(),
            password: account.password.clone(),
            weight: account.weight,
            pools: pools.collect::<Result<_, String>>()?,
        })
    };
    std::iter::once(&first).chain(&config.upstreams.others).map(route).collect()
}

/// Whether a text is the address of a pool.
pub fn is_pool(text: &str) -> bool {
    parse(text).is_some()
}

impl fmt::Display for PoolAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "stratum+ssl" } else { "stratum+tcp" };
        let Address { host, port } = &self.address;
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

fn parse(text: &str) -> Option<PoolAddress> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("stratum+tcp", text));
    let tls = match scheme {
        "stratum+tcp" | "tcp" => false,
        "stratum+ssl" | "stratum+tls" | "ssl" | "tls" => true,
        _ => return None,
    };
    Some(PoolAddress { address: Address::parse(rest.trim_end_matches('/'))?, tls })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_have_a_scheme_or_none() {
        let check = |text: &str, expected: Option<(&str, u16, bool)>| {
            let parsed = parse(text);
            let parts = parsed.as_ref().map(|pool| (pool.address.host.as_str(), pool.address.port, pool.tls));
            assert_eq!(parts, expected, "{text}");
        };
        check("pool.example:3333", Some(("pool.example", 3333, false)));
        check("stratum+tcp://pool.example:3333", Some(("pool.example", 3333, false)));
        check("stratum+ssl://pool.example:443/", Some(("pool.example", 443, true)));
        check("https://pool.example:443", None);
        check("pool.example", None);
    }

    #[test]
    fn an_address_is_shown_as_it_would_be_written() {
        let check = |text: &str, expected: &str| assert_eq!(parse(text).unwrap().to_string(), expected);
        check("pool.example:3333", "stratum+tcp://pool.example:3333");
        check("tls://[::1]:443/", "stratum+ssl://[::1]:443");
    }
}
