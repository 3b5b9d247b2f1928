//! `flareshift site`.

use api::common::subject::Kind;
use api::operator as wire;

use super::connect::{Connection, pages};
use super::{Error, answer_with, history};
use crate::args::{Output, SiteCommand};
use crate::output::site::{Described, List, Status};

/// Runs a command about sites.
pub(super) async fn run(connection: &Connection, command: SiteCommand, output: Output) -> Result<(), Error> {
    match command {
        SiteCommand::List => answer_with(&list(connection).await?, output),
        SiteCommand::Describe { site } => {
            let request = wire::GetSiteRequest { site: site.clone() };
            let answer = connection.ask(connection.client().get_site(request)).await?;
            history::answer(connection, Kind::Site(site), Described::from(answer), output).await
        }
    }
}

async fn list(connection: &Connection) -> Result<List, Error> {
    let fetch = async |page_size, page_token| {
        let request = wire::ListSitesRequest { page_size, page_token };
        let page = connection.ask(connection.client().list_sites(request)).await?;
        Ok((page.sites, page.next_page_token))
    };
    let sites = pages("sites", usize::MAX, fetch).await?;
    let status = |site: wire::Site| Status::from(site.status.unwrap_or_default());
    Ok(List { sites: sites.into_iter().map(status).collect() })
}
