//! The outbox on a real disk: order, crashes at every step, repeats.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use model::ledger::{Gap, Line, ShareEnd};
use model::{MinerGroupId, ModuleId, Time, Work};

use super::record::ShareDetail;
use super::*;

/// A directory of its own that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("flareshift-outbox-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
    fn open(&self) -> Outbox {
        self.open_on("boot-1", Time(1_000))
    }
    fn open_on(&self, boot: &str, now: Time) -> Outbox {
        Outbox::open(&self.0, &ModuleId::new("m").unwrap(), boot, now).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn detail() -> ShareDetail {
    ShareDetail {
        group: MinerGroupId::new("a").unwrap(),
        worker: "acc.m-a-1".into(),
        work: Work(4_096),
        credited: Work(4_096),
        scale: 3,
        hash: String::new(),
    }
}

/// (end, count) of all shares in all waiting segments.
fn ends(outbox: &Outbox) -> Vec<(ShareEnd, u64)> {
    let mut ends = std::collections::BTreeMap::new();
    for sequence in outbox.waiting() {
        for line in outbox.read(sequence).unwrap().lines {
            if let Line::Shares(shares) = line {
                *ends.entry(shares.end).or_default() += shares.count;
            }
        }
    }
    ends.into_iter().collect()
}

#[test]
fn a_share_in_flight_over_a_seal_is_counted_once_in_the_next_segment() {
    let dir = Dir::new();
    let outbox = dir.open();
    let share = outbox.intent(detail()).unwrap();
    assert_eq!(outbox.seal(Time(2_000)).unwrap(), Some(1));
    outbox.outcome(share, ShareEnd::Accepted).unwrap();
    assert_eq!(outbox.seal(Time(3_000)).unwrap(), Some(2));
    assert_eq!(ends(&outbox), [(ShareEnd::Accepted, 1)]);
    assert!(outbox.read(1).unwrap().lines.is_empty());
}

#[test]
fn an_empty_journal_is_not_sealed() {
    let dir = Dir::new();
    let outbox = dir.open();
    assert_eq!(outbox.seal(Time(2_000)).unwrap(), None);
}

#[test]
fn a_crash_leaves_what_was_in_flight_unknown_and_loses_nothing() {
    let dir = Dir::new();
    let outbox = dir.open();
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    outbox.intent(detail()).unwrap();
    drop(outbox);
    let outbox = dir.open();
    assert_eq!(ends(&outbox), [(ShareEnd::Counted, 1), (ShareEnd::Unknown, 1)]);
    drop(outbox);
    assert_eq!(ends(&dir.open()), [(ShareEnd::Counted, 1), (ShareEnd::Unknown, 1)], "again changes nothing");
}

/// The directory is copied as it stands between any two steps of a seal; each copy recovers to the same ledger.
#[test]
fn a_crash_between_any_two_steps_of_a_seal_counts_each_share_once() {
    let dir = Dir::new();
    let outbox = dir.open();
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    let share = outbox.intent(detail()).unwrap();
    let module = ModuleId::new("m").unwrap();
    let before = fs::read(journal::open_path(&dir.0, 1)).unwrap();
    let closed = outbox.journal().rotate(&dir.0, "boot-1", Time(2_000)).unwrap();
    let sealed_journal = fs::read(&closed.path).unwrap();
    let next = fs::read(journal::open_path(&dir.0, 2)).unwrap();
    recover::seal_closed(&dir.0, &module, &closed).unwrap();
    let segment = fs::read(recover::sealed_path(&dir.0, 1)).unwrap();
    outbox.outcome(share, ShareEnd::Accepted).unwrap();
    let after = fs::read(journal::open_path(&dir.0, 2)).unwrap();

    let (open1, open2, sealed1) =
        ("open-000000000001.log", "open-000000000002.log", "sealed-000000000001.seg");
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let states: [(Files<'_>, ShareEnd); 5] = [
        (&[(open1, &before)], ShareEnd::Unknown),
        (&[(open1, &before), (open2, &next)], ShareEnd::Unknown),
        (&[(open1, &sealed_journal), (open2, &next)], ShareEnd::Unknown),
        (&[(open1, &sealed_journal), (open2, &after), (sealed1, &segment)], ShareEnd::Accepted),
        (&[(open2, &after), (sealed1, &segment)], ShareEnd::Accepted),
    ];
    for (files, end) in states {
        let copy = Dir::new();
        fs::create_dir_all(&copy.0).unwrap();
        files.iter().for_each(|(name, bytes)| fs::write(copy.0.join(name), bytes).unwrap());
        let mut expected = vec![(ShareEnd::Counted, 1), (end, 1)];
        expected.sort();
        assert_eq!(ends(&copy.open()), expected, "{:?}", files.iter().map(|f| f.0).collect::<Vec<_>>());
    }
}

#[test]
fn a_torn_tail_is_cut_and_the_rest_kept() {
    let dir = Dir::new();
    let outbox = dir.open();
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    drop(outbox);
    let path = journal::open_path(&dir.0, 1);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(ends(&dir.open()), [(ShareEnd::Counted, 1)]);
}

#[test]
fn a_power_loss_is_marked_as_a_gap() {
    let dir = Dir::new();
    dir.open().ended(detail(), ShareEnd::Counted).unwrap();
    let outbox = dir.open_on("boot-2", Time(9_000));
    let lines = outbox.read(1).unwrap().lines;
    let gap = Gap { from: Some(Time(1_000)), to: Time(9_000), why: "the machine was booted anew".into() };
    assert!(lines.contains(&Line::Gap(gap)), "{lines:?}");
}

#[test]
fn acknowledged_segments_go_and_numbers_go_on() {
    let dir = Dir::new();
    let outbox = dir.open();
    for at in 1..=3 {
        outbox.ended(detail(), ShareEnd::Counted).unwrap();
        assert_eq!(outbox.seal(Time(at * 1_000)).unwrap(), Some(at as u64));
    }
    outbox.acknowledge(2).unwrap();
    assert_eq!(outbox.waiting(), [3]);
    drop(outbox);
    let outbox = dir.open();
    outbox.acknowledge(99).unwrap();
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    assert!(outbox.seal(Time(9_000)).unwrap().unwrap() > 3);
}

#[test]
fn a_wiped_outbox_goes_on_behind_the_controllers_watermark() {
    let dir = Dir::new();
    let outbox = dir.open();
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    let share = outbox.intent(detail()).unwrap();
    outbox.resume_after(41, Time(2_000)).unwrap();
    outbox.outcome(share, ShareEnd::Accepted).unwrap();
    assert_eq!(outbox.seal(Time(3_000)).unwrap(), Some(42));
    assert_eq!(ends(&outbox), [(ShareEnd::Counted, 1), (ShareEnd::Accepted, 1)]);
    outbox.resume_after(7, Time(3_000)).unwrap();
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    assert_eq!(outbox.seal(Time(4_000)).unwrap(), Some(43), "a lower watermark changes nothing");
}

#[test]
fn segments_sealed_since_a_wipe_get_numbers_that_the_controller_does_not_know() {
    let dir = Dir::new();
    let outbox = dir.open();
    for at in 1..=2 {
        outbox.ended(detail(), ShareEnd::Counted).unwrap();
        outbox.seal(Time(at * 1_000)).unwrap();
    }
    outbox.ended(detail(), ShareEnd::Accepted).unwrap();
    outbox.resume_after(41, Time(3_000)).unwrap();
    outbox.acknowledge(41).unwrap();
    assert_eq!(outbox.waiting(), [42, 43]);
    assert_eq!(outbox.seal(Time(4_000)).unwrap(), Some(44));
    assert_eq!(ends(&outbox), [(ShareEnd::Counted, 2), (ShareEnd::Accepted, 1)]);
    assert_eq!(outbox.read(42).unwrap().sequence, 42);
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = Dir::new();
    let _outbox = dir.open();
    let error = Outbox::open(&dir.0, &ModuleId::new("m").unwrap(), "boot-1", Time(0)).err().unwrap();
    assert!(matches!(error, Error::Held(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn a_damaged_segment_is_told_and_not_guessed() {
    let dir = Dir::new();
    let outbox = dir.open();
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    outbox.seal(Time(2_000)).unwrap();
    let path = recover::sealed_path(&dir.0, 1);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(outbox.read(1), Err(Error::Damaged { .. })));
}

#[test]
fn the_sabotaged_outbox_leaves_a_number_out_and_an_honest_one_does_not() {
    for (loses, expected) in [(false, vec![1, 2, 3, 4]), (true, vec![1, 3])] {
        let dir = Dir::new();
        let outbox = dir.open().losing(loses);
        for second in 2..6 {
            outbox.ended(detail(), ShareEnd::Counted).unwrap();
            outbox.seal(Time(1_000 * second)).unwrap();
        }
        assert_eq!(outbox.waiting(), expected, "{loses}");
    }
}
