//! Tenants who order all the time, whatever happens to the controllers: what was acknowledged must be there at the end, once.
//!
//! Read next: `installation.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::cli::Cli;

/// Who orders.
pub const TENANT: &str = "acme";
/// Orders at most: some of them run, the others wait; more would only make plans longer.
const MOST: usize = 40;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// Orders until it is ended.
pub struct Load {
    stop: Arc<AtomicBool>,
    orders: JoinHandle<BTreeMap<String, String>>,
}

impl Load {
    /// Begins to order at these controllers, at the next one when one does not answer.
    pub fn start(controllers: Vec<String>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let orders = thread::spawn(move || order(&controllers, &stopped));
        Self { stop, orders }
    }

    /// Ends it. Answers the workloads that were acknowledged, by the request that asked for them.
    pub fn end(self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.orders.join().unwrap()
    }
}

fn order(controllers: &[String], stop: &AtomicBool) -> BTreeMap<String, String> {
    let mut acknowledged = BTreeMap::new();
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) && acknowledged.len() < MOST {
        // The same request again until it is acknowledged: it may have been stored without an answer.
        let request = format!("order-{}", acknowledged.len());
        match Cli::new(&controllers[at % controllers.len()]).submit(TENANT, &request) {
            Ok(workload) => {
                acknowledged.insert(request, workload);
            }
            Err(_) => at += 1,
        }
        thread::sleep(PAUSE);
    }
    acknowledged
}
