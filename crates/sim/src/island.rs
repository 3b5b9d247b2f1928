//! A simulated island: gas, sets, bus and modules, stepped 10 ms at a time. Pure: no clock, no thread, no socket.
//!
//! One step: modules move, the bus answers their load, gas is burnt, energy is counted. What an agent may see of it comes from
//! [`Island::readings`]; what is true from [`Island::truth`]. Faults: [`crate::fault`]. Electrics: [`crate::bus`].

mod found;

use std::collections::BTreeMap;

use control::port::{Breaker, Command, Fast, GroupReading, Readings, Slow, TICK};
use model::module::Module;
use model::report::{GensetReport, SiteReport, Switch};
use model::site::{Frequency, GasFlow, GasVolume, Site};
use model::{
    BootStamp, GensetId, Hashrate, MinerGroupId, ModuleId, Span, Time, WattSeconds, Watts, WorkloadId,
};

use crate::bus::{Bus, Happened};
use crate::fault::{Fault, Kind};
use crate::gas::Gas;
use crate::genset::Set;
use crate::plant::{Plant, Refused};
use crate::register::Register;
use crate::storage::Storage;
use crate::tie::Tie;
use crate::truth::{Event, GasTruth, GensetTruth, GroupTruth, Log, ModuleTruth, RunTruth, Truth, Use, What};

pub use found::{Error as Misfound, Found};

/// Length of a step in seconds.
const DT: f64 = 0.01;
/// After a blackout the first module is energized so long after the bus is live, the others [`ENERGIZE_EVERY`] apart.
const ENERGIZE_FIRST: Span = Span::secs(5);
/// Vendors ask for 5 to 10 s between blocks.
const ENERGIZE_EVERY: Span = Span::secs(10);

/// How an island is found when the simulation begins, and what of it differs from its description.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// 0 = steady gas at nominal, 1 = the field's statistics.
    pub gas_variability: f64,
    /// The true opening time of every feeder, where it differs from the described one.
    pub feeder_opens: Option<Span>,
    /// Power swing of synchronous gangs, share of their busy power: 0 to 0.9.
    pub swing: f64,
    /// Sets on the bus at the start; `None` = all.
    pub online: Option<usize>,
    /// Miners are awake at the start up to this share of the sets' rating, in thousandths.
    pub load_permille: u32,
    /// Boot-time clock of the agents' machines at the start.
    pub boot: BootStamp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            gas_variability: 1.0,
            feeder_opens: None,
            swing: 0.0,
            online: None,
            load_permille: 700,
            boot: BootStamp { boot_id: "simulated".into(), at: Span::ZERO },
        }
    }
}

/// One island.
#[derive(Clone, Debug)]
pub struct Island {
    site: Site,
    options: Options,
    start: Time,
    now: Time,
    bus: Bus,
    gas: Gas,
    plants: Vec<Plant>,
    storage: Option<Storage>,
    tie: Option<Tie>,
    unmanaged: Register,
    /// The breakers as the site's LAN tells them: one step old.
    lan: BTreeMap<GensetId, Breaker>,
    /// Lowest and highest frequency so far, Hz.
    extremes: (f64, f64),
    log: Log,
    blackouts: u32,
    firm_lost: u32,
    refused: u64,
}

