//! A whole installation that faults are done to: an etcd of three, controllers of which one leads, agents of two simulated sites,
//! with a link that can be cut between any two of them; and what must hold after each fault.
//!
//! Judged from outside of the controllers: by the witness beside the agents, by the ledger's files, by etcd's own history.
//! Read next: `witness.rs`, `history.rs`, `link.rs`; `../faults/`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cli::Cli;
use super::cluster::Cluster;
use super::fleet::{Place, SITES};
use super::history::{History, Shown};
use super::ledger::Ledger;
use super::link::Link;
use super::load::{Load, TENANT};
use super::process::Process;
use super::witness::{HELD, Page, assert_nothing_ran_twice};
use super::{PATIENCE, wait_for};

/// One controller, where it lives, and its links.
pub struct Seat {
    pub place: Place,
    pub process: Option<Process>,
    /// One to each member of etcd.
    pub to_etcd: Vec<Link>,
    /// From all agents.
    pub from_agents: Link,
    /// It does not answer, or what it says of itself is not to be believed.
    pub away: bool,
}

/// All of it. What is dropped is killed.
pub struct Installation {
    pub seats: Vec<Seat>,
    pub agents: Vec<Option<Process>>,
    pub history: History,
    pub cluster: Cluster,
    /// Plans so far.
    pub generation: u64,
    begun: Instant,
}

impl Seat {
    fn new(cluster: &Cluster) -> Self {
        let to_etcd: Vec<Link> = cluster.addresses().iter().map(|member| Link::to(member)).collect();
        let members: Vec<&str> = to_etcd.iter().map(|link| link.address.as_str()).collect();
        let mut place = Place::new(&format!("etcd://{}/e2e", members.join(",")));
        let from_agents = Link::to(&place.grpc);
        place.advertise = Some(format!("http://{}", from_agents.address));
        Self { place, process: None, to_etcd, from_agents, away: false }
    }

    pub fn start(&mut self) {
        let mut process = self.place.controller();
        process.wait_for_line("controller starts", PATIENCE);
        self.process = Some(process);
    }

    /// The process that runs there.
    pub fn running(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// Asks this controller alone.
    pub fn leads(&self) -> bool {
        let asked = self.place.cli().ask(&["--no-follow", "status"]);
        asked.is_ok_and(|status| status["leadership"]["is_me"] == true)
    }

    pub fn cut_from_etcd(&self, cut: bool) {
        self.to_etcd.iter().for_each(|link| if cut { link.cut() } else { link.heal() });
    }
}

impl Installation {
    /// Starts everything and waits until the fleet is whole. `None` where there is no etcd and none is required.
    pub fn start_or_skip(controllers: usize) -> Option<Self> {
        let mut cluster = Cluster::ready_or_skip()?;
        let begun = Instant::now();
        cluster.start();
        let seats = (0..controllers).map(|_| Seat::new(&cluster)).collect();
        let history = History::default();
        let mut installation = Self { seats, agents: Vec::new(), history, cluster, generation: 0, begun };
        installation.seats.iter_mut().for_each(Seat::start);
        installation.agents = SITES.iter().map(|site| Some(installation.agent(site))).collect();
        installation.wait_until_whole();
        installation.cli().make_tenant(TENANT);
        println!("the installation was whole after {} ms", installation.begun.elapsed().as_millis());
        Some(installation)
    }

    /// The agents of a site, with every controller's address.
    pub fn agent(&self, site: &str) -> Process {
        let known: Vec<&str> = self.seats.iter().map(|seat| seat.from_agents.address.as_str()).collect();
        self.home().agent_of(site, &known)
    }

    /// Where the agents live.
    pub fn home(&self) -> &Place {
        &self.seats[0].place
    }

    /// The seat of who leads.
    pub fn leader(&self) -> usize {
        wait_for("one controller leads", PATIENCE, || {
            let leads =
                self.seats.iter().position(|seat| seat.process.is_some() && !seat.away && seat.leads());
            leads.ok_or_else(|| "none says that it leads".to_owned())
        })
    }

    /// The command line against who leads.
    pub fn cli(&self) -> Cli {
        self.seats[self.leader()].place.cli()
    }

    /// Orders at every controller, as tenants do.
    pub fn load(&self) -> Load {
        Load::start(self.seats.iter().map(|seat| seat.place.grpc.clone()).collect())
    }

    /// Waits until every module is online under a valid envelope and a newer plan than the last one known is in force.
    pub fn wait_until_whole(&mut self) {
        let after = self.generation;
        self.generation = wait_for("the fleet is whole", 3 * PATIENCE, || {
            let leader = self.leader();
            self.seats[leader].place.whole(after)
        });
    }

