//! Which account the next miner works for, when there are several with a share of the hash rate each.
//!
//! Assumes that miners' rates are known roughly or count alike. Those that are there stay where they were put until weights
//! change or a pool comes back; then [`step`] names one move after another. Next: the agent's proxy, which asks for each
//! connection and paces the moves.

/// One account: its weight, and what works for it now, in any unit that all share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lane {
    pub weight: u32,
    pub load: f64,
    /// Whether its pool is there; work for one that is away earns nothing.
    pub is_up: bool,
}

/// The account that lacks most of its share, by what one more miner would add to the sum that [`step`] lessens; first among those
/// whose pool is there. `None` without any weight.
pub fn choose(lanes: &[Lane]) -> Option<usize> {
    let any_up = lanes.iter().any(|lane| lane.is_up && lane.weight > 0);
    let open = |lane: &Lane| lane.weight > 0 && (lane.is_up || !any_up);
    let open = lanes.iter().enumerate().filter(|(_, lane)| open(lane));
    let least = open.min_by(|(_, a), (_, b)| more(a).total_cmp(&more(b)).then(a.weight.cmp(&b.weight)));
    least.map(|(index, _)| index)
}

/// One miner's move that brings the accounts nearer to their shares, from whom and to whom; `None` when none does. Miners of an
/// account without weight, or whose pool is away while another's is there, go first.
///
/// A move is named only if it lessens the sum of load² ÷ weight, so that moves come to an end and none is taken back.
pub fn step(lanes: &[Lane]) -> Option<(usize, usize)> {
    let to = choose(lanes)?;
    let any_up = lanes.iter().any(|lane| lane.is_up && lane.weight > 0);
    let is_open = |lane: &Lane| lane.weight > 0 && (lane.is_up || !any_up);
    // What the sum of squares loses if one leaves.
    let less = |lane: &Lane| {
        if is_open(lane) { (2.0 * lane.load - 1.0) / f64::from(lane.weight) } else { f64::INFINITY }
    };
    let could = lanes.iter().enumerate().filter(|(index, lane)| *index != to && lane.load >= 1.0);
    let (from, most) =
        could.map(|(index, lane)| (index, less(lane))).max_by(|(_, a), (_, b)| a.total_cmp(b))?;
    lanes.get(to).is_some_and(|lane| more(lane) < most).then_some((from, to))
}

/// What the sum of load² ÷ weight gains if one comes. The same measure for newcomers and for moves: who is sent by one goes where the
/// other would have it.
fn more(lane: &Lane) -> f64 {
    (2.0 * lane.load.max(0.0) + 1.0) / f64::from(lane.weight)
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

    #[test]
    fn a_move_is_named_while_it_helps() {
        assert_eq!(step(&[lane(1, 4.0, true), lane(1, 0.0, true)]), Some((0, 1)));
        assert_eq!(
            step(&[lane(1, 2.0, true), lane(1, 1.0, true)]),
            None,
            "it would only be the other way round"
        );
        assert_eq!(step(&[lane(3, 3.0, true), lane(1, 1.0, true)]), None);
        assert_eq!(step(&[lane(3, 3.0, true), lane(1, 2.0, true)]), Some((1, 0)));
        assert_eq!(
            step(&[lane(0, 1.0, true), lane(1, 9.0, true)]),
            Some((0, 1)),
            "nobody works for weight 0"
        );
        assert_eq!(step(&[lane(9, 1.0, false), lane(1, 9.0, true)]), Some((0, 1)), "nor for who is away");
        assert_eq!(step(&[lane(1, 1.0, false), lane(1, 1.0, false)]), None, "unless all are");
        assert_eq!(
            step(&[lane(21, 132.0, true), lane(30, 186.0, true), lane(2, 13.0, true), lane(1, 6.0, true)]),
            Some((0, 1)),
            "although the last has the least for its weight: with one more it would have too many"
        );
        assert_eq!(step(&[lane(1, 0.0, true)]), None);
        assert_eq!(step(&[]), None);
    }

    proptest! {
        #[test]
        fn moves_end_near_the_shares_wherever_they_begin(
            start in prop::collection::vec((1u32..100, 0u32..200, any::<bool>()), 1..6),
        ) {
            let mut lanes: Vec<Lane> =
                start.iter().map(|(weight, load, is_up)| lane(*weight, f64::from(*load), *is_up)).collect();
            let all: u32 = start.iter().map(|(_, load, _)| load).sum();
            let mut moves = 0;
            while let Some((from, to)) = step(&lanes) {
                lanes[from].load -= 1.0;
                lanes[to].load += 1.0;
                moves += 1;
                prop_assert!(moves <= all, "each miner moves once at most");
            }
            let any_up = lanes.iter().any(|lane| lane.is_up);
            let open = |lane: &&Lane| lane.is_up || !any_up;
            let weights: u32 = lanes.iter().filter(open).map(|lane| lane.weight).sum();
            for lane in &lanes {
                let due = f64::from(all) * f64::from(lane.weight) / f64::from(weights);
                let due = if open(&lane) { due } else { 0.0 };
                prop_assert!((lane.load - due).abs() <= lanes.len() as f64, "{} of {due}", lane.load);
            }
        }

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
