//! The loop: orders come, the planner decides, the plant carries out what it can, the books are written. One step is five minutes.
//!
//! The planner sees what a controller would: readings of the step before, gas as the strategy's forecast expects it, nothing of the
//! outages to come. An oracle sees the gas of the steps ahead, and a breakdown when its step begins. Each plan's parent is the plan in
//! force. A plan that the check refuses is not carried out; the plan before stays in force. Read next: [`crate::foresight`],
//! [`crate::island`] for physics, [`crate::track`] for work.

use std::collections::BTreeMap;

use model::envelope::RungLoad;
use model::fleet::Fleet;
use model::plan::{Plan, ReasonCode, STEP, Subject};
use model::site::{GasFlow, GasVolume, Site};
use model::workload::{GpuTime, Phase, Tier, Workload};
use model::{GensetId, MicroDollars, MinerGroupId, ModuleId, SiteId, Time, WattSeconds, Watts, WorkloadId};
use planner::Input;

use crate::events::Moment;
use crate::foresight::Foresight;
use crate::groups::Group;
use crate::island::{self, GroupLoad, Load, RunLoad, Tank};
use crate::outcome::Outcome;
use crate::queue;
use crate::sets::Sets;
use crate::sight;
use crate::strategy::{Kind, Strategy};
use crate::tally::Tally;
use crate::track::Track;
use crate::world::{Error, STEPS_A_DAY, World};

/// Share of the buffers that is full at the begin, in thousandths.
const FULL_PERMILLE: i64 = 600;

/// Replays a world under one strategy.
pub fn run(world: &World, strategy: &Strategy) -> Result<Outcome, Error> {
    watch(world, strategy, &mut |_| {})
}

/// The same, and tells `onlooker` of each step when its plan is made and nothing of it is carried out yet. What it does changes nothing.
pub fn watch(
    world: &World,
    strategy: &Strategy,
    onlooker: &mut dyn FnMut(&Moment<'_>),
) -> Result<Outcome, Error> {
    world.check()?;
    let mut engine = Engine::new(world, *strategy);
    for step in 0..world.steps() {
        engine.step(step, onlooker);
    }
    Ok(engine.finish())
}

type GroupKey = (ModuleId, MinerGroupId);

struct Engine<'w> {
    world: &'w World,
    strategy: Strategy,
    fleet: Fleet,
    input: Input,
    /// Orders that the strategy does not show to the planner.
    hidden: BTreeMap<WorkloadId, Workload>,
    tracks: BTreeMap<WorkloadId, Track>,
    sets: BTreeMap<SiteId, Sets>,
    tanks: BTreeMap<SiteId, Tank>,
    groups: BTreeMap<GroupKey, Group>,
    foresight: Foresight,
    next_order: usize,
    next_outage: usize,
    tally: Tally,
    days: Vec<Tally>,
    refusal: Option<String>,
}

impl<'w> Engine<'w> {
    fn new(world: &'w World, strategy: Strategy) -> Self {
        let fleet = strategy.fleet(&world.fleet);
        let sets = fleet.sites.iter().map(|site| (site.id.clone(), Sets::new(site, world.start)));
        let tanks = fleet.sites.iter().map(|site| {
            let full = site.buffer.capacity.fraction(FULL_PERMILLE, 1_000);
            (site.id.clone(), Tank::new(full))
        });
        let groups = fleet.modules.iter().flat_map(|module| {
            module.groups.keys().map(|group| ((module.id.clone(), group.clone()), Group::ASLEEP))
        });
        let (sets, tanks, groups) = (sets.collect(), tanks.collect(), groups.collect());
        let input = sight::first(world, &fleet, &sets, &tanks);
        Self {
            world,
            strategy,
            fleet,
            input,
            hidden: BTreeMap::new(),
            tracks: BTreeMap::new(),
            sets,
            tanks,
            groups,
            foresight: Foresight::new(world, &strategy),
            next_order: 0,
            next_outage: 0,
            tally: Tally::default(),
            days: Vec::new(),
            refusal: None,
        }
    }

