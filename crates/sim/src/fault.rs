//! Faults by name: `NAME@TIME[:ARGUMENT]`, e.g. `genset-trip@60s:g1` or `link-loss@5m:well-7-gpu,90s`.
//!
//! The registry [`FAULTS`] is the one list of names; the command line prints it. Physical faults are applied by
//! [`crate::island::Island::fault`]; the others ([`Kind::is_physical`] is false) by whoever runs links and processes. A fault
//! that names no site strikes every site at which it can.

use model::{GasSourceId, GensetId, MicroDollars, MinerGroupId, ModuleId, SiteId, Span};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When, counted from the start of the simulation.
    pub at: Span,
    /// Where; `None` = at every site.
    pub site: Option<SiteId>,
    /// What.
    pub kind: Kind,
}

/// What fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A set trips; the most loaded one for `None`.
    GensetTrip(Option<GensetId>),
    /// A person resets a tripped set; all for `None`.
    GensetReset(Option<GensetId>),
    /// A gas source ends; all for `None`.
    GasLoss(Option<GasSourceId>),
    /// A gas source flows again; all for `None`.
    GasBack(Option<GasSourceId>),
    /// All gas falls by so many percent.
    GasDrop(u8),
    /// Storage trips off the bus.
    StorageTrip,
    /// A person resets tripped storage.
    StorageReset,
    /// The grid is gone: the grid tie trips.
    TieTrip,
    /// The grid is back.
    TieBack,
    /// The grid's signal says that a megawatt-hour costs so much; `None` = it says nothing any more.
    TiePrice(Option<MicroDollars>),
    /// A feeder no longer opens.
    FeederStuck(ModuleId, MinerGroupId),
    /// A module's meter ceases to answer.
    MeterDead(ModuleId),
    /// A miner group claims more than it does.
    MinerLiar(ModuleId, MinerGroupId),
    /// The boards of a miner group go bad: some nonces that they submit miss the target.
    MinerErrors(ModuleId, MinerGroupId),
    /// All miner feeders of the site open at once.
    LoadRejection,
    /// A module's agent loses its link to the controller, for so long or for good.
    LinkLoss(ModuleId, Option<Span>),
    /// A module's agent is killed and starts again.
    AgentKill(ModuleId),
    /// The leading controller loses its office, as if its lease had run out.
    LeaderLoss,
    /// The upstream pool is gone, for so long or for good.
    PoolLoss(Option<Span>),
}

/// One line of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name before the `@`.
    pub name: &'static str,
    /// The form of its argument; empty = none.
    pub argument: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// Every fault there is, in the order in which it is listed.
pub const FAULTS: &[Entry] = &[
    Entry {
        name: "genset-trip",
        argument: "[[SITE/]GENSET]",
        help: "a set trips; by default the most loaded one",
    },
    Entry {
        name: "genset-reset",
        argument: "[[SITE/]GENSET]",
        help: "a person resets tripped sets, by default all",
    },
    Entry { name: "gas-loss", argument: "[[SITE/]SOURCE]", help: "a gas source ends, by default all" },
    Entry {
        name: "gas-back",
        argument: "[[SITE/]SOURCE]",
        help: "a lost gas source flows again, by default all",
    },
    Entry { name: "gas-drop", argument: "[SITE/]PERCENT", help: "all gas falls by so many percent" },
    Entry { name: "storage-trip", argument: "[SITE]", help: "the storage of a site trips off the bus" },
    Entry { name: "storage-reset", argument: "[SITE]", help: "a person resets tripped storage" },
    Entry { name: "tie-trip", argument: "[SITE]", help: "the grid of a site is gone, and its tie with it" },
    Entry { name: "tie-back", argument: "[SITE]", help: "a lost grid is back" },
    Entry {
        name: "tie-price",
        argument: "[SITE/]DOLLARS",
        help: "a MWh from the grid costs so many dollars; `none` = nobody says how many",
    },
    Entry {
        name: "feeder-stuck",
        argument: "MODULE/GROUP",
        help: "the feeder of a miner group no longer opens",
    },
    Entry { name: "meter-dead", argument: "MODULE", help: "the meter of a module no longer answers" },
    Entry {
        name: "miner-liar",
        argument: "MODULE/GROUP",
        help: "a miner group claims more hash rate than it does",
    },
    Entry {
        name: "miner-errors",
        argument: "MODULE/GROUP",
        help: "the boards of a miner group go bad: every other share misses its target",
    },
    Entry { name: "load-rejection", argument: "[SITE]", help: "all miner feeders of a site open at once" },
    Entry {
        name: "link-loss",
        argument: "MODULE[,DURATION]",
        help: "an agent loses its link to the controller",
    },
    Entry { name: "agent-kill", argument: "MODULE", help: "an agent is killed and starts again" },
    Entry {
        name: "leader-loss",
        argument: "",
        help: "the leading controller loses its office; another one stands by",
    },
    Entry { name: "pool-loss", argument: "[DURATION]", help: "the upstream mining pool is gone" },
];

