//! How far the archive of this controller's ledger is, for `flareshift status`. Nothing is said where it keeps none.
//!
//! Read next: the crate `archive`, its `progress.rs`; `run.rs`, which starts it.

use api::operator as wire;

use crate::context::Context;

/// In a build without the feature `archive` there is none.
#[cfg(not(feature = "archive"))]
pub(super) fn status(_: &Context) -> Option<wire::ArchiveStatus> {
    None
}

/// As its task told last, at most 10 s ago.
#[cfg(feature = "archive")]
pub(super) fn status(context: &Context) -> Option<wire::ArchiveStatus> {
    let archive = context.archive.as_ref()?;
    Some(of(&archive.place, &archive.progress.borrow()))
}

#[cfg(feature = "archive")]
fn of(place: &str, progress: &archive::progress::Progress) -> wire::ArchiveStatus {
    use api::convert::field::wire_time;

    let failure = progress.last_failure();
    let behind = progress.lag.behind.as_ref().map(|behind| wire::ModuleBehind {
        module: behind.module.to_string(),
        archived_sequence: behind.archived,
        kept_sequence: behind.kept,
    });
    wire::ArchiveStatus {
        place: place.to_owned(),
        waiting_segments: progress.lag.segments,
        behind,
        archived_at: progress.passed.and_then(wire_time),
        held_up_modules: progress.held_up,
        error: failure.map(|failure| failure.why.clone()).unwrap_or_default(),
        failed_at: failure.and_then(|failure| wire_time(failure.at)),
    }
}
