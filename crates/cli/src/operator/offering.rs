//! `flareshift offering`.

use api::operator as wire;

use super::connect::{Connection, pages};
use super::{Error, answer_with};
use crate::args::{OfferingCommand, Output};
use crate::output::offering::{List, Offering};

/// Runs a command about offerings.
pub(super) async fn run(
    connection: &Connection,
    command: OfferingCommand,
    output: Output,
) -> Result<(), Error> {
    match command {
        OfferingCommand::List => answer_with(&list(connection).await?, output),
    }
}

async fn list(connection: &Connection) -> Result<List, Error> {
    let fetch = async |page_size, page_token| {
        let request = wire::ListOfferingsRequest { page_size, page_token };
        let page = connection.ask(connection.client().list_offerings(request)).await?;
        Ok((page.offerings, page.next_page_token))
    };
    let offerings = pages("offerings", usize::MAX, fetch).await?;
    Ok(List { offerings: offerings.into_iter().map(Offering::from).collect() })
}
