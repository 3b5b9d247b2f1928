//! Power-elastic work: counted at the least that its contract allows, then raised by worth a watt as far as power goes.
//!
//! So nobody is stopped or refused for watts that a run may give up, and slower work competes with starts and miners by money: the
//! dispatch knows each step of speed as a piece of an island's curve ([`crate::dispatch::curve`]), beside the miners'. What is set in
//! the end is a measured point of the pool's curve, not a watt between, so that a breath of gas moves nobody. What already runs so
//! fast goes on as any run may ([`crate::island::Island::tolerable`]); what is raised must pass as a start must.
//!
//! Assumes that runs are settled and starts chosen. Read next: [`model::cap`], then `dispatch::state`.

use std::collections::BTreeMap;

use model::cap::{FULL, MOST_POINTS, Setting};
use model::module::GpuPool;
use model::plan::ReasonCode;
use model::workload::Workload;
use model::{ModuleId, Pace, SiteId, Watts, WorkloadId};

use crate::assign::Book;
use crate::dispatch::pay;
use crate::dispatch::problem::Problem;
use crate::dispatch::state::State;
use crate::slot::Slot;

/// A run that may be slowed, where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elastic {
    /// What it may be held to, least power first; the last is full speed.
    pub(crate) settings: Vec<Setting>,
    /// The setting that is planned.
    pub(crate) at: usize,
    /// The setting that it was last told, as far as its contract and its pool still have it.
    pub(crate) told: usize,
    /// Its gang.
    pub(crate) gpus: u32,
}

impl Elastic {
    /// A run under the cap it was told; `None` where it may not be slowed.
    pub(crate) fn of(workload: &Workload, pool: &GpuPool, told: Option<Watts>) -> Option<Self> {
        let settings = pool.settings(workload.floor());
        let last = settings.len() - 1;
        if last == 0 {
            return None;
        }
        let gpus = workload.spec.gpus;
        let under = |cap: Watts| settings.iter().rposition(|&setting| pool.cap(gpus, setting) <= cap);
        let told = told.map_or(last, |cap| under(cap).unwrap_or(0));
        Some(Self { settings, at: 0, told, gpus })
    }

    /// What it adds to its servers' idle draw at a setting.
    pub(crate) fn draw(&self, at: usize) -> Watts {
        self.settings.get(at).map_or(Watts::ZERO, |setting| setting.per_gpu.times(self.gpus.into()))
    }

    /// What it makes as planned.
    pub(crate) fn pace(&self) -> Pace {
        self.settings.get(self.at).map_or(FULL, |setting| setting.pace)
    }

    /// Whether it is planned slower than it could go.
    pub(crate) fn is_slowed(&self) -> bool {
        self.at + 1 < self.settings.len()
    }
}

/// One step of speed of one run.
struct Step<'b> {
    site: SiteId,
    /// Index of its module in the dispatch.
    module: usize,
    name: ModuleId,
    run: &'b Workload,
    from: usize,
    watts: Watts,
    value: i64,
}

/// Why a step was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// What it earns is less than what its watts earn otherwise.
    Worth,
    /// There is no power for it.
    Power,
}

impl<'a> Book<'a> {
    /// Raises elastic runs from their least, best a watt first, and says of those that stay slower why. `state` is where the
    /// dispatch ended; its worth follows.
    pub(crate) fn raise(&mut self, problem: &Problem, state: &mut State<'_>) {
        state.settle();
        let mut kept: BTreeMap<WorkloadId, Kept> = BTreeMap::new();
        let steps = self.steps(problem);
        // Whole watts may put a step of a straight curve before the one that comes first: it is taken in a later pass.
        for _ in 0..=MOST_POINTS {
            let before = self.taken(&steps);
            for step in &steps {
                if kept.contains_key(&step.run.id) || self.setting(step) != Some(step.from) {
                    continue;
                }
                if let Err(why) = self.take(step, state) {
                    kept.insert(step.run.id.clone(), why);
                }
            }
            if self.taken(&steps) == before {
                break;
            }
        }
        self.gained = model::MicroDollars::new(state.seat_worth);
        self.say(&kept);
    }

    /// The setting that is planned for the run of a step.
    fn setting(&self, step: &Step<'_>) -> Option<usize> {
        let slot = self.islands.get(&step.site)?.slots.get(&step.name)?;
        slot.elastic.get(&step.run.id).map(|elastic| elastic.at)
    }

