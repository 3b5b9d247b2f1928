//! Brings an export back.
//!
//! Order matters: the marker `import` stands before anything is changed and goes in the transaction that raises the epoch, the last
//! one. So a controller either finds the store as it was, or as it shall be, or a marker that keeps it from leading.
//! Read next: `export.rs` for the file, `../leader.rs` for who looks at the marker.

use std::collections::BTreeSet;
use std::path::Path;

use store::{Key, Op, Txn, key};

use super::{Answer, Desk, Error, export};
use crate::commit::put;
use crate::records::{EpochRecord, ImportRecord};

pub(super) async fn run(desk: &Desk, path: &Path, replace: bool) -> Result<Answer, Error> {
    let content = export::read(path)?;
    refuse_if_full(desk, replace).await?;
    let office = desk.office().await?;
    // Looked at again: a controller may have begun between the first look and the office.
    let present = refuse_if_full(desk, replace).await?;
    let epoch = desk.next_epoch(content.epoch).await?;
    let marker = ImportRecord { records: content.records.len() as u64 };
    desk.write(&office, vec![op(desk, key::import(), &marker)?]).await?;

    let ours = [key::epoch(), key::import(), key::leader()];
    let records = content.records.into_iter().filter(|(key, _)| !ours.contains(key));
    let records: Vec<(Key, Vec<u8>)> = records.collect();
    let kept: BTreeSet<&Key> = records.iter().map(|(key, _)| key).chain(&ours).collect();
    let gone: Vec<Op> =
        present.into_iter().filter(|key| !kept.contains(key)).map(|key| Op::Delete { key }).collect();
    let (deleted, count) = (gone.len(), records.len());
    desk.write(&office, gone).await?;
    desk.write(
        &office,
        records.into_iter().map(|(key, value)| Op::Put { key, value, lease: None }).collect(),
    )
    .await?;

    let last = Txn::new().when(office.fence_compare()).delete(key::import());
    desk.txn(last.then(op::<EpochRecord>(desk, key::epoch(), &epoch)?)).await?;
    desk.resign(office).await?;
    Ok(Answer::Import { records: count, deleted, epoch: epoch.epoch })
}

/// The keys that are there; an error where there are any and none may be.
async fn refuse_if_full(desk: &Desk, replace: bool) -> Result<Vec<Key>, Error> {
    let present: Vec<Key> = desk.everything().await?.entries.into_iter().map(|entry| entry.key).collect();
    // What a half-done import left is no treasure.
    if present.is_empty() || replace || present.contains(&key::import()) {
        return Ok(present);
    }
    Err(Error::NotEmpty { name: desk.name.clone(), records: present.len() })
}

fn op<T: store::record::Versioned>(desk: &Desk, key: Key, record: &T) -> Result<Op, Error> {
    put(key, record).map_err(|error| desk.failed(error))
}
