//! The pool's check of one share, from the text of the submission to the hash, with code of its own.
//!
//! Assumes that the job was looked up. Strict where real pools are: exact widths, plain hex, ntime within the window, no
//! version bit outside the mask. Next: `difficulty.rs` for the comparison, `books.rs` for duplicates.

use sha2::{Digest, Sha256};

use super::template::Template;

/// Version bits that miners may roll (BIP 310; the 16 of BIP 320).
pub(super) const VERSION_MASK: u32 = 0x1fff_e000;
/// Bytes of extranonce2 that a client of ours rolls.
pub(super) const EXTRANONCE2_SIZE: usize = 8;
/// Seconds that ntime may lie after the job's; pools stop a little before Bitcoin's two hours.
const AFTER_JOB: u32 = 7_000;
/// Seconds that ntime may lie after the clock, by consensus.
const AFTER_NOW: u32 = 7_200;

/// Why a share was refused; ordered as in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// A field is missing, of another type, of another width, or no hex.
    Malformed,
    /// Nobody authorized this worker on this connection.
    Unauthorized,
    /// The connection has not subscribed.
    NotSubscribed,
    /// The job was never handed out.
    UnknownJob,
    /// The job belongs to an earlier block.
    Stale,
    /// ntime before the job's, or too far ahead.
    Ntime,
    /// Version bits outside the mask, or without negotiation.
    VersionBits,
    /// The hash misses the target.
    LowDifficulty,
    /// This header was paid before.
    Duplicate,
}

impl Refusal {
    /// Stratum's number and a text for people.
    pub fn reply(self) -> (i64, &'static str) {
        match self {
            Refusal::Malformed => (20, "Malformed submission"),
            Refusal::Unauthorized => (24, "Unauthorized worker"),
            Refusal::NotSubscribed => (25, "Not subscribed"),
            Refusal::UnknownJob => (21, "Job not found"),
            Refusal::Stale => (21, "Stale share"),
            Refusal::Ntime => (20, "ntime out of range"),
            Refusal::VersionBits => (20, "Invalid version bits"),
            Refusal::LowDifficulty => (23, "Low difficulty share"),
            Refusal::Duplicate => (22, "Duplicate share"),
        }
    }
}

/// The fields of `mining.submit` after the worker and the job, as they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) extranonce2: &'a str,
    pub(super) ntime: &'a str,
    pub(super) nonce: &'a str,
    pub(super) bits: Option<&'a str>,
}

/// The hash of the claimed header, in SHA-256's byte order, when it is worth the job's difficulty.
pub(super) fn check(
    job: &Template,
    extranonce1: [u8; 4],
    claim: Claim<'_>,
    rolls: bool,
    now: u32,
) -> Result<[u8; 32], Refusal> {
    let extranonce2: [u8; EXTRANONCE2_SIZE] = unhex(claim.extranonce2)?;
    let ntime = u32::from_be_bytes(unhex(claim.ntime)?);
    let nonce = u32::from_be_bytes(unhex(claim.nonce)?);
    let bits = claim.bits.map(unhex).transpose()?.map_or(0, u32::from_be_bytes);
    let allowed = if rolls { VERSION_MASK } else { 0 };
    if bits & !allowed != 0 {
        return Err(Refusal::VersionBits);
    }
    let latest = job.ntime.saturating_add(AFTER_JOB).min(now.max(job.ntime).saturating_add(AFTER_NOW));
    if !(job.ntime..=latest).contains(&ntime) {
        return Err(Refusal::Ntime);
    }
    // BIP 310: where rolling was negotiated the masked bits are the miner's, also when they are all zero.
    let version = if rolls && claim.bits.is_some() { job.version & !allowed | bits } else { job.version };
    let coinbase = [&job.coinb1[..], &extranonce1, &extranonce2, &job.coinb2].concat();
    let mut root = twice(&coinbase);
    for branch in &job.branches {
        root = twice(&[root, *branch].concat());
    }
    let header = [
        &version.to_le_bytes()[..],
        &job.previous,
        &root,
        &ntime.to_le_bytes(),
        &job.nbits.to_le_bytes(),
        &nonce.to_le_bytes(),
    ];
    let hash = twice(&header.concat());
    if job.threshold.admits(hash) { Ok(hash) } else { Err(Refusal::LowDifficulty) }
}

