//! Verification of one share, before it is counted or forwarded. Pure: no state, no clock.
//!
//! Assumes that the caller looked up the job and what was in force for it (slice, target, mask), and that it checks for
//! duplicates by the hash returned. Integers only. Next: `downstream.rs` (the caller), `seen.rs` (duplicates).

use crate::batch::Hashed;
use crate::hash::{Header, HeaderHash};
use crate::job::{Job, Slice};
use crate::message::{Field, Said, Submission};
use crate::target::{Target, difficulty_of};
use model::Work;

/// How far a miner may roll ntime. Pools differ; these are the tightest that real ones apply, so what we accept they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NtimeWindow {
    /// Seconds after the job's own time. Bitcoin nodes give 7,200; pools stop at 7,000.
    pub after_job: u32,
    /// Seconds after the local clock (Bitcoin's consensus: two hours). The job's own time always passes: a wrong local
    /// clock must not cost shares that the pool would take.
    pub after_now: u32,
}

impl Default for NtimeWindow {
    fn default() -> Self {
        NtimeWindow { after_job: 7_000, after_now: 7_200 }
    }
}

/// What was in force for the job when it was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub target: Target,
    /// The negotiated version mask; `None` where version rolling was not negotiated.
    pub mask: Option<u32>,
    pub window: NtimeWindow,
    /// The local clock, Unix seconds.
    pub now_unix: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    pub header: Header,
    pub hash: HeaderHash,
    /// Of the target, not of the hash: luck is not work.
    pub work: Work,
    pub meets_network: bool,
}

impl Verified {
    /// Which the hash reached; for people.
    pub fn difficulty(&self) -> f64 {
        difficulty_of(&self.hash)
    }
}

/// Why a share was not counted. The order is that of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Reject {
    #[error("malformed {}: send the exact width in plain hex", .0.name())]
    Malformed(Field),
    #[error("unknown job: it was never handed out here, or too long ago")]
    UnknownJob,
    #[error("stale: a newer block is being worked on")]
    Stale,
    #[error("duplicate: this header was counted before")]
    Duplicate,
    #[error("the hash misses the share target")]
    LowDifficulty,
    #[error("ntime lies before the job's, or too far ahead")]
    NtimeOutOfRange,
    #[error("version bits outside the negotiated mask, or missing where rolling was negotiated")]
    VersionBits,
    #[error("this worker was not authorized on this connection")]
    WrongWorker,
    #[error("not subscribed: send mining.subscribe first")]
    NotSubscribed,
    #[error("too many shares at this difficulty: the duplicate memory is full")]
    Exhausted,
}

impl Reject {
    /// A stable word for metrics and the ledger.
    pub fn code(&self) -> &'static str {
        match self {
            Reject::Malformed(_) => "malformed",
            Reject::UnknownJob => "unknown-job",
            Reject::Stale => "stale",
            Reject::Duplicate => "duplicate",
            Reject::LowDifficulty => "low-difficulty",
            Reject::NtimeOutOfRange => "ntime-out-of-range",
            Reject::VersionBits => "version-bits",
            Reject::WrongWorker => "wrong-worker",
            Reject::NotSubscribed => "not-subscribed",
            Reject::Exhausted => "exhausted",
        }
    }

    /// Stratum's error number: 20 other, 21 job, 22 duplicate, 23 low difficulty, 24 unauthorized, 25 not subscribed.
    pub fn number(&self) -> i32 {
        match self {
            Reject::UnknownJob | Reject::Stale => 21,
            Reject::Duplicate => 22,
            Reject::LowDifficulty => 23,
            Reject::WrongWorker => 24,
            Reject::NotSubscribed => 25,
            Reject::Malformed(_) | Reject::NtimeOutOfRange | Reject::VersionBits | Reject::Exhausted => 20,
        }
    }
}

/// Everything in one, the plain way: cheap things first and hashing last. Sessions take the steps one by one, to hash from
/// what they have prepared, and many at once.
pub fn verify(job: &Job, slice: &Slice, share: &Submission, rules: &Rules) -> Result<Verified, Reject> {
    let version = check_fields(job, slice, share, rules)?;
    let root = job.merkle_root(slice, &share.extranonce2);
    let header = job.header(&root, version, share.ntime, share.nonce);
    judge(job, &rules.target, Hashed { header, hash: header.hash() })
}

/// All that can be told without hashing. Gives the header's version.
pub fn check_fields(job: &Job, slice: &Slice, share: &Submission, rules: &Rules) -> Result<u32, Reject> {
    check_said(job, slice, &share.said(), rules)
}

pub(crate) fn check_said(job: &Job, slice: &Slice, share: &Said<'_>, rules: &Rules) -> Result<u32, Reject> {
    if share.extranonce2.len() != slice.extranonce2_size {
        return Err(Reject::Malformed(Field::Extranonce2));
    }
    let version = version_of(job, share.version_bits, rules.mask)?;
    check_ntime(job.ntime, share.ntime, rules)?;
    Ok(version)
}