impl Island {
    /// The island `site` with those of `modules` that stand on it.
    pub fn new(site: &Site, modules: &[Module], seed: u64, start: Time, options: Options) -> Self {
        let gas = Gas::new(site, seed, options.gas_variability, start);
        let online = options.online.unwrap_or(usize::MAX);
        let sets = site.gensets.iter().enumerate();
        let sets: Vec<Set> = sets
            .map(|(index, (id, set))| Set::new(id, set, gas.btu_per_scf(), index < online, start))
            .collect();
        let mut own: Vec<&Module> = modules.iter().filter(|module| module.site == site.id).collect();
        own.sort_by(|left, right| left.id.cmp(&right.id));
        let rating: f64 = sets.iter().filter(|set| set.on_bus()).map(|set| set.rating).sum();
        let target = rating * f64::from(options.load_permille) / 1_000.0;
        let nominal = site.nominal.as_f64() / 1_000.0;
        let mut island = Self {
            plants: begin(&own, target - site.unmanaged.as_f64(), seed, start, &options),
            storage: None,
            tie: None,
            bus: Bus::new(sets, site.governor, nominal),
            gas,
            unmanaged: Register::drawing(site.unmanaged.as_f64()),
            lan: BTreeMap::new(),
            extremes: (nominal, nominal),
            log: Log::default(),
            blackouts: 0,
            firm_lost: 0,
            refused: 0,
            site: site.clone(),
            options,
            start,
            now: start,
        };
        let load = island.load_at_nominal();
        island.bus.settle(load);
        island.extremes = (island.bus.frequency, island.bus.frequency);
        island.lan = island.breakers();
        island.storage = site.storage.as_ref().map(|storage| Storage::new(storage, island.bus.live));
        island.tie = site.grid.as_ref().map(|tie| Tie::new(tie, island.bus.live));
        if !island.bus.live {
            let dead = island.plants.iter_mut();
            dead.for_each(|plant| {
                plant.lose_power(start);
            });
        }
        island
    }

    /// Simulated time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The site's description.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Whether a module stands on this island.
    pub fn has(&self, module: &ModuleId) -> bool {
        self.plants.iter().any(|plant| plant.id == *module)
    }

    /// Advances exactly [`TICK`], 10 ms.
    pub fn step(&mut self) {
        self.now = self.now + TICK;
        let whole_second = (self.now - self.start).millis().rem_euclid(1_000) == 0;
        if whole_second {
            self.gas.sample(self.now);
        }
        if self.lan_is_old() {
            self.lan = self.breakers();
        }
        let load = self.load_at_nominal();
        let factor = self.bus.damping() * DT * 1_000.0;
        let fuel = self.gas.limit(self.bus.full_burn());
        let given = self.given();
        self.bus.step(load, given, fuel, self.now, DT);
        self.gas.step(self.bus.burn(), DT);
        self.unmanaged.count(factor);
        self.plants.iter_mut().for_each(|plant| plant.count(factor));
        if whole_second {
            self.second();
        }
        if self.bus.live {
            let frequency = self.bus.frequency;
            self.extremes = (self.extremes.0.min(frequency), self.extremes.1.max(frequency));
        }
        // The step was electrically what stood at its beginning: a feeder told to open in 150 ms carries current for 15 steps.
        if let Some(storage) = &mut self.storage {
            storage.step(self.bus.live, DT * 1_000.0);
        }
        if let Some(tie) = &mut self.tie {
            tie.step(self.bus.live, self.bus.frequency / self.bus.nominal, DT * 1_000.0);
        }
        for plant in &mut self.plants {
            let before = plant.energized;
            plant.step(self.now);
            if plant.energized && !before {
                self.log.push(self.now, What::PowerBack(plant.id.clone()));
            }
        }
        self.take_happenings();
    }

    /// Carries out a module's commands in order. What a device refuses is logged and counted; the rest is done.
    pub fn apply(&mut self, module: &ModuleId, commands: &[Command]) {
        for command in commands {
            if let Err(refused) = self.apply_one(module, command) {
                self.refused += 1;
                self.log.push(self.now, What::Refused(module.clone(), refused.to_string()));
            }
        }
    }

    /// What the module's agent can read now; `slow` adds what is read once a second. A module that does not stand here reads
    /// nothing.
    pub fn readings(&self, module: &ModuleId, slow: bool) -> Readings {
        let plant = self.plants.iter().find(|plant| plant.id == *module);
        let wired = plant.is_some_and(|plant| plant.wired);
        let boot = &self.options.boot;
        let feeders = plant.map(|plant| {
            plant.groups.iter().map(|(group, _)| (group.id.clone(), group.feeder_state())).collect()
        });
        Readings {
            now: self.now,
            boot: BootStamp { boot_id: boot.boot_id.clone(), at: boot.at + (self.now - self.start) },
            fast: Fast {
                frequency: plant.filter(|plant| plant.energized).and_then(|_| self.frequency()),
                gensets: if wired { self.breakers() } else { self.lan.clone() },
                feeders: feeders.unwrap_or_default(),
                switch: Switch::Remote,
            },
            slow: plant.filter(|_| slow).map(|plant| self.slow(plant)),
        }
    }

