//! How many sets run in each step, as a dynamic programme: exact for sets that are taken in one order.
//!
//! Sets stand in an order; in each step the first so many of them run. A set that is started carries load once its start time is over;
//! after a start nothing is stopped for the shortest run, after a stop nothing is started for the shortest stop, and after a start the
//! next one waits until it carries. From the first step on everything may be asked for at once, later one set a step. All counts are of
//! whole steps. Where choices earn the same, what runs goes on.

/// Settled, or so many steps after a start or a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Settled,
    Up(usize),
    Down(usize),
}

/// One set.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    /// The step in which it carries load if it goes on; `None` where it does not run.
    pub(crate) carries: Option<usize>,
    /// Steps from its start until it carries load.
    pub(crate) start: usize,
    /// Micro-dollars.
    pub(crate) start_cost: i64,
    /// Micro-dollars a step.
    pub(crate) step_cost: i64,
    /// What it is worth that it still runs at the end.
    pub(crate) kept: i64,
}

/// What may be chosen.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// In the order in which they are taken; at most [`MOST`].
    pub(crate) sets: Vec<Set>,
    /// Fewest and most that may run in each step.
    pub(crate) range: Vec<(usize, usize)>,
    /// What each step counts, in thousandths: what is expected later is less certain.
    pub(crate) weights: Vec<i64>,
    pub(crate) min_run: usize,
    pub(crate) min_off: usize,
}

/// Most sets of one island that are chosen among.
pub(crate) const MOST: usize = 12;

/// What an island earns.
pub(crate) trait Gains {
    /// In one step with these sets carrying load, bit i for set i; without what the sets cost.
    fn gain(&mut self, step: usize, carrying: u16) -> i64;
    /// Whether so many may run from this step on, where fewer did.
    fn may_start(&mut self, step: usize, count: usize) -> bool;
}

/// Of the first so many sets.
struct Sums {
    starts: Vec<i64>,
    steps: Vec<i64>,
    kept: Vec<i64>,
}

impl Sums {
    fn of(sets: &[Set]) -> Self {
        let sums = |of: fn(&Set) -> i64| {
            let added = sets.iter().scan(0, |sum, set| {
                *sum += of(set);
                Some(*sum)
            });
            std::iter::once(0).chain(added).collect()
        };
        Self {
            starts: sums(|set| set.start_cost),
            steps: sums(|set| set.step_cost),
            kept: sums(|set| set.kept),
        }
    }
}

impl Program {
    /// How many run in each step, and what that earns.
    pub(crate) fn solve(&self, gains: &mut impl Gains) -> (Vec<usize>, i64) {
        let steps = self.range.len();
        let ages = self.ages();
        let sums = Sums::of(&self.sets);
        let marks = 1 + 2 * ages;
        let states = (self.sets.len() + 1) * marks;
        let index = |count: usize, mark: Mark| count * marks + self.number(mark, ages);
        let mut worth = vec![0; states];
        for (count, kept) in sums.kept.iter().enumerate() {
            worth[count * marks..(count + 1) * marks].fill(*kept);
        }
        let mut chosen = vec![vec![0_u8; states]; steps];
        for step in (1..steps).rev() {
            let mut before = vec![i64::MIN / 2; states];
            for count in 0..=self.sets.len() {
                for mark in (0..marks).map(|number| self.mark(number, ages)) {
                    if matches!(mark, Mark::Up(age) | Mark::Down(age) if age == 0 || age > step) {
                        continue;
                    }
                    let near = [count, count.saturating_sub(1), count + 1];
                    let best =
                        self.best((gains, &sums), (step, count, mark), near.into_iter(), |to, mark| {
                            worth[index(to, mark)]
                        });
                    let at = index(count, mark);
                    (before[at], chosen[step][at]) = (best.0, best.1 as u8);
                }
            }
            worth = before;
        }
        let now = self.running();
        let all = std::iter::once(now).chain((0..=self.sets.len()).filter(|&count| count != now));
        let (earned, first) =
            self.best((gains, &sums), (0, now, Mark::Settled), all, |to, mark| worth[index(to, mark)]);
        let mut path = vec![first];
        let mut mark = self.next(now, first, Mark::Settled);
        for step in 1..steps {
            let count = path[step - 1];
            let to = usize::from(chosen[step][index(count, mark)]);
            mark = self.next(count, to, mark);
            path.push(to);
        }
        (path, earned)
    }

