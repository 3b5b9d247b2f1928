//! The book of grants by tables, and against simulated agents behind a network that delays and loses.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const D: Span = Span::secs(120);
const LIMITS: Limits =
    Limits { capacity: Watts::kilo(1_000), firm_capacity: Watts::kilo(750), unmanaged: Watts::kilo(50) };

fn id(text: &str) -> ModuleId {
    ModuleId::new(text).unwrap()
}

fn site() -> SiteId {
    SiteId::new("s").unwrap()
}

fn book(modules: &[&str]) -> Book {
    let mut book = Book::new(D);
    for module in modules {
        book.register(&id(module), &site(), Watts::kilo(10));
        book.heard(&id(module), &heard(0, 0, None, 0));
    }
    book
}

fn heard(generation: u64, ceiling: i64, meter: Option<i64>, second: i64) -> Heard {
    Heard {
        generation,
        ceiling: Watts::kilo(ceiling),
        valid: generation > 0,
        meter: meter.map(Watts::kilo),
        stamp: Span::secs(second),
        rebooted: false,
        received: Time(second * 1_000),
    }
}

fn offer(generation: u64, kilo: i64) -> Offer {
    Offer { generation, ceiling: Watts::kilo(kilo), fallback: Watts::kilo(20) }
}

fn desire(kilo: i64, floor: i64) -> Desire {
    Desire { ceiling: Watts::kilo(kilo), floor: Watts::kilo(floor), fallback: Watts::kilo(20) }
}

fn allowed(book: &Book, desires: &[(&str, Desire)]) -> Vec<i64> {
    let desires = desires.iter().map(|(module, desire)| (id(module), *desire)).collect();
    book.offer(&site(), LIMITS, &desires).values().map(|allowed| allowed.ceiling.get() / 1_000).collect()
}

#[test]
fn a_raise_takes_only_the_room_there_is_firm_floors_first() {
    let book = book(&["a", "b"]);
    // 950 kW are free of unmanaged load; both hold 10 kW by having power.
    assert_eq!(allowed(&book, &[("a", desire(500, 0)), ("b", desire(400, 0))]), [500, 400]);
    assert_eq!(allowed(&book, &[("a", desire(900, 0)), ("b", desire(400, 0))]), [900, 50]);
    assert_eq!(allowed(&book, &[("a", desire(900, 0)), ("b", desire(400, 300))]), [650, 300]);
}

#[test]
fn lowered_watts_move_only_after_the_acknowledgement_and_a_later_meter_sample() {
    let mut book = book(&["a", "b"]);
    let wish = [("a", desire(300, 0)), ("b", desire(600, 0))];
    book.record(&id("a"), offer(1, 900), Time(0));
    book.heard(&id("a"), &heard(1, 900, Some(800), 1));
    assert_eq!(allowed(&book, &wish), [300, 50]);
    // A low meter alone proves nothing: the agent may still raise its draw under the old envelope.
    book.record(&id("a"), offer(2, 300), Time(2_000));
    for (report, expected) in [
        (heard(1, 900, Some(100), 3), 50),
        (heard(2, 300, Some(100), 4), 50),
        // A second later the sample may still be as old as the acknowledgement.
        (heard(2, 300, Some(100), 5), 50),
        (heard(2, 300, None, 6), 50),
        (heard(2, 300, Some(301), 7), 50),
        (heard(2, 300, Some(300), 8), 600),
    ] {
        book.heard(&id("a"), &report);
        assert_eq!(allowed(&book, &wish), [300, expected], "{report:?}");
    }
}

#[test]
fn a_reboot_starts_the_agents_clock_anew() {
    let mut book = book(&["a", "b"]);
    book.record(&id("a"), offer(1, 900), Time(0));
    book.record(&id("a"), offer(2, 100), Time(0));
    book.heard(&id("a"), &heard(2, 100, Some(90), 5_000));
    let reboot = Heard { rebooted: true, ..heard(2, 100, Some(90), 30) };
    book.heard(&id("a"), &reboot);
    assert_eq!(book.granted(&id("a")), Watts::kilo(900));
    book.heard(&id("a"), &heard(2, 100, Some(90), 32));
    assert_eq!(book.granted(&id("a")), Watts::kilo(100));
}

