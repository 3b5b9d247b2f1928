//! Power caps on GPU work: what a cap costs, and what a run draws under one.
//!
//! A cap is the most that *one run* may draw, its share of its servers' idle power included: what a driver sets evenly on the run's
//! GPUs (a power limit is per GPU), and what the meter of the run shows. What is measured stands in [`GpuPool::curve`]; between
//! two points the pace is interpolated, which is what a concave curve makes at least. Read next: [`crate::module`].

use serde::{Deserialize, Serialize};

use crate::module::GpuPool;
use crate::unit::{Pace, Watts};

/// Most points of a curve; a driver offers steps of some 25 W a GPU, and a dozen are more than anybody measures.
pub const MOST_POINTS: usize = 16;
/// What a run makes without a cap.
pub const FULL: Pace = Pace::new(1_000);

/// One point of a pool's cap curve: what was measured with every GPU of a server at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapPoint {
    /// Most one fully loaded server draws under the cap.
    pub power: Watts,
    /// What its work then makes.
    pub pace: Pace,
}

/// What a run may be held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What each of its GPUs adds to the idle draw of its server.
    pub per_gpu: Watts,
    /// What it makes.
    pub pace: Pace,
}

impl GpuPool {
    /// What a run whose contract has this floor may be held to, least power first. Full speed is the last, and the only one
    /// without a floor or where no curve was measured.
    pub fn settings(&self, floor: Option<Pace>) -> Vec<Setting> {
        let allowed = self.curve.iter().filter(|point| floor.is_some_and(|floor| point.pace >= floor));
        let capped = allowed.map(|point| Setting { per_gpu: self.adds(point.power), pace: point.pace });
        capped.chain([Setting { per_gpu: self.per_gpu(), pace: FULL }]).collect()
    }

    /// The least that a run whose contract has this floor may be held to.
    pub fn least(&self, floor: Option<Pace>) -> Setting {
        let allowed = self.curve.iter().find(|point| floor.is_some_and(|floor| point.pace >= floor));
        allowed.map_or(Setting { per_gpu: self.per_gpu(), pace: FULL }, |point| Setting {
            per_gpu: self.adds(point.power),
            pace: point.pace,
        })
    }

    /// The idle power of a run's GPUs: their share of their servers'.
    pub fn idle_share(&self, gpus: u32) -> Watts {
        self.idle.fraction(gpus.into(), self.gpus.max(1).into())
    }

    /// The cap that holds a run of so many GPUs to a setting.
    pub fn cap(&self, gpus: u32, setting: Setting) -> Watts {
        self.idle_share(gpus) + setting.per_gpu.times(gpus.into())
    }

    /// What a run of so many GPUs adds to the idle draw of the pool, at most.
    pub fn run_draw(&self, gpus: u32, cap: Option<Watts>) -> Watts {
        let full = self.per_gpu().times(gpus.into());
        cap.map_or(full, |cap| full.min((cap - self.idle_share(gpus)).at_least_zero()))
    }

    /// What a run makes whose GPUs add so much each: what is interpolated between the measured points, rounded down, and nothing
    /// below the first, since nobody measured that.
    pub fn pace(&self, per_gpu: Watts) -> Pace {
        if per_gpu >= self.per_gpu() {
            return FULL;
        }
        let corners: Vec<Setting> = self.settings(Some(Pace::ZERO));
        let above = corners.iter().position(|corner| corner.per_gpu > per_gpu);
        let Some((low, high)) =
            above.and_then(|nth| Some((corners.get(nth.checked_sub(1)?)?, corners.get(nth)?)))
        else {
            return Pace::ZERO;
        };
        let (over, width) = (per_gpu - low.per_gpu, high.per_gpu - low.per_gpu);
        low.pace + (high.pace - low.pace).fraction(over.get(), width.get())
    }

    /// What each GPU of a loaded server adds that draws so much, rounded up.
    fn adds(&self, power: Watts) -> Watts {
        let gpus = i64::from(self.gpus.max(1));
        Watts::new(((power - self.idle).at_least_zero().get() + gpus - 1) / gpus)
    }

