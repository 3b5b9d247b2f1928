//! `flareshift module`.

use api::common::subject::Kind;
use api::operator as wire;

use super::connect::{Connection, pages};
use super::{Error, answer_with, history};
use crate::args::{ModuleChange, ModuleCommand, Output};
use crate::output::module::{Described, List, Status};

/// Runs a command about modules.
pub(super) async fn run(
    connection: &Connection,
    command: ModuleCommand,
    output: Output,
) -> Result<(), Error> {
    let mut client = connection.client();
    let answer = match command {
        ModuleCommand::List { site } => {
            return answer_with(&list(connection, site.unwrap_or_default()).await?, output);
        }
        ModuleCommand::Describe { module } => {
            let request = wire::GetModuleRequest { module: module.clone() };
            let view = Described::from(connection.ask(client.get_module(request)).await?);
            return history::answer(connection, Kind::Module(module), view, output).await;
        }
        ModuleCommand::Cordon(ModuleChange { module, etag, by, why }) => {
            let (etag, by, why) = said(etag, by, why);
            let request = wire::CordonModuleRequest { module, etag, by, why };
            connection.ask(client.cordon_module(request)).await?
        }
        ModuleCommand::Uncordon(ModuleChange { module, etag, by, why }) => {
            let (etag, by, why) = said(etag, by, why);
            let request = wire::UncordonModuleRequest { module, etag, by, why };
            connection.ask(client.uncordon_module(request)).await?
        }
        ModuleCommand::Drain(ModuleChange { module, etag, by, why }) => {
            let (etag, by, why) = said(etag, by, why);
            let request = wire::DrainModuleRequest { module, etag, by, why };
            connection.ask(client.drain_module(request)).await?
        }
    };
    answer_with(&Described::from(answer), output)
}

/// What may be left unsaid, as the wire has it.
fn said(etag: Option<String>, by: Option<String>, why: Option<String>) -> (String, String, String) {
    (etag.unwrap_or_default(), by.unwrap_or_default(), why.unwrap_or_default())
}

async fn list(connection: &Connection, site: String) -> Result<List, Error> {
    let fetch = async |page_size, page_token| {
        let request = wire::ListModulesRequest { page_size, page_token, site: site.clone() };
        let page = connection.ask(connection.client().list_modules(request)).await?;
        Ok((page.modules, page.next_page_token))
    };
    let modules = pages("modules", usize::MAX, fetch).await?;
    let status = |module: wire::Module| Status::from(module.status.unwrap_or_default());
    Ok(List { modules: modules.into_iter().map(status).collect() })
}
