//! Who is at the other end, by the names in its certificate: pure, so that every certificate is a row of a table.
//!
//! Names are URIs among a certificate's alternative names: `flareshift:module/ID` for an agent (several, where one process serves
//! several modules), `flareshift:operator/NAME`, `flareshift:tenant/NAME`. A certificate is of one kind only, so that an agent's, which
//! lies in a container in a field, never gives orders. URIs of other schemes are passed over: the same certificate may serve others.
//! Assumes that the certificate was checked. Next: `server.rs`.

use std::collections::BTreeSet;

/// The scheme of our names.
const SCHEME: &str = "flareshift:";
/// Longest name, that of an event's actor.
const LONGEST: usize = 64;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody on this machine, without TLS.
    Local,
    /// The agent of these modules.
    Modules(BTreeSet<String>),
    /// An operator.
    Operator(String),
    /// A tenant; what it may do its API key says.
    Tenant(String),
    /// Somebody whose certificate is good and names nobody, and why.
    Unnamed(&'static str),
}

impl Peer {
    /// Whom these names are of.
    pub fn of_uris<'a>(uris: impl IntoIterator<Item = &'a str>) -> Peer {
        let (mut modules, mut others) = (BTreeSet::new(), Vec::new());
        for name in uris.into_iter().filter_map(|uri| uri.strip_prefix(SCHEME)) {
            let Some((kind, name)) = name.split_once('/').filter(|(_, name)| is_name(name)) else {
                return Peer::Unnamed("a flareshift: name in it is not of the form KIND/NAME");
            };
            match kind {
                "module" => drop(modules.insert(name.to_owned())),
                "operator" => others.push(Peer::Operator(name.to_owned())),
                "tenant" => others.push(Peer::Tenant(name.to_owned())),
                _ => return Peer::Unnamed("a flareshift: name in it is of no kind that is known here"),
            }
        }
        match (others.pop(), modules.is_empty(), others.is_empty()) {
            (None, false, _) => Peer::Modules(modules),
            (Some(other), true, true) => other,
            (None, true, _) => Peer::Unnamed("no flareshift: name stands in it"),
            _ => Peer::Unnamed("it names several that are not modules of one agent"),
        }
    }

    /// The operator's name, where a certificate says it.
    pub fn operator(&self) -> Option<&str> {
        match self {
            Peer::Operator(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it may speak for a module: without TLS anybody on this machine does.
    pub fn speaks_for(&self, module: &str) -> bool {
        match self {
            Peer::Local => true,
            Peer::Modules(modules) => modules.contains(module),
            Peer::Operator(_) | Peer::Tenant(_) | Peer::Unnamed(_) => false,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Peer::Local => f.write_str("a program on this machine"),
            Peer::Modules(modules) => {
                let names: Vec<&str> = modules.iter().map(String::as_str).collect();
                write!(f, "the agent of module {}", names.join(", "))
            }
            Peer::Operator(name) => write!(f, "operator {name}"),
            Peer::Tenant(name) => write!(f, "tenant {name}"),
            Peer::Unnamed(why) => write!(f, "nobody: {why}"),
        }
    }
}

/// What may stand for somebody in logs and histories.
fn is_name(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_modules_of_one_agent_or_one_operator_or_one_tenant() {
        let check = |uris: &[&str], expected: &str| {
            let peer = Peer::of_uris(uris.iter().copied());
            assert!(peer.to_string().contains(expected), "{uris:?}: {peer}");
        };
        check(&["flareshift:module/m1"], "the agent of module m1");
        check(&["flareshift:module/m2", "spiffe://x/y", "flareshift:module/m1"], "of module m1, m2");
        check(&["flareshift:operator/ada@example.com"], "operator ada@example.com");
        check(&["flareshift:tenant/acme"], "tenant acme");
        check(&[], "no flareshift: name");
        check(&["spiffe://x/operator/ada", "Flareshift:operator/ada"], "no flareshift: name");
        check(&["flareshift:operator/ada", "flareshift:module/m1"], "names several");
        check(&["flareshift:operator/ada", "flareshift:operator/bob"], "names several");
        check(&["flareshift:operator/ada", "flareshift:tenant/acme"], "names several");
        check(&["flareshift:controller/c"], "of no kind");
        for bad in [
            "flareshift:operator",
            "flareshift:operator/",
            "flareshift:operator/a b",
            "flareshift:module/a/b",
        ] {
            check(&[bad], "not of the form KIND/NAME");
        }
        check(&[&format!("flareshift:operator/{}", "a".repeat(65))], "not of the form");
    }

    #[test]
    fn only_an_agents_certificate_speaks_for_a_module_and_only_for_its_own() {
        let check = |uri: &str, module: &str, expected: bool| {
            assert_eq!(Peer::of_uris([uri]).speaks_for(module), expected, "{uri} for {module}");
        };
        check("flareshift:module/m1", "m1", true);
        check("flareshift:module/m1", "m2", false);
        check("flareshift:operator/m1", "m1", false);
        check("flareshift:tenant/m1", "m1", false);
        check("other:module/m1", "m1", false);
        assert!(Peer::Local.speaks_for("m1"));
        assert_eq!(Peer::of_uris(["flareshift:operator/ada"]).operator(), Some("ada"));
        assert_eq!(Peer::of_uris(["flareshift:module/ada"]).operator(), None);
    }
}
