//! Powered shell: power and cooling sold by the kilowatt, for machines that are the tenant's own.
//!
//! A bay is a server of a pool and a kilowatt is a GPU of it: held it draws 1,000 W, free it draws nothing, and nobody caps it. So
//! seats, N-1, promises, quotes and bills are those of gangs. Which of both a type is, its name says ([`SoldBy::of`]). We save
//! nothing of a tenant's machines: such a contract has no checkpoint, its progress is never lost, and what a gang needs to save is
//! its notice, after which its feeder opens. Read next: docs/decisions/0021-powered-shell.md.

use std::fmt;

use crate::module::GpuPool;
use crate::time::Span;
use crate::unit::Watts;

/// The type of what is sold by the kilowatt. Other kinds of bays are `kilowatt-` and a name, such as `kilowatt-liquid`.
pub const KILOWATT: &str = "kilowatt";
/// Most GPUs of one workload: a gang runs in one pool of one module, and no module has more.
pub const MAX_GPUS: u32 = 1_024;
/// Most kilowatts of one workload, and of one pool: a forty-foot container takes some 2 MW, and a double one 4.
pub const MAX_KILOWATTS: u32 = 4_000;

/// Longest notice: what is told to stop draws until then. Half of the ten minutes for which an agent keeps a run without hearing from a
/// controller, so that one which is out of touch may come back before it must give notice.
pub const LONGEST_NOTICE: Span = Span::minutes(5);

/// What one unit of a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SoldBy {
    /// A GPU of our servers.
    Gpu,
    /// A kilowatt for a tenant's own.
    Kilowatt,
}

impl SoldBy {
    /// What one unit of this type is.
    pub fn of(kind: &str) -> Self {
        let rest = kind.strip_prefix(KILOWATT);
        let named = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        if named { SoldBy::Kilowatt } else { SoldBy::Gpu }
    }

    /// One thing for what is sold by the GPU, another for what is sold by the kilowatt.
    pub fn pick<T>(self, gpu: T, kilowatt: T) -> T {
        match self {
            SoldBy::Gpu => gpu,
            SoldBy::Kilowatt => kilowatt,
        }
    }

    /// Most units of one workload.
    pub fn most(self) -> u32 {
        self.pick(MAX_GPUS, MAX_KILOWATTS)
    }

    /// The field of an order that says how many.
    pub fn field(self) -> &'static str {
        self.pick("gpus", "kilowatts")
    }

    /// One unit, in sentences.
    pub fn unit(self) -> &'static str {
        self.pick("GPU", "kilowatt")
    }

    /// Units, in sentences.
    pub fn units(self) -> &'static str {
        self.pick("GPUs", "kilowatts")
    }

    /// One unit for an hour, in sentences. A kW-hour is a kilowatt held for an hour, drawn or not.
    pub fn hour(self) -> &'static str {
        self.pick("GPU-hour", "kW-hour")
    }

    /// So many units: `8 GPUs`, `500 kW`.
    pub fn count(self, units: impl fmt::Display) -> String {
        format!("{units} {}", self.pick("GPUs", "kW"))
    }
}

/// Sums of both, which are never added: `8 GPUs`, `500 kW`, `8 GPUs and 500 kW`.
pub fn sums(gpus: u64, kilowatts: u64) -> String {
    match (gpus, kilowatts) {
        (_, 0) => SoldBy::Gpu.count(gpus),
        (0, _) => SoldBy::Kilowatt.count(kilowatts),
        _ => format!("{} and {}", SoldBy::Gpu.count(gpus), SoldBy::Kilowatt.count(kilowatts)),
    }
}

