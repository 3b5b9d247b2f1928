//! One tree, its honest answers, and what is said of others.

#![allow(clippy::unwrap_used)]

use super::super::leaf::Share;
use super::super::testing::{digest, leaves, template, with_bits};
use super::super::tree::Tree;
use super::*;
use proptest::prelude::*;

const SAMPLES: usize = 8;

/// Answers as an agent would that has these leaves, in whatever order it likes.
fn answer(leaves: &[Leaf], jobs: &[Template], seed: &Digest) -> (Node, Proof) {
    let tree = Tree::build(leaves).unwrap();
    let open = |position| {
        let index = tree.at(position).unwrap();
        Opening { leaf: leaves[index].clone(), path: tree.path(index) }
    };
    let openings = positions(seed, &tree.root(), SAMPLES).into_iter().map(open).collect();
    (tree.root(), Proof { jobs: jobs.to_vec(), openings })
}

fn verdict(root: &Node, proof: &Proof, seed: &Digest) -> Result<Evidence, Fault> {
    judge(root, &template(1, 0).previous(), seed, SAMPLES, proof, |_| true)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_honest_agent_always_passes(count in 1usize..200, start: u16, seed: [u8; 32], sessions in 1u8..4) {
        let jobs: Vec<Template> = (0..sessions).map(|s| with_bits(1, s, 2 + u32::from(s))).collect();
        let mut all: Vec<Leaf> = jobs.iter().flat_map(|job| leaves(job, count, start.into())).collect();
        all.sort_by_key(|leaf| leaf.hash);
        let (root, proof) = answer(&all, &jobs, &Digest(seed));
        let evidence = verdict(&root, &proof, &Digest(seed)).unwrap();
        prop_assert_eq!(evidence.ratios.len(), SAMPLES);
        prop_assert!(evidence.ratios.iter().all(|ratio| (0.0..=1.0).contains(ratio)));
    }
}

#[test]
fn an_answer_that_does_not_fit_is_refused_for_what_is_wrong() {
    let jobs = [template(1, 0)];
    let seed = digest(9);
    let (root, proof) = answer(&leaves(&jobs[0], 50, 0), &jobs, &seed);
    assert!(verdict(&root, &proof, &seed).is_ok());
    let check = |change: &dyn Fn(&mut Proof), expected: Fault| {
        let mut other = proof.clone();
        change(&mut other);
        assert_eq!(verdict(&root, &other, &seed), Err(expected));
    };
    check(&|p| drop(p.openings.pop()), Fault::Count { wanted: 8, got: 7 });
    check(&|p| p.jobs = vec![jobs[0].clone(); 9], Fault::TooManyJobs);
    check(&|p| p.jobs.clear(), Fault::MissingJob);
    check(&|p| p.openings[0].path.0.truncate(3), Fault::Root);
    check(&|p| p.openings[0].leaf.work.0 += 1, Fault::Root);
    check(&|p| p.openings[0].path.0[0].sibling.sum.0 += 1, Fault::Root);
    check(&|p| p.openings.swap(0, 1), Fault::Position);
    let judged = judge(&root, &template(1, 0).previous(), &seed, SAMPLES, &proof, |_| false);
    assert_eq!(judged, Err(Fault::UnknownJob));
    let judged = judge(&root, &template(2, 0).previous(), &seed, SAMPLES, &proof, |_| true);
    assert_eq!(judged, Err(Fault::OtherBlock));
}

