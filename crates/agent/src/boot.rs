//! The machine's boot clock, on which envelopes run. Wall time, for people and records, is `api::clock::WallClock`.

use std::fs;
use std::time::Duration;

use model::{BootStamp, Span};
use rustix::time::{ClockId, clock_gettime};

/// Where Linux tells its boot id.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's boot id. Without one (no /proc) every start counts as a new boot, which is the safe side.
pub fn boot_id() -> String {
    let fresh = || {
        let mut bytes = [0u8; 16];
        // A zero id is as good: it only has to differ from the last one, and then the envelope is merely taken up again.
        let _ = getrandom::fill(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    fs::read_to_string(BOOT_ID).map(|id| id.trim().to_owned()).unwrap_or_else(|_| fresh())
}

/// The boot-time clock, which counts through suspend and is never set.
pub fn stamp(boot_id: &str) -> BootStamp {
    let now = clock_gettime(ClockId::Boottime);
    BootStamp { boot_id: boot_id.to_owned(), at: Span::new(now.tv_sec * 1_000 + now.tv_nsec / 1_000_000) }
}

/// The boot-time clock by itself: what wall time goes on by (decision 0018).
pub fn since() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    // The kernel's boot time is never negative; should it be, "just booted" is the honest reading.
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_goes_forward_under_one_boot_id() {
        let id = boot_id();
        assert_eq!(id, boot_id());
        let (early, late) = (stamp(&id), stamp(&id));
        assert!(late.since(&early).is_some_and(|span| span >= Span::ZERO));
        assert!(since() >= late.at.to_std());
    }
}
