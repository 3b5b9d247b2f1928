//! Writes records of older schemas anew.
//!
//! Programs read every older schema anyway; after a migration a program that knows only the latest could read everything.
//! Assumes: the office is held, so that no older controller is at work. Each transaction leaves every record readable, so one that
//! is interrupted is simply run again.
//! Read next: `shape.rs`.

use std::collections::BTreeMap;

use store::Op;

use super::shape::{self, Shape};
use super::{Answer, Desk, Error, fsck};

pub(super) async fn run(desk: &Desk, dry_run: bool) -> Result<Answer, Error> {
    if dry_run {
        let (ops, migrated, records) = plan(desk).await?;
        debug_assert_eq!(ops.len(), migrated.values().sum::<usize>());
        return Ok(Answer::Migrate { migrated, records, dry_run });
    }
    let office = desk.office().await?;
    let (ops, migrated, records) = plan(desk).await?;
    desk.write(&office, ops).await?;
    desk.resign(office).await?;
    Ok(Answer::Migrate { migrated, records, dry_run })
}

/// What is to be written, how much of it by kind, and how many records there are.
async fn plan(desk: &Desk) -> Result<(Vec<Op>, BTreeMap<String, usize>, usize), Error> {
    let entries = desk.something().await?;
    let findings = fsck::unreadable(&entries);
    if !findings.is_empty() {
        return Err(Error::Broken { findings });
    }
    let (mut ops, mut migrated) = (Vec::new(), BTreeMap::new());
    for entry in &entries {
        let shape = shape::of(&entry.key).filter(|shape| Shape::schema(&entry.value) != Some(shape.version));
        if let Some(shape) = shape {
            let value = shape.renew(&entry.key, &entry.value).map_err(|error| desk.failed(error))?;
            ops.push(Op::Put { key: entry.key.clone(), value, lease: None });
            *migrated.entry(shape.kind.to_owned()).or_default() += 1;
        }
    }
    Ok((ops, migrated, entries.len()))
}