    /// Applies a fault that belongs to physics. False when it is none, or strikes nothing here.
    pub fn fault(&mut self, fault: &Fault) -> bool {
        if fault.site.as_ref().is_some_and(|site| *site != self.site.id) {
            return false;
        }
        let now = self.now;
        let hit = match &fault.kind {
            Kind::GensetTrip(id) => self.bus.trip_by_fault(id.as_ref(), now),
            Kind::GensetReset(id) => self.bus.reset(id.as_ref(), now),
            Kind::GasLoss(id) => self.gas.lose(id.as_ref(), true),
            Kind::GasBack(id) => self.gas.lose(id.as_ref(), false),
            Kind::GasDrop(percent) => {
                self.gas.left = 1.0 - f64::from(*percent) / 100.0;
                true
            }
            Kind::FeederStuck(module, group) => {
                self.with_group(module, group, |group| group.feeder.stuck = true)
            }
            Kind::MinerLiar(module, group) => self.with_group(module, group, |group| group.liar = true),
            Kind::MinerErrors(module, group) => self.with_group(module, group, |group| group.errors = true),
            Kind::MeterDead(module) => self.plant(module).map(|plant| plant.meter_dead = true).is_some(),
            Kind::StorageTrip => self.storage.as_mut().is_some_and(|storage| storage.trip(true)),
            Kind::StorageReset => self.storage.as_mut().is_some_and(|storage| storage.trip(false)),
            Kind::TieTrip => self.tie.as_mut().is_some_and(|tie| tie.trip(true)),
            Kind::TieBack => self.tie.as_mut().is_some_and(|tie| tie.trip(false)),
            Kind::TiePrice(price) => self.tie.as_mut().is_some_and(|tie| tie.reprice(*price)),
            Kind::LoadRejection => {
                self.plants.iter_mut().for_each(|plant| plant.reject_load(now));
                true
            }
            Kind::LinkLoss(..) | Kind::AgentKill(_) | Kind::LeaderLoss | Kind::PoolLoss(_) => false,
        };
        if hit {
            self.gas.sample(now);
            self.log.push(now, What::Fault(fault.kind.clone()));
            self.take_happenings();
        }
        hit
    }

    /// The main breaker of a module opens: its whole load is gone at once, and nobody closes it again. False when no such module
    /// stands here with power. What runs there ends with it and does not count as lost by the island.
    pub fn lose_module(&mut self, module: &ModuleId) -> bool {
        let now = self.now;
        let plant = self.plants.iter_mut().find(|plant| plant.id == *module && plant.energized);
        let Some(firm) = plant.map(|plant| plant.lose_power(now)) else { return false };
        self.log.push(now, What::PowerLost(module.clone(), firm));
        true
    }

    /// What is true now.
    pub fn truth(&self) -> Truth {
        let damping = self.bus.damping();
        let sets = self.bus.sets.iter().map(|set| {
            let weight_permille = (set.weight * 1_000.0).round() as u32;
            let (state, since, power) = (set.state, set.since, set.power());
            (set.id.clone(), GensetTruth { state, since, power, weight_permille })
        });
        let modules = self.plants.iter().map(|plant| (plant.id.clone(), self.module_truth(plant)));
        Truth {
            now: self.now,
            energized: self.bus.live,
            frequency: self.frequency(),
            nadir: millihertz(self.extremes.0),
            zenith: millihertz(self.extremes.1),
            load: self.load(),
            carried: self.carried(),
            unmanaged: used(&self.unmanaged, damping),
            gensets: sets.collect(),
            modules: modules.collect(),
            gas: self.gas_truth(),
            storage: self.storage.as_ref().map(Storage::truth),
            grid: self.tie.as_ref().map(Tie::truth),
            blackouts: self.blackouts,
            firm_lost: self.firm_lost,
            refused: self.refused,
        }
    }

