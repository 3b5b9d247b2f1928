//! The envelope's state machine: which directive an agent accepts, and what the one it holds allows now.
//!
//! It assumes a boot-time clock that counts through suspend. Nothing is remembered beside the directive itself: state and
//! ceiling follow from the directive and a stamp, so that a restarted agent comes to the same answer. The words are defined in
//! [`model::envelope`]; [`crate::brain`] asks here every tick.

use model::envelope::{Directive, Fence};
use model::report::EnvelopeState;
use model::{BootStamp, ModuleId, Span, Watts};

/// Longest validity an agent accepts unless configured otherwise: five times the default of 120 s, so that an operator may
/// lengthen it for a satellite link, and a slip of units (minutes for seconds) is refused.
pub const MAX_VALIDITY: Span = Span::secs(600);

/// What an agent measures an offered directive against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The agent's own module.
    pub module: ModuleId,
    /// Longest validity it accepts.
    pub validity: Span,
}

/// Why a directive was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The same content, answering the same or a later report.
    Renewal,
    /// Higher precedence than what was held.
    Newer,
}

/// Why a directive was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is for another module.
    #[error("the envelope is for module {offered}, this agent serves {own}; check the agent's configuration")]
    OtherModule {
        /// For which it is.
        offered: ModuleId,
        /// The agent's own.
        own: ModuleId,
    },
    /// It answers a report of another boot: time since then is unknown.
    #[error("the envelope answers a report of another boot; send one that answers a report of this boot")]
    OtherBoot,
    /// It answers a report that this boot has not made yet.
    #[error(
        "the envelope answers a report {ahead} ahead of this agent's clock; check who else reports for this module"
    )]
    Future {
        /// How far ahead.
        ahead: Span,
    },
    /// It is valid for too long, or for no time.
    #[error("the envelope is valid for {offered}; offer more than zero and at most {limit}")]
    Validity {
        /// What was offered.
        offered: Span,
        /// Most that is accepted.
        limit: Span,
    },
    /// It contradicts itself.
    #[error("the envelope is malformed: {what}; plan this module again")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// A higher one is held.
    #[error("the envelope has {offered:?}, this agent holds {held:?}; a newer leader or plan decides")]
    Lower {
        /// Precedence of the offer: fence and generation.
        offered: (Fence, u64),
        /// Precedence of what is held.
        held: (Fence, u64),
    },
    /// The same fence and generation with other content.
    #[error(
        "the envelope differs from the one held with the same fence and generation {generation}; raise one of them"
    )]
    Changed {
        /// The generation of both.
        generation: u64,
    },
    /// A renewal that answers an earlier report than the one held.
    #[error("the renewal answers an earlier report than the envelope held; nothing to do")]
    EarlierRenewal,
}

/// Judges an offered directive at `now` against what is held. Whoever gets `Ok` persists the offer before it acts on it.
pub fn accept(
    held: Option<&Directive>,
    offered: &Directive,
    now: &BootStamp,
    bounds: &Bounds,
) -> Result<Accepted, Error> {
    sound(offered, now, bounds)?;
    let Some(held) = held else { return Ok(Accepted::Newer) };
    let (new, old) = (offered.envelope.precedence(), held.envelope.precedence());
    if new < old {
        return Err(Error::Lower { offered: new, held: old });
    }
    if new > old {
        return Ok(Accepted::Newer);
    }
    if !same_but_for_answers(held, offered) {
        return Err(Error::Changed { generation: new.1 });
    }
    match offered.envelope.answers.since(&held.envelope.answers) {
        Some(later) if later < Span::ZERO => Err(Error::EarlierRenewal),
        // Across a reboot the held stamp means nothing any more, and the offered one is of this boot.
        Some(_) | None => Ok(Accepted::Renewal),
    }
}

/// Where an envelope stands and what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it stands.
    pub state: EnvelopeState,
    /// Most the module may draw now, at its meter.
    pub ceiling: Watts,
    /// Time since the report that it answers; `None` without an envelope or across a reboot.
    pub age: Option<Span>,
}

