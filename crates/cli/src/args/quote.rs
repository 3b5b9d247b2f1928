//! The flags of `quote`, and what their values may be.
//!
//! Read next: `operator/quote.rs`, which asks.

use clap::ValueEnum;
use model::Span;

use crate::duration;

/// What `quote` is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct QuoteArgs {
    /// How many GPUs or kilowatts.
    #[command(flatten)]
    pub size: SizeArgs,
    /// The GPU's type, or of bay; may be left out where the fleet has only one.
    #[arg(long, value_name = "TYPE")]
    pub gpu_type: Option<String>,
    /// How long it runs, up to 90 days.
    #[arg(long = "for", value_name = "DURATION", default_value = "72h", value_parser = term)]
    pub term: Span,
    /// What is promised.
    #[arg(long, value_enum, value_name = "TIER", default_value_t = Tier::Firm)]
    pub tier: Tier,
    /// Time from now in which the term must be served; the term itself when left out.
    #[arg(long, value_name = "DURATION", value_parser = term)]
    pub deadline: Option<Span>,
    /// Availability promised, 0 to 0.999; that of the offering of this tier and type when left out.
    #[arg(long, value_name = "SHARE", value_parser = permille)]
    pub availability: Option<u32>,
}

/// How much is asked for or ordered: exactly one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(required = true, multiple = false)]
pub struct SizeArgs {
    /// GPUs that run together, in one pool of one module.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_GPUS))]
    pub gpus: Option<u32>,
    /// Kilowatts of powered shell for machines of the tenant's own, in one pool of one module.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_KILOWATTS))]
    pub kilowatts: Option<u32>,
}

/// The most that the controller takes, as the parser of flags counts.
const MAX_GPUS: i64 = model::shell::MAX_GPUS as i64;
const MAX_KILOWATTS: i64 = model::shell::MAX_KILOWATTS as i64;

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Survives the loss of any one source.
    Firm,
    /// Runs as long as there is power.
    OnDemand,
    /// Runs while nothing better needs the power.
    Spot,
}

/// A term within the ninety days that quotes look ahead.
fn term(text: &str) -> Result<Span, String> {
    match duration::parse(text).map_err(|error| error.to_string())? {
        span if span > Span::ZERO && span <= Span::hours(90 * 24) => Ok(span),
        _ => Err("expected more than zero and at most 90d, such as 72h".to_owned()),
    }
}

/// A share in thousandths. Nothing is always there, so 1 is no promise that anybody can keep.
fn permille(text: &str) -> Result<u32, String> {
    let expected =
        || "expected a number from 0 to 0.999 with three decimals at most, such as 0.99".to_owned();
    let share: f64 = text.parse().map_err(|_| expected())?;
    let thousandths = share * 1_000.0;
    let whole = (thousandths - thousandths.round()).abs() < 1e-6;
    match (0.0..=0.999_000_1).contains(&share) && whole {
        true => Ok(thousandths.round() as u32),
        false => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    #[test]
    fn gpus_or_kilowatts_are_asked_for_and_not_both() {
        let read = |size: &str| Args::try_parse_from(format!("flareshift quote {size}").split(' '));
        let check = |size: &str, gpus: Option<u32>, kilowatts: Option<u32>| {
            let Command::Quote(quote) = read(size).unwrap().command else { panic!("{size}") };
            assert_eq!(quote.size, SizeArgs { gpus, kilowatts }, "{size}");
        };
        check("--gpus 8", Some(8), None);
        check("--kilowatts 4000", None, Some(4_000));
        let refused = |size: &str, said: &str| {
            let error = read(size).unwrap_err().to_string();
            assert!(error.contains(said), "{size}: {error}");
        };
        refused("--tier firm", "<--gpus <N>|--kilowatts <N>>");
        refused("--gpus 8 --kilowatts 500", "cannot be used with");
        refused("--kilowatts 0", "1..=4000");
        refused("--kilowatts 4001", "1..=4000");
        refused("--kilowatts 0.5", "invalid digit");
    }

    #[test]
    fn a_quote_is_for_three_days_of_firm_work_unless_told_otherwise() {
        let check = |line: &str, expected: (Tier, i64, Option<i64>, Option<u32>)| {
            let Command::Quote(quote) = Args::try_parse_from(line.split(' ')).unwrap().command else {
                panic!("{line}")
            };
            let hours = |span: Span| span.get() / 3_600_000;
            let found = (quote.tier, hours(quote.term), quote.deadline.map(hours), quote.availability);
            assert_eq!(found, expected, "{line}");
        };
        check("flareshift quote --gpus 8", (Tier::Firm, 72, None, None));
        check(
            "flareshift quote --gpus 8 --tier on-demand --for 2h --deadline 1d --availability 0.995",
            (Tier::OnDemand, 2, Some(24), Some(995)),
        );
        check("flareshift quote --gpus 8 --availability 0", (Tier::Firm, 72, None, Some(0)));
    }
}
