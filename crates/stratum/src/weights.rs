//! Which account the next miner works for, when there are several with a share of the hash rate each.
//!
//! Assumes that miners stay where they are put, and that their rates are known roughly or count alike. Next: the agent's
//! proxy, which asks for each connection.

/// One account: its weight, and what works for it now, in any unit that all share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lane {
    pub weight: u32,
    pub load: f64,
    /// Whether its pool is there; work for one that is away earns nothing.
    pub is_up: bool,
}

/// The account that lacks most of its share; first among those whose pool is there. `None` without any weight.
pub fn choose(lanes: &[Lane]) -> Option<usize> {
    let any_up = lanes.iter().any(|lane| lane.is_up && lane.weight > 0);
    let open = |lane: &Lane| lane.weight > 0 && (lane.is_up || !any_up);
    // The lane whose load per weight is least: filling it first keeps all in proportion.
    let per_weight = |lane: &Lane| lane.load.max(0.0) / f64::from(lane.weight);
    let open = lanes.iter().enumerate().filter(|(_, lane)| open(lane));
    let least =
        open.min_by(|(_, a), (_, b)| per_weight(a).total_cmp(&per_weight(b)).then(b.weight.cmp(&a.weight)));
    least.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lane(weight: u32, load: f64, is_up: bool) -> Lane {
        Lane { weight, load, is_up }
    }

    #[test]
    fn the_account_that_lacks_most_comes_first_if_its_pool_is_there() {
        assert_eq!(choose(&[lane(1, 0.0, true), lane(3, 0.0, true)]), Some(1));
        assert_eq!(choose(&[lane(1, 0.0, true), lane(3, 1.0, true)]), Some(0));
        assert_eq!(choose(&[lane(1, 1.0, true), lane(3, 2.0, true)]), Some(1));
        assert_eq!(choose(&[lane(1, 9.0, true), lane(3, 0.0, false)]), Some(0));
        assert_eq!(choose(&[lane(1, 0.0, false), lane(3, 0.0, false)]), Some(1));
        assert_eq!(choose(&[lane(0, 0.0, true)]), None);
        assert_eq!(choose(&[]), None);
    }

    proptest! {
        #[test]
        fn shares_follow_the_weights(weights in prop::collection::vec(1u32..100, 1..6)) {
            let mut lanes: Vec<Lane> = weights.iter().map(|weight| lane(*weight, 0.0, true)).collect();
            let miners = 600;
            for _ in 0..miners {
                if let Some(index) = choose(&lanes) {
                    lanes[index].load += 1.0;
                }
            }
            let all: u32 = weights.iter().sum();
            for lane in lanes {
                let due = f64::from(miners) * f64::from(lane.weight) / f64::from(all);
                prop_assert!((lane.load - due).abs() <= weights.len() as f64, "{} of {due}", lane.load);
            }
        }
    }
}