#[test]
fn expiry_frees_only_with_a_confirmation_from_outside() {
    let mut book = book(&["a", "b"]);
    let wish = [("b", desire(900, 0))];
    book.record(&id("a"), offer(1, 500), Time(0));
    let late = Time(120_120);
    assert_eq!(allowed(&book, &wish), [450]);
    book.confirmed_outside(&id("a"), Watts::kilo(15), Time(120_119));
    assert_eq!(allowed(&book, &wish), [450], "not expired");
    book.confirmed_outside(&id("a"), Watts::kilo(25), late);
    assert_eq!(allowed(&book, &wish), [450], "above its fallback level");
    book.confirmed_outside(&id("a"), Watts::kilo(15), late);
    assert_eq!(allowed(&book, &wish), [900], "counted at its fallback level of 20 kW");
    // Back in touch: a renewal of the same envelope needs room again.
    book.record(&id("b"), offer(1, 900), late);
    assert_eq!(allowed(&book, &[("a", desire(500, 0))]), [50]);
}

#[test]
fn a_new_leader_counts_what_was_stored_and_raises_nobody_unheard() {
    let mut book = Book::new(D);
    let elected = Time(5_000);
    for module in ["a", "b"] {
        book.register(&id(module), &site(), Watts::kilo(10));
    }
    book.inherit(&id("a"), &[offer(7, 400)], elected);
    assert_eq!(book.generation(&id("a")), 7);
    assert_eq!(book.room(&site(), LIMITS), Watts::kilo(540));
    assert_eq!(allowed(&book, &[("a", desire(600, 0)), ("b", desire(100, 0))]), [400, 10]);
    book.confirmed_outside(&id("a"), Watts::ZERO, elected + Span::new(120_119));
    assert_eq!(book.granted(&id("a")), Watts::kilo(400));
    book.heard(&id("b"), &heard(0, 0, None, 5));
    assert_eq!(allowed(&book, &[("a", desire(600, 0)), ("b", desire(100, 0))]), [400, 100]);
}

#[test]
fn watts_that_a_new_leader_counts_twice_are_offered_to_nobody() {
    // The former leader freed a's 600 kW and gave them to b; the store still has both.
    let mut book = Book::new(D);
    for module in ["a", "b"] {
        book.register(&id(module), &site(), Watts::kilo(10));
    }
    book.inherit(&id("a"), &[offer(1, 600), offer(2, 200)], Time(0));
    book.inherit(&id("b"), &[offer(1, 700)], Time(0));
    book.heard(&id("a"), &heard(2, 200, Some(150), 1));
    book.heard(&id("b"), &heard(1, 700, Some(600), 1));
    let wish = [("a", desire(600, 0)), ("b", desire(700, 0))];
    assert_eq!(allowed(&book, &wish), [200, 700]);
    let expired = Heard { valid: false, ..heard(1, 700, Some(15), 2) };
    book.heard(&id("b"), &expired);
    assert_eq!(allowed(&book, &wish), [200, 20], "an expired ceiling is no longer in force");
}

#[test]
fn when_capacity_falls_nothing_is_raised_until_the_sum_fits() {
    let mut book = book(&["a", "b"]);
    book.record(&id("a"), offer(1, 600), Time(0));
    book.heard(&id("a"), &heard(1, 600, Some(500), 1));
    let low = Limits { capacity: Watts::kilo(400), ..LIMITS };
    let desires = [(id("a"), desire(300, 0)), (id("b"), desire(50, 0))].into();
    let offered = book.offer(&site(), low, &desires);
    assert_eq!(offered[&id("a")].ceiling, Watts::kilo(300));
    assert_eq!(offered[&id("b")].ceiling, Watts::kilo(10));
}

