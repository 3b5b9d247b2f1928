//! `flareshift module`.

use api::operator as wire;

use super::connect::{Connection, pages};
use super::{Error, answer_with};
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
            connection.ask(client.get_module(wire::GetModuleRequest { module })).await?
        }
        ModuleCommand::Cordon(ModuleChange { module, etag }) => {
            let request = wire::CordonModuleRequest { module, etag: etag.unwrap_or_default() };
            connection.ask(client.cordon_module(request)).await?
        }
        ModuleCommand::Uncordon(ModuleChange { module, etag }) => {
            let request = wire::UncordonModuleRequest { module, etag: etag.unwrap_or_default() };
            connection.ask(client.uncordon_module(request)).await?
        }
        ModuleCommand::Drain(ModuleChange { module, etag }) => {
            let request = wire::DrainModuleRequest { module, etag: etag.unwrap_or_default() };
            connection.ask(client.drain_module(request)).await?
        }
    };
    answer_with(&Described::from(answer), output)
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
