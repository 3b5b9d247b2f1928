//! Packs a gang into the servers of one pool: no GPU is given twice, and as few servers as possible are opened.
//!
//! Best fit: the fullest server that takes the whole gang, or else whole servers first and the rest where it fits tightest. Ties
//! go to the lowest index. Read next: `assign`.

/// GPUs taken on each server (index, GPUs), in order of index; `None` when too few are free.
pub(crate) fn pack(free: &[u32], gpus: u32) -> Option<Vec<(u32, u32)>> {
    if gpus == 0 || total(free) < u64::from(gpus) {
        return None;
    }
    let mut order: Vec<usize> = (0..free.len()).filter(|&server| free[server] > 0).collect();
    // Emptiest first, so that a big gang opens few servers.
    order.sort_by_key(|&server| (std::cmp::Reverse(free[server]), server));
    let mut left = gpus;
    let mut taken = Vec::new();
    let mut rest = order.as_slice();
    while left > 0 {
        // The tightest server that takes all that is left ends the search.
        if let Some(last) = tightest(free, rest, left) {
            taken.push((last, left));
            break;
        }
        let (&first, others) = rest.split_first()?;
        taken.push((first, free[first]));
        left -= free[first];
        rest = others;
    }
    taken.sort_unstable();
    Some(taken.into_iter().filter_map(|(server, gpus)| Some((u32::try_from(server).ok()?, gpus))).collect())
}

/// Free GPUs of all servers.
pub(crate) fn total(free: &[u32]) -> u64 {
    free.iter().map(|&gpus| u64::from(gpus)).sum()
}

/// Takes GPUs out of the free ones; `false` (and nothing taken) when they are not free.
pub(crate) fn take(free: &mut [u32], servers: &[(u32, u32)]) -> bool {
    let mut after = free.to_vec();
    for &(server, gpus) in servers {
        match after.get_mut(server as usize) {
            Some(left) if *left >= gpus => *left -= gpus,
            _ => return false,
        }
    }
    free.copy_from_slice(&after);
    true
}

/// Adds GPUs to servers; indices that do not exist are ignored.
pub(crate) fn give(free: &mut [u32], servers: &[(u32, u32)]) {
    for &(server, gpus) in servers {
        if let Some(left) = free.get_mut(server as usize) {
            *left += gpus;
        }
    }
}

fn tightest(free: &[u32], servers: &[usize], gpus: u32) -> Option<usize> {
    servers
        .iter()
        .copied()
        .filter(|&server| free[server] >= gpus)
        .min_by_key(|&server| (free[server], server))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(free: &[u32], gpus: u32, expected: Option<&[(u32, u32)]>) {
        assert_eq!(pack(free, gpus).as_deref(), expected, "{gpus} of {free:?}");
    }

    #[test]
    fn a_small_gang_takes_the_tightest_server() {
        check(&[8, 3, 4], 3, Some(&[(1, 3)]));
        check(&[8, 8], 3, Some(&[(0, 3)]));
    }

    #[test]
    fn a_large_gang_takes_whole_servers_and_the_tightest_rest() {
        check(&[8, 2, 8, 8], 18, Some(&[(0, 8), (1, 2), (2, 8)]));
        check(&[5, 5, 5], 12, Some(&[(0, 5), (1, 5), (2, 2)]));
    }

    #[test]
    fn what_is_not_free_is_not_given() {
        check(&[2, 2], 5, None);
        check(&[], 1, None);
        check(&[4], 0, None);
    }

    #[test]
    fn taking_is_all_or_nothing() {
        let mut free = [4, 1];
        assert!(!take(&mut free, &[(0, 2), (1, 2)]));
        assert!(!take(&mut free, &[(7, 1)]));
        assert_eq!(free, [4, 1]);
        assert!(take(&mut free, &[(0, 2), (1, 1)]));
        assert_eq!(free, [2, 0]);
        give(&mut free, &[(0, 2), (1, 1)]);
        assert_eq!(free, [4, 1]);
    }
}
