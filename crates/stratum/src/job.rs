//! A job of `mining.notify`: parsing with limits, coinbase, Merkle root, header.
//!
//! Assumes Stratum V1's layout: coinbase = coinb1 ‖ extranonce1 ‖ extranonce2 ‖ coinb2; root = fold of
//! sha256d(root ‖ branch); the previous hash travels with each 4-byte word reversed. Next: `verify.rs`.

use crate::hash::{Header, sha256d};
use crate::hex;
use crate::message::Field;
use crate::target::{Difficulty, Target};
use serde_json::{Value, json};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A block of 2^32 transactions would have 32 branches; real ones have about 12.
pub const MAX_BRANCHES: usize = 32;
/// Bytes of each half of the coinbase. Two halves in hex are 48 KiB of the 64 KiB a pool's line may have.
pub const MAX_COINBASE_HALF: usize = 12 * 1024;
/// Job ids are a few characters everywhere; they are echoed in each submission.
pub const MAX_JOB_ID: usize = 64;
/// Bytes of extranonce1 or extranonce2. Pools use 4 to 8 and proxies lengthen extranonce1; a coinbase's script holds 100
/// bytes in all.
pub const MAX_EXTRANONCE: usize = 32;

/// One miner's part of the search space: what stands before the bytes it may choose, and how many those are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub extranonce1: Vec<u8>,
    pub extranonce2_size: usize,
}

/// An extranonce2 where it stands, without an allocation: each forwarded share is copied once or twice. Private fields: what lies
/// behind `length` is zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Extranonce2 {
    bytes: [u8; MAX_EXTRANONCE],
    length: u8,
}

impl Extranonce2 {
    /// The parts, joined. No slice has more than [`MAX_EXTRANONCE`] bytes, and what is beyond that is cut off.
    pub fn joined(parts: &[&[u8]]) -> Extranonce2 {
        let (mut bytes, mut length) = ([0; MAX_EXTRANONCE], 0);
        for part in parts {
            let part = &part[..part.len().min(MAX_EXTRANONCE - length)];
            bytes[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        Extranonce2 { bytes, length: length as u8 }
    }
}

impl From<&[u8]> for Extranonce2 {
    fn from(bytes: &[u8]) -> Extranonce2 {
        Extranonce2::joined(&[bytes])
    }
}

impl Deref for Extranonce2 {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for Extranonce2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extranonce2({})", hex::encode(self))
    }
}

/// The parameters of `mining.notify`. `previous` stands in header order; `network` is what `nbits` asks of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The pool's name for it; shared, since each share that goes back to the pool says it.
    pub id: Arc<str>,
    pub previous: [u8; 32],
    pub coinb1: Vec<u8>,
    pub coinb2: Vec<u8>,
    pub branches: Vec<[u8; 32]>,
    pub version: u32,
    pub nbits: u32,
    pub network: Target,
    /// Unix seconds.
    pub ntime: u32,
    /// Whether shares of all earlier jobs became worthless.
    pub clean: bool,
}

/// Where a job came from decides where its shares go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// A pool, in the given session of ours with it, which takes shares from `difficulty` upwards. A share is forwarded
    /// in that session or not at all.
    Upstream { session: u64, difficulty: Difficulty },
    /// Ourselves, while every pool is away: shares are verified and earn nothing.
    KeepAlive,
}

/// A job with its source: what is handed to every miner's session, shared between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub job: Job,
    pub source: Source,
}

