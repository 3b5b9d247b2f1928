//! Random and adversarial submissions, judged by our session and by SRI's server channel, headers checked by `bitcoin`.
//!
//! 50,000 by default; `STRATUM_DIFFERENTIAL=1000000 cargo test -p oracle --profile dist -- --nocapture` for the long run,
//! `STRATUM_SEED` for another stream. Where the two differ, the difference must be one that docs/stratum-quirks.md
//! explains, and is recognised by its cause, not by its look.
#![allow(clippy::unwrap_used)]

use channels_sv2::server::share_accounting::{ShareValidationError, ShareValidationResult};
use oracle::{Dice, Shape, Stage};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stratum::downstream::{Config, Now, Output, Session};
use stratum::hash::HeaderHash;
use stratum::job::{Assignment, Source};
use stratum::message::{Field, Submission};
use stratum::slices::MinerSlice;
use stratum::target::{Difficulty, Target};
use stratum::uint256::U256;
use stratum::verify::Reject;
use stratum::{hex, vardiff};

/// What BIP 310 leaves to miners, and what we negotiate.
const OURS: u32 = 0x1fff_e000;
/// What their channel lets roll.
const THEIRS: u32 = 0x1fff_ffe0;
const PER_STAGE: u64 = 250;

#[derive(Clone, Debug, PartialEq)]
enum Ours {
    Share { hash: HeaderHash, block: bool },
    Rejected(Reject),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Theirs {
    Share { hash: HeaderHash, block: bool },
    Rejected(Reason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Stale,
    UnknownJob,
    Duplicate,
    LowDifficulty,
    VersionBits,
    Extranonce,
    Ntime,
}

/// A submission, and how many things were made wrong with it on purpose.
struct Attack {
    share: Submission,
    faults: u32,
}

struct Arena {
    stage: Stage,
    session: Session,
    dice: Dice,
    /// With their faults: who repeats a bad share does nothing better.
    sent: Vec<(Submission, u32)>,
    /// What they counted in a form that we refused.
    only_theirs: BTreeSet<HeaderHash>,
}

#[test]
fn two_judges_agree_or_the_difference_is_explained() {
    let total = number("STRATUM_DIFFERENTIAL", 50_000);
    let mut dice = Dice(number("STRATUM_SEED", 4));
    let mut tally: BTreeMap<&'static str, u64> = BTreeMap::new();
    for _ in 0..total.div_ceil(PER_STAGE) {
        let mut arena = Arena::new(Dice(dice.draw()));
        for _ in 0..PER_STAGE {
            *tally.entry(arena.step()).or_default() += 1;
        }
    }
    println!("{total} submissions: {tally:#?}");
    // Each kind of outcome must have been met, or the test tests less than it says.
    for kind in ["both accept", "both accept a block", "both reject", "our ntime window is narrower"] {
        assert!(tally.get(kind).is_some_and(|count| *count > total / 2_000), "{kind}: {tally:?}");
    }
}

impl Arena {
    fn new(mut dice: Dice) -> Arena {
        let pick = |dice: &mut Dice, from: &[u32]| from[dice.below(from.len() as u64) as usize];
        let shape = Shape {
            branches: dice.below(14) as usize,
            script: dice.below(200) as usize,
            extranonce2_size: 2 + dice.below(7) as usize,
            rolling: dice.below(4) > 0,
            nbits: pick(&mut dice, &[0x1d00_ffff, 0x1e03_77ae, 0x207f_ffff, 0x1702_5ced]),
            ntime: 0x6878_b602,
        };
        let exponent = -32 + i16::try_from(dice.below(4)).unwrap();
        let difficulty = Difficulty::power_of_two(exponent).unwrap();
        let stage = Stage::new(&mut dice, shape, difficulty.target());
        // Difficulty stands still, so that what is compared is the judgement alone.
        let vardiff = vardiff::Config {
            floor: difficulty,
            ceiling: difficulty,
            start: difficulty,
            ..vardiff::Config::default()
        };
        let now = Now { mono_ms: 0, unix_s: u64::from(shape.ntime) };
        let slice = MinerSlice { index: 0, prefix: vec![], miner: stage.slice.clone() };
        let mask = if shape.rolling { OURS } else { 0 };
        let mut session = Session::new(Config { vardiff, ..Config::default() }, slice, mask, now);
        for line in [
            r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#,
            r#"{"id":2,"method":"mining.subscribe","params":["oracle"]}"#,
            r#"{"id":3,"method":"mining.authorize","params":["w","x"]}"#,
        ] {
            session.on_line(now, line.as_bytes());
        }
        let mut arena = Arena { stage, session, dice, sent: Vec::new(), only_theirs: BTreeSet::new() };
        arena.tell_job();
        arena
    }

    fn tell_job(&mut self) {
        let difficulty = self.session.difficulty();
        let source = Source::Upstream { session: 1, difficulty };
        self.session.on_job(Arc::new(Assignment { job: self.stage.job().clone(), source }));
    }

    fn step(&mut self) -> &'static str {
        if self.dice.below(60) == 0 {
            self.stage.advance(&mut self.dice);
            self.tell_job();
        }
        let Attack { share, faults } = self.attack();
        let ours = self.our_verdict(&share);
        let theirs = self.their_verdict(&share);
        let what = self.compare(&share, faults, &ours, theirs);
        if let (Ours::Rejected(_), Theirs::Share { hash, .. }) = (&ours, theirs) {
            self.only_theirs.insert(hash);
        }
        self.sent.push((share, faults));
        what.unwrap_or_else(|| {
            panic!("{ours:?} here, {theirs:?} there, {faults} faults: {:?}", self.sent.last())
        })
    }

    fn attack(&mut self) -> Attack {
        let again = self.dice.below(8) == 0 && !self.sent.is_empty();
        let dice = &mut self.dice;
        let (mut share, mut faults) = if again {
            let (share, faults) = self.sent[dice.below(self.sent.len() as u64) as usize].clone();
            (share, faults + 1)
        } else {
            let share = Submission {
                worker: "w".into(),
                job_id: self.stage.job().id.to_string(),
                extranonce2: (0..self.stage.slice.extranonce2_size).map(|_| dice.draw() as u8).collect(),
                ntime: self.stage.shape.ntime + dice.word() % 7_001,
                nonce: dice.word(),
                version_bits: self.stage.shape.rolling.then_some(dice.word() & OURS),
            };
            (share, 0)
        };
        // Few are wrong in more than one way.
        while dice.below(3) == 0 && faults < 6 {
            faults += 1;
            spoil(&mut share, dice, self.stage.shape.ntime);
        }
        Attack { share, faults }
    }

    /// By a line, as a miner sends it, in whatever case.
    fn our_verdict(&mut self, share: &Submission) -> Ours {
        let now = Now { mono_ms: 1, unix_s: u64::from(self.stage.shape.ntime) + 1_000_000 };
        let case = self.dice.draw();
        let text = |hex: String, bit: u32| if case >> bit & 1 == 1 { hex.to_uppercase() } else { hex };
        let mut params = vec![
            share.worker.clone(),
            share.job_id.clone(),
            text(hex::encode(&share.extranonce2), 0),
            text(format!("{:08x}", share.ntime), 1),
            text(format!("{:08x}", share.nonce), 2),
        ];
        params.extend(share.version_bits.map(|bits| text(format!("{bits:08x}"), 3)));
        let line = serde_json::json!({ "id": 9, "method": "mining.submit", "params": params }).to_string();
        // With a second line every other time: then it is hashed with others, which must make no difference.
        let outputs = if case >> 4 & 1 == 1 {
            let other = line.replace("\"w\"", "\"stranger\"");
            self.session.on_lines(now, &[other.as_bytes(), line.as_bytes()])
        } else {
            self.session.on_line(now, line.as_bytes())
        };
        let verdict = outputs.iter().rev().find_map(|output| match output {
            Output::Share(share) => {
                let (hash, block) = (share.verified.hash, share.verified.meets_network);
                check_header(&share.verified.header.0, hash, block);
                Some(Ours::Share { hash, block })
            }
            Output::Rejected { reject, worker: Some(_), .. } => Some(Ours::Rejected(*reject)),
            _ => None,
        });
        verdict.expect("a submission has a verdict")
    }

    fn their_verdict(&mut self, share: &Submission) -> Theirs {
        let known = self.stage.jobs.iter().find(|(_, job)| *job.id == *share.job_id);
        let number = known.map_or(99_999, |(number, _)| *number);
        let base = self.stage.job().version;
        let mask = if self.stage.shape.rolling { THEIRS } else { 0 };
        // What a translator of theirs would make of the bits: all of them, so that wrong ones are theirs to refuse.
        let bits = share.version_bits.unwrap_or(0);
        let version = (base & !mask) ^ (bits & !mask) | bits & mask;
        let hash = |hash: &bitcoin::hashes::sha256d::Hash| HeaderHash(*hash.as_ref());
        match self.stage.their_verdict(share, number, version) {
            Ok(ShareValidationResult::Valid(raw)) => Theirs::Share { hash: hash(&raw), block: false },
            Ok(ShareValidationResult::BlockFound(raw, ..)) => Theirs::Share { hash: hash(&raw), block: true },
            Err(error) => Theirs::Rejected(reason(&error)),
        }
    }

    /// What the two verdicts are to each other; `None` for a difference without an explanation.
    fn compare(&self, share: &Submission, faults: u32, ours: &Ours, theirs: Theirs) -> Option<&'static str> {
        match (ours, theirs) {
            (Ours::Share { hash, block }, Theirs::Share { hash: other, block: other_block }) => {
                let same = *hash == other && *block == other_block;
                same.then_some(if *block { "both accept a block" } else { "both accept" })
            }
            (Ours::Rejected(reject), Theirs::Rejected(reason)) => {
                let same = translate(*reject) == Some(reason);
                // They forget stale jobs sooner; a stale one is then unknown.
                let older = *reject == Reject::Stale && reason == Reason::UnknownJob;
                let allowed = same || older || faults > 1 || self.cause(share, *reject, &theirs).is_some();
                allowed.then_some(if same { "both reject" } else { "both reject, by different checks" })
            }
            (Ours::Rejected(reject), Theirs::Share { .. }) => self.cause(share, *reject, &theirs),
            (Ours::Share { hash, .. }, Theirs::Rejected(Reason::Duplicate)) => {
                self.only_theirs.contains(hash).then_some("they had counted it in a form that we refuse")
            }
            (Ours::Share { .. }, Theirs::Rejected(_)) => None,
        }
    }

