//! The embedded twin on a disk that loses power, tears writes and refuses to sync.
//!
//! The disk keeps what was synced and a list of what was not. A crash keeps the first and a random part of the
//! second, cut at sectors: that is what a real disk may do.
//!
//! Assumes: a sector of 512 bytes is written whole or not at all. Seeds are in the failure messages.
//! Read next: `crash.rs`.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use store::{Clock, Error, embedded};

use crate::txn::put;
use crate::{all, k};

const SECTOR: usize = 512;

#[derive(Debug, Default)]
struct Platter {
    durable: Vec<u8>,
    current: Vec<u8>,
    pending: Vec<Pending>,
    operations: u64,
    syncs: u64,
    /// At this operation the power fails; what is on the disk then is kept in `image`.
    crash_at: Option<(u64, u64)>,
    image: Option<Vec<u8>>,
    /// From this sync on every sync fails.
    fail_from: Option<u64>,
    failed_syncs: u64,
    /// No more bytes than this.
    capacity: Option<usize>,
}

#[derive(Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Clone, Default)]
struct FaultyDisk(Arc<Mutex<Platter>>);

impl FaultyDisk {
    fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Platter { durable: bytes.clone(), current: bytes, ..Platter::default() })))
    }

    fn image(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap().image.clone()
    }
}

/// A small generator, so that a seed says everything (SplitMix64).
pub fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn coin(state: &mut u64) -> bool {
    random(state) & 1 == 0
}

impl Platter {
    fn tick(&mut self) {
        self.operations += 1;
        if let Some((at, seed)) = self.crash_at
            && at == self.operations
        {
            self.image = Some(self.after_crash(seed));
        }
    }

    /// What was synced, and of the rest whatever sectors chance has written.
    fn after_crash(&self, mut seed: u64) -> Vec<u8> {
        let mut image = self.durable.clone();
        for pending in &self.pending {
            match pending {
                Pending::Length(length) if coin(&mut seed) => image.resize(*length, 0),
                Pending::Length(_) => {}
                Pending::Write(offset, bytes) => {
                    for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                        let start = offset + index * SECTOR;
                        if coin(&mut seed) && start + sector.len() <= image.len() {
                            image[start..start + sector.len()].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        image
    }
}

impl StorageBackend for FaultyDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let bytes = platter.current.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.tick();
        let len = usize::try_from(len).unwrap();
        if platter.capacity.is_some_and(|capacity| len > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        platter.current.resize(len, 0);
        platter.pending.push(Pending::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.tick();
        platter.syncs += 1;
        if platter.fail_from.is_some_and(|from| platter.syncs >= from) {
            platter.failed_syncs += 1;
            return Err(io::Error::other("the disk is dying"));
        }
        platter.durable = platter.current.clone();
        platter.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        platter.tick();
        let start = usize::try_from(offset).unwrap();
        platter.current[start..start + data.len()].copy_from_slice(data);
        platter.pending.push(Pending::Write(start, data.to_vec()));
        Ok(())
    }
}

fn clock() -> Clock {
    Clock::from_fn(|| std::time::Duration::ZERO)
}

/// Writes until the power fails at operation `at`; what was acknowledged before must be there afterwards.
/// False if the power failed before the store was made, where there is nothing to lose yet.
async fn check_crash(made: &[u8], at: u64, seed: u64) {
    let disk = FaultyDisk::holding(made.to_vec());
    let store = embedded::open_on_backend(disk.clone(), clock()).unwrap();
    {
        let mut platter = disk.0.lock().unwrap();
        platter.crash_at = Some((platter.operations + at, seed));
    }
    let mut acked = 0;
    let image = loop {
        put(&store, k(format!("{acked:04}")), &"v".repeat(acked * 37 % 3000)).await;
        if let Some(image) = disk.image() {
            break image;
        }
        acked += 1;
        if acked % 10 == 0 {
            let newest = store.range(&all()).await.unwrap().revision;
            store.compact(newest).await.unwrap();
        }
    };
    let after = embedded::open_on_backend(FaultyDisk::holding(image), clock());
    let after = after.unwrap_or_else(|error| panic!("operation {at}, seed {seed}: {error:?}"));
    let range = after.range(&all()).await.unwrap();
    let found = range.entries.len();
    // The write in progress may have made it or not.
    assert!(found == acked || found == acked + 1, "operation {at}, seed {seed}: {found} of {acked}");
    for (index, entry) in range.entries.iter().enumerate() {
        assert_eq!(entry.key, k(format!("{index:04}")), "operation {at}, seed {seed}");
        assert_eq!(entry.value.len(), index * 37 % 3000, "operation {at}, seed {seed}");
    }
    put(&after, k("on it goes"), "x").await;
}

#[tokio::test]
async fn loss_of_power_loses_nothing_that_was_acknowledged() {
    let disk = FaultyDisk::default();
    drop(embedded::open_on_backend(disk.clone(), clock()).unwrap());
    let made = disk.0.lock().unwrap().current.clone();
    let mut chance = 7;
    for seed in 0..60 {
        check_crash(&made, 1 + random(&mut chance) % 300, seed).await;
    }
}

#[tokio::test]
async fn a_failed_sync_stops_the_store_for_good() {
    let disk = FaultyDisk::default();
    let store = embedded::open_on_backend(disk.clone(), clock()).unwrap();
    put(&store, k("a"), "safe").await;
    let mut watch = store.watch(&all(), None);
    watch.next().await.unwrap();
    {
        let mut platter = disk.0.lock().unwrap();
        platter.fail_from = Some(platter.syncs + 1);
    }
    let error = store.txn(store::Txn::new().put(k("b"), vec![])).await.unwrap_err();
    assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
    for _ in 0..3 {
        let error = store.txn(store::Txn::new().put(k("b"), vec![])).await.unwrap_err();
        assert!(matches!(error, Error::Stopped { .. }), "{error:?}");
    }
    assert!(matches!(store.get(&k("a")).await, Err(Error::Stopped { .. })));
    assert!(matches!(watch.next().await, Err(Error::Stopped { .. })));
    drop(store);
    assert_eq!(disk.0.lock().unwrap().failed_syncs, 1, "a failed sync is not tried again");
    let durable = disk.0.lock().unwrap().durable.clone();
    let after = embedded::open_on_backend(FaultyDisk::holding(durable), clock()).unwrap();
    assert_eq!(after.get(&k("a")).await.unwrap().unwrap().value, b"safe");
}

#[tokio::test]
async fn a_full_disk_is_told_and_loses_nothing() {
    for extra in [0, 64 * 1024, 1024 * 1024, 3_000_000] {
        let disk = FaultyDisk::default();
        let store = embedded::open_on_backend(disk.clone(), clock()).unwrap();
        {
            let mut platter = disk.0.lock().unwrap();
            platter.capacity = Some(platter.current.len() + extra);
        }
        let mut acked = 0;
        let error = loop {
            let txn = store::Txn::new().put(k(format!("{acked:04}")), vec![7; 100_000]);
            match store.txn(txn).await {
                Ok(_) => acked += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::UnknownOutcome { .. }), "{error:?}");
        let error = store.get(&k("0000")).await.unwrap_err();
        assert!(error.to_string().contains("check the disk and restart the process"), "{error}");
        drop(store);
        // Room was made.
        let left = disk.0.lock().unwrap().current.clone();
        let after = embedded::open_on_backend(FaultyDisk::holding(left), clock()).unwrap();
        let found = after.range(&all()).await.unwrap().entries.len();
        assert!(found == acked || found == acked + 1, "{extra} bytes: {found} of {acked}");
        put(&after, k("on it goes"), "x").await;
    }
}