/// Why a text is no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No time, or no name.
    #[error("{text:?} is no fault: write NAME@TIME or NAME@TIME:ARGUMENT, e.g. genset-trip@60s:g1")]
    Form {
        /// What was given.
        text: String,
    },
    /// A time that is none.
    #[error("{text:?} is no time: write a whole number and a unit, ms, s, m or h, e.g. 60s")]
    Time {
        /// What was given.
        text: String,
    },
    /// A name nobody knows.
    #[error("no fault is called {name:?}; there are {}", names())]
    Unknown {
        /// What was given.
        name: String,
    },
    /// An argument that is none.
    #[error("{name} takes {} as its argument, not {given:?}", expected(name))]
    Argument {
        /// The fault's name.
        name: String,
        /// What was given.
        given: String,
    },
}

impl Kind {
    /// Whether the simulated plant itself applies it.
    pub fn is_physical(&self) -> bool {
        !matches!(self, Kind::LinkLoss(..) | Kind::AgentKill(_) | Kind::LeaderLoss | Kind::PoolLoss(_))
    }
}

/// Reads a span such as `250ms`, `60s`, `5m`, `1h`.
pub fn parse_span(text: &str) -> Result<Span, Error> {
    let wrong = || Error::Time { text: text.to_owned() };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Span::new(number)),
        "s" => Ok(Span::secs(number)),
        "m" => Ok(Span::minutes(number)),
        "h" => Ok(Span::hours(number)),
        _ => Err(wrong()),
    }
}

impl std::str::FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, rest) = text.split_once('@').ok_or_else(|| Error::Form { text: text.to_owned() })?;
        if !FAULTS.iter().any(|entry| entry.name == name) {
            return Err(Error::Unknown { name: name.to_owned() });
        }
        let (time, argument) = match rest.split_once(':') {
            Some((time, argument)) => (time, Some(argument)),
            None => (rest, None),
        };
        let at = parse_span(time)?;
        let wrong =
            || Error::Argument { name: name.to_owned(), given: argument.unwrap_or_default().to_owned() };
        let (site, kind) = parse_kind(name, argument).ok_or_else(wrong)?;
        Ok(Self { at, site, kind })
    }
}