impl Job {
    /// Reads the nine parameters of `mining.notify`; an error names the first field that is wrong.
    pub fn from_params(params: &[Value]) -> Result<Job, Field> {
        let [id, previous, coinb1, coinb2, branches, version, nbits, ntime, clean, ..] = params else {
            return Err(Field::Params);
        };
        let id = id.as_str().filter(|id| id.len() <= MAX_JOB_ID).ok_or(Field::JobId)?;
        let previous = previous.as_str().and_then(hex::decode_exact).ok_or(Field::PreviousHash)?;
        let half = |value: &Value| hex::decode(value.as_str()?, MAX_COINBASE_HALF);
        let nbits = word(nbits).ok_or(Field::Nbits)?;
        Ok(Job {
            id: id.into(),
            previous: reverse_words(previous),
            coinb1: half(coinb1).ok_or(Field::Coinbase)?,
            coinb2: half(coinb2).ok_or(Field::Coinbase)?,
            branches: parse_branches(branches).ok_or(Field::Branches)?,
            version: word(version).ok_or(Field::Version)?,
            nbits,
            network: Target::from_nbits(nbits).map_err(|_| Field::Nbits)?,
            ntime: word(ntime).ok_or(Field::Ntime)?,
            clean: clean.as_bool().ok_or(Field::Clean)?,
        })
    }

    /// The parameters of `mining.notify`, under another id, time and clean flag: a proxy sends one job many times.
    pub fn to_params(&self, id: &str, ntime: u32, clean: bool) -> Value {
        let branches: Vec<String> = self.branches.iter().map(|branch| hex::encode(branch)).collect();
        json!([
            id,
            hex::encode(&reverse_words(self.previous)),
            hex::encode(&self.coinb1),
            hex::encode(&self.coinb2),
            branches,
            format!("{:08x}", self.version),
            format!("{:08x}", self.nbits),
            format!("{ntime:08x}"),
            clean,
        ])
    }

    /// A job of ours to keep miners busy while no pool is there. `sequence` sets the synthetic previous hash, so that each
    /// is a search space of its own; `nbits` is the last job's, so that nothing looks odd to a miner's firmware.
    pub fn keep_alive(sequence: u64, version: u32, nbits: u32, ntime: u32) -> Result<Job, Field> {
        // One input without a previous output; the script is a push of the extranonces, padded for any width they have.
        let mut coinb1 = vec![1, 0, 0, 0, 1];
        coinb1.extend([0; 32]);
        coinb1.extend([0xff; 4]);
        coinb1.extend([40, 8]);
        coinb1.extend(sequence.to_be_bytes());
        let mut coinb2 = vec![0xff; 4];
        coinb2.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x6a, 0, 0, 0, 0]);
        Ok(Job {
            id: format!("keepalive-{sequence:x}").into(),
            previous: sha256d(&[b"flareshift keep-alive", &sequence.to_be_bytes()]),
            coinb1,
            coinb2,
            branches: Vec::new(),
            version,
            nbits,
            network: Target::from_nbits(nbits).map_err(|_| Field::Nbits)?,
            ntime,
            clean: true,
        })
    }

    /// The Merkle root for one choice of extranonce2.
    pub fn merkle_root(&self, slice: &Slice, extranonce2: &[u8]) -> [u8; 32] {
        let coinbase = sha256d(&[&self.coinb1, &slice.extranonce1, extranonce2, &self.coinb2]);
        self.branches.iter().fold(coinbase, |root, branch| sha256d(&[&root, branch]))
    }

    pub fn header(&self, root: &[u8; 32], version: u32, ntime: u32, nonce: u32) -> Header {
        let mut bytes = [0; 80];
        bytes[..4].copy_from_slice(&version.to_le_bytes());
        bytes[4..36].copy_from_slice(&self.previous);
        bytes[36..68].copy_from_slice(root);
        bytes[68..72].copy_from_slice(&ntime.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.nbits.to_le_bytes());
        bytes[76..].copy_from_slice(&nonce.to_le_bytes());
        Header(bytes)
    }

    /// BIP 310: bits inside the mask are the miner's, all others the job's.
    pub fn rolled_version(&self, mask: u32, bits: u32) -> u32 {
        self.version & !mask | bits & mask
    }
}

fn parse_branches(value: &Value) -> Option<Vec<[u8; 32]>> {
    let branches = value.as_array().filter(|branches| branches.len() <= MAX_BRANCHES)?;
    branches.iter().map(|branch| hex::decode_exact(branch.as_str()?)).collect()
}