    /// The explained differences, each by its cause.
    fn cause(&self, share: &Submission, reject: Reject, theirs: &Theirs) -> Option<&'static str> {
        let bits = share.version_bits;
        let after = share.ntime.checked_sub(self.stage.shape.ntime);
        match reject {
            Reject::NtimeOutOfRange if after.is_some_and(|after| (7_001..=7_200).contains(&after)) => {
                Some("our ntime window is narrower")
            }
            Reject::VersionBits if self.stage.shape.rolling && bits.is_none() => {
                Some("we want the sixth parameter once it was negotiated")
            }
            Reject::VersionBits if bits.is_some_and(|bits| bits & !OURS != 0 && bits & !THEIRS == 0) => {
                Some("our mask is narrower")
            }
            // A hash that is a block on an easy chain, and still misses the share target.
            Reject::LowDifficulty if *theirs != Theirs::Rejected(Reason::LowDifficulty) => {
                let (_, job) = self.stage.jobs.iter().find(|(_, job)| *job.id == *share.job_id)?;
                let root = job.merkle_root(&self.stage.slice, &share.extranonce2);
                let version = job.rolled_version(OURS, bits.unwrap_or(0));
                let hash = job.header(&root, version, share.ntime, share.nonce).hash();
                let easy = job.network.is_met_by(&hash) && !self.stage.target.is_met_by(&hash);
                easy.then_some("they credit a block that misses the share target")
            }
            _ => None,
        }
    }
}

