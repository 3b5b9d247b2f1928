//! What can be broken on purpose, so that an invariant's checker is seen to fire.

use std::str::FromStr;

use agent::proxy;
use control::sabotage::{Sabotage as Control, Sabotages};

/// Faults built into the parts of one run.
#[derive(Clone, Debug, Default)]
pub struct Sabotage {
    /// Into the agents' control.
    pub control: Sabotages,
    /// Into the agents' proxies.
    pub proxy: proxy::Sabotage,
    /// Into the controller.
    pub controller: Option<controller::sabotage::Sabotage>,
    /// Into the agents' books: energy goes to the wrong use.
    pub misattribute: bool,
    /// Into the agents' outboxes: segments are lost.
    pub lose_segments: bool,
}

/// Every name, the invariant it breaks, and what it does.
pub const NAMES: &[(&str, u8)] = &[
    ("over-grant", 1),
    ("ignore-ceiling", 1),
    ("ignore-share", 3),
    ("skip-fence", 4),
    ("count-twice", 5),
    ("forward-unverified", 5),
    ("misattribute", 6),
    ("ignore-dwell", 7),
    ("ignore-expiry", 8),
    ("double-start", 8),
    ("lose-segment", 9),
    ("nondeterministic", 10),
    ("no-flag", 12),
];

impl FromStr for Sabotage {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        use controller::sabotage::Sabotage as Controller;
        let mut sabotage = Sabotage::default();
        let mut control = |which| {
            sabotage.control.0.insert(which);
        };
        match name {
            "ignore-ceiling" => control(Control::IgnoreCeiling),
            "ignore-share" => control(Control::IgnoreShare),
            "ignore-dwell" => control(Control::IgnoreDwell),
            "ignore-expiry" => control(Control::IgnoreExpiry),
            "double-start" => control(Control::DoubleStart),
            "no-flag" => control(Control::NoFlag),
            "over-grant" => sabotage.controller = Some(Controller::OverGrant),
            "skip-fence" => sabotage.controller = Some(Controller::SkipFence),
            "nondeterministic" => sabotage.controller = Some(Controller::Nondeterministic),
            "count-twice" => sabotage.proxy.count_twice = true,
            "forward-unverified" => sabotage.proxy.forward_unverified = true,
            "lose-segment" => sabotage.lose_segments = true,
            "misattribute" => sabotage.misattribute = true,
            other => {
                let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                anyhow::bail!("no sabotage is called {other:?}; there are {}", names.join(", "));
            }
        }
        Ok(sabotage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_known_and_others_are_told_the_list() {
        for (name, _) in NAMES {
            assert!(name.parse::<Sabotage>().is_ok(), "{name}");
        }
        let error = "x".parse::<Sabotage>().map(|_| ()).expect_err("x is none");
        assert!(error.to_string().contains("over-grant"), "{error}");
    }
}