    /// The store was replaced by another: what it says of revisions and plans begins anew.
    pub fn begin_anew(&mut self) {
        self.history = History::default();
        self.generation = 0;
    }

    /// The fault is over: waits until the fleet is whole again, and checks what must hold. Prints how long it took since `begun`.
    pub fn recovered(&mut self, what: &str, begun: Instant) {
        self.wait_until_whole();
        let whole = begun.elapsed().as_millis();
        let Shown { leaders, plans, changes, by_leader: _ } =
            self.history.judge(&self.cluster, self.generation);
        for file in self.pages() {
            Page::read(&file).unwrap().assert_unbroken(what);
        }
        assert_nothing_ran_twice(&self.pages(), what);
        self.ledger().assert_contiguous();
        println!(
            "{what}: whole again after {whole} ms with plan {}; {changes} changes, {} leaders, {} plans so far",
            self.generation,
            leaders.len(),
            plans.len()
        );
    }

    /// What was acknowledged is there, once; nothing is there that nobody asked for.
    pub fn settle(&self, load: Load) {
        let acknowledged = load.end();
        assert!(!acknowledged.is_empty(), "nothing was ever acknowledged");
        let cli = self.cli();
        let there = cli.workloads();
        for (request, workload) in &acknowledged {
            let found = there.iter().filter(|id| *id == workload).count();
            assert_eq!(found, 1, "{workload}, acknowledged to {request}, among {there:?}");
            let again = wait_for("the request again", PATIENCE, || cli.submit(TENANT, request));
            assert_eq!(again, *workload, "{request} asked again");
        }
        // The last request may have been stored without its answer.
        assert!(there.len() <= acknowledged.len() + 1, "{there:?}, of which {acknowledged:?} were asked for");
        println!("{} orders were acknowledged, and all are there", acknowledged.len());
    }

    /// What the witnesses of all sites have written.
    pub fn pages(&self) -> Vec<PathBuf> {
        SITES.iter().map(|site| self.home().witness(site)).collect()
    }

    /// Shares that pools have accepted, over all sites.
    pub fn accepted(&self) -> u64 {
        self.pages().iter().map(|file| Page::read(file).unwrap().accepted()).sum()
    }

    /// Waits until pools have accepted more shares: mining goes on.
    pub fn wait_for_mining(&self, when: &str) {
        let before = self.accepted();
        wait_for(&format!("shares are accepted {when}"), PATIENCE, || {
            let now = self.accepted();
            if now > before { Ok(()) } else { Err(format!("still {now}")) }
        });
    }

    /// What controllers keep and agents still hold: the same segment is the same wherever it lies.
    pub fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for site in SITES {
            ledger.merge(Ledger::waiting(&self.home().agent_data(site)));
        }
        for seat in &self.seats {
            ledger.merge(Ledger::kept(&seat.place.ledger()));
        }
        ledger
    }

    /// Ends everything in order, and judges what can be judged only then: every share and every segment.
    pub fn finish(mut self) {
        let begun = Instant::now();
        for agent in self.agents.iter_mut().flatten() {
            agent.terminate();
        }
        for agent in self.agents.drain(..).flatten() {
            let ended = agent.end(PATIENCE);
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        }
        for file in self.pages() {
            let page = Page::read(&file).unwrap();
            assert!(page.is_last(), "{} is not the last word", file.display());
            let looked = page.assert_unbroken("at the end");
            let silent: Vec<u64> = HELD.into_iter().filter(|number| looked.get(number) == Some(&0)).collect();
            assert!(silent.is_empty(), "in {} s nobody looked at {silent:?}", page.seconds());
        }
        let runs = assert_nothing_ran_twice(&self.pages(), "at the end");
        let ledger = self.ledger();
        ledger.assert_contiguous();
        let shown = self.history.judge(&self.cluster, self.generation);
        for seat in &mut self.seats {
            if let Some(process) = seat.process.take() {
                ended_in_order(process);
            }
        }
        println!(
            "ended after {} ms, {} s in all: {} starts of workloads, {} segments of {} modules, {} plans",
            begun.elapsed().as_millis(),
            self.begun.elapsed().as_secs(),
            runs,
            ledger.segments(),
            ledger.modules(),
            shown.plans.len()
        );
    }
}

/// Ends a controller by SIGTERM.
pub fn ended_in_order(mut process: Process) {
    process.terminate();
    let ended = process.end(PATIENCE);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Passes so much time, for faults that last: the rest of the installation goes on meanwhile.
pub fn lasts(fault: Duration) {
    std::thread::sleep(fault);
}