fn spoil(share: &mut Submission, dice: &mut Dice, ntime: u32) {
    match dice.below(12) {
        0 => share.ntime = ntime - 1 - dice.word() % 1_000,
        1 => share.ntime = ntime + [7_001, 7_100, 7_200][dice.below(3) as usize],
        2 => share.ntime = ntime + [7_201, 9_000, 1_000_000][dice.below(3) as usize],
        3 => share.version_bits = Some(1 << dice.below(32)),
        4 => share.version_bits = Some(dice.word()),
        5 => share.version_bits = None,
        6 => share.extranonce2 = (0..dice.below(33)).map(|_| dice.draw() as u8).collect(),
        7 => share.job_id = "1".into(),
        8 => share.job_id = ["fff", "0", "", "nonsense", "-1"][dice.below(5) as usize].into(),
        9 => share.nonce = share.nonce.swap_bytes(),
        10 => share.version_bits = Some(0),
        _ => share.ntime = ntime,
    }
}

fn translate(reject: Reject) -> Option<Reason> {
    match reject {
        Reject::Stale => Some(Reason::Stale),
        Reject::UnknownJob => Some(Reason::UnknownJob),
        Reject::Duplicate => Some(Reason::Duplicate),
        Reject::LowDifficulty => Some(Reason::LowDifficulty),
        Reject::NtimeOutOfRange => Some(Reason::Ntime),
        Reject::VersionBits => Some(Reason::VersionBits),
        Reject::Malformed(Field::Extranonce2) => Some(Reason::Extranonce),
        _ => None,
    }
}