/// What a known name and its argument mean; `None` when the argument does not fit.
fn parse_kind(name: &str, argument: Option<&str>) -> Option<(Option<SiteId>, Kind)> {
    let nowhere = |kind| Some((None, kind));
    match name {
        "genset-trip" => optional_at_site(argument).map(|(site, id)| (site, Kind::GensetTrip(id))),
        "genset-reset" => optional_at_site(argument).map(|(site, id)| (site, Kind::GensetReset(id))),
        "gas-loss" => optional_at_site(argument).map(|(site, id)| (site, Kind::GasLoss(id))),
        "gas-back" => optional_at_site(argument).map(|(site, id)| (site, Kind::GasBack(id))),
        "gas-drop" => {
            let (site, percent) = at_site(argument?)?;
            let percent = percent.strip_suffix('%').unwrap_or(percent).parse().ok()?;
            (percent <= 100).then_some((site, Kind::GasDrop(percent)))
        }
        "feeder-stuck" => group(argument?).and_then(|(module, id)| nowhere(Kind::FeederStuck(module, id))),
        "miner-liar" => group(argument?).and_then(|(module, id)| nowhere(Kind::MinerLiar(module, id))),
        "miner-errors" => group(argument?).and_then(|(module, id)| nowhere(Kind::MinerErrors(module, id))),
        "meter-dead" => nowhere(Kind::MeterDead(argument?.parse().ok()?)),
        "agent-kill" => nowhere(Kind::AgentKill(argument?.parse().ok()?)),
        "load-rejection" => whole_site(argument, Kind::LoadRejection),
        "storage-trip" => whole_site(argument, Kind::StorageTrip),
        "storage-reset" => whole_site(argument, Kind::StorageReset),
        "tie-trip" => whole_site(argument, Kind::TieTrip),
        "tie-back" => whole_site(argument, Kind::TieBack),
        "tie-price" => {
            let (site, price) = at_site(argument?)?;
            let dollars = || price.parse::<u32>().ok().map(|dollars| MicroDollars::dollars(dollars.into()));
            let price = if price == "none" { None } else { Some(dollars()?) };
            Some((site, Kind::TiePrice(price)))
        }
        "link-loss" => {
            let argument = argument?;
            let (module, span) = argument.split_once(',').map_or((argument, None), |(m, s)| (m, Some(s)));
            nowhere(Kind::LinkLoss(module.parse().ok()?, optional_span(span)?))
        }
        "leader-loss" if argument.is_none() => nowhere(Kind::LeaderLoss),
        "pool-loss" => nowhere(Kind::PoolLoss(optional_span(argument)?)),
        _ => None,
    }
}

/// A fault whose argument is the site alone.
fn whole_site(site: Option<&str>, kind: Kind) -> Option<(Option<SiteId>, Kind)> {
    Some((site.map(str::parse).transpose().ok()?, kind))
}

fn optional_span(text: Option<&str>) -> Option<Option<Span>> {
    text.map(parse_span).transpose().ok()
}

fn at_site(text: &str) -> Option<(Option<SiteId>, &str)> {
    match text.split_once('/') {
        Some((site, rest)) => Some((Some(site.parse().ok()?), rest)),
        None => Some((None, text)),
    }
}

fn optional_at_site<K: model::id::Kind>(
    text: Option<&str>,
) -> Option<(Option<SiteId>, Option<model::Id<K>>)> {
    let Some(text) = text else { return Some((None, None)) };
    let (site, id) = at_site(text)?;
    Some((site, Some(id.parse().ok()?)))
}

fn group(text: &str) -> Option<(ModuleId, MinerGroupId)> {
    let (module, group) = text.split_once('/')?;
    Some((module.parse().ok()?, group.parse().ok()?))
}