    /// The best that can be chosen in a step, and what it and all that follows earn. Where nothing is allowed what runs goes on.
    fn best(
        &self,
        (gains, sums): (&mut impl Gains, &Sums),
        (step, count, mark): (usize, usize, Mark),
        choices: impl Iterator<Item = usize>,
        after: impl Fn(usize, Mark) -> i64,
    ) -> (i64, usize) {
        let mut best = (i64::MIN / 2, count);
        for to in choices {
            if !self.may(gains, step, count, to, mark) {
                continue;
            }
            let next = self.next(count, to, mark);
            let carrying = self.carrying(step, to, Self::made(count, to, mark));
            let starts = sums.starts[to] - sums.starts[count.min(to)];
            let earned = gains.gain(step, carrying).saturating_sub(sums.steps[to]);
            let worth = earned.saturating_mul(self.weights[step]) / 1_000 - starts + after(to, next);
            if worth > best.0 {
                best = (worth, to);
            }
        }
        best
    }

    fn may(&self, gains: &mut impl Gains, step: usize, count: usize, to: usize, mark: Mark) -> bool {
        let (least, most) = self.range[step];
        if to > self.sets.len() {
            return false;
        }
        match (to.cmp(&count), mark) {
            // What runs goes on, whatever the range says: it is for choices.
            (std::cmp::Ordering::Equal, _) => count >= least.min(self.sets.len()),
            (std::cmp::Ordering::Greater, Mark::Down(_)) => false,
            (std::cmp::Ordering::Greater, Mark::Up(age)) if age < self.slowest() => false,
            (std::cmp::Ordering::Greater, _) => to <= most.max(least) && gains.may_start(step, to),
            (std::cmp::Ordering::Less, Mark::Up(_)) => false,
            (std::cmp::Ordering::Less, _) => to >= least,
        }
    }

    /// What follows from a choice at the begin of the next step.
    fn next(&self, count: usize, to: usize, mark: Mark) -> Mark {
        match Self::made(count, to, mark) {
            Mark::Up(age) if age + 1 < self.least_up() => Mark::Up(age + 1),
            Mark::Down(age) if age + 1 < self.min_off => Mark::Down(age + 1),
            _ => Mark::Settled,
        }
    }

    /// What was chosen last, in the step of the choice.
    fn made(count: usize, to: usize, mark: Mark) -> Mark {
        match to.cmp(&count) {
            std::cmp::Ordering::Greater => Mark::Up(0),
            std::cmp::Ordering::Less => Mark::Down(0),
            std::cmp::Ordering::Equal => mark,
        }
    }

    /// Who carries load in a step.
    fn carrying(&self, step: usize, count: usize, mark: Mark) -> u16 {
        let now = self.running();
        let begun = match mark {
            // Everything may be started at once in the first step, later one set a step.
            Mark::Up(age) => if age == step { now } else { count.saturating_sub(1) }.min(count),
            _ => count,
        };
        let ready = |(nth, set): &(usize, &Set)| match mark {
            Mark::Up(age) if *nth >= begun => age >= set.start,
            _ => set.carries.is_none_or(|from| from <= step),
        };
        self.sets[..count].iter().enumerate().filter(ready).map(|(nth, _)| 1 << nth).sum()
    }

    /// How many run now.
    pub(crate) fn running(&self) -> usize {
        self.sets.iter().filter(|set| set.carries.is_some()).count()
    }

    fn slowest(&self) -> usize {
        self.sets.iter().map(|set| set.start).max().unwrap_or(0)
    }

    /// Steps for which nothing is stopped after a start.
    fn least_up(&self) -> usize {
        self.min_run.max(self.slowest())
    }

    fn ages(&self) -> usize {
        self.least_up().max(self.min_off) + 1
    }

    fn number(&self, mark: Mark, ages: usize) -> usize {
        match mark {
            Mark::Settled => 0,
            Mark::Up(age) => 1 + age,
            Mark::Down(age) => 1 + ages + age,
        }
    }

