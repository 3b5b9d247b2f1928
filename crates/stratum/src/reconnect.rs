//! Whether to follow `client.reconnect`: only within the pool's own domain.
//!
//! Assumes that the line was not authenticated: anyone on the way could have written it, and hash rate was stolen so.
//! Next: `upstream.rs`, which hands the request on.

/// Where a pool is; `host` as it stands in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// `host:port`, with brackets around an IPv6 address or without.
    pub fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| Address { host: host.to_owned(), port })
    }
}

/// The address to connect to instead, or `None` if the request is to be ignored.
pub fn follow(configured: &Address, host: Option<&str>, port: Option<u16>) -> Option<Address> {
    let port = port.unwrap_or(configured.port);
    let Some(host) = host else { return Some(Address { host: configured.host.clone(), port }) };
    is_same_domain(&configured.host, host).then(|| Address { host: host.to_owned(), port })
}

/// Names under one domain that somebody registered: the configured host without its first label, where that leaves
/// enough labels to be one. Numbers have no domain.
fn is_same_domain(configured: &str, asked: &str) -> bool {
    let (configured, asked) = (normal(configured), normal(asked));
    if configured == asked {
        return true;
    }
    let is_name = |host: &str| {
        let last = host.rsplit('.').next().unwrap_or_default();
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        host.chars().all(allowed) && !last.is_empty() && !last.chars().all(|c| c.is_ascii_digit())
    };
    if !is_name(&configured) || !is_name(&asked) {
        return false;
    }
    let Some(domain) = registered(&configured) else { return false };
    asked == domain || asked.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// The part of a name that one owner has: two labels, or three under a country's second level like `co.uk`. There is no
/// list here; where in doubt the domain is taken longer, and a request is ignored that could have been followed.
fn registered(host: &str) -> Option<&str> {
    let labels: Vec<&str> = host.split('.').collect();
    let [.., second, top] = labels.as_slice() else { return None };
    let needed = if top.len() == 2 && second.len() <= 4 { 3 } else { 2 };
    let skip = labels.len().checked_sub(needed)?;
    let start: usize = labels[..skip].iter().map(|label| label.len() + 1).sum();
    host.get(start..)
}

fn normal(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_the_pools_own_domain_is_followed() {
        let check = |configured: &str, asked: &str, expected: bool| {
            let configured = Address { host: configured.into(), port: 3333 };
            let followed = follow(&configured, Some(asked), Some(4444));
            let there = Address { host: asked.into(), port: 4444 };
            assert_eq!(followed, expected.then_some(there), "{configured:?} {asked}");
        };
        check("eu.pool.example", "us.pool.example", true);
        check("eu.pool.example", "pool.example", true);
        check("pool.example", "a.b.pool.example", true);
        check("EU.pool.example", "us.POOL.example.", true);
        check("eu.pool.example", "evilpool.example", false);
        check("eu.pool.example", "pool.example.evil.test", false);
        check("eu.pool.example", "other.example", false);
        check("pool.co.uk", "evil.co.uk", false);
        check("eu.pool.co.uk", "us.pool.co.uk", true);
        check("pool.com.au", "com.au", false);
        check("127.0.0.1", "127.0.0.2", false);
        check("127.0.0.1", "127.0.0.1", true);
        check("10.0.0.1", "1.0.0.1", false);
        check("::1", "::2", false);
        check("pool", "other", false);
        check("eu.pool.example", "us.pool.example/..", false);
        check("eu.pool.example", "", false);
    }

    #[test]
    fn without_a_host_it_is_the_same_one() {
        let configured = Address::parse("pool.example:3333").unwrap();
        assert_eq!(follow(&configured, None, None), Some(configured.clone()));
        assert_eq!(follow(&configured, None, Some(1)).unwrap().port, 1);
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let address = Address::parse(text);
            let parts = address.as_ref().map(|address| (address.host.as_str(), address.port));
            assert_eq!(parts, expected, "{text}");
        };
        check("pool.example:3333", Some(("pool.example", 3333)));
        check("[::1]:3333", Some(("::1", 3333)));
        check("pool.example", None);
        check(":3333", None);
        check("pool.example:0", None);
        check("pool.example:99999", None);
    }
}
