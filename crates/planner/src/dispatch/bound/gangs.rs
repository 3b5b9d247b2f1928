//! The most that whole gangs bring in so many GPUs, as an unbounded knapsack: how many of each size there are is left to prices.
//!
//! Assumes gangs in order of size, one a size. Read next: `island`, which asks for each pool.

/// Gangs of one size at a price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Gang {
    pub(super) gpus: usize,
    /// Of the whole gang; above zero.
    pub(super) price: f64,
    /// Whose.
    pub(super) class: usize,
}

/// What the best gangs bring, for any number of GPUs up to the most.
#[derive(Clone, Debug)]
pub(super) struct Packing {
    gangs: Vec<Gang>,
    /// By GPUs.
    pub(super) best: Vec<f64>,
    /// The gang that was taken last; `None` = this GPU stays empty.
    last: Vec<Option<u32>>,
    /// Numbers of GPUs that bring more than one less.
    pub(super) corners: Vec<usize>,
}

impl Packing {
    pub(super) fn of(most: usize, gangs: Vec<Gang>) -> Self {
        let mut best = vec![0.0];
        let mut last = vec![None];
        let mut corners = vec![0];
        for gpus in 1..=most {
            let mut found = (best[gpus - 1], None);
            for (nth, gang) in gangs.iter().enumerate() {
                if gang.gpus > gpus {
                    break;
                }
                let with = best[gpus - gang.gpus] + gang.price;
                if with > found.0 {
                    found = (with, u32::try_from(nth).ok());
                }
            }
            best.push(found.0);
            last.push(found.1);
            if found.1.is_some() {
                corners.push(gpus);
            }
        }
        Self { gangs, best, last, corners }
    }

    /// Adds the gangs that bring the best in so many GPUs, `share` of each, as (class, amount).
    pub(super) fn taken(&self, mut gpus: usize, share: f64, into: &mut Vec<(usize, f64)>) {
        while gpus > 0 {
            match self.last[gpus].and_then(|nth| self.gangs.get(nth as usize)) {
                Some(gang) => {
                    into.push((gang.class, share));
                    gpus -= gang.gpus;
                }
                None => gpus -= 1,
            }
        }
    }

    /// The gang that pays best a GPU.
    pub(super) fn densest(&self) -> Option<Gang> {
        self.gangs.iter().copied().reduce(|best, gang| {
            let denser = gang.price * best.gpus as f64 > best.price * gang.gpus as f64;
            if denser { gang } else { best }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(gangs: &[(usize, f64)], gpus: usize, expected: f64, classes: &[usize]) {
        let gangs = gangs.iter().enumerate().map(|(class, &(gpus, price))| Gang { gpus, price, class });
        let packing = Packing::of(gpus, gangs.collect());
        assert_eq!(packing.best[gpus], expected, "{gpus} GPUs");
        let mut taken = Vec::new();
        packing.taken(gpus, 1.0, &mut taken);
        let mut taken: Vec<usize> = taken.into_iter().map(|(class, _)| class).collect();
        taken.sort_unstable();
        assert_eq!(taken, classes, "{gpus} GPUs");
    }

    #[test]
    fn whole_gangs_are_packed_best() {
        check(&[(2, 3.0), (5, 9.0)], 4, 6.0, &[0, 0]);
        check(&[(2, 3.0), (5, 9.0)], 5, 9.0, &[1]);
        check(&[(2, 3.0), (5, 9.0)], 7, 12.0, &[0, 1]);
        check(&[(4, 3.0)], 3, 0.0, &[]);
        check(&[], 3, 0.0, &[]);
    }

    #[test]
    fn the_densest_gang_pays_best_a_gpu() {
        let gang = |gpus, price, class| Gang { gpus, price, class };
        let check = |gangs: &[Gang], expected: Option<usize>| {
            assert_eq!(
                Packing::of(8, gangs.to_vec()).densest().map(|gang| gang.class),
                expected,
                "{gangs:?}"
            );
        };
        check(&[gang(2, 3.0, 0), gang(5, 9.0, 1)], Some(1));
        check(&[gang(2, 3.0, 0), gang(5, 7.0, 1)], Some(0));
        check(&[], None);
    }
}