#[test]
fn many_unanswered_offers_are_bounded_and_keep_their_worst_case() {
    let mut book = book(&["a"]);
    for generation in 1..=50 {
        book.record(&id("a"), offer(generation, 60 - generation as i64), Time(0));
    }
    assert_eq!(book.outstanding(&id("a")).len(), MAX_OFFERS);
    assert_eq!(book.granted(&id("a")), Watts::kilo(59));
    book.heard(&id("a"), &heard(50, 10, None, 1));
    book.heard(&id("a"), &heard(50, 10, Some(10), 3));
    assert_eq!(book.granted(&id("a")), Watts::kilo(20), "its fallback ceiling is higher");
}

#[test]
fn a_generation_from_before_a_restore_is_believed_and_passed() {
    let mut book = book(&["a"]);
    book.heard(&id("a"), &heard(90, 200, None, 0));
    assert_eq!((book.generation(&id("a")), book.granted(&id("a"))), (90, Watts::kilo(200)));
}

/// A simulated agent: what it has persisted, and what it draws.
#[derive(Clone, Debug)]
struct Agent {
    generation: u64,
    ceiling: Watts,
    fallback: Watts,
    expires: Time,
    draw: Watts,
    inbox: VecDeque<(Offer, Time)>,
    outbox: VecDeque<Sent>,
}

/// A report on its way.
#[derive(Clone, Copy, Debug)]
struct Sent {
    stamp: Time,
    generation: u64,
    ceiling: Watts,
    valid: bool,
    meter: Watts,
}

impl Agent {
    fn new() -> Self {
        Self {
            generation: 0,
            ceiling: Watts::ZERO,
            fallback: Watts::ZERO,
            expires: Time(0),
            draw: Watts::kilo(10),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
        }
    }

    /// The most it may draw at `now` by what it has persisted.
    fn may(&self, now: Time) -> Watts {
        let force = if now < self.expires { self.ceiling.max(self.fallback) } else { self.fallback };
        force.max(Watts::kilo(10))
    }