    fn mark(&self, number: usize, ages: usize) -> Mark {
        match number {
            0 => Mark::Settled,
            up if up <= ages => Mark::Up(up - 1),
            down => Mark::Down(down - 1 - ages),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// What each set of carriers earns in each step, and where starts are allowed.
    #[derive(Debug)]
    struct Table {
        gains: Vec<Vec<i64>>,
        starts: Vec<bool>,
    }

    impl Gains for Table {
        fn gain(&mut self, step: usize, carrying: u16) -> i64 {
            self.gains[step][usize::from(carrying)]
        }

        fn may_start(&mut self, step: usize, _: usize) -> bool {
            self.starts[step]
        }
    }

    /// What one path of counts earns, told set by set; `None` where a rule forbids it.
    fn played(program: &Program, table: &Table, path: &[usize]) -> Option<i64> {
        let slowest = program.sets.iter().map(|set| set.start).max().unwrap_or(0);
        // From when on each set carries load.
        let mut carries: Vec<Option<usize>> = program.sets.iter().map(|set| set.carries).collect();
        let mut running = carries.iter().flatten().count();
        let (mut up, mut down): (Option<usize>, Option<usize>) = (None, None);
        let mut earned = 0;
        for (step, &count) in path.iter().enumerate() {
            let (least, most) = program.range[step];
            if count > running {
                let near = step == 0 || count == running + 1;
                let loaded = up.is_none_or(|at| step - at >= slowest);
                let rested = down.is_none_or(|at| step - at >= program.min_off);
                if !(near && loaded && rested && table.starts[step] && count <= most.max(least)) {
                    return None;
                }
                (up, down) = (Some(step), None);
                for (set, carries) in program.sets.iter().zip(&mut carries).take(count).skip(running) {
                    earned -= set.start_cost;
                    *carries = Some(step + set.start);
                }
            } else if count < running {
                let near = step == 0 || count + 1 == running;
                let run = up.is_none_or(|at| step - at >= program.min_run.max(slowest));
                if !(near && run && count >= least) {
                    return None;
                }
                (up, down) = (None, Some(step));
                carries[count..].fill(None);
            } else if count < least {
                return None;
            }
            running = count;
            let ready = |nth: &usize| carries[*nth].is_some_and(|from| from <= step);
            let mask: usize = (0..count).filter(ready).map(|nth| 1 << nth).sum();
            let paid: i64 = program.sets[..count].iter().map(|set| set.step_cost).sum();
            earned += (table.gains[step][mask] - paid) * program.weights[step] / 1_000;
        }
        Some(earned + program.sets[..running].iter().map(|set| set.kept).sum::<i64>())
    }

    /// Every path of counts.
    fn paths(steps: usize, sets: usize) -> Vec<Vec<usize>> {
        let mut all = vec![Vec::new()];
        for _ in 0..steps {
            let longer = |path: &Vec<usize>| {
                let path = path.clone();
                (0..=sets).map(move |count| path.iter().copied().chain([count]).collect())
            };
            all = all.iter().flat_map(longer).collect();
        }
        all
    }

    fn set(running: bool) -> impl Strategy<Value = Set> {
        (0..3_usize, 0..3_usize, 0..40_i64, 0..15_i64).prop_map(
            move |(carries, start, start_cost, step_cost)| Set {
                carries: running.then_some(carries),
                start,
                start_cost,
                step_cost,
                kept: start_cost / 2,
            },
        )
    }

    const STEPS: usize = 5;

    fn cases() -> impl Strategy<Value = (Program, Table)> {
        let sets = (1..=3_usize, 0..=3_usize)
            .prop_flat_map(|(count, running)| (0..count).map(|nth| set(nth < running)).collect::<Vec<_>>());
        let gains = prop::collection::vec(prop::collection::vec(0..100_i64, 8), STEPS);
        let starts = prop::collection::vec(prop::bool::weighted(0.8), STEPS);
        let bounds = (0..=2_usize, 1..=3_usize, 0..4_usize, 0..4_usize, 700..=1_000_i64);
        (sets, gains, starts, bounds).prop_map(
            |(sets, gains, starts, (least, most, min_run, min_off, weight))| {
                let running = sets.iter().filter(|set| set.carries.is_some()).count();
                // What must run, runs.
                let range = (least.min(running), most.min(sets.len()));
                let weights = std::iter::successors(Some(1_000), |before| Some(before * weight / 1_000));
                let weights = weights.take(STEPS).collect();
                (
                    Program { sets, range: vec![range; STEPS], weights, min_run, min_off },
                    Table { gains, starts },
                )
            },
        )
    }

    proptest! {
        /// No path that the rules allow earns more, and the path found is one of them and earns what is said.
        #[test]
        fn the_path_found_is_the_best_there_is((program, mut table) in cases()) {
            let (path, earned) = program.solve(&mut table);
            prop_assert_eq!(played(&program, &table, &path), Some(earned));
            let all = paths(STEPS, program.sets.len());
            let best = all.iter().filter_map(|path| played(&program, &table, path)).max();
            prop_assert_eq!(best, Some(earned));
        }
    }

    #[test]
    fn what_runs_goes_on_where_choices_earn_the_same() {
        for running in 0..=2 {
            let set = |nth: usize| Set {
                carries: (nth < running).then_some(0),
                start: 1,
                start_cost: 0,
                step_cost: 0,
                kept: 0,
            };
            let sets = vec![set(0), set(1)];
            let program =
                Program { sets, range: vec![(0, 2); 4], weights: vec![1_000; 4], min_run: 2, min_off: 2 };
            let mut table = Table { gains: vec![vec![7; 4]; 4], starts: vec![true; 4] };
            assert_eq!(program.solve(&mut table), (vec![running; 4], 28));
        }
    }
}