impl GpuPool {
    /// The first thing about a pool that is sold by the kilowatt that cannot be; `None` also where it is sold by the GPU.
    pub fn shell_fault(&self) -> Option<&'static str> {
        let full = Watts::kilo(self.gpus.into());
        let total = u64::from(self.servers) * u64::from(self.gpus);
        match SoldBy::of(&self.gpu) {
            SoldBy::Gpu => None,
            SoldBy::Kilowatt if !self.curve.is_empty() => {
                Some("is sold by the kilowatt, and nobody caps a tenant's own machines; leave `curve` out")
            }
            SoldBy::Kilowatt if self.idle != Watts::ZERO || self.active != full || self.cap_min != full => {
                Some(
                    "is sold by the kilowatt: needs `idle = 0`, and `active` and `cap_min` of 1000 W for each kilowatt of a bay (`gpus`)",
                )
            }
            SoldBy::Kilowatt if total > MAX_KILOWATTS.into() => Some(
                "has more than 4000 kW in all its bays (`servers` times `gpus`); describe it as several pools",
            ),
            SoldBy::Kilowatt => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cap::CapPoint;
    use crate::unit::Pace;

    #[test]
    fn a_type_says_by_its_name_what_one_unit_is() {
        let check = |kind: &str, expected| assert_eq!(SoldBy::of(kind), expected, "{kind}");
        check("kilowatt", SoldBy::Kilowatt);
        check("kilowatt-liquid", SoldBy::Kilowatt);
        for kind in ["h100", "", "kilowatts", "kilowatt2", "a-kilowatt", "Kilowatt"] {
            check(kind, SoldBy::Gpu);
        }
    }

    #[test]
    fn amounts_carry_their_unit() {
        let say = |sold: SoldBy| (sold.count(8), sold.hour(), sold.units(), sold.field(), sold.most());
        assert_eq!(say(SoldBy::Gpu), ("8 GPUs".into(), "GPU-hour", "GPUs", "gpus", 1_024));
        assert_eq!(say(SoldBy::Kilowatt), ("8 kW".into(), "kW-hour", "kilowatts", "kilowatts", 4_000));
        assert_eq!([sums(0, 0), sums(8, 0), sums(0, 500)], ["0 GPUs", "8 GPUs", "500 kW"]);
        assert_eq!(sums(8, 500), "8 GPUs and 500 kW");
    }

    #[test]
    fn a_shell_pool_that_cannot_be_is_told_what_it_needs() {
        /// Four bays of 100 kW.
        fn bays() -> GpuPool {
            GpuPool {
                gpu: KILOWATT.into(),
                servers: 4,
                gpus: 100,
                idle: Watts::ZERO,
                active: Watts::kilo(100),
                cap_min: Watts::kilo(100),
                curve: Vec::new(),
            }
        }
        let check = |spoil: fn(&mut GpuPool), expected: Option<&str>| {
            let mut pool = bays();
            spoil(&mut pool);
            let fault = pool.shell_fault();
            assert_eq!(fault.is_some(), expected.is_some(), "{pool:?}: {fault:?}");
            assert!(fault.unwrap_or_default().contains(expected.unwrap_or_default()), "{pool:?}: {fault:?}");
        };
        check(|_| (), None);
        check(|it| it.gpu = "kilowatt-liquid".into(), None);
        check(|it| it.servers = 40, None);
        check(|it| it.servers = 41, Some("4000 kW"));
        check(|it| it.servers = u32::MAX, Some("4000 kW"));
        check(|it| it.idle = Watts::new(1), Some("`idle = 0`"));
        check(|it| it.active = Watts::kilo(99), Some("1000 W for each kilowatt"));
        check(|it| it.cap_min = Watts::kilo(50), Some("`cap_min`"));
        fn curved(it: &mut GpuPool) {
            it.curve = vec![CapPoint { power: Watts::kilo(60), pace: Pace::new(700) }];
        }
        check(curved, Some("leave `curve` out"));
        fn ours(it: &mut GpuPool) {
            curved(it);
            (it.gpu, it.idle) = ("h100".into(), Watts::kilo(2));
        }
        check(ours, None);
        assert_eq!(bays().run_draw(37, None), Watts::kilo(37));
        assert_eq!(bays().draw(0), Watts::ZERO);
    }
}