    /// The first thing about the curve that cannot be; `None` = it may be used.
    pub fn curve_fault(&self) -> Option<&'static str> {
        let full = CapPoint { power: self.active, pace: FULL };
        let origin = CapPoint { power: self.idle, pace: Pace::ZERO };
        let inside = |point: &CapPoint| {
            (self.cap_min.max(self.idle + Watts::new(1))..self.active).contains(&point.power)
                && (Pace::new(1)..FULL).contains(&point.pace)
        };
        let corners: Vec<CapPoint> =
            [origin].into_iter().chain(self.curve.iter().copied()).chain([full]).collect();
        let rises = |pair: &[CapPoint]| pair[0].power < pair[1].power && pair[0].pace < pair[1].pace;
        let bends = |three: &[CapPoint]| {
            let part = |from: CapPoint, to: CapPoint| {
                (i128::from((to.power - from.power).get()), i128::from((to.pace - from.pace).get()))
            };
            let (first, second) = (part(three[0], three[1]), part(three[1], three[2]));
            second.1 * first.0 <= first.1 * second.0
        };
        if self.curve.len() > MOST_POINTS {
            Some("its curve has more than 16 points; leave out those that lie nearly on a line")
        } else if !self.curve.iter().all(inside) {
            Some(
                "needs each point's power from cap_min up to below active and above idle, and its pace from 1 to 999; full power at 1000 \
                 is understood",
            )
        } else if !corners.windows(2).all(rises) {
            Some("needs its points in ascending power, and a higher pace for more power")
        } else if !corners.windows(3).all(bends) {
            Some(
                "its curve must be concave from idle at 0 to active at 1000: each further watt brings no more than the one before; \
                 measure again, or leave out points that lie below the line between their neighbours",
            )
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8 GPUs, 2 kW idle, 10 kW active, and points as (watts, thousandths).
    fn pool(points: &[(i64, i64)]) -> GpuPool {
        let point =
            |&(power, pace): &(i64, i64)| CapPoint { power: Watts::new(power), pace: Pace::new(pace) };
        GpuPool {
            gpu: "h100".into(),
            servers: 2,
            gpus: 8,
            idle: Watts::kilo(2),
            active: Watts::kilo(10),
            cap_min: Watts::kilo(5),
            curve: points.iter().map(point).collect(),
        }
    }

    const MEASURED: [(i64, i64); 2] = [(6_000, 700), (8_000, 900)];

    #[test]
    fn only_what_the_contract_allows_may_be_set() {
        let check = |floor: Option<i64>, expected: &[(i64, i64)]| {
            let settings = pool(&MEASURED).settings(floor.map(Pace::new));
            let found: Vec<_> = settings.iter().map(|set| (set.per_gpu.get(), set.pace.get())).collect();
            assert_eq!(found, expected, "floor {floor:?}");
            assert_eq!(pool(&MEASURED).least(floor.map(Pace::new)), settings[0]);
        };
        check(None, &[(1_000, 1_000)]);
        check(Some(950), &[(1_000, 1_000)]);
        check(Some(900), &[(750, 900), (1_000, 1_000)]);
        check(Some(1), &[(500, 700), (750, 900), (1_000, 1_000)]);
    }

    #[test]
    fn a_cap_counts_the_idle_share_and_a_draw_does_not() {
        let pool = pool(&MEASURED);
        let low = pool.settings(Some(Pace::new(1)))[0];
        assert_eq!(pool.cap(4, low), Watts::kilo(3));
        let check = |cap: Option<i64>, expected| {
            assert_eq!(pool.run_draw(4, cap.map(Watts::new)), Watts::new(expected), "{cap:?}");
        };
        check(None, 4_000);
        check(Some(3_000), 2_000);
        check(Some(9_000), 4_000);
        check(Some(0), 0);
    }

    #[test]
    fn the_pace_is_interpolated_and_nothing_below_what_was_measured() {
        let check = |per_gpu, expected| {
            assert_eq!(pool(&MEASURED).pace(Watts::new(per_gpu)), Pace::new(expected), "{per_gpu} W");
        };
        check(1_000, 1_000);
        check(1_500, 1_000);
        check(875, 950);
        check(750, 900);
        check(500, 700);
        check(499, 0);
        assert_eq!(pool(&[]).pace(Watts::new(999)), Pace::ZERO);
        assert_eq!(pool(&[]).pace(Watts::new(1_000)), FULL);
    }

    #[test]
    fn a_curve_that_cannot_be_is_told_what_it_needs() {
        let check = |points: &[(i64, i64)], expected: Option<&str>| {
            let fault = pool(points).curve_fault();
            assert_eq!(fault.is_some(), expected.is_some(), "{points:?}: {fault:?}");
            assert!(
                fault.unwrap_or_default().contains(expected.unwrap_or_default()),
                "{points:?}: {fault:?}"
            );
        };
        check(&[], None);
        check(&MEASURED, None);
        check(&[(6_000, 500)], None);
        check(&[(6_000, 499)], Some("concave"));
        check(&[(6_000, 700), (8_000, 840)], Some("concave"));
        check(&[(8_000, 900), (6_000, 700)], Some("ascending"));
        check(&[(6_000, 700), (8_000, 700)], Some("ascending"));
        check(&[(4_900, 700)], Some("cap_min"));
        check(&[(10_000, 900)], Some("below active"));
        check(&[(6_000, 1_000)], Some("1 to 999"));
        check(&[(6_000, 0)], Some("1 to 999"));
        let many: Vec<_> = (0..17).map(|nth| (5_000 + nth * 100, 600 + nth * 10)).collect();
        check(&many, Some("16 points"));
    }
}
