//! A refusal in words, in two views: operators are told which part fails and whose promise would break, tenants which resource is short.
//!
//! Invariant: the tenant's view names no site, set, well, workload or price. Codes are stable. Read next: [`super::Refusal`].

use model::SoldBy;

use super::{Cause, Refusal, Risks};
use crate::outlook::Short;

/// Millionths as a percentage with two decimals, rounded down.
pub fn percent(ppm: u64) -> String {
    format!("{}.{:02} %", ppm / 10_000, ppm % 10_000 / 100)
}

impl Refusal {
    /// The stable code for operators.
    pub const fn code(&self) -> &'static str {
        match self {
            Refusal::NoSuchGpu => "no_such_gpu",
            Refusal::Now(short) => short.as_str(),
            Refusal::Level { .. } => "level",
            Refusal::Breaks(_) => "breaks",
        }
    }

    /// The stable code for tenants: the class of resource that is short.
    pub const fn tenant_code(&self) -> &'static str {
        match self {
            Refusal::NoSuchGpu => "no_such_gpu",
            Refusal::Now(Short::Gpus | Short::ModuleLimit) => "no_gpus",
            Refusal::Now(Short::OneSet | Short::FirmCapacity | Short::Reserve) => "no_firm_capacity",
            Refusal::Now(_) => "no_power",
            Refusal::Level { .. } | Refusal::Breaks(_) => "level",
        }
    }

    /// Why, for operators. `risks` are those of the quote, and the type asked for is sold so.
    pub fn operator(&self, risks: &Risks, sold: SoldBy) -> String {
        let units = sold.units();
        match self {
            Refusal::NoSuchGpu => format!("no module has {units} of that type"),
            Refusal::Now(short) => format!("it cannot start now: {}", meaning(*short, sold)),
            Refusal::Level { availability_ppm, level_ppm, cause, wells, sets } => format!(
                "{} of the term would be served and {} is promised: {}",
                percent(*availability_ppm),
                percent(*level_ppm),
                fails(*cause, *wells, *sets, risks)
            ),
            Refusal::Breaks(workload) => {
                format!(
                    "it would take the {units} or the power that stand by for {workload}, which was promised more"
                )
            }
        }
    }

    /// Why, for the tenant who asks for a type that is sold so.
    pub fn tenant(&self, sold: SoldBy) -> String {
        let units = sold.units();
        match self {
            Refusal::NoSuchGpu => format!("{units} of that type are not there"),
            Refusal::Now(Short::Gpus | Short::ModuleLimit) => {
                format!("not enough free {units} of that type together")
            }
            Refusal::Now(Short::OneSet | Short::FirmCapacity | Short::Reserve) => {
                "not enough power that survives the loss of a source".into()
            }
            Refusal::Now(_) => "not enough power".into(),
            Refusal::Level { availability_ppm, level_ppm, cause, .. } => {
                let short = match cause {
                    Cause::Gas => "gas runs short",
                    Cause::Sets => "generation fails",
                    Cause::Both => "power runs short",
                };
                let (kept, level) = (percent(*availability_ppm), percent(*level_ppm));
                format!("{kept} of the term would be served and {level} is promised, mostly because {short}")
            }
            Refusal::Breaks(_) => "the capacity that stands by is promised already".into(),
        }
    }
}

fn fails(cause: Cause, wells: u32, sets: u32, risks: &Risks) -> String {
    let tenths = |permille: u32| format!("{}.{} %", permille / 10, permille % 10);
    match cause {
        Cause::Gas => {
            let dry = tenths(risks.well.permille + risks.common.permille);
            let well = counted(wells, "one well", "wells");
            format!("{well}, {}dry {dry} of days", if wells == 1 { "" } else { "each " })
        }
        Cause::Sets => {
            let out = tenths(risks.set.permille + risks.service.permille);
            let set = counted(sets, "one set", "sets");
            format!("{set}, {}out {out} of time", if sets == 1 { "" } else { "each " })
        }
        Cause::Both => "gas and sets fail together, or promises given before take what is left".into(),
    }
}

fn counted(number: u32, one: &str, many: &str) -> String {
    if number == 1 { one.into() } else { format!("{number} {many}") }
}

fn meaning(short: Short, sold: SoldBy) -> &'static str {
    match short {
        Short::Silent => "the site never reported",
        Short::Gas => "no gas, or less than the least load of one set",
        Short::Sets => "no set can run",
        Short::OneSet => "fewer than two sets run, and nothing firm is sold on one",
        Short::Gpus => sold.pick(
            "the GPUs of that type are held, or stand in modules that take nothing new",
            "the kilowatts of that type are held, or stand in modules that take nothing new",
        ),
        Short::Power => "other load takes the power",
        Short::FirmCapacity => "what survives the loss of a set is taken",
        Short::Reserve => {
            "too little load that feeders could drop stands beside, or the gang is too large a step"
        }
        Short::ModuleLimit => "a module's own limit",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::WorkloadId;

    use super::*;

    fn level(cause: Cause, wells: u32) -> Refusal {
        Refusal::Level { availability_ppm: 931_259, level_ppm: 999_000, cause, wells, sets: 3 }
    }

    #[test]
    fn operators_are_told_what_fails_and_how_often() {
        let check = |refusal: Refusal, code: &str, words: &str| {
            assert_eq!(refusal.code(), code);
            assert_eq!(refusal.operator(&Risks::default(), SoldBy::Gpu), words);
        };
        let begin = "93.12 % of the term would be served and 99.90 % is promised: ";
        check(level(Cause::Gas, 1), "level", &format!("{begin}one well, dry 8.0 % of days"));
        check(level(Cause::Gas, 2), "level", &format!("{begin}2 wells, each dry 8.0 % of days"));
        check(level(Cause::Sets, 1), "level", &format!("{begin}3 sets, each out 5.0 % of time"));
        check(
            Refusal::Now(Short::OneSet),
            "one_set",
            "it cannot start now: fewer than two sets run, and nothing firm is sold on one",
        );
    }

    /// All that a tenant could learn of others or of the plant from a refusal.
    #[test]
    fn tenants_are_told_the_class_of_what_is_short_and_nothing_else() {
        let foreign = WorkloadId::new("w-foreign").unwrap();
        let shorts = [
            Short::Silent,
            Short::Gas,
            Short::Sets,
            Short::OneSet,
            Short::Gpus,
            Short::Power,
            Short::FirmCapacity,
            Short::Reserve,
            Short::ModuleLimit,
        ];
        let mut all = shorts.map(Refusal::Now).to_vec();
        all.extend([Cause::Gas, Cause::Sets, Cause::Both].map(|cause| level(cause, 2)));
        all.extend([Refusal::Breaks(foreign), Refusal::NoSuchGpu]);
        for refusal in all {
            let told = refusal.tenant(SoldBy::Gpu);
            for word in ["w-foreign", "well", "site", "$", "module", "sets"] {
                assert!(!told.contains(word), "{refusal:?}: {told}");
            }
            let shell =
                [refusal.tenant(SoldBy::Kilowatt), refusal.operator(&Risks::default(), SoldBy::Kilowatt)];
            assert!(!shell.concat().contains("GPU"), "of a powered shell: {shell:?}");
            assert!(
                ["no_such_gpu", "no_gpus", "no_firm_capacity", "no_power", "level"]
                    .contains(&refusal.tenant_code())
            );
        }
    }
}