    /// The events after number `sequence`, oldest first; the last 512 are kept.
    pub fn events_after(&self, sequence: u64) -> impl Iterator<Item = &Event> {
        self.log.after(sequence)
    }

    /// Frequency; `None` on a dead bus.
    pub fn frequency(&self) -> Option<Frequency> {
        self.bus.live.then(|| millihertz(self.bus.frequency))
    }

    /// True draw of the whole island now.
    pub fn load(&self) -> Watts {
        Watts::from_f64(self.load_at_nominal() * self.bus.damping())
    }

    /// What the sets carry of it: less what storage delivers and the grid tie imports, more what storage takes.
    pub fn carried(&self) -> Watts {
        self.load() - Watts::from_f64(self.given())
    }

    /// A module's true draw now; zero for one that does not stand here.
    pub fn power(&self, module: &ModuleId) -> Watts {
        let plant = self.plants.iter().find(|plant| plant.id == *module);
        plant.map_or(Watts::ZERO, |plant| Watts::from_f64(plant.meter.power * self.bus.damping()))
    }

    /// Nominal hash rate that a group really does now.
    pub fn active_rate(&self, module: &ModuleId, group: &MinerGroupId) -> Hashrate {
        self.group(module, group).map_or(Hashrate::ZERO, |group| group.rate(self.now))
    }

    /// What each miner of a group really hashes now, at the operating point it is at: they add up to [`Island::active_rate`].
    pub fn hash_rates(&self, module: &ModuleId, group: &MinerGroupId) -> Vec<Hashrate> {
        self.group(module, group).map_or(Vec::new(), |group| group.rates(self.now))
    }

    /// Whether the boards of a group submit shares that miss their target.
    pub fn has_hardware_errors(&self, module: &ModuleId, group: &MinerGroupId) -> bool {
        self.group(module, group).is_some_and(|group| group.errors)
    }

    fn apply_one(&mut self, module: &ModuleId, command: &Command) -> Result<(), Refused> {
        let now = self.now;
        let plant = self.plants.iter_mut().find(|plant| plant.id == *module);
        let plant = plant.ok_or_else(|| Refused::Unknown(format!("place on site {}", self.site.id)))?;
        match command {
            Command::StartGenset(id) if plant.wired => Ok(self.bus.request(id, true, now)?),
            Command::StopGenset(id) if plant.wired => Ok(self.bus.request(id, false, now)?),
            Command::SetStorage(power) if plant.wired => {
                let follows = self.storage.as_mut().map(|storage| storage.set(*power));
                followed(follows, Refused::StorageOff, || format!("storage on site {}", self.site.id))
            }
            Command::SetImport(power) if plant.wired => {
                let follows = self.tie.as_mut().map(|tie| tie.set(*power));
                followed(follows, Refused::TieOff, || format!("grid tie on site {}", self.site.id))
            }
            other => plant.apply(other, now),
        }
    }

    /// What storage and grid tie give the bus, watts; negative while storage takes more.
    fn given(&self) -> f64 {
        let stored = self.storage.as_ref().map_or(0.0, |storage| storage.power);
        stored + self.tie.as_ref().map_or(0.0, |tie| tie.power)
    }

    fn second(&mut self) {
        self.plants.iter_mut().for_each(|plant| plant.second(self.now));
        self.unmanaged.second();
    }

    fn load_at_nominal(&self) -> f64 {
        let modules: f64 = self.plants.iter().map(|plant| plant.meter.power).sum();
        self.unmanaged.power + modules
    }

    fn lan_is_old(&self) -> bool {
        let same = |set: &Set| {
            self.lan
                .get(&set.id)
                .is_some_and(|b| b.closed == Some(set.on_bus()) && b.power == Some(set.power()))
        };
        !self.bus.sets.iter().all(same)
    }