/// What a header that hashes so is worth.
pub fn judge(job: &Job, target: &Target, hashed: Hashed) -> Result<Verified, Reject> {
    let Hashed { header, hash } = hashed;
    if !target.is_met_by(&hash) {
        return Err(Reject::LowDifficulty);
    }
    Ok(Verified { header, hash, work: target.work(), meets_network: job.network.is_met_by(&hash) })
}

fn version_of(job: &Job, bits: Option<u32>, mask: Option<u32>) -> Result<u32, Reject> {
    match (mask, bits) {
        (Some(mask), Some(bits)) if bits & !mask == 0 => Ok(job.rolled_version(mask, bits)),
        // Firmware that was refused version rolling may still send the parameter as zero.
        (None, None | Some(0)) => Ok(job.version),
        _ => Err(Reject::VersionBits),
    }
}

fn check_ntime(job: u32, ntime: u32, rules: &Rules) -> Result<(), Reject> {
    let ahead = ntime.checked_sub(job).ok_or(Reject::NtimeOutOfRange)?;
    let by_clock = rules.now_unix.saturating_add(u64::from(rules.window.after_now));
    let latest = by_clock.max(u64::from(job));
    if ahead > rules.window.after_job || u64::from(ntime) > latest {
        return Err(Reject::NtimeOutOfRange);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hex;
    use crate::target::Difficulty;
    use serde_json::json;

    const SIGNET: [&str; 4] = [
        "87f914a7745ea340051038babb56406514af8b63338ade65002bfbde00000000",
        "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff2d023c01000402b6786804209eec010c",
        concat!(
            "0a636b706f6f6c0a2f7032706f6f6c76322fffffffff030011102401000000160014274466e754a1c12d0a2d2cc34ceb70d8e0",
            "17053a00e1f50500000000160014a248cf2f99f449511b22bab1a3d001719f84cd090000000000000000266a24aa21a9ede2f6",
            "1c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf900000000"
        ),
        "0000000000cdd305efb7cb9d86c7dc8eccf504a32fdf781ea053f87b6f5b3642",
    ];
    const TESTNET: [&str; 4] = [
        "171592f223740e92d223f6e68bff25279af7ac4f2246451e0000000200000000",
        "02000000010000000000000000000000000000000000000000000000000000000000000000ffffffff1903c943255c7075626c69632d706f6f6c5c",
        concat!(
            "ffffffff037a90000000000000160014e6f22ca44dc800e9d049621a3b9a42c509f1c4bc3b0f250000000000160014e6f22ca4",
            "4dc800e9d049621a3b9a42c509f1c4bc0000000000000000266a24aa21a9edbd3d1d916aa0b57326a2d88ebe1b68a1d7c48585",
            "f26d8335fe6a94b62755f64c00000000"
        ),
        "000000000061d52983863e5c424c00d9e0981874fddf6a8493433e73928a3e4e",
    ];
    const TESTNET_BRANCHES: [&str; 3] = [
        "175335649d5e8746982969ec88f52e85ac9917106fba5468e699c8879ab974a1",
        "d5644ab3e708c54cd68dc5aedc92b8d3037449687f92ec41ed6e37673d969d4a",
        "5c9ec187517edc0698556cca5ce27e54c96acb014770599ed9df4d4937fbf2b0",
    ];

    struct Case {
        job: Job,
        slice: Slice,
        share: Submission,
        rules: Rules,
        hash: &'static str,
    }

    fn case(texts: [&'static str; 4], branches: &[&str], rest: [&str; 6], bits: u32) -> Case {
        let [nbits, ntime, extranonce1, extranonce2, nonce, difficulty] = rest;
        let [previous, coinb1, coinb2, hash] = texts;
        let params = json!(["1", previous, coinb1, coinb2, branches, "20000000", nbits, ntime, true]);
        let extranonce2 = hex::decode(extranonce2, 16).unwrap();
        let slice =
            Slice { extranonce1: hex::decode(extranonce1, 16).unwrap(), extranonce2_size: extranonce2.len() };
        let job = Job::from_params(params.as_array().unwrap()).unwrap();
        let share = Submission {
            worker: "w".into(),
            job_id: "1".into(),
            extranonce2,
            ntime: job.ntime,
            nonce: hex::decode_u32(nonce).unwrap(),
            version_bits: Some(bits),
        };
        let target = Difficulty::new(difficulty.parse().unwrap()).unwrap().target();
        let now_unix = u64::from(job.ntime);
        let rules = Rules { target, mask: Some(0x1fff_e000), window: NtimeWindow::default(), now_unix };
        Case { job, slice, share, rules, hash }
    }

    fn signet() -> Case {
        let rest = ["1e0377ae", "6878b602", "03b67868", "0000000000000000", "58f90070", "318"];
        case(SIGNET, &[], rest, 0x083a_c000)
    }

    fn testnet() -> Case {
        let rest = ["192495f8", "64b3f3ec", "57a6f098", "c7080000", "ed460d91", "669"];
        case(TESTNET, &TESTNET_BRANCHES, rest, 0x0000_2000)
    }

    fn run(case: &Case) -> Result<Verified, Reject> {
        verify(&case.job, &case.slice, &case.share, &case.rules)
    }

    #[test]
    fn known_shares_have_their_known_hash_and_difficulty() {
        let check = |case: Case, difficulty: f64, meets_network: bool| {
            let verified = run(&case).unwrap();
            assert_eq!(verified.hash.to_string(), case.hash);
            assert_eq!(verified.header.hash(), verified.hash);
            assert!((verified.difficulty() - difficulty).abs() < 1e-6, "{}", verified.difficulty());
            assert_eq!(verified.work, case.rules.target.work());
            assert_eq!(verified.meets_network, meets_network);
        };
        check(signet(), 318.402_623, true); // signet's own target is far easier than difficulty 1
        check(testnet(), 669.868_292, false);
    }

    #[test]
    fn the_target_is_inclusive_to_the_last_unit() {
        let mut case = testnet();
        let value = run(&case).unwrap().hash.value();
        case.rules.target = Target::new(value).unwrap();
        assert!(run(&case).is_ok());
        case.rules.target = Target::new(value.checked_sub(crate::uint256::U256::ONE).unwrap()).unwrap();
        assert_eq!(run(&case), Err(Reject::LowDifficulty));
    }

    #[test]
    fn what_does_not_fit_the_rules_is_named() {
        let check = |change: &dyn Fn(&mut Case), expected: Reject| {
            let mut case = testnet();
            change(&mut case);
            assert_eq!(run(&case), Err(expected));
        };
        check(&|c| c.share.extranonce2.push(0), Reject::Malformed(Field::Extranonce2));
        check(&|c| c.share.extranonce2.truncate(3), Reject::Malformed(Field::Extranonce2));
        check(&|c| c.share.version_bits = Some(0x2001), Reject::VersionBits);
        check(&|c| c.share.version_bits = Some(0x8000_2000), Reject::VersionBits);
        check(&|c| c.share.version_bits = None, Reject::VersionBits);
        check(&|c| c.rules.mask = None, Reject::VersionBits);
        check(&|c| c.share.nonce += 1, Reject::LowDifficulty);
        check(&|c| c.rules.target = Difficulty::new(670.0).unwrap().target(), Reject::LowDifficulty);
    }

    #[test]
    fn ntime_has_a_window_after_the_job_and_the_clock() {
        let check = |offset: i64, clock: i64, expected: Result<(), Reject>| {
            let case = testnet();
            let job = i64::from(case.job.ntime);
            let now_unix = u64::try_from(job + clock).unwrap();
            let ntime = u32::try_from(job + offset).unwrap();
            let actual = check_ntime(case.job.ntime, ntime, &Rules { now_unix, ..case.rules });
            assert_eq!(actual, expected, "{offset} at {clock}");
        };
        let out = Err(Reject::NtimeOutOfRange);
        for (offset, clock, expected) in [
            (-1, 0, out),
            (0, 0, Ok(())),
            (7_000, 0, Ok(())),
            (7_001, 0, out),
            (7_201, 0, out),
            (1_000_000, 0, out),
            (7_000, -200, Ok(())),
            (7_000, -201, out),
            (0, -1_000_000, Ok(())), // a wrong local clock costs nothing
            (1, -1_000_000, out),
            (7_000, 1_000_000, Ok(())),
        ] {
            check(offset, clock, expected);
        }
    }

    #[test]
    fn codes_and_numbers_are_stable() {
        let all = [
            (Reject::Malformed(Field::Nonce), "malformed", 20),
            (Reject::UnknownJob, "unknown-job", 21),
            (Reject::Stale, "stale", 21),
            (Reject::Duplicate, "duplicate", 22),
            (Reject::LowDifficulty, "low-difficulty", 23),
            (Reject::NtimeOutOfRange, "ntime-out-of-range", 20),
            (Reject::VersionBits, "version-bits", 20),
            (Reject::WrongWorker, "wrong-worker", 24),
            (Reject::NotSubscribed, "not-subscribed", 25),
            (Reject::Exhausted, "exhausted", 20),
        ];
        for (reject, code, number) in all {
            assert_eq!((reject.code(), reject.number()), (code, number));
        }
        assert!(Reject::Malformed(Field::Nonce).to_string().starts_with("malformed nonce"));
    }
}
