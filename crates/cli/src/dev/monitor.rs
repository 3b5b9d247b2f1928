//! Metrics and health of a run on one page: those of the controller that leads, and of all agents.
//!
//! A fleet has a page for each process; here all are one process, so a controller that stands by is not shown. Read next:
//! docs/observability.md.

use std::net::SocketAddr;

use agent::metrics::Watched;
use controller::metrics::Monitor;
use service::monitor::{self, Monitored};
use service::page::Page;
use tokio_util::sync::CancellationToken;

/// Everything that is watched.
#[derive(Clone)]
struct Whole {
    controllers: Vec<Monitor>,
    agents: Watched,
}

impl Monitored for Whole {
    fn write(&self, page: &mut Page) {
        let leads = |controller: &&Monitor| controller.0.office.borrow().is_some();
        let shown = self.controllers.iter().find(leads).or(self.controllers.first());
        if let Some(controller) = shown {
            controller.write(page);
        }
        self.agents.write(page);
    }

    async fn ready(&self) -> Result<(), String> {
        for controller in &self.controllers {
            controller.ready().await?;
        }
        self.agents.ready().await
    }
}

/// Shows a run until cancelled, where an address is given for it.
pub async fn show(
    address: Option<SocketAddr>,
    controllers: Vec<Monitor>,
    agents: Watched,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    let Some(address) = address else { return Ok(()) };
    let listener = monitor::bind(address).await?;
    let served = monitor::serve(listener, Whole { controllers, agents }, cancel);
    // It ends with the run, which waits for no reader.
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "metrics and health are not shown any more; the run goes on");
        }
    });
    Ok(())
}