    fn receive(&mut self) {
        if let Some((offer, expires)) = self.inbox.pop_front()
            && offer.generation >= self.generation
        {
            let renewal = offer.generation == self.generation;
            self.expires = if renewal { self.expires.max(expires) } else { expires };
            (self.generation, self.ceiling, self.fallback) =
                (offer.generation, offer.ceiling, offer.fallback);
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// Time passes.
    Wait(u16),
    /// The agent writes a report; it waits in the network.
    Report(usize),
    /// The oldest report arrives, and is answered by what the plan wants in kW.
    Arrive(usize, [u16; 3]),
    /// The oldest report is lost.
    LoseReport(usize),
    /// The oldest directive arrives.
    Deliver(usize),
    /// The oldest directive is lost.
    LoseDirective(usize),
    /// The draw follows the ceiling in force, up or down.
    Settle(usize),
    /// The site's meter is read, and whoever is expired and silent is bounded by it.
    SiteMeter(usize),
    /// A new leader takes over from what is stored.
    Elect,
}

fn event() -> impl Strategy<Value = Event> {
    let module = 0usize..3;
    prop_oneof![
        2 => (1u16..200).prop_map(Event::Wait),
        4 => module.clone().prop_map(Event::Report),
        6 => (module.clone(), [10u16..900, 10u16..900, 10u16..900]).prop_map(|(m, want)| Event::Arrive(m, want)),
        1 => module.clone().prop_map(Event::LoseReport),
        5 => module.clone().prop_map(Event::Deliver),
        1 => module.clone().prop_map(Event::LoseDirective),
        4 => module.clone().prop_map(Event::Settle),
        2 => module.prop_map(Event::SiteMeter),
        1 => Just(Event::Elect),
    ]
}

struct World {
    now: Time,
    book: Book,
    agents: Vec<Agent>,
    names: Vec<ModuleId>,
    /// As it was when each module was last granted something: what a successor reads.
    stored: BTreeMap<ModuleId, Vec<Offer>>,
}

impl World {
    fn new() -> Self {
        let names = vec![id("a"), id("b"), id("c")];
        Self {
            now: Time(0),
            book: book(&["a", "b", "c"]),
            agents: vec![Agent::new(); 3],
            names,
            stored: BTreeMap::new(),
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Wait(seconds) => self.now = self.now + Span::secs((*seconds).into()),
            Event::Report(m) => {
                let agent = &mut self.agents[*m];
                let (generation, ceiling) = (agent.generation, agent.ceiling);
                let valid = self.now < agent.expires;
                agent.outbox.push_back(Sent {
                    stamp: self.now,
                    generation,
                    ceiling,
                    valid,
                    meter: agent.draw,
                });
            }
            Event::Arrive(m, wants) => self.arrive(*m, *wants),
            Event::LoseReport(m) => drop(self.agents[*m].outbox.pop_front()),
            Event::Deliver(m) => self.agents[*m].receive(),
            Event::LoseDirective(m) => drop(self.agents[*m].inbox.pop_front()),
            Event::Settle(m) => self.agents[*m].draw = self.agents[*m].may(self.now),
            Event::SiteMeter(m) => {
                let draw = self.agents[*m].draw;
                self.book.confirmed_outside(&self.names[*m], draw, self.now);
            }
            Event::Elect => self.elect(),
        }
    }

    fn arrive(&mut self, m: usize, wants: [u16; 3]) {
        let Some(report) = self.agents[m].outbox.pop_front() else { return };
        let name = self.names[m].clone();
        // Time on the controller moves on a little with each report, so that "later" has a meaning.
        self.now = self.now + Span::new(1);
        let heard = Heard {
            generation: report.generation,
            ceiling: report.ceiling,
            valid: report.valid,
            meter: Some(report.meter),
            stamp: report.stamp - Time(0),
            rebooted: false,
            received: self.now,
        };
        self.book.heard(&name, &heard);
        let desires = self.names.iter().zip(wants).map(|(name, kilo)| (name.clone(), desire(kilo.into(), 0)));
        let offered = self.book.offer(&site(), LIMITS, &desires.collect());
        let Allowed { ceiling, fallback } = offered[&name];
        let before = self.book.granted(&name);
        let offer = Offer { generation: self.book.generation(&name) + 1, ceiling, fallback };
        self.book.record(&name, offer, self.now);
        self.stored.insert(name.clone(), self.book.outstanding(&name));
        if self.book.granted(&name) > before {
            assert!(self.book.room(&site(), LIMITS) >= Watts::ZERO, "raised beyond capacity");
        }
        // The agent counts D from its own stamp.
        self.agents[m].inbox.push_back((offer, report.stamp + D));
    }

    fn elect(&mut self) {
        let mut next = Book::new(D);
        for name in &self.names {
            next.register(name, &site(), Watts::kilo(10));
            next.inherit(name, self.stored.get(name).map_or(&[][..], Vec::as_slice), self.now);
        }
        self.book = next;
        // Reports of the old leader's sessions die with their connections, and so do its directives.
        for agent in &mut self.agents {
            agent.outbox.clear();
        }
    }

    /// Invariant 1 as the plant sees it.
    fn holds(&self) -> Result<(), TestCaseError> {
        let may: Watts = self.agents.iter().map(|agent| agent.may(self.now).max(agent.draw)).sum();
        prop_assert!(may + LIMITS.unmanaged <= LIMITS.capacity, "{may} at {}: {:?}", self.now, self.agents);
        for (name, agent) in self.names.iter().zip(&self.agents) {
            let most = agent.may(self.now).max(agent.draw);
            prop_assert!(self.book.granted(name) >= most, "{name} is granted less than its {most}");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]
    #[test]
    fn no_order_of_delays_losses_and_elections_grants_more_than_the_island_carries(
        events in prop::collection::vec(event(), 1..160)
    ) {
        let mut world = World::new();
        for event in &events {
            world.apply(event);
            world.holds()?;
        }
    }
}

#[test]
fn while_a_grant_may_be_unknown_nobody_is_offered_more_than_is_in_force() {
    let mut book = book(&["a", "b"]);
    book.record(&id("a"), offer(1, 300), Time(0));
    book.record(&id("a"), offer(2, 500), Time(0));
    book.heard(&id("a"), &heard(1, 300, Some(200), 1));
    let wish = |kilo: i64| [(id("a"), desire(kilo, 0)), (id("b"), desire(kilo, 0))].into();
    let kept = |kilo: i64| -> Vec<i64> {
        let kept = book.keep(&site(), &wish(kilo));
        kept.values().map(|allowed| allowed.ceiling.get() / 1_000).collect()
    };
    // The agent of a holds 300 kW, whatever else was offered; b holds what it draws with everything asleep.
    assert_eq!(kept(900), [300, 10]);
    assert_eq!(kept(100), [100, 10]);
    assert_eq!(book.offer(&site(), LIMITS, &wish(400)).values().next().unwrap().ceiling, Watts::kilo(400));
}

#[test]
fn a_report_says_whether_it_changes_what_may_be_offered() {
    let mut book = book(&["a", "b"]);
    book.record(&id("a"), offer(1, 900), Time(0));
    let mut check = |report: Heard, expected: bool| {
        let before = allowed(&book, &[("a", desire(900, 0)), ("b", desire(900, 0))]);
        assert_eq!(book.heard(&id("a"), &report), expected, "{report:?}");
        let after = allowed(&book, &[("a", desire(900, 0)), ("b", desire(900, 0))]);
        assert!(expected || before == after, "{report:?} changed what is offered and did not say so");
    };
    check(heard(0, 0, Some(20), 1), false);
    // It has taken the envelope.
    check(heard(1, 900, Some(20), 2), true);
    check(heard(1, 900, Some(700), 3), false);
    // The envelope has expired, and holds again.
    check(Heard { valid: false, ..heard(1, 900, Some(20), 4) }, true);
    check(Heard { valid: false, ..heard(1, 900, Some(20), 5) }, false);
    check(heard(1, 900, Some(20), 6), true);
    // Nobody here gave it that one.
    check(heard(7, 100, Some(20), 7), true);
    check(heard(7, 100, Some(20), 9), true);
    check(heard(7, 100, Some(20), 10), false);
    assert!(!book.heard(&id("nobody"), &heard(1, 1, None, 1)));
}

/// A module that still draws what a superseded fallback allowed: the site's meter shows that its ceilings are not used, and not that
/// the newer, lower fallback is kept.
#[test]
fn a_draw_under_a_superseded_fallback_counts_until_it_is_gone() {
    use Event::*;
    let mut world = World::new();
    let events = [
        Report(1),
        Report(2),
        Report(0),
        Arrive(1, [10, 21, 10]),
        Arrive(0, [413, 10, 10]),
        Wait(121),
        SiteMeter(0),
        Arrive(2, [10, 10, 517]),
        Elect,
        Report(0),
        Arrive(0, [10, 10, 10]),
        Deliver(0),
        Settle(0),
        Deliver(0),
        Report(0),
        Arrive(0, [10, 10, 10]),
        Wait(121),
        SiteMeter(0),
    ];
    for event in &events {
        world.apply(event);
        world.holds().unwrap();
    }
    let module = id("a");
    assert_eq!(world.book.granted(&module), world.agents[0].draw, "its ceilings are free, its draw is not");
    world.apply(&Settle(0));
    world.apply(&SiteMeter(0));
    world.holds().unwrap();
    assert_eq!(world.book.granted(&module), world.agents[0].draw);
}
