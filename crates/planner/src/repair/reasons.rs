//! The decisions of a repair: those of the islands that were planned anew, and the plan in force's for all others.
//!
//! Assumes what `decide` lays down: a block for each island in order of id (the island, its modules, its runs), then everybody who
//! runs nowhere in order of id. A plan in force whose decisions are cut short, as the store keeps them, leaves gaps; they are filled
//! with decisions that say nothing. Read next: [`super`].

use std::cell::OnceCell;
use std::cmp::Ordering;

use model::plan::{Decision, Plan, ReasonCode, SitePlan, Subject};
use model::{Shared, SiteId, WorkloadId};

use super::census::{Idle, name};
use crate::input::Input;

/// The decisions of one plan, taken apart.
pub(super) struct Said<'p> {
    decisions: &'p [Shared<Decision>],
    /// Where the last block ends and those begin who run nowhere.
    tail: usize,
    /// Who stands in a block and did not run before: the plan starts it. Looked for when somebody asks.
    starts: OnceCell<Vec<&'p WorkloadId>>,
}

impl<'p> Said<'p> {
    pub(super) fn of(plan: &'p Plan) -> Self {
        let decisions = plan.decisions.as_slice();
        let last = decisions.iter().rposition(|said| matches!(said.subject, Subject::Site(_)));
        let length = last.and_then(|last| Some(block_of(plan.sites.get(site(&decisions[last])?)?)));
        let tail = last.map_or(0, |last| (last + length.unwrap_or(1)).min(decisions.len()));
        Self { decisions, tail, starts: OnceCell::new() }
    }

    /// Of those who run nowhere.
    pub(super) fn idle(&self) -> &'p [Shared<Decision>] {
        &self.decisions[self.tail..]
    }

    /// Whether the plan starts this one.
    pub(super) fn starts(&self, id: &WorkloadId) -> bool {
        let all = || {
            let started = self.decisions[..self.tail]
                .iter()
                .filter(|said| !matches!(said.reason, ReasonCode::Kept | ReasonCode::Slowed));
            let mut starts: Vec<&WorkloadId> = started.filter_map(|said| name(said)).collect();
            starts.sort_unstable();
            starts
        };
        self.starts.get_or_init(all).binary_search(&id).is_ok()
    }

    /// The blocks, in order of id.
    fn blocks(&self) -> impl Iterator<Item = (&'p SiteId, &'p [Shared<Decision>])> + '_ {
        let begins = (0..self.tail).filter_map(|at| Some((site(&self.decisions[at])?, at)));
        begins.map(|(id, begin)| (id, &self.decisions[begin..self.end(begin)]))
    }

    /// Where the block of an island begins, by bisection over the blocks.
    fn begin(&self, id: &SiteId) -> Option<usize> {
        let (mut low, mut high) = (0, self.tail);
        while low < high {
            let middle = low + (high - low) / 2;
            let begin = (low..=middle).rev().find(|&at| site(&self.decisions[at]).is_some())?;
            match site(&self.decisions[begin])?.cmp(id) {
                Ordering::Equal => return Some(begin),
                Ordering::Less => low = self.end(middle),
                Ordering::Greater => high = begin,
            }
        }
        None
    }

    /// Where the block around a place ends.
    fn end(&self, at: usize) -> usize {
        (at + 1..self.tail).find(|&at| site(&self.decisions[at]).is_some()).unwrap_or(self.tail)
    }
}

fn site(said: &Decision) -> Option<&SiteId> {
    match &said.subject {
        Subject::Site(id) => Some(id),
        Subject::Module(_) | Subject::Workload(_) => None,
    }
}

/// Decisions of one island: itself, its modules, its runs.
fn block_of(planned: &SitePlan) -> usize {
    1 + planned.modules.len() + planned.modules.values().map(|module| module.runs.len()).sum::<usize>()
}