fn names() -> String {
    FAULTS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

fn expected(name: &str) -> &'static str {
    let argument = FAULTS.iter().find(|entry| entry.name == name).map_or("", |entry| entry.argument);
    if argument.is_empty() { "nothing" } else { argument }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(text: &str, at: Span, site: Option<&str>, kind: Kind) {
        let site = site.map(|site| site.parse().unwrap());
        assert_eq!(text.parse::<Fault>(), Ok(Fault { at, site, kind }), "{text}");
    }

    fn check_error(text: &str, part: &str) {
        let error = text.parse::<Fault>().expect_err(text).to_string();
        assert!(error.contains(part), "{text}: {error}");
    }

    #[test]
    fn faults_are_read_with_time_and_argument() {
        let module = || ModuleId::new("well-7-gpu").unwrap();
        let group = || MinerGroupId::new("a").unwrap();
        let minute = Span::secs(60);
        check("genset-trip@60s", minute, None, Kind::GensetTrip(None));
        check("genset-trip@1m:g1", minute, None, Kind::GensetTrip(Some("g1".parse().unwrap())));
        check(
            "genset-trip@1m:mesa-2/g1",
            minute,
            Some("mesa-2"),
            Kind::GensetTrip(Some("g1".parse().unwrap())),
        );
        check("genset-reset@1m", minute, None, Kind::GensetReset(None));
        check("storage-trip@1m", minute, None, Kind::StorageTrip);
        check("storage-reset@1m:well-7", minute, Some("well-7"), Kind::StorageReset);
        check("tie-trip@1m", minute, None, Kind::TieTrip);
        check("tie-back@1m:well-7", minute, Some("well-7"), Kind::TieBack);
        check("tie-price@1m:900", minute, None, Kind::TiePrice(Some(MicroDollars::dollars(900))));
        check("tie-price@1m:mesa-2/none", minute, Some("mesa-2"), Kind::TiePrice(None));
        check("gas-loss@1h:w2", Span::hours(1), None, Kind::GasLoss(Some("w2".parse().unwrap())));
        check("gas-back@250ms", Span::new(250), None, Kind::GasBack(None));
        check("gas-drop@60s:30", minute, None, Kind::GasDrop(30));
        check("gas-drop@60s:mesa-2/30%", minute, Some("mesa-2"), Kind::GasDrop(30));
        check("feeder-stuck@60s:well-7-gpu/a", minute, None, Kind::FeederStuck(module(), group()));
        check("meter-dead@60s:well-7-gpu", minute, None, Kind::MeterDead(module()));
        check("miner-liar@60s:well-7-gpu/a", minute, None, Kind::MinerLiar(module(), group()));
        check("miner-errors@60s:well-7-gpu/a", minute, None, Kind::MinerErrors(module(), group()));
        check("load-rejection@60s:well-7", minute, Some("well-7"), Kind::LoadRejection);
        check("link-loss@60s:well-7-gpu", minute, None, Kind::LinkLoss(module(), None));
        check("link-loss@60s:well-7-gpu,90s", minute, None, Kind::LinkLoss(module(), Some(Span::secs(90))));
        check("agent-kill@60s:well-7-gpu", minute, None, Kind::AgentKill(module()));
        check("leader-loss@60s", minute, None, Kind::LeaderLoss);
        check("pool-loss@60s:2m", minute, None, Kind::PoolLoss(Some(Span::minutes(2))));
    }

    #[test]
    fn errors_say_what_to_write() {
        check_error("genset-trip", "NAME@TIME");
        check_error("genset-trip@soon", "\"soon\" is no time");
        check_error("genset-trip@60", "is no time");
        check_error("genset-trip@s", "is no time");
        check_error("gremlins@60s", "there are genset-trip, genset-reset, gas-loss");
        check_error("gas-drop@60s", "takes [SITE/]PERCENT");
        check_error("gas-drop@60s:130", "not \"130\"");
        check_error("tie-price@60s", "takes [SITE/]DOLLARS");
        check_error("tie-price@60s:-5", "not \"-5\"");
        check_error("tie-price@60s:NaN", "not \"NaN\"");
        check_error("feeder-stuck@60s:a", "takes MODULE/GROUP");
        check_error("controller-kill@60s", "no fault is called \"controller-kill\"");
        check_error("leader-loss@60s:now", "takes nothing");
        check_error("genset-trip@60s:G1", "takes [[SITE/]GENSET]");
    }

    #[test]
    fn every_entry_of_the_registry_parses() {
        for entry in FAULTS {
            let argument = match entry.name {
                "gas-drop" | "tie-price" => ":10",
                "feeder-stuck" | "miner-liar" | "miner-errors" => ":m/g",
                "meter-dead" | "agent-kill" | "link-loss" => ":m",
                _ => "",
            };
            let text = format!("{}@1s{argument}", entry.name);
            assert!(text.parse::<Fault>().is_ok(), "{text}");
        }
    }
}
