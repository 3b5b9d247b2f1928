//! Folds a closed journal into a ledger segment: a pure function of the journal's records, so that a crash in the middle of
//! sealing is answered by sealing again.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::ledger::{Line, Segment, ShareEnd, Shares};
use model::{MinerGroupId, ModuleId, Time, Work};

use super::record::{Record, ShareDetail};
use crate::meterbook::Carried;

/// Folds `records` into the segment of `module`. Shares whose outcome is not known yet are left out: the next journal carries
/// their intents on (see [`pending`]).
pub fn fold(module: &ModuleId, records: &[Record]) -> Segment {
    let mut fold = Fold::default();
    records.iter().for_each(|record| fold.take(record));
    fold.finish(module)
}

/// Intents without an outcome, by number.
pub fn pending(records: &[Record]) -> BTreeMap<u64, ShareDetail> {
    let mut open = BTreeMap::new();
    for record in records {
        match record {
            Record::Intent { share, detail } => {
                open.insert(*share, detail.clone());
            }
            Record::Outcome { share, .. } => {
                open.remove(share);
            }
            _ => {}
        }
    }
    open
}

/// The state in which the meters' book was left last.
pub fn book(records: &[Record]) -> Option<Carried> {
    records.iter().rev().find_map(|record| match record {
        Record::Turn { book, .. } => Some((**book).clone()),
        _ => None,
    })
}

/// Shares that ended alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    group: MinerGroupId,
    worker: Arc<str>,
    end: ShareEnd,
    scale: u64,
}

#[derive(Default)]
struct Sums {
    count: u64,
    work: Work,
    credited: Work,
}

#[derive(Default)]
struct Fold {
    sequence: u64,
    from: Option<Time>,
    to: Option<Time>,
    lines: Vec<Line>,
    intents: BTreeMap<u64, ShareDetail>,
    shares: BTreeMap<Kind, Sums>,
}

impl Fold {
    fn take(&mut self, record: &Record) {
        match record {
            Record::Open { sequence, at, .. } => {
                self.sequence = *sequence;
                self.from.get_or_insert(*at);
            }
            Record::Line(line) => self.lines.push(line.clone()),
            Record::Turn { lines, book: _ } => self.lines.extend(lines.iter().cloned()),
            Record::Intent { share, detail } => {
                self.intents.insert(*share, detail.clone());
            }
            Record::Outcome { share, end } => {
                // An outcome whose intent is unknown was counted already: an outcome repeats nothing.
                if let Some(detail) = self.intents.remove(share) {
                    self.end(detail, end.clone());
                }
            }
            Record::Ended { detail, end } => self.end(detail.clone(), end.clone()),
            Record::Seal { at } => self.to = Some(*at),
        }
    }

    fn end(&mut self, detail: ShareDetail, end: ShareEnd) {
        let ShareDetail { group, worker, work, credited, scale, hash: _ } = detail;
        let sums = self.shares.entry(Kind { group, worker, end, scale }).or_default();
        sums.count += 1;
        sums.work += work;
        sums.credited += credited;
    }

    fn finish(self, module: &ModuleId) -> Segment {
        let shares = self.shares.into_iter().map(|(kind, sums)| {
            let Kind { group, worker, end, scale } = kind;
            let Sums { count, work, credited } = sums;
            let worker = worker.as_ref().to_owned();
            Line::Shares(Shares { group, worker, end, count, work, credited, scale })
        });
        let from = self.from.unwrap_or_default();
        Segment {
            module: module.clone(),
            sequence: self.sequence,
            from,
            to: self.to.unwrap_or(from),
            lines: self.lines.into_iter().chain(shares).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn detail(worker: &str) -> ShareDetail {
        ShareDetail {
            group: MinerGroupId::new("a").unwrap(),
            worker: worker.into(),
            work: Work(4_096),
            credited: Work(4_096),
            scale: 10,
            hash: None,
        }
    }

    fn check(records: &[Record], expected: &[(&str, ShareEnd, u64)]) {
        let segment = fold(&ModuleId::new("m").unwrap(), records);
        let found: Vec<(String, ShareEnd, u64)> = segment
            .lines
            .iter()
            .filter_map(|line| match line {
                Line::Shares(shares) => Some((shares.worker.clone(), shares.end.clone(), shares.count)),
                _ => None,
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|(w, e, c)| (w.to_string(), e.clone(), *c)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_share_stands_once_with_its_end() {
        let records = [
            Record::Open { sequence: 1, at: Time(1), boot_id: String::new() },
            Record::Intent { share: 1, detail: detail("x") },
            Record::Intent { share: 2, detail: detail("x") },
            Record::Intent { share: 3, detail: detail("y") },
            Record::Outcome { share: 2, end: ShareEnd::Accepted },
            Record::Outcome { share: 1, end: ShareEnd::Accepted },
            Record::Ended { detail: detail("y"), end: ShareEnd::Counted },
        ];
        check(&records, &[("x", ShareEnd::Accepted, 2), ("y", ShareEnd::Counted, 1)]);
        assert_eq!(pending(&records).into_keys().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_repeated_outcome_counts_once() {
        let records = [
            Record::Intent { share: 1, detail: detail("x") },
            Record::Outcome { share: 1, end: ShareEnd::Accepted },
            Record::Outcome { share: 1, end: ShareEnd::Unknown },
        ];
        check(&records, &[("x", ShareEnd::Accepted, 1)]);
    }

    #[test]
    fn folding_again_gives_the_same_segment() {
        let records = [
            Record::Open { sequence: 4, at: Time(1), boot_id: String::new() },
            Record::Ended { detail: detail("b"), end: ShareEnd::Counted },
            Record::Ended { detail: detail("a"), end: ShareEnd::Counted },
            Record::Seal { at: Time(7) },
        ];
        let module = ModuleId::new("m").unwrap();
        let segment = fold(&module, &records);
        assert_eq!(segment, fold(&module, &records));
        assert_eq!((segment.sequence, segment.from, segment.to), (4, Time(1), Time(7)));
    }
}
