//! Audits on a disk that is killed, torn and full.

#![allow(clippy::unwrap_used)]

use model::{Time, Work};
use stratum::commit::{Claim, Digest, Kind, Node, Note};
use stratum::hash::HeaderHash;

use super::*;
use crate::testing::{TestDir, module_id};

const SEED: Digest = Digest([9; 32]);

fn step(sequence: u64) -> Step {
    let root = Node { digest: Digest([2; 32]), count: 5, sum: Work(5 << 32), max: HeaderHash([3; 32]) };
    // A hundred batches a block.
    let mut previous = [1; 32];
    previous[..8].copy_from_slice(&(sequence / 100).to_be_bytes());
    let claim = Claim { sequence, kind: Kind::Batch, previous: Digest(previous), root };
    let at = Time(1_700_000_000_000 + 30_000 * i64::try_from(sequence).unwrap());
    Step::Note { note: Note::Claim(claim), at, seed: SEED, sparing: false }
}

fn add(kept: &mut Kept, sequence: u64) {
    kept.add(&step(sequence)).unwrap();
    step(sequence).apply(&mut kept.auditor);
}

fn taken(kept: Option<Kept>) -> u64 {
    kept.unwrap().auditor.taken()
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_was_added_is_there_after_a_restart_and_the_files_stay_small() {
    let dir = TestDir::new("audit-file");
    let path = path(dir.path(), &module_id("m"));
    let mut kept = Kept::new(dir.path(), &module_id("m"));
    let mut most = 0;
    for sequence in 1..=2_000 {
        add(&mut kept, sequence);
        let bytes = |file: PathBuf| fs::metadata(file).unwrap().len();
        most = most.max(bytes(path.clone()) + bytes(kept.log()));
    }
    let again = Kept::read(&path).unwrap().unwrap();
    assert_eq!(again.auditor.taken(), 2_000);
    assert_eq!(format!("{:?}", again.auditor), format!("{:?}", kept.auditor), "to the last bit");
    assert_eq!((again.number, again.length), (kept.number, kept.length));
    assert!((2..8).contains(&kept.number), "it was written whole {} times", kept.number);
    let whole = serde_json::to_vec(&kept.auditor).unwrap().len() as u64;
    assert!(most < 2 * whole + 2 * LEAST_LOG, "{most} of {whole}");
    assert_eq!(files(path.parent().unwrap()), [format!("shares-{}.log", kept.number), NAME.to_owned()]);
}

#[test]
fn a_torn_end_is_cut_and_what_is_torn_elsewhere_is_told() {
    let dir = TestDir::new("audit-torn");
    let path = path(dir.path(), &module_id("m"));
    let mut kept = Kept::new(dir.path(), &module_id("m"));
    (1..=5).for_each(|sequence| add(&mut kept, sequence));
    let (log, whole) = (kept.log(), fs::read(kept.log()).unwrap());
    let check = |bytes: &[u8], expected: Option<u64>| {
        fs::write(&log, bytes).unwrap();
        match (Kept::read(&path), expected) {
            (Ok(kept), Some(expected)) => {
                let mut kept = kept.unwrap();
                assert_eq!(kept.auditor.taken(), expected);
                // It goes on behind what is whole.
                add(&mut kept, 6);
                assert_eq!(taken(Kept::read(&path).unwrap()), 6);
            }
            (Err(Error::Damaged { .. }), None) => {}
            (kept, _) => panic!("{kept:?}"),
        }
    };
    check(&whole, Some(5));
    check(&whole[..whole.len() - 1], Some(4));
    check(&whole[..whole.len() - 40], Some(4));
    check(&[&whole, &[0; 64][..]].concat(), Some(5));
    check(&[&whole, &b"{}\n"[..]].concat(), Some(5));
    check(b"", Some(0));
    check(&[&b"x\n"[..], &whole].concat(), None);
}

#[test]
fn a_step_that_could_not_be_written_does_not_count_and_the_next_one_does() {
    let dir = TestDir::new("audit-full");
    let path = path(dir.path(), &module_id("m"));
    let mut kept = Kept::new(dir.path(), &module_id("m"));
    add(&mut kept, 1);
    let (log, whole) = (kept.log(), fs::read(kept.log()).unwrap());
    fs::remove_file(&log).unwrap();
    assert!(kept.add(&step(2)).is_err());
    // What the disk took of it in spite of all is not before the next step.
    fs::write(&log, [&whole, &b"{\"Note\":"[..]].concat()).unwrap();
    add(&mut kept, 3);
    let again = Kept::read(&path).unwrap().unwrap();
    assert_eq!((again.auditor.taken(), again.auditor.open().len()), (3, 2));
    assert!(!log.exists());
}

/// A file of each layout that ever was must always be read.
#[test]
fn the_first_layout_is_read_and_goes_on_in_the_second() {
    let dir = TestDir::new("audit-first");
    let path = path(dir.path(), &module_id("m"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut auditor = Auditor::default();
    step(7).apply(&mut auditor);
    let auditor = serde_json::to_value(&auditor).unwrap();
    let write = |schema: u32| {
        let first = serde_json::json!({ "schema": schema, "auditor": auditor });
        fs::write(&path, first.to_string()).unwrap();
    };
    write(3);
    assert!(matches!(Kept::read(&path), Err(Error::Damaged { .. })));
    write(1);
    let mut kept = Kept::read(&path).unwrap().unwrap();
    assert_eq!(kept.auditor.taken(), 7);
    add(&mut kept, 8);
    assert_eq!(taken(Kept::read(&path).unwrap()), 8);
    assert!(fs::read_to_string(&path).unwrap().starts_with("{\"schema\":2,"));
}