/// Two sorted runs of the same shares: all neighbours but one pair are in order, and every share is there twice.
#[test]
fn two_sorted_runs_are_caught_wherever_they_are_opened() {
    let jobs = [template(1, 0)];
    let once = leaves(&jobs[0], 32, 0);
    let twice = [once.clone(), once].concat();
    let disorder = twice.windows(2).filter(|pair| pair[0].hash >= pair[1].hash).count();
    assert_eq!(disorder, 1, "neighbours alone would be caught once in 63");
    let tree = Tree::build(&twice).unwrap();
    for (index, leaf) in twice.iter().enumerate() {
        let opening = Opening { leaf: leaf.clone(), path: tree.path(index) };
        let position = leaf.work.0 * index as u128;
        assert_eq!(opening.check(&tree.root(), position), Err(Fault::Order), "leaf {index}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever an agent puts into a tree, in whatever order and however often: the leaves that pass are different shares, and
    /// no position leads to two of them.
    #[test]
    fn leaves_that_pass_are_all_different(
        picks in prop::collection::vec(0usize..12, 1..64),
        sorted: bool,
        lies in prop::collection::vec(0usize..64, 0..4),
    ) {
        let job = template(1, 0);
        let once = leaves(&job, 12, 0);
        let mut all: Vec<Leaf> = picks.iter().map(|pick| once[*pick].clone()).collect();
        if sorted {
            all.sort_by_key(|leaf| leaf.hash);
        }
        for lie in lies {
            let index = lie % all.len();
            all[index].work.0 *= 3;
        }
        let tree = Tree::build(&all).unwrap();
        let (mut before, mut passed) = (0, Vec::new());
        for (index, leaf) in all.iter().enumerate() {
            let opening = Opening { leaf: leaf.clone(), path: tree.path(index) };
            if opening.check(&tree.root(), before).is_ok() && leaf.check(&job).is_ok() {
                prop_assert_eq!(opening.check(&tree.root(), before + leaf.work.0), Err(Fault::Position));
                passed.push(leaf.hash);
            }
            before += leaf.work.0;
        }
        let distinct: std::collections::BTreeSet<_> = passed.iter().collect();
        prop_assert_eq!(distinct.len(), passed.len());
    }
}

#[test]
fn a_sum_that_leaves_its_integer_has_no_tree() {
    let job = template(1, 0);
    let mut heavy = leaves(&job, 2, 0);
    heavy.iter_mut().for_each(|leaf| leaf.work.0 = u128::MAX);
    assert!(Tree::build(&heavy).is_none());
}

/// The part of fakes in a claim is found with the probability that the formula gives.
#[test]
fn the_measured_chance_to_catch_a_cheat_is_the_formulas() {
    const TRIALS: u32 = 2_000;
    let job = template(1, 0);
    let honest = leaves(&job, 100, 0);
    let check = |fakes: usize, samples: usize| {
        let mut all = honest.clone();
        for leaf in all.iter_mut().step_by(100 / fakes).take(fakes) {
            // A share that was never found, at a place in the order where it does no harm to its neighbours.
            leaf.share.nonce ^= 1 << 31;
        }
        let tree = Tree::build(&all).unwrap();
        let caught = (0..TRIALS).filter(|trial| {
            let seed = Digest::of(super::super::digest::Domain::Job, &[&trial.to_be_bytes()]);
            let open = |position| {
                let index = tree.at(position).unwrap();
                Opening { leaf: all[index].clone(), path: tree.path(index) }
            };
            let openings = positions(&seed, &tree.root(), samples).into_iter().map(open).collect();
            let proof = Proof { jobs: vec![job.clone()], openings };
            judge(&tree.root(), &job.previous(), &seed, samples, &proof, |_| true).is_err()
        });
        let measured = caught.count() as f64 / f64::from(TRIALS);
        let expected = super::super::sample::catches(fakes as f64 / 100.0, samples as u32);
        let deviation = (expected * (1.0 - expected) / f64::from(TRIALS)).sqrt();
        assert!(
            (measured - expected).abs() < 4.0 * deviation,
            "{fakes} % with {samples}: {measured}, {expected}"
        );
    };
    for (fakes, samples) in [(1, 4), (5, 4), (10, 4), (50, 4), (1, 16), (5, 16), (20, 1)] {
        check(fakes, samples);
    }
}

/// One leaf that claims as much as all the others is drawn with every second sample.
#[test]
fn a_heavy_leaf_is_drawn_as_often_as_it_weighs() {
    let job = template(1, 0);
    let mut all = leaves(&job, 64, 0);
    all[10].work.0 *= 63;
    let tree = Tree::build(&all).unwrap();
    let drawn = positions(&digest(5), &tree.root(), 256).into_iter().filter(|at| tree.at(*at) == Some(10));
    let drawn = drawn.count();
    assert!((96..=160).contains(&drawn), "{drawn} of 256: four standard deviations are 32");
    let (root, proof) = answer(&all, &[job], &digest(5));
    assert_eq!(verdict(&root, &proof, &digest(5)), Err(Fault::Untrue(Untrue::Work)));
}

#[test]
fn a_share_of_a_job_that_claims_another_target_is_untrue() {
    // The share is real, and its job was announced: but not with the target that the work is claimed for.
    let (easy, hard) = (with_bits(1, 0, 2), with_bits(1, 0, 20));
    let real = leaves(&easy, 1, 0).remove(0);
    let share = Share { job: hard.digest(), ..real.share };
    let leaf = Leaf { work: hard.target().work(), share, ..real };
    let (root, proof) = answer(&[leaf], &[hard], &digest(1));
    assert_eq!(verdict(&root, &proof, &digest(1)), Err(Fault::Untrue(Untrue::Target)));
}
