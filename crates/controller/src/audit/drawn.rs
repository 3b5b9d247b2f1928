//! Which module showed which share: one that two of them show is a share of one of them at most.
//!
//! Nothing in a share says which module's session found it: job and extranonce are the agent's word, and can be cut anew so that no
//! two jobs look alike. Its header's hash stays the same. Two modules that show s of the same n shares of a block each have s² ÷ n
//! of them in common: of 4,096 shares and 128 draws, four. In memory only. Assumes positions drawn afresh for each claim. Read
//! next: `../audit.rs`; docs/commitments.md says what this does not see.

use std::collections::{BTreeMap, VecDeque};

use model::ModuleId;
use model::report::Finding;
use stratum::hash::HeaderHash;

/// Hashes remembered, some 15 MB: a block of 64 + 20 × 4 draws of 900 modules, or nine of a hundred.
const MAX_HASHES: usize = 1 << 17;

/// Private fields: `order` has exactly the hashes of `shown`, latest last; at most [`MAX_HASHES`].
#[derive(Clone, Debug, Default)]
pub(super) struct Drawn {
    shown: BTreeMap<HeaderHash, ModuleId>,
    order: VecDeque<HeaderHash>,
    /// Shares that were another's too, and whose the last one was.
    common: BTreeMap<ModuleId, (u64, ModuleId)>,
}

impl Drawn {
    /// A module has shown a good share.
    pub(super) fn on_share(&mut self, module: &ModuleId, hash: HeaderHash) {
        match self.shown.get(&hash) {
            Some(first) if first == module => {}
            Some(first) => {
                let first = first.clone();
                self.note(module, &first);
                self.note(&first, module);
            }
            None => {
                self.shown.insert(hash, module.clone());
                self.order.push_back(hash);
                if self.order.len() > MAX_HASHES
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.shown.remove(&oldest);
                }
            }
        }
    }

    fn note(&mut self, module: &ModuleId, other: &ModuleId) {
        let (count, with) = self.common.entry(module.clone()).or_insert_with(|| (0, other.clone()));
        *count += 1;
        with.clone_from(other);
    }

    pub(super) fn finding(&self, module: &ModuleId) -> Option<Finding> {
        let (count, other) = self.common.get(module)?;
        Some(Finding {
            code: "share-of-another".into(),
            subject: "share commitments".into(),
            message: format!(
                "{count} of the shares it showed were shown by another module too, {other} the last: one of them claims what the other \
                 found; ask the pool which session they came from"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hash(number: u32) -> HeaderHash {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        HeaderHash(bytes)
    }

    #[test]
    fn a_share_of_two_modules_is_found_at_both() {
        let [m1, m2, m3] = ["m1", "m2", "m3"].map(|id| ModuleId::new(id).unwrap());
        let mut drawn = Drawn::default();
        for number in 0..10 {
            drawn.on_share(&m1, hash(number));
            drawn.on_share(&m1, hash(number)); // drawn in its batch and in the closing
            drawn.on_share(&m3, hash(100 + number));
        }
        assert!([&m1, &m2, &m3].iter().all(|module| drawn.finding(module).is_none()));
        drawn.on_share(&m2, hash(4));
        drawn.on_share(&m2, hash(5));
        let said = |module| drawn.finding(module).map(|finding| finding.message);
        assert!(
            said(&m1).unwrap().starts_with("2 of the shares it showed were shown by another module too, m2")
        );
        assert!(said(&m2).unwrap().contains("m1 the last"));
        assert_eq!(said(&m3), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let m1 = ModuleId::new("m1").unwrap();
        let mut drawn = Drawn::default();
        (0..MAX_HASHES as u32 + 10).for_each(|number| drawn.on_share(&m1, hash(number)));
        assert_eq!((drawn.shown.len(), drawn.order.len()), (MAX_HASHES, MAX_HASHES));
        assert!(!drawn.shown.contains_key(&hash(9)) && drawn.shown.contains_key(&hash(10)));
    }
}