fn reason(error: &ShareValidationError) -> Reason {
    match error {
        ShareValidationError::Stale(_) => Reason::Stale,
        ShareValidationError::InvalidJobId(_) => Reason::UnknownJob,
        ShareValidationError::DoesNotMeetTarget(_) => Reason::LowDifficulty,
        ShareValidationError::VersionRollingNotAllowed(_) => Reason::VersionBits,
        ShareValidationError::DuplicateShare(_) => Reason::Duplicate,
        ShareValidationError::BadExtranonceSize(_) => Reason::Extranonce,
        ShareValidationError::Invalid(code) if code.contains("version") => Reason::VersionBits,
        ShareValidationError::Invalid(_) => Reason::Ntime,
        other => panic!("their channel is not set up: {other:?}"),
    }
}

/// The third judge: the header as Bitcoin's own types read it.
fn check_header(bytes: &[u8; 80], hash: HeaderHash, block: bool) {
    let header: bitcoin::block::Header = bitcoin::consensus::deserialize(bytes).unwrap();
    let theirs = header.block_hash();
    let raw: [u8; 32] = *theirs.to_raw_hash().as_ref();
    assert_eq!(hash, HeaderHash(raw));
    assert_eq!(block, header.target().is_met_by(theirs));
}

#[test]
fn targets_are_those_of_the_bitcoin_crate() {
    let mut dice = Dice(number("STRATUM_SEED", 4));
    let (mut read, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let nbits = (dice.below(0x24) as u32) << 24 | dice.word() & 0x00ff_ffff;
        let theirs = bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(nbits));
        let value = U256::from_be_bytes(theirs.to_be_bytes());
        match Target::from_nbits(nbits) {
            Ok(target) => {
                assert_eq!(target.value(), value, "{nbits:08x}");
                let ratio = target.difficulty() / theirs.difficulty_float();
                assert!((ratio - 1.0).abs() < 1e-9, "{nbits:08x}: {ratio}");
                read += 1;
            }
            // Negative, zero, beyond 256 bits, or so hard that work would not fit 128 bits.
            Err(_) => {
                let (exponent, mantissa) = (nbits >> 24, nbits & 0x007f_ffff);
                let over =
                    exponent > 32 && mantissa >> (8 * 32u32.saturating_sub(exponent.saturating_sub(3))) != 0;
                let negative = nbits & 0x0080_0000 != 0;
                assert!(negative || value.bits() <= 128 || over, "{nbits:08x}");
                refused += 1;
            }
        }
    }
    assert!(read > 1_000 && refused > 1_000, "{read} {refused}");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
