//! `flareshift watch`: prints events until the reader or the controller ends it.

use api::operator as wire;

use super::Error;
use super::connect::Connection;
use crate::args::Output;
use crate::output::event::Event;
use crate::output::{line, print};

/// Prints what happens. A controller that ends the stream is an error: whoever watches wants to know that he no longer does.
pub(super) async fn run(connection: &Connection, events_only: bool, output: Output) -> Result<(), Error> {
    let mut client = connection.client();
    let mut events = connection.ask(client.watch(wire::WatchRequest { events_only })).await?;
    loop {
        let event = tokio::select! {
            event = events.message() => event.map_err(|status| connection.failed(status))?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        };
        let Some(event) = event else { return Err(connection.ended()) };
        if !print(&line(&Event::from(event), output)).map_err(Error::Print)? {
            return Ok(());
        }
    }
}
