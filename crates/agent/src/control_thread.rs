//! The control thread: joins a plant to a [`Brain`], one tick after another, on an OS thread of its own.
//!
//! It shares no lock and no runtime with anything else: what others tell it waits in a bounded channel it only polls, and what
//! it tells them is dropped when they do not listen. A dead session, a full disk or a flooded proxy cannot delay a rung.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::{self, JoinHandle};

use control::port::Slow;
use control::reflex::Shed;
use control::{Brain, Plant, Readings};
use model::envelope::Directive;
use model::report::{Report, Verified};
use model::{BootStamp, MinerGroupId, Time};
use tokio::sync::mpsc::Sender;

/// Messages to the thread that may wait: a directive, an estimate and a word on pools a second, and the thread looks each 10 ms.
pub const INBOX: usize = 16;
/// Snapshots that may wait: one a second; at a hundred times real time this is 2.5 s of wall time.
pub const OUTBOX: usize = 256;

/// What the thread is told.
#[derive(Debug)]
pub enum ToControl {
    /// A directive that was accepted and persisted.
    Directive(Box<Directive>),
    /// For each group the hash rate its shares prove, and its connections.
    Proven(BTreeMap<MinerGroupId, (Option<Verified>, u32)>),
    /// Whether every pool has been away for so long that miners may come down.
    Unpaid(bool),
}

/// What the thread saw in the last second.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When.
    pub now: Time,
    /// The boot-time clock then.
    pub boot: BootStamp,
    /// The readings.
    pub slow: Slow,
    /// What to tell the controller; the sequence is the session's to set.
    pub report: Report,
    /// What was shed since the last snapshot.
    pub sheds: Vec<Shed>,
}

/// Starts the thread. It ends when the plant does, or when the agent does.
pub fn spawn(
    mut plant: Box<dyn Plant>,
    mut brain: Brain,
    inbox: Receiver<ToControl>,
    snapshots: Sender<Snapshot>,
) -> io::Result<JoinHandle<()>> {
    let body = move || {
        while let Some(readings) = plant.tick() {
            if !take_messages(&mut brain, &inbox, &readings) {
                return;
            }
            let commands = brain.tick(&readings);
            plant.act(&commands);
            if let Some(snapshot) = snapshot(&mut brain, readings) {
                // Nobody listens, or not fast enough: the register still counts, only detail is lost.
                let _ = snapshots.try_send(snapshot);
            }
        }
    };
    thread::Builder::new().name("control".into()).spawn(body)
}

/// False when nobody is left who could send: the agent has ended, and a second one may soon command this plant.
fn take_messages(brain: &mut Brain, inbox: &Receiver<ToControl>, readings: &Readings) -> bool {
    loop {
        match inbox.try_recv() {
            // The session's twin of this state machine accepted it already; a refusal here means that it has expired on
            // the way, and the next renewal heals that.
            Ok(ToControl::Directive(directive)) => drop(brain.adopt(*directive, &readings.boot)),
            Ok(ToControl::Proven(proven)) => brain.verified(proven),
            Ok(ToControl::Unpaid(is_unpaid)) => brain.unpaid(is_unpaid),
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Disconnected) => return false,
        }
    }
}

fn snapshot(brain: &mut Brain, readings: Readings) -> Option<Snapshot> {
    let Readings { now, boot, slow, .. } = readings;
    let slow = slow?;
    let report = brain.report(0)?;
    Some(Snapshot { now, boot, slow, report, sheds: brain.take_sheds() })
}
