//! The flags of `workload submit` that say where a workload may run, and beside whom of its tenant.
//!
//! Read next: `operator/workload.rs`, which sends them.

use api::common as wire;
use clap::ValueEnum;

/// Where it may run, and beside whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct AffinityArgs {
    /// A site it may run on; may be given again. Any when left out.
    #[arg(long, value_name = "ID", conflicts_with = "not_site")]
    pub site: Vec<String>,
    /// A site it may not run on; may be given again.
    #[arg(long, value_name = "ID")]
    pub not_site: Vec<String>,
    /// The tenant's group that it belongs to; all of it name the same rule, --together or --spread.
    #[arg(long, value_name = "NAME", requires = "rule")]
    pub group: Option<String>,
    /// All of the group run on one site.
    #[arg(long, group = "rule", requires = "group")]
    pub together: bool,
    /// At most so many of the group run in one place; 1 keeps them apart.
    #[arg(long, value_name = "N", group = "rule", requires = "group", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub spread: Option<u32>,
    /// What counts as one place for --spread; a site when left out.
    #[arg(long, value_enum, value_name = "PLACE", requires = "spread", conflicts_with = "together")]
    pub per: Option<Place>,
}

/// What counts as one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Place {
    /// Its power and its link fail as one.
    Site,
    /// Its cooling and its switch fail as one.
    Module,
}

impl AffinityArgs {
    /// As the wire has it; nothing where nothing was said.
    pub fn wire(self) -> Option<wire::Affinity> {
        let Self { site, not_site, group, together, spread, per } = self;
        let list = |sites: Vec<String>| wire::SiteList { sites };
        let sites = match (site.is_empty(), not_site.is_empty()) {
            (false, _) => Some(wire::affinity::Sites::Only(list(site))),
            (true, false) => Some(wire::affinity::Sites::Except(list(not_site))),
            (true, true) => None,
        };
        let per = match per {
            Some(Place::Module) => wire::GroupDomain::Module,
            Some(Place::Site) | None => wire::GroupDomain::Site,
        };
        let together = together.then_some(wire::workload_group::Rule::Together(wire::GroupTogether {}));
        let spread = spread
            .map(|most| wire::workload_group::Rule::Spread(wire::GroupSpread { most, per: per.into() }));
        let group = group.map(|id| wire::WorkloadGroup { id, rule: together.or(spread) });
        (sites.is_some() || group.is_some()).then_some(wire::Affinity { sites, group })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;
    use model::affinity::Affinity;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        affinity: AffinityArgs,
    }

    fn parse(flags: &str) -> Result<AffinityArgs, String> {
        let parsed = Command::try_parse_from(["submit"].into_iter().chain(flags.split_whitespace()));
        parsed.map(|command| command.affinity).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_say_where_and_beside_whom() {
        let check = |flags: &str, expected: Option<&str>| {
            let sent = parse(flags).unwrap().wire().map(|sent| Affinity::try_from(sent).unwrap());
            assert_eq!(
                sent.map(|sent| serde_json::to_string(&sent).unwrap()).as_deref(),
                expected,
                "{flags}"
            );
        };
        check("", None);
        check("--site a --site b", Some(r#"{"sites":{"only":["a","b"]}}"#));
        check("--not-site a", Some(r#"{"sites":{"except":["a"]}}"#));
        check("--group web --together", Some(r#"{"group":{"id":"web","rule":"together"}}"#));
        check(
            "--group web --spread 1",
            Some(r#"{"group":{"id":"web","rule":{"spread":{"most":1,"per":"site"}}}}"#),
        );
        check(
            "--site a --group web --spread 3 --per module",
            Some(
                r#"{"sites":{"only":["a"]},"group":{"id":"web","rule":{"spread":{"most":3,"per":"module"}}}}"#,
            ),
        );
    }

    #[test]
    fn flags_that_contradict_each_other_are_usage_errors() {
        for flags in [
            "--site a --not-site b",
            "--group web",
            "--together",
            "--spread 2",
            "--group web --spread 0",
            "--group web --spread 2 --together",
            "--group web --together --per site",
        ] {
            assert!(parse(flags).is_err(), "{flags}");
        }
    }
}
