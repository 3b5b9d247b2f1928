//! The outbox on a real disk: order, crashes at every step, repeats.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use model::ledger::{Gap, Line, ShareEnd};
use model::{MinerGroupId, ModuleId, Time, Work};

use super::record::ShareDetail;
use super::*;

/// A directory of its own that goes away with the test.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("flareshift-outbox-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
    /// It is there, for what is no outbox.
    pub(crate) fn path(&self) -> &Path {
        fs::create_dir_all(&self.0).unwrap();
        &self.0
    }
    pub(crate) fn open(&self) -> Outbox {
        self.open_on("boot-1", Time(1_000))
    }
    fn open_on(&self, boot: &str, now: Time) -> Outbox {
        Outbox::open(&self.0, &ModuleId::new("m").unwrap(), boot, now, None).unwrap()
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
        hash: None,
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
    let ready = journal::Journal::create(&dir.0, 2, "boot-1", Time(2_000)).unwrap();
    let head = fs::read(journal::open_path(&dir.0, 2)).unwrap();
    let closed = outbox.journal().rotate(ready, Time(2_000)).unwrap();
    let sealed_journal = fs::read(&closed.path).unwrap();
    let next = fs::read(journal::open_path(&dir.0, 2)).unwrap();
    recover::seal_closed(&dir.0, &module, &closed).unwrap();
    let segment = fs::read(recover::sealed_path(&dir.0, 1)).unwrap();
    outbox.outcome(share, ShareEnd::Accepted).unwrap();
    let after = fs::read(journal::open_path(&dir.0, 2)).unwrap();

    let (open1, open2, sealed1) =
        ("open-000000000001.log", "open-000000000002.log", "sealed-000000000001.seg");
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let states: [(Files<'_>, ShareEnd); 6] = [
        (&[(open1, &before)], ShareEnd::Unknown),
        (&[(open1, &before), (open2, &head)], ShareEnd::Unknown),
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

/// All shares of a read are one write: whatever part of it a kill leaves, its whole frames count and nothing else.
#[test]
fn a_torn_write_of_many_frames_recovers_to_its_whole_frames() {
    let dir = Dir::new();
    let outbox = dir.open();
    let path = journal::open_path(&dir.0, 1);
    let before = fs::read(&path).unwrap().len();
    let entries = || (0..3).map(|_| Entry::Ended { detail: detail(), end: &ShareEnd::Counted });
    outbox.record(entries()).unwrap();
    let numbers = outbox.record([Entry::Intent(detail()), Entry::Intent(detail())]).unwrap();
    assert_eq!(numbers, 1..3);
    outbox.record(numbers.map(|share| Entry::Outcome { share, end: &ShareEnd::Accepted })).unwrap();
    drop(outbox);
    let bytes = fs::read(&path).unwrap();
    for cut in before..=bytes.len() {
        let copy = Dir::new();
        fs::create_dir_all(&copy.0).unwrap();
        fs::write(journal::open_path(&copy.0, 1), &bytes[..cut]).unwrap();
        let (records, _) = record::decode(&bytes[before..cut]);
        let count = |which: fn(&record::Record) -> bool| records.iter().filter(|r| which(r)).count() as u64;
        let counted = count(|record| matches!(record, record::Record::Ended { .. }));
        let accepted = count(|record| matches!(record, record::Record::Outcome { .. }));
        let unknown = count(|record| matches!(record, record::Record::Intent { .. })) - accepted;
        let all =
            [(ShareEnd::Counted, counted), (ShareEnd::Accepted, accepted), (ShareEnd::Unknown, unknown)];
        let mut expected: Vec<_> = all.into_iter().filter(|(_, count)| *count > 0).collect();
        expected.sort();
        let outbox = copy.open();
        assert_eq!(ends(&outbox), expected, "cut to {cut}");
        assert!(outbox.waiting().iter().all(|sequence| gap_lines(&outbox, *sequence).is_empty()), "{cut}");
    }
    assert_eq!(record::decode(&bytes).0.len(), 1 + 3 + 2 + 2);
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
    let error = Outbox::open(&dir.0, &ModuleId::new("m").unwrap(), "boot-1", Time(0), None).err().unwrap();
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

/// An outbox that writes down which segments it told.
fn told(dir: &Dir, boot: &str) -> (Outbox, Arc<Mutex<Vec<u64>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    let onlooker: OnSegment = Arc::new(move |segment| into.lock().unwrap().push(segment.sequence));
    let outbox = Outbox::open(&dir.0, &ModuleId::new("m").unwrap(), boot, Time(1_000), Some(onlooker));
    (outbox.unwrap(), told)
}

/// A directory stands where a file of segment `sequence` would be written: the disk refuses it.
fn block(dir: &Dir, sequence: u64) -> PathBuf {
    let path = recover::sealed_path(&dir.0, sequence).with_extension("tmp");
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn a_seal_that_fails_half_way_is_finished_by_the_next_and_each_segment_is_told_once() {
    let dir = Dir::new();
    let (outbox, told) = told(&dir, "boot-1");
    let blocked = block(&dir, 1);
    let share = outbox.intent(detail()).unwrap();
    for at in 2..=4 {
        outbox.ended(detail(), ShareEnd::Counted).unwrap();
        assert!(matches!(outbox.seal(Time(at * 1_000)), Err(Error::Disk(_))));
    }
    outbox.outcome(share, ShareEnd::Accepted).unwrap();
    assert_eq!((outbox.waiting(), told.lock().unwrap().len()), (vec![], 0));
    fs::remove_dir(blocked).unwrap();
    assert_eq!(outbox.seal(Time(9_000)).unwrap(), Some(4), "and the open journal behind them");
    assert_eq!(outbox.seal(Time(9_000)).unwrap(), None);
    assert_eq!((outbox.waiting(), told.lock().unwrap().clone()), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
    assert_eq!(ends(&outbox), [(ShareEnd::Counted, 3), (ShareEnd::Accepted, 1)]);
    assert_eq!(outbox.read(1).unwrap().to, Time(2_000), "it ends where it was closed");
}

#[test]
fn a_seal_that_fails_behind_some_keeps_those() {
    let dir = Dir::new();
    let (outbox, told) = told(&dir, "boot-1");
    let (first, third) = (block(&dir, 1), block(&dir, 3));
    for at in 2..=4 {
        outbox.ended(detail(), ShareEnd::Counted).unwrap();
        assert!(outbox.seal(Time(at * 1_000)).is_err());
    }
    fs::remove_dir(first).unwrap();
    assert!(outbox.seal(Time(5_000)).is_err());
    assert_eq!((outbox.waiting(), told.lock().unwrap().clone()), (vec![1, 2], vec![1, 2]));
    fs::remove_dir(third).unwrap();
    assert_eq!(outbox.seal(Time(6_000)).unwrap(), Some(3));
    assert_eq!(told.lock().unwrap().clone(), [1, 2, 3]);
}

#[test]
fn journals_are_closed_up_to_a_limit_while_the_disk_fails() {
    let dir = Dir::new();
    let (outbox, told) = told(&dir, "boot-1");
    let blocked = block(&dir, 1);
    let records = MAX_CLOSED as u64 + 5;
    for at in 0..records {
        outbox.ended(detail(), ShareEnd::Counted).unwrap();
        assert!(outbox.seal(Time(2_000 + at as i64)).is_err());
    }
    let journals = fs::read_dir(&dir.0).unwrap().filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("open-"))
    });
    assert_eq!(journals.count(), MAX_CLOSED + 1);
    fs::remove_dir(blocked).unwrap();
    outbox.seal(Time(9_000)).unwrap();
    assert_eq!(told.lock().unwrap().clone(), (1..=MAX_CLOSED as u64 + 1).collect::<Vec<_>>());
    assert_eq!(ends(&outbox), [(ShareEnd::Counted, records)]);
}

#[test]
fn what_a_failed_seal_left_is_finished_by_the_next_start_and_told_there() {
    let dir = Dir::new();
    let (outbox, first) = told(&dir, "boot-1");
    let blocked = block(&dir, 1);
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    assert!(outbox.seal(Time(2_000)).is_err());
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    drop(outbox);
    fs::remove_dir(blocked).unwrap();
    let (outbox, second) = told(&dir, "boot-1");
    assert_eq!(ends(&outbox), [(ShareEnd::Counted, 2)]);
    assert_eq!((first.lock().unwrap().len(), second.lock().unwrap().clone()), (0, vec![1, 2]));
    drop(outbox);
    let (_outbox, third) = told(&dir, "boot-2");
    assert!(
        third.lock().unwrap().is_empty(),
        "what another boot recorded is no news to an onlooker of this one"
    );
}

#[test]
fn a_journal_that_could_not_be_removed_does_not_stop_the_next_seal() {
    let dir = Dir::new();
    let outbox = dir.open();
    outbox.ended(detail(), ShareEnd::Counted).unwrap();
    fs::write(journal::open_path(&dir.0, 2), b"half a journal").unwrap();
    assert_eq!(outbox.seal(Time(2_000)).unwrap(), Some(1));
    assert_eq!(ends(&outbox), [(ShareEnd::Counted, 1)]);
}

fn gap_lines(outbox: &Outbox, sequence: u64) -> Vec<(Option<Time>, Time, String)> {
    let gap = |line| match line {
        Line::Gap(Gap { from, to, why }) => Some((from, to, why)),
        _ => None,
    };
    outbox.read(sequence).unwrap().lines.into_iter().filter_map(gap).collect()
}

/// Flips a byte some records before the journal's end: a record is about 80 bytes.
fn damage(dir: &Dir, sequence: u64) {
    let path = journal::open_path(&dir.0, sequence);
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[length - 130] ^= 1;
    fs::write(&path, bytes).unwrap();
}

const TORN: &str = "the journal was damaged on the disk; its records from the damage on are lost";

#[test]
fn a_journal_with_a_torn_middle_says_so_whoever_seals_it() {
    let fill = |outbox: &Outbox| (0..5).for_each(|_| outbox.ended(detail(), ShareEnd::Counted).unwrap());
    let gap = |to| vec![(Some(Time(1_000)), Time(to), TORN.to_owned())];
    // The running agent seals it.
    let dir = Dir::new();
    let outbox = dir.open();
    fill(&outbox);
    damage(&dir, 1);
    assert_eq!(outbox.seal(Time(2_000)).unwrap(), Some(1));
    assert_eq!(gap_lines(&outbox, 1), gap(2_000));
    assert!(matches!(ends(&outbox)[..], [(ShareEnd::Counted, 2..=4)]), "{:?}", ends(&outbox));
    // The next start finds it, as the last one.
    let dir = Dir::new();
    fill(&dir.open());
    damage(&dir, 1);
    assert_eq!(gap_lines(&dir.open_on("boot-1", Time(3_000)), 1), gap(3_000));
    // And as one that was closed and not sealed.
    let dir = Dir::new();
    let outbox = dir.open();
    fill(&outbox);
    let blocked = block(&dir, 1);
    assert!(outbox.seal(Time(2_000)).is_err());
    drop(outbox);
    damage(&dir, 1);
    fs::remove_dir(blocked).unwrap();
    assert_eq!(gap_lines(&dir.open_on("boot-1", Time(4_000)), 1), gap(4_000));
}

#[test]
fn a_torn_tail_is_no_gap_after_a_kill() {
    let dir = Dir::new();
    dir.open().ended(detail(), ShareEnd::Counted).unwrap();
    let path = journal::open_path(&dir.0, 1);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert_eq!(gap_lines(&dir.open(), 1), []);
}

/// A journal was closed and not sealed when the power went: what of it the disk had is known, the rest is a gap.
#[test]
fn a_closed_journal_that_lost_its_end_with_the_power_is_marked() {
    let check = |cut: usize, expected: usize| {
        let dir = Dir::new();
        let outbox = dir.open();
        outbox.ended(detail(), ShareEnd::Counted).unwrap();
        let blocked = block(&dir, 1);
        assert!(outbox.seal(Time(2_000)).is_err());
        drop(outbox);
        fs::remove_dir(blocked).unwrap();
        let path = journal::open_path(&dir.0, 1);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        let outbox = dir.open_on("boot-2", Time(9_000));
        let why = "the machine was booted anew".to_owned();
        let gap = (Some(Time(1_000)), Time(9_000), why);
        assert_eq!(gap_lines(&outbox, 1), vec![gap; expected], "cut by {cut}");
    };
    check(0, 0);
    check(1, 1);
    check(60, 1);
}

#[test]
fn the_books_state_goes_from_journal_to_journal_and_from_process_to_process() {
    let dir = Dir::new();
    let outbox = dir.open();
    assert_eq!(outbox.book(), None);
    let gap = Line::Gap(Gap { from: None, to: Time(5), why: "test".into() });
    let mut book = crate::meterbook::Book::new(crate::meterbook::tests::module(), "boot-1");
    let mut state = |second: i64| {
        book.observe(Time(second * 1_000), &control::port::Slow::default());
        book.carried().unwrap()
    };
    outbox.turn(Vec::new(), state(1)).unwrap();
    assert_eq!(outbox.seal(Time(2_000)).unwrap(), None, "a state alone is no news");
    outbox.turn(vec![gap.clone()], state(2)).unwrap();
    assert_eq!(outbox.seal(Time(3_000)).unwrap(), Some(1));
    assert_eq!(outbox.read(1).unwrap().lines, [gap]);
    drop(outbox);
    let outbox = dir.open();
    assert_eq!(outbox.book(), Some(&state(2)), "it stands in the journal that followed");
    outbox.turn(Vec::new(), state(3)).unwrap();
    outbox.resume_after(41, Time(4_000)).unwrap();
    drop(outbox);
    assert_eq!(dir.open().book(), Some(&state(3)));
    assert_eq!(dir.open().book(), Some(&state(3)), "again changes nothing");
}