/// The previous hash as it travels: each word of four bytes reversed.
pub(super) fn travelling(previous: [u8; 32]) -> String {
    hex(&previous.chunks(4).flat_map(|word| word.iter().rev().copied()).collect::<Vec<u8>>())
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], Refusal> {
    let digits: Option<Vec<u8>> =
        text.bytes().map(|c| (c as char).to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() == 2 * N).ok_or(Refusal::Malformed)?;
    let mut bytes = [0; N];
    for (index, digit) in digits.into_iter().enumerate() {
        bytes[index / 2] = bytes[index / 2] << 4 | digit;
    }
    Ok(bytes)
}

fn twice(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::difficulty::Threshold;
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| unhex::<1>(std::str::from_utf8(pair).unwrap()).unwrap()[0])
            .collect()
    }

    /// The share of a signet miner with version rolling (a known answer; difficulty 318.402623).
    fn signet(difficulty: f64) -> Template {
        let previous: [u8; 32] =
            bytes("87f914a7745ea340051038babb56406514af8b63338ade65002bfbde00000000").try_into().unwrap();
        let coinb1 = "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff2d023c01000402b6786804209eec010c";
        let coinb2 = concat!(
            "0a636b706f6f6c0a2f7032706f6f6c76322fffffffff030011102401000000160014274466e754a1c12d0a2d2cc34ceb70d8e0",
            "17053a00e1f50500000000160014a248cf2f99f449511b22bab1a3d001719f84cd090000000000000000266a24aa21a9ede2f6",
            "1c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf900000000"
        );
        Template {
            number: 1,
            previous: previous
                .chunks(4)
                .flat_map(|word| word.iter().rev().copied())
                .collect::<Vec<_>>()
                .try_into()
                .unwrap(),
            coinb1: bytes(coinb1),
            coinb2: bytes(coinb2),
            branches: vec![],
            version: 0x2000_0000,
            nbits: 0x1e03_77ae,
            ntime: 0x6878_b602,
            clean: true,
            threshold: Threshold::new(difficulty).unwrap(),
        }
    }

    const EXTRANONCE1: [u8; 4] = [0x03, 0xb6, 0x78, 0x68];
    const GOOD: Claim<'_> = Claim {
        extranonce2: "0000000000000000",
        ntime: "6878b602",
        nonce: "58f90070",
        bits: Some("083ac000"),
    };

    #[test]
    fn a_known_share_is_worth_its_known_difficulty() {
        let hash = check(&signet(318.4026), EXTRANONCE1, GOOD, true, 0x6878_b602).unwrap();
        let shown: Vec<u8> = hash.iter().rev().copied().collect();
        assert_eq!(hex(&shown), "0000000000cdd305efb7cb9d86c7dc8eccf504a32fdf781ea053f87b6f5b3642");
        assert_eq!(check(&signet(318.4027), EXTRANONCE1, GOOD, true, 0), Err(Refusal::LowDifficulty));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |claim: Claim<'_>, rolls: bool, expected: Refusal| {
            assert_eq!(
                check(&signet(318.0), EXTRANONCE1, claim, rolls, 0x6878_b602),
                Err(expected),
                "{claim:?}"
            );
        };
        check(Claim { extranonce2: "00000000000000", ..GOOD }, true, Refusal::Malformed);
        check(Claim { nonce: "0x58f900", ..GOOD }, true, Refusal::Malformed);
        check(Claim { nonce: "58f9007g", ..GOOD }, true, Refusal::Malformed);
        check(Claim { bits: Some("2000"), ..GOOD }, true, Refusal::Malformed);
        check(Claim { bits: Some("80000000"), ..GOOD }, true, Refusal::VersionBits);
        check(GOOD, false, Refusal::VersionBits);
        check(Claim { bits: None, ..GOOD }, true, Refusal::LowDifficulty);
        check(Claim { ntime: "6878b601", ..GOOD }, true, Refusal::Ntime);
        check(Claim { ntime: "6878d15b", ..GOOD }, true, Refusal::Ntime); // 7,001 s later
        check(Claim { ntime: "6878d15a", ..GOOD }, true, Refusal::LowDifficulty); // in the window, another header
        check(Claim { nonce: "58f90071", ..GOOD }, true, Refusal::LowDifficulty);
    }

    #[test]
    fn upper_case_is_the_same_share() {
        let upper = Claim { bits: Some("083AC000"), ntime: "6878B602", ..GOOD };
        let now = 0x6878_b602;
        assert_eq!(
            check(&signet(318.0), EXTRANONCE1, upper, true, now),
            check(&signet(318.0), EXTRANONCE1, GOOD, true, now)
        );
    }
}