    /// How many steps are taken so far.
    fn taken(&self, steps: &[Step<'_>]) -> usize {
        steps.iter().filter(|step| self.setting(step).is_some_and(|at| at > step.from)).count()
    }

    /// All steps, best a watt first. A curve is concave, so that the steps of one run stand in their order but for rounding.
    fn steps(&self, problem: &Problem) -> Vec<Step<'a>> {
        let workloads = &self.input.workloads;
        let index: BTreeMap<&ModuleId, usize> =
            problem.modules.iter().enumerate().map(|(nth, module)| (&module.id, nth)).collect();
        let mut steps = Vec::new();
        for (site, island) in &self.islands {
            let slots = island.slots.values().filter(|slot| slot.frozen.is_none());
            for (slot, (id, elastic)) in
                slots.flat_map(|slot| slot.elastic.iter().map(move |one| (slot, one)))
            {
                let (Some(run), Some(&module)) = (workloads.get(id), index.get(slot.id)) else {
                    continue;
                };
                for from in elastic.at..elastic.settings.len() - 1 {
                    let watts = elastic.draw(from + 1) - elastic.draw(from);
                    let value = self.pays(run, elastic.settings[from + 1].pace)
                        - self.pays(run, elastic.settings[from].pace);
                    steps.push(Step {
                        site: site.clone(),
                        module,
                        name: slot.id.clone(),
                        run,
                        from,
                        watts,
                        value,
                    });
                }
            }
        }
        steps.sort_by(|a, b| {
            let cross =
                |one: &Step<'_>, other: &Step<'_>| i128::from(one.value) * i128::from(other.watts.get());
            cross(b, a).cmp(&cross(a, b)).then_with(|| (&a.run.id, a.from).cmp(&(&b.run.id, b.from)))
        });
        steps
    }

    /// What a run pays over the dwell at a pace, whether it runs or is about to start.
    fn pays(&self, run: &Workload, pace: Pace) -> i64 {
        if run.status.phase.holds() {
            pay::paced(run, self.input.now, pace)
        } else {
            pay::starts(run).saturating_mul(pace.get()) / FULL.get()
        }
    }

    /// Takes one step, where it earns more than its watts do otherwise and may be drawn.
    fn take(&mut self, step: &Step<'_>, state: &mut State<'_>) -> Result<(), Kept> {
        let cost = state.cost_of_raise(step.module, step.watts.get());
        if step.value <= cost {
            return Err(Kept::Worth);
        }
        let input = self.input;
        let Some(island) = self.islands.get_mut(&step.site) else { return Err(Kept::Power) };
        let strict = island.starts(input) || {
            let slot = island.slots.get(&step.name);
            slot.and_then(|slot| slot.elastic.get(&step.run.id)).is_none_or(|one| step.from >= one.told)
        };
        // Who is about to start does it as one step.
        let whole = island.slots.get(&step.name).and_then(|slot| {
            let one = slot.elastic.get(&step.run.id).filter(|_| !step.run.status.phase.holds())?;
            Some(slot.ceiling_for(one.draw(step.from + 1)))
        });
        if whole.is_some_and(|whole| whole > island.block()) {
            return Err(Kept::Power);
        }
        if strict && !state.may_raise(step.module, step.watts.get()) {
            return Err(Kept::Power);
        }
        island.speed_up(&step.name, step.run, step.watts, 1);
        let leaving = island.leaving_counts;
        let fits = island.slots.get(&step.name).is_some_and(|slot| slot.fixed_ceiling(leaving) <= slot.limit);
        if !fits || (!strict && !island.tolerable(leaving)) {
            island.speed_up(&step.name, step.run, step.watts, -1);
            return Err(Kept::Power);
        }
        state.raise(step.module, step.watts.get(), step.value);
        Ok(())
    }

    /// Writes the reason of those that stay slower.
    fn say(&mut self, kept: &BTreeMap<WorkloadId, Kept>) {
        for island in self.islands.values() {
            for slot in island.slots.values().filter(|slot| slot.frozen.is_none()) {
                for (id, elastic) in slot.elastic.iter().filter(|(_, elastic)| elastic.is_slowed()) {
                    let Some(verdict) = self.verdicts.get_mut(id) else { continue };
                    if verdict.reason == ReasonCode::Kept {
                        verdict.reason = ReasonCode::Slowed;
                    }
                    verdict.binding = Some(words(slot, id, elastic));
                    verdict.rejected = kept.get(id).map(|why| match why {
                        Kept::Worth => "more speed: its power earns more otherwise".into(),
                        Kept::Power => "more speed: there is no power for it".into(),
                    });
                }
            }
        }
    }
}

/// "capped to 61 kW of 81 kW", as operators read it.
fn words(slot: &Slot<'_>, id: &WorkloadId, elastic: &Elastic) -> String {
    let pool = slot.runs.get(id).and_then(|at| slot.module().pools.get(&at.pool));
    let cap = |at: usize| pool.map_or(Watts::ZERO, |pool| pool.cap(elastic.gpus, elastic.settings[at]));
    let last = elastic.settings.len() - 1;
    format!(
        "module {}: capped to {} of {}, which leaves {} of full speed",
        slot.id,
        cap(elastic.at),
        cap(last),
        elastic.pace()
    )
}