/// Holds the directive that was accepted last.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    // Invariant: only `accept` lets a directive in here, or it was persisted after it had passed `accept`.
    held: Option<Directive>,
    bounds: Bounds,
}

impl Holder {
    /// Goes on with what was persisted, if anything. A directive of another module (a disk that was moved) is dropped.
    pub fn new(bounds: Bounds, restored: Option<Directive>) -> Self {
        let held = restored.filter(|directive| directive.envelope.module == bounds.module);
        Self { held, bounds }
    }

    /// What is held, in force or not.
    pub fn held(&self) -> Option<&Directive> {
        self.held.as_ref()
    }

    /// Takes a directive if [`accept`] does.
    pub fn offer(&mut self, offered: Directive, now: &BootStamp) -> Result<Accepted, Error> {
        let accepted = accept(self.held.as_ref(), &offered, now, &self.bounds)?;
        self.held = Some(offered);
        Ok(accepted)
    }

    /// Where the envelope stands at `now`. Without one the module draws the least it can, `least`.
    ///
    /// The fallback programme counts from expiry. After a reboot it holds at once and counts from the boot: when the old
    /// envelope expired on the new clock is unknown, and counting from the boot gives the same answer after each restart.
    pub fn standing(&self, now: &BootStamp, least: Watts) -> Standing {
        let Some(directive) = &self.held else {
            return Standing { state: EnvelopeState::None, ceiling: least, age: None };
        };
        let envelope = &directive.envelope;
        let Some(age) = now.since(&envelope.answers) else {
            let ceiling = envelope.grant.fallback_at(now.at);
            return Standing { state: EnvelopeState::Fallback, ceiling, age: None };
        };
        if age < envelope.valid_for {
            return Standing { state: EnvelopeState::Valid, ceiling: envelope.grant.ceiling, age: Some(age) };
        }
        let ceiling = envelope.grant.fallback_at(age - envelope.valid_for);
        Standing { state: EnvelopeState::Fallback, ceiling, age: Some(age) }
    }
}

/// What must hold of a directive whatever is held.
fn sound(offered: &Directive, now: &BootStamp, bounds: &Bounds) -> Result<(), Error> {
    let envelope = &offered.envelope;
    if envelope.module != bounds.module {
        let (offered, own) = (envelope.module.clone(), bounds.module.clone());
        return Err(Error::OtherModule { offered, own });
    }
    let age = now.since(&envelope.answers).ok_or(Error::OtherBoot)?;
    if age < Span::ZERO {
        return Err(Error::Future { ahead: age.abs() });
    }
    if envelope.valid_for <= Span::ZERO || envelope.valid_for > bounds.validity {
        return Err(Error::Validity { offered: envelope.valid_for, limit: bounds.validity });
    }
    match flaw(offered) {
        Some(what) => Err(Error::Malformed { what }),
        None => Ok(()),
    }
}

/// The first thing by which a directive contradicts itself.
fn flaw(offered: &Directive) -> Option<&'static str> {
    let grant = &offered.envelope.grant;
    let ascending = grant.fallback.windows(2).all(|pair| pair[0].after < pair[1].after);
    let in_ladder = |rung: &u32| (*rung as usize) < grant.ladder.len();
    let checks = [
        (grant.fallback.is_empty(), "its fallback programme is empty"),
        (!ascending, "its fallback steps are not in order of time"),
        (
            grant.ceiling < Watts::ZERO || grant.fallback.iter().any(|step| step.ceiling < Watts::ZERO),
            "a ceiling is negative",
        ),
        (
            !grant.armed.values().all(|arming| arming.rungs.iter().all(in_ladder)),
            "an armed rung is not in the ladder",
        ),
        (
            offered.runs.values().any(|run| run.placement.module != offered.envelope.module),
            "a run is placed on another module",
        ),
    ];
    checks.into_iter().find(|(flawed, _)| *flawed).map(|(_, what)| what)
}

fn same_but_for_answers(held: &Directive, offered: &Directive) -> bool {
    let mut held = held.clone();
    held.envelope.answers = offered.envelope.answers.clone();
    held == *offered
}

#[cfg(test)]
mod tests;