    fn breakers(&self) -> BTreeMap<GensetId, Breaker> {
        let breaker = |set: &Set| Breaker { closed: Some(set.on_bus()), power: Some(set.power()) };
        self.bus.sets.iter().map(|set| (set.id.clone(), breaker(set))).collect()
    }

    /// Draws the consequences of what happened on the bus, and logs it.
    fn take_happenings(&mut self) {
        if self.bus.happened.is_empty() {
            return;
        }
        let now = self.now;
        for happened in std::mem::take(&mut self.bus.happened) {
            let (blackout, online) =
                (happened == Happened::Blackout, matches!(happened, Happened::Online(_)));
            self.log.push(now, What::Bus(happened));
            if blackout {
                self.black_out();
            }
            if online {
                self.energize();
            }
        }
    }

    fn black_out(&mut self) {
        self.blackouts += 1;
        for plant in self.plants.iter_mut().filter(|plant| plant.energized || plant.energize_at.is_some()) {
            let firm = plant.lose_power(self.now);
            self.firm_lost += firm;
            self.log.push(self.now, What::PowerLost(plant.id.clone(), firm));
        }
    }

    fn energize(&mut self) {
        let mut at = self.now + ENERGIZE_FIRST;
        let dead = |plant: &&mut Plant| !plant.energized && plant.energize_at.is_none();
        for plant in self.plants.iter_mut().filter(dead) {
            plant.energize_at = Some(at);
            at = at + ENERGIZE_EVERY;
        }
    }

    fn slow(&self, plant: &Plant) -> Slow {
        let read = plant.energized && !plant.meter_dead;
        let groups = plant.groups.iter().map(|(group, register)| {
            let (awake, asleep) = group.counts();
            let claimed = group.claimed(self.now);
            let reading =
                GroupReading { awake, asleep, point: group.point(), power: Some(register.mean()), claimed };
            (group.id.clone(), reading)
        });
        let mut runs = BTreeMap::new();
        plant.pools.iter().for_each(|pool| pool.reports(self.now, &mut runs));
        let mut drawn: BTreeMap<WorkloadId, Watts> = BTreeMap::new();
        for tenancy in plant.pools.iter().flat_map(|pool| &pool.tenancies) {
            *drawn.entry(tenancy.run.workload.clone()).or_default() += tenancy.register.mean();
        }
        Slow {
            // The meter keeps its own supply: it reads zero in a blackout, and nothing when it is dead.
            meter: (!plant.meter_dead).then(|| if read { self.power(&plant.id) } else { Watts::ZERO }),
            register: (!plant.meter_dead).then(|| WattSeconds::new(plant.energy() / 1_000)),
            groups: groups.collect(),
            pools: plant.pools.iter().map(|pool| (pool.id.clone(), pool.report(plant.energized))).collect(),
            drawn,
            runs,
            site: plant.wired.then(|| self.site_report()),
        }
    }

    fn site_report(&self) -> SiteReport {
        let damping = self.bus.damping();
        let set = |set: &Set| GensetReport {
            state: set.state,
            power: Some(set.power()),
            for_span: self.now.since(set.since),
        };
        SiteReport {
            frequency: self.frequency(),
            gas: Some(flow(self.gas.inflow)),
            buffer: Some(GasVolume::from_f64(self.gas.buffer)),
            flared: Some(flow(self.gas.flaring)),
            load: Some(Watts::from_f64(self.load_at_nominal() * damping)),
            unmanaged: Some(Watts::from_f64(self.unmanaged.power * damping)),
            gensets: self.bus.sets.iter().map(|genset| (genset.id.clone(), set(genset))).collect(),
            storage: self.storage.as_ref().map(Storage::report),
            grid: self.tie.as_ref().map(Tie::report),
        }
    }