    fn step(&mut self, step: usize, onlooker: &mut dyn FnMut(&Moment<'_>)) {
        let now = self.world.at(step);
        self.input.now = now;
        self.input.market = self.world.markets[step / STEPS_A_DAY];
        self.orders(now);
        if self.strategy.kind == Kind::Greedy {
            queue::dearest(&self.fleet, &mut self.input.workloads, &mut self.hidden);
        }
        self.foresight.show(self.world, step, &self.world.outages[self.next_outage..], &mut self.input);
        if let Some(plan) = self.decide() {
            onlooker(&Moment { step, input: &self.input, plan: &plan });
            self.carry_out(&plan, step);
            self.input.parent = Some(plan);
        }
        if (step + 1).is_multiple_of(STEPS_A_DAY) {
            self.days.push(std::mem::take(&mut self.tally));
        }
    }

    /// Orders that have come by now, and those that are withdrawn.
    fn orders(&mut self, now: Time) {
        while let Some(order) = self.world.orders.get(self.next_order).filter(|order| order.at <= now) {
            self.next_order += 1;
            self.tally.service.offered += 1;
            let price = self.world.price_of(order);
            let workload = price.filter(|_| self.strategy.sells()).and_then(|price| {
                queue::workload(order, self.next_order, &self.world.fleet.offerings, price)
            });
            match workload {
                Some(workload) => {
                    self.tracks.insert(workload.id.clone(), Track::of(order, now));
                    self.input.workloads.insert(workload.id.clone(), workload);
                }
                None => self.tally.service.withdrawn += 1,
            }
        }
        let patience = self.world.terms.patience;
        for id in queue::withdrawn(&self.input.workloads, &self.tracks, patience, now) {
            self.tally.service.withdrawn += 1;
            self.leave(&id);
        }
        for id in queue::withdrawn(&self.hidden, &self.tracks, patience, now) {
            self.tally.service.withdrawn += 1;
            self.leave(&id);
        }
    }

    /// The books of a workload are closed.
    fn leave(&mut self, id: &WorkloadId) {
        let workload = self.input.workloads.remove(id).or_else(|| self.hidden.remove(id));
        let (Some(workload), Some(track)) = (workload, self.tracks.remove(id)) else { return };
        if workload.spec.tier == Tier::Firm {
            self.tally.service.firm_up += track.up;
            self.tally.service.firm_missed += track.missed;
            self.tally.money.credits += self.world.terms.credit(track.paid, track.missed, track.up);
        }
    }

    /// The plan to carry out: the new one, or the one in force where the check refuses it.
    fn decide(&mut self) -> Option<Plan> {
        let plan = planner::plan(&self.input).plan;
        let plans = &mut self.tally.plans;
        plans.made += 1;
        let every = self.strategy.check_every;
        if every == 0 || !plan.generation.is_multiple_of(every) {
            return Some(plan);
        }
        plans.checked += 1;
        let findings = planner::check(&plan, &self.input);
        let Some(finding) = findings.first() else { return Some(plan) };
        plans.refused += 1;
        self.refusal.get_or_insert_with(|| format!("plan {}: {finding}", plan.generation));
        self.input.parent.take()
    }

    fn carry_out(&mut self, plan: &Plan, step: usize) {
        let now = self.input.now;
        let leaving = self.follow_runs(plan, now);
        self.follow_groups(plan, now);
        let failing = self.failing(step);
        for site in self.fleet.sites.clone() {
            self.island(&site, plan, step, &failing);
        }
        self.settle_runs(leaving, now);
        self.observe(now + STEP);
    }

    /// Starts and stops of runs. Answers those that leave: they save their work and are gone at the end of the step.
    fn follow_runs(&mut self, plan: &Plan, now: Time) -> Vec<WorkloadId> {
        let modules = plan.sites.values().flat_map(|site| site.modules.values());
        let planned: BTreeMap<_, _> = modules.flat_map(|module| &module.runs).collect();
        let mut leaving = Vec::new();
        for (id, workload) in &mut self.input.workloads {
            let status = &mut workload.status;
            match (planned.get(id), status.phase.holds()) {
                (Some(_), true) | (None, false) => {}
                (Some(placement), false) => {
                    let last = status.placement.as_ref().map_or(0, |last| last.incarnation);
                    if placement.incarnation <= last {
                        continue;
                    }
                    status.placement = Some((*placement).clone());
                    (status.phase, status.reason, status.since) = (Phase::Starting, ReasonCode::Placed, now);
                    if let Some(track) = self.tracks.get_mut(id) {
                        track.start(workload);
                    }
                }
                (None, true) => {
                    status.preemptions = status.preemptions.saturating_add(1);
                    status.preempted = Some(now);
                    status.progress_at_preemption = status.progress;
                    let subject = Subject::Workload(id.clone());
                    let decision = plan.decisions.iter().find(|decision| decision.subject == subject);
                    status.reason = decision.map_or(ReasonCode::Preempted, |decision| decision.reason);
                    (status.phase, status.since) = (Phase::Stopping, now);
                    match status.reason {
                        ReasonCode::PowerShort => self.tally.service.power_stopped += 1,
                        _ => self.tally.service.preempted += 1,
                    }
                    leaving.push(id.clone());
                }
            }
        }
        leaving
    }

    fn follow_groups(&mut self, plan: &Plan, now: Time) {
        for module in &self.fleet.modules {
            let planned = plan.sites.get(&module.site).and_then(|site| site.modules.get(&module.id));
            for (id, config) in &module.groups {
                let key = (module.id.clone(), id.clone());
                let target = planned.and_then(|planned| planned.miners.get(id)).copied();
                let (Some(group), Some(target)) = (self.groups.get_mut(&key), target) else { continue };
                let moved = group.follow(config, target, now);
                self.tally.money.wear += moved.wear;
                self.tally.plant.reversals += u64::from(moved.reversal);
            }
        }
    }

    /// Sets that break down in this step.
    fn failing(&mut self, step: usize) -> Vec<(SiteId, GensetId, Time)> {
        let mut failing = Vec::new();
        while let Some(outage) = self.world.outages.get(self.next_outage).filter(|outage| outage.from <= step)
        {
            self.next_outage += 1;
            failing.push((outage.site.clone(), outage.genset.clone(), self.world.at(outage.until)));
        }
        failing
    }

    /// One island for one step.
    fn island(&mut self, site: &Site, plan: &Plan, step: usize, failing: &[(SiteId, GensetId, Time)]) {
        let now = self.input.now;
        let mut load = self.load(site, plan);
        let flow = self.flow(site, step);
        let Some(tank) = self.tanks.get_mut(&site.id) else { return };
        let supplied = tank.supply(flow);
        let there = tank.held + supplied;
        let (Some(sets), Some(planned)) = (self.sets.get_mut(&site.id), plan.sites.get(&site.id)) else {
            return;
        };
        for id in sets.obey(&planned.gensets, now) {
            self.tally.plant.set_starts += 1;
            self.tally.money.set_starts +=
                site.gensets.get(id).map_or(MicroDollars::ZERO, |set| set.start_cost);
        }
        let mut up = true;
        for (_, id, repaired) in failing.iter().filter(|(at, ..)| *at == site.id) {
            let online: Vec<_> = sets.online().filter_map(|id| Some((id, site.gensets.get(id)?))).collect();
            let rides = load.ride_through(&online, id);
            if sets.fail(id, now, *repaired) {
                self.tally.plant.trips += 1;
                self.tally.plant.blackouts += u64::from(up && !rides);
                up &= rides;
            }
        }
        let limit = sets.sum(site, |set| set.rating).min(island::sustains(&sets.fuel(site), there));
        if !up || !load.shed(limit) {
            load.darken();
            sets.stop_all(now);
            self.tally.plant.dark_steps += 1;
        }
        let fuel = sets.fuel(site);
        let (least, hours) = (sets.sum(site, |set| set.min_load), sets.online());
        let hours = hours.filter_map(|id| site.gensets.get(id)).map(|set| set.hour_cost);
        self.tally.money.set_hours += hours.sum::<MicroDollars>().fraction(STEP.get(), 3_600_000);
        sets.pass(site, now);
        let drawn = self.serve(&load);
        let dumped = (least - drawn).at_least_zero().min((limit - drawn).at_least_zero());
        self.tally.energy.dumped += dumped.for_span(STEP);
        self.burn(site, supplied, fuel.gas_for(drawn + dumped));
        self.report_site(site, step, drawn, load.unmanaged);
    }

    /// Books the gas of one island's step.
    fn burn(&mut self, site: &Site, supplied: GasVolume, wanted: GasFlow) {
        let Some(tank) = self.tanks.get_mut(&site.id) else { return };
        let burnt = tank.burn(site, supplied, wanted);
        let gas = &mut self.tally.gas;
        gas.supplied += supplied;
        gas.burnt += burnt.burnt;
        gas.flared += burnt.flared;
        gas.stored += burnt.stored;
        // The price is for a thousand cubic feet.
        self.tally.money.gas += site.gas_price.fraction(burnt.burnt.get(), 1_000);
    }

    fn flow(&self, site: &Site, step: usize) -> GasFlow {
        let flows = self.world.gas.get(&site.id);
        flows.and_then(|flows| flows.get(step)).copied().unwrap_or(GasFlow::ZERO).at_least_zero()
    }

    /// What an island is asked to carry under a plan.
    fn load(&self, site: &Site, plan: &Plan) -> Load {
        let mut load = Load { unmanaged: site.unmanaged, ..Load::default() };
        let Some(planned) = plan.sites.get(&site.id) else { return load };
        for module in self.fleet.modules_of(&site.id) {
            load.base += module.base_draw();
            let Some(told) = planned.modules.get(&module.id) else { continue };
            for (id, config) in &module.groups {
                let key = (module.id.clone(), id.clone());
                let drawn = self.groups.get(&key).map_or(Watts::ZERO, |group| group.draw(config));
                let asked = with_loss(module.loss_permille, drawn);
                let rung = told.ladder.iter().position(|rung| rung.load == RungLoad::Miners(id.clone()));
                let answers = |(contingency, rungs): (&model::ContingencyId, &Vec<u32>)| {
                    let ours = rung.is_some_and(|rung| rungs.iter().any(|&index| index as usize == rung));
                    let source = planned.contingencies.get(contingency).map(|of| of.source.clone());
                    source.filter(|_| ours)
                };
                let armed = told.armed.iter().filter_map(answers).collect();
                let fast = config.is_fast() && site.relay;
                load.groups.push(GroupLoad { key, asked, served: asked, fast, armed });
            }
        }
        load.runs = self.runs(site);
        load
    }

    /// What runs at a site, those that are shed first in front.
    fn runs(&self, site: &Site) -> Vec<RunLoad> {
        let mut runs = Vec::new();
        for (id, workload) in self.input.workloads.iter().filter(|(_, work)| work.status.phase.holds()) {
            let Some(placement) = &workload.status.placement else { continue };
            let Some(module) = self.input.modules.get(&placement.module).map(|given| &given.module) else {
                continue;
            };
            let Some(pool) = module.pools.get(&placement.pool).filter(|_| module.site == site.id) else {
                continue;
            };
            let watts = pool.per_gpu().times(workload.spec.gpus.into());
            let watts = with_loss(module.loss_permille, watts);
            let lost = (workload.status.progress - workload.status.saved).cost(workload.spec.price);
            let rank = (std::cmp::Reverse(workload.spec.tier), lost);
            runs.push((rank, RunLoad { id: id.clone(), watts, cut: false }));
        }
        runs.sort_by(|(rank, run), (other_rank, other)| (rank, &run.id).cmp(&(other_rank, &other.id)));
        runs.into_iter().map(|(_, run)| run).collect()
    }

    /// Gives every load what it got, and answers the mean power of the step.
    fn serve(&mut self, load: &Load) -> Watts {
        let hashprice = self.input.market.hashprice();
        let mut mining = Watts::ZERO;
        for of in &load.groups {
            let Some(given) = self.input.modules.get_mut(&of.key.0) else { continue };
            let config = given.module.groups.get(&of.key.1);
            let (Some(group), Some(config)) = (self.groups.get(&of.key), config) else { continue };
            let work = group.work(config, of.served, of.asked);
            self.tally.work += work;
            self.tally.money.mining += hashprice.earns(work);
            mining += of.served;
            if let Some(report) = given.report.as_mut().and_then(|report| report.groups.get_mut(&of.key.1)) {
                sight::group(report, of, group, config);
            }
        }
        let mut ai = WattSeconds::ZERO;
        for run in &load.runs {
            ai += self.advance(run);
        }
        let energy = &mut self.tally.energy;
        energy.mining += mining.for_span(STEP);
        energy.ai += ai;
        energy.base += load.base.for_span(STEP);
        energy.unmanaged += load.unmanaged.for_span(STEP);
        load.unmanaged + load.base + mining + Watts::new(ai.get()).fraction(1_000, STEP.get())
    }

    /// One run for one step; answers its energy.
    fn advance(&mut self, run: &RunLoad) -> WattSeconds {
        let now = self.input.now;
        let (Some(workload), Some(track)) =
            (self.input.workloads.get_mut(&run.id), self.tracks.get_mut(&run.id))
        else {
            return WattSeconds::ZERO;
        };
        if run.cut {
            self.tally.service.cut_off += 1;
            track.lose(workload, now + STEP, &mut self.tally);
            track.miss(workload);
            workload.status.reason = ReasonCode::PowerShort;
            return WattSeconds::ZERO;
        }
        if workload.status.phase == Phase::Stopping {
            // It holds its GPUs while it saves, and makes no progress.
            self.tally.service.wasted += GpuTime::of(workload.spec.gpus, workload.spec.save);
            return run.watts.for_span(workload.spec.save.min(STEP));
        }
        let busy = track.advance(workload, &mut self.tally);
        run.watts.for_span(busy)
    }

    /// What has left or is done holds nothing any more; what waits though it was promised is counted.
    fn settle_runs(&mut self, leaving: Vec<WorkloadId>, now: Time) {
        for id in leaving {
            if let (Some(workload), Some(track)) =
                (self.input.workloads.get_mut(&id), self.tracks.get_mut(&id))
                && workload.status.phase == Phase::Stopping
            {
                track.rest(workload, now + STEP);
            }
        }
        let waits = |workload: &&Workload| workload.status.phase == Phase::Pending;
        for workload in self.input.workloads.values().chain(self.hidden.values()).filter(waits) {
            if let Some(track) = self.tracks.get_mut(&workload.id).filter(|track| track.waits_since <= now) {
                track.miss(workload);
            }
        }
        let done: Vec<WorkloadId> = self
            .input
            .workloads
            .iter()
            .filter(|(_, workload)| workload.status.phase == Phase::Completed)
            .map(|(id, _)| id.clone())
            .collect();
        for id in done {
            self.tally.service.completed += 1;
            self.leave(&id);
        }
    }

    /// What the wired module will say of its site.
    fn report_site(&mut self, site: &Site, step: usize, drawn: Watts, unmanaged: Watts) {
        let flow = self.flow(site, step);
        let buffer = self.tanks.get(&site.id).map(|tank| tank.held);
        let gensets = self.sets.get(&site.id).map(|sets| sets.report(self.input.now + STEP));
        let given = self.input.sites.get_mut(&site.id).and_then(|given| given.report.as_mut());
        if let Some(report) = given {
            report.gas = Some(flow);
            report.buffer = buffer;
            report.load = Some(drawn);
            report.unmanaged = Some(unmanaged);
            report.gensets = gensets.unwrap_or_default();
        }
    }

    fn observe(&mut self, at: Time) {
        for given in self.input.modules.values_mut() {
            if let Some(report) = &mut given.report {
                report.at = at;
                report.sequence += 1;
            }
        }
    }

    fn finish(mut self) -> Outcome {
        let open: Vec<WorkloadId> = self.input.workloads.keys().chain(self.hidden.keys()).cloned().collect();
        for id in open {
            self.leave(&id);
        }
        // Books that are closed at the end belong to the last day.
        if let Some(last) = self.days.last_mut() {
            *last += &self.tally;
        }
        let mut total = Tally::default();
        for day in &self.days {
            total += day;
        }
        Outcome {
            strategy: self.strategy.kind,
            start: self.world.start,
            total,
            days: self.days,
            refusal: self.refusal,
        }
    }
}

fn with_loss(permille: u32, watts: Watts) -> Watts {
    watts + watts.fraction(permille.into(), 1_000)
}