/// All decisions of a repair that `made` the plan of its part.
pub(super) fn renewed(
    input: &Input,
    said: &Said<'_>,
    idle: &[Idle<'_>],
    made: &Plan,
) -> Vec<Shared<Decision>> {
    let anew = Said::of(made);
    let mut decisions = spliced(input, said, &anew).unwrap_or_else(|| joined(input, said, &anew));
    decisions.extend(waits(&anew, idle, made));
    decisions
}

/// The blocks of a plan in force that says something of every island, with those that are new in their places.
fn spliced(input: &Input, said: &Said<'_>, anew: &Said<'_>) -> Option<Vec<Shared<Decision>>> {
    let parent = input.parent.as_ref()?;
    if !parent.sites.keys().eq(input.sites.keys()) || said.begin(parent.sites.keys().next_back()?).is_none() {
        return None;
    }
    let mut decisions = Vec::with_capacity(said.decisions.len() + anew.decisions.len());
    let mut at = 0;
    for (id, block) in anew.blocks() {
        let begin = said.begin(id)?;
        decisions.extend_from_slice(&said.decisions[at..begin]);
        decisions.extend_from_slice(block);
        at = said.end(begin);
    }
    decisions.extend_from_slice(&said.decisions[at..said.tail]);
    Some(decisions)
}

/// The blocks one by one, where islands came or went, or the plan in force does not speak of all.
fn joined(input: &Input, said: &Said<'_>, anew: &Said<'_>) -> Vec<Shared<Decision>> {
    let mut decisions = Vec::with_capacity(said.decisions.len() + anew.decisions.len());
    let (mut new, mut old) = (anew.blocks().peekable(), said.blocks().peekable());
    for id in input.sites.keys() {
        while old.next_if(|(other, _)| *other < id).is_some() {}
        let before = old.next_if(|(other, _)| *other == id);
        match new.next_if(|(other, _)| *other == id).or(before) {
            Some((_, block)) => decisions.extend_from_slice(block),
            None => decisions.extend(unsaid_block(id, input)),
        }
    }
    decisions
}

/// Why those who run nowhere do not.
fn waits(anew: &Said<'_>, idle: &[Idle<'_>], made: &Plan) -> Vec<Shared<Decision>> {
    let modules = made.sites.values().flat_map(|site| site.modules.values());
    let mut placed: Vec<&WorkloadId> = modules.flat_map(|module| module.runs.keys()).collect();
    placed.sort_unstable();
    let mut placed = placed.into_iter().peekable();
    let mut new = anew.idle().iter().peekable();
    let mut decisions = Vec::with_capacity(idle.len() + anew.idle().len());
    for Idle { workload, said } in idle {
        let id = &workload.id;
        // Whoever ran until now and is stopped stands between those who waited before.
        while let Some(stopped) = new.next_if(|said| name(said).is_some_and(|name| name < id)) {
            decisions.push(stopped.clone());
        }
        let new = new.next_if(|said| name(said) == Some(id));
        while placed.next_if(|run| *run < id).is_some() {}
        if placed.next_if(|run| *run == id).is_some() {
            continue;
        }
        // Who goes on waiting waits for the reason that the whole fleet gave.
        let before = said.filter(|before| new.is_none_or(|new| is_short(new) && is_waiting(before)));
        let found = before.or(new).cloned();
        decisions.push(found.unwrap_or_else(|| unsaid(Subject::Workload(id.clone()))));
    }
    decisions.extend(new.cloned());
    decisions
}

/// The block of an island of which the plan in force says nothing.
fn unsaid_block(id: &SiteId, input: &Input) -> Vec<Shared<Decision>> {
    let planned = input.parent.as_ref().and_then(|parent| parent.sites.get(id));
    let Some(planned) = planned else { return Vec::new() };
    let modules = planned.modules.keys().map(|id| Subject::Module(id.clone()));
    let runs = planned.modules.values().flat_map(|module| module.runs.keys());
    let runs = runs.map(|id| Subject::Workload(id.clone()));
    std::iter::once(Subject::Site(id.clone())).chain(modules).chain(runs).map(unsaid).collect()
}

fn unsaid(subject: Subject) -> Shared<Decision> {
    Decision { subject, reason: ReasonCode::Accepted, binding: None, shadow_price: None, rejected: None }
        .into()
}

/// Whether somebody waits for what the part has too little of.
fn is_short(new: &Decision) -> bool {
    matches!(new.reason, ReasonCode::NoGpus | ReasonCode::NoPower | ReasonCode::NoFirmCapacity)
}

fn is_waiting(old: &Decision) -> bool {
    matches!(
        old.reason,
        ReasonCode::NoGpus
            | ReasonCode::NoPower
            | ReasonCode::NoFirmCapacity
            | ReasonCode::StepLimited
            | ReasonCode::SitesBound
            | ReasonCode::GroupBound
    )
}