    fn module_truth(&self, plant: &Plant) -> ModuleTruth {
        let damping = self.bus.damping();
        let group = |(group, register): &(crate::miner_power::Group, Register)| GroupTruth {
            mining: used(register, damping),
            feeder: group.feeder_state(),
            awake: group.counts().0,
            rate: group.rate(self.now),
            claimed: group.claimed(self.now),
        };
        let run = |tenancy: &crate::server::Tenancy| RunTruth {
            tier: tenancy.run.assignment.tier,
            gpus: tenancy.run.gpus,
            ai: used(&tenancy.register, damping),
            report: tenancy.run.report(self.now),
            lost: tenancy.run.lost,
        };
        let key = |run: &crate::runtime::Run| (run.workload.clone(), run.assignment.placement.incarnation);
        let unheld = |pool: &crate::server::Pool| {
            used(&pool.unheld.with_energy(pool.unheld.energy + pool.past), damping)
        };
        let tenancies = plant.pools.iter().flat_map(|pool| &pool.tenancies);
        ModuleTruth {
            energized: plant.energized,
            total: used(&plant.meter.with_energy(plant.energy()), damping),
            auxiliary: used(&plant.auxiliary, damping),
            loss: used(&plant.loss, damping),
            groups: plant.groups.iter().map(|entry| (entry.0.id.clone(), group(entry))).collect(),
            unheld: plant.pools.iter().map(|pool| (pool.id.clone(), unheld(pool))).collect(),
            runs: tenancies.map(|tenancy| (key(&tenancy.run), run(tenancy))).collect(),
        }
    }

    fn gas_truth(&self) -> GasTruth {
        let gas = &self.gas;
        GasTruth {
            inflow: flow(gas.inflow),
            buffer: GasVolume::from_f64(gas.buffer),
            flaring: flow(gas.flaring),
            supplied: GasVolume::from_f64(gas.supplied),
            burnt: GasVolume::from_f64(gas.burnt),
            flared: GasVolume::from_f64(gas.flared),
        }
    }

    fn plant(&mut self, module: &ModuleId) -> Option<&mut Plant> {
        self.plants.iter_mut().find(|plant| plant.id == *module)
    }

    fn group(&self, module: &ModuleId, id: &MinerGroupId) -> Option<&crate::miner_power::Group> {
        let plant = self.plants.iter().find(|plant| plant.id == *module)?;
        plant.groups.iter().map(|(group, _)| group).find(|group| group.id == *id)
    }

    fn with_group(
        &mut self,
        module: &ModuleId,
        id: &MinerGroupId,
        change: impl FnOnce(&mut crate::miner_power::Group),
    ) -> bool {
        self.plant(module).and_then(|plant| plant.group(id).ok()).map(change).is_some()
    }
}

/// Whether a converter followed a command; `None` = there is none.
fn followed(follows: Option<bool>, off: Refused, place: impl Fn() -> String) -> Result<(), Refused> {
    match follows {
        Some(true) => Ok(()),
        Some(false) => Err(off),
        None => Err(Refused::Unknown(place())),
    }
}

/// The modules at the start, with as many miners awake as `target` watts carry.
fn begin(modules: &[&Module], target: f64, seed: u64, start: Time, options: &Options) -> Vec<Plant> {
    let base: f64 = modules.iter().map(|module| module.base_draw().as_f64()).sum();
    let mut spare = target - base;
    let mut plants = Vec::new();
    for module in modules {
        let each: f64 = module
            .groups
            .values()
            .map(|group| (group.full().power - group.standby).as_f64())
            .fold(0.0, f64::max)
            * (1.0 + f64::from(module.loss_permille) / 1_000.0);
        let room = (module.most() - module.base_draw()).as_f64().min(spare).max(0.0);
        let count: u32 = module.groups.values().map(|group| group.count).sum();
        let awake = if each > 0.0 { ((room / each) as u32).min(count) } else { 0 };
        spare -= f64::from(awake) * each;
        plants.push(Plant::new(module, seed, start, options, &mut awake.clone()));
    }
    plants
}

fn used(register: &Register, damping: f64) -> Use {
    Use { power: Watts::from_f64(register.power * damping), energy: register.watt_seconds() }
}

fn flow(scf_per_second: f64) -> GasFlow {
    GasFlow::from_f64(scf_per_second * 86_400.0)
}

fn millihertz(hertz: f64) -> Frequency {
    Frequency::from_f64(hertz * 1_000.0)
}