fn word(value: &Value) -> Option<u32> {
    value.as_str().and_then(hex::decode_u32)
}

fn reverse_words(mut bytes: [u8; 32]) -> [u8; 32] {
    bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|word| word.reverse());
    bytes
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A job with a coinbase of plausible size and two branches, on a chain where every hash is a block or none is.
    pub(crate) fn sample(id: &str, previous: u8, clean: bool) -> Job {
        Job::from_params(&sample_params(id, previous, clean)).unwrap()
    }

    pub(crate) fn sample_params(id: &str, previous: u8, clean: bool) -> Vec<Value> {
        let params = json!([
            id,
            hex::encode(&[previous; 32]),
            hex::encode(&[1; 58]),
            hex::encode(&[2; 90]),
            [hex::encode(&[3; 32]), hex::encode(&[4; 32])],
            "20000000",
            "1d00ffff",
            "6878b602",
            clean
        ]);
        params.as_array().unwrap().clone()
    }

    #[test]
    fn parameters_round_trip() {
        let params = sample_params("1f", 7, true);
        let job = Job::from_params(&params).unwrap();
        assert_eq!(job.to_params("1f", job.ntime, job.clean), Value::Array(params));
    }

    #[test]
    fn a_wrong_field_is_named() {
        let check = |index: usize, value: Value, expected: Field| {
            let mut params = sample_params("1f", 7, true);
            params[index] = value;
            assert_eq!(Job::from_params(&params), Err(expected), "field {index}");
        };
        check(0, json!("x".repeat(65)), Field::JobId);
        check(0, json!(1), Field::JobId);
        check(1, json!("00"), Field::PreviousHash);
        check(2, json!("0"), Field::Coinbase);
        check(3, json!("00".repeat(MAX_COINBASE_HALF + 1)), Field::Coinbase);
        check(4, json!(vec!["00".repeat(32); 33]), Field::Branches);
        check(4, json!(["00".repeat(31)]), Field::Branches);
        check(4, json!("none"), Field::Branches);
        check(5, json!("0x000001"), Field::Version);
        check(6, json!("1d80ffff"), Field::Nbits);
        check(7, json!("6878b6020"), Field::Ntime);
        check(8, json!(null), Field::Clean);
        assert_eq!(Job::from_params(&sample_params("1f", 7, true)[..8]), Err(Field::Params));
    }

    #[test]
    fn an_extranonce2_in_place_is_its_parts_joined_and_no_longer_than_any_may_be() {
        let check = |parts: &[&[u8]]| {
            let mut expected = parts.concat();
            expected.truncate(MAX_EXTRANONCE);
            let joined = Extranonce2::joined(parts);
            assert_eq!(*joined, *expected);
            assert_eq!(joined, Extranonce2::from(&*expected), "however it was joined");
        };
        check(&[]);
        check(&[&[], &[1]]);
        check(&[&[0, 1], &[2; 8]]);
        check(&[&[3; 31], &[4; 1]]);
        check(&[&[3; 31], &[4; 9], &[5; 2]]);
        assert_eq!(format!("{:?}", Extranonce2::from(&[0, 0xab][..])), "Extranonce2(00ab)");
    }

    #[test]
    fn only_masked_version_bits_are_the_miners() {
        let job = sample("1", 1, true);
        assert_eq!(job.rolled_version(0x1fff_e000, 0x083a_c000), 0x283a_c000);
        assert_eq!(job.rolled_version(0, u32::MAX), 0x2000_0000);
        assert_eq!(job.rolled_version(u32::MAX, 5), 5);
    }

    #[test]
    fn keep_alive_jobs_differ_in_previous_hash_and_survive_the_wire() {
        let job = |sequence| Job::keep_alive(sequence, 0x2000_0000, 0x1d00_ffff, 9).unwrap();
        assert_ne!(job(1).previous, job(2).previous);
        let params = job(1).to_params("keepalive-1", 9, true);
        assert_eq!(Job::from_params(params.as_array().unwrap()), Ok(job(1)));
    }
}
