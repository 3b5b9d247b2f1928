//! A pool's job as one session of ours received it: all that a share's header is made of and held against.
//!
//! Assumes that the pool's own id of the job means nothing to anybody else, so that it is not part of it. The digest is told to
//! the controller when the job arrives; the bytes are shown when a share of the job is drawn. Next: `leaf.rs`.

use super::Malformed;
use super::bytes::{Reader, put_long, put_short};
use super::digest::{Digest, Domain};
use crate::job::{Job, MAX_BRANCHES, MAX_COINBASE_HALF, MAX_EXTRANONCE, Slice};
use crate::target::Target;
use crate::uint256::U256;

/// Private fields: within the limits of `job.rs`, with an empty id, so that the digest is of everything there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    job: Job,
    slice: Slice,
    mask: u32,
    target: Target,
}

impl Template {
    /// `slice` is the session's, `mask` the version bits that were free, `target` what the pool asked for. `None` for a slice
    /// beyond the limits, which no session of ours accepts.
    pub fn new(job: &Job, slice: &Slice, mask: u32, target: Target) -> Option<Template> {
        if slice.extranonce1.len() > MAX_EXTRANONCE || slice.extranonce2_size > MAX_EXTRANONCE {
            return None;
        }
        let job = Job { id: "".into(), clean: false, ..job.clone() };
        Some(Template { job, slice: slice.clone(), mask, target })
    }

    pub fn digest(&self) -> Digest {
        Digest::of(Domain::Job, &[&self.encode()])
    }

    /// The hash of the block that is built upon, in header order.
    pub fn previous(&self) -> Digest {
        Digest(self.job.previous)
    }

    pub fn target(&self) -> Target {
        self.target
    }

    pub(super) fn job(&self) -> &Job {
        &self.job
    }

    pub(super) fn slice(&self) -> &Slice {
        &self.slice
    }

    /// Whether only bits that were free differ from the job's.
    pub(super) fn allows_version(&self, version: u32) -> bool {
        (version ^ self.job.version) & !self.mask == 0
    }

    pub fn encode(&self) -> Vec<u8> {
        let Template { job, slice, mask, target } = self;
        let mut out = Vec::with_capacity(160 + job.coinb1.len() + job.coinb2.len() + 32 * job.branches.len());
        out.extend_from_slice(&job.previous);
        for word in [job.version, job.nbits, job.ntime, *mask] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&target.value().to_be_bytes());
        put_short(&mut out, &slice.extranonce1);
        out.push(slice.extranonce2_size as u8);
        put_long(&mut out, &job.coinb1);
        put_long(&mut out, &job.coinb2);
        out.push(job.branches.len() as u8);
        job.branches.iter().for_each(|branch| out.extend_from_slice(branch));
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Template, Malformed> {
        parse(bytes).ok_or(Malformed("job"))
    }
}

fn parse(bytes: &[u8]) -> Option<Template> {
    let mut reader = Reader(bytes);
    let previous = reader.array()?;
    let [version, nbits, ntime, mask] = [reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?];
    let target = Target::new(U256::from_be_bytes(reader.array()?)).ok()?;
    let extranonce1 = reader.short(MAX_EXTRANONCE)?.to_vec();
    let extranonce2_size = usize::from(reader.u8()?);
    let coinb1 = reader.long(MAX_COINBASE_HALF)?.to_vec();
    let coinb2 = reader.long(MAX_COINBASE_HALF)?.to_vec();
    let count = usize::from(reader.u8()?);
    if count > MAX_BRANCHES || extranonce2_size > MAX_EXTRANONCE {
        return None;
    }
    let branches = (0..count).map(|_| reader.array()).collect::<Option<Vec<_>>>()?;
    let network = Target::from_nbits(nbits).ok()?;
    let (id, clean) = ("".into(), false);
    let job = Job { id, previous, coinb1, coinb2, branches, version, nbits, network, ntime, clean };
    reader.end(Template { job, slice: Slice { extranonce1, extranonce2_size }, mask, target })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::testing::template;
    use super::*;

    #[test]
    fn a_template_comes_back_and_no_other_bytes_do() {
        let one = template(7, 3);
        let bytes = one.encode();
        assert_eq!(Template::decode(&bytes), Ok(one.clone()));
        assert_eq!(Template::decode(&bytes[..bytes.len() - 1]), Err(Malformed("job")));
        assert_eq!(Template::decode(&[bytes.as_slice(), &[0]].concat()), Err(Malformed("job")));
    }

    #[test]
    fn every_field_is_bound_by_the_digest_but_the_pools_id() {
        let one = template(7, 3);
        let check = |change: &dyn Fn(&mut Template), same: bool| {
            let mut other = one.clone();
            change(&mut other);
            let rebuilt = Template::new(&other.job, &other.slice, other.mask, other.target).unwrap();
            assert_eq!(rebuilt.digest() == one.digest(), same);
        };
        check(&|t| t.job.id = "x".into(), true);
        check(&|t| t.job.previous[0] ^= 1, false);
        check(&|t| t.job.version ^= 1, false);
        check(&|t| t.job.ntime ^= 1, false);
        check(&|t| t.job.coinb1.push(0), false);
        check(&|t| t.job.coinb2[0] ^= 1, false);
        check(&|t| t.job.branches[0][0] ^= 1, false);
        check(&|t| t.slice.extranonce1[0] ^= 1, false);
        check(&|t| t.slice.extranonce2_size += 1, false);
        check(&|t| t.mask ^= 1, false);
        check(&|t| t.target = Target::new(U256::MAX).unwrap(), false);
    }

    #[test]
    fn a_slice_beyond_the_limits_has_no_template() {
        let one = template(7, 3);
        let wide = Slice { extranonce1: vec![0; MAX_EXTRANONCE + 1], extranonce2_size: 4 };
        assert_eq!(Template::new(&one.job, &wide, 0, one.target), None);
    }
}
