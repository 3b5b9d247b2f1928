//! `flareshift tenant`.

use api::operator as wire;

use super::connect::{Connection, pages};
use super::{Error, answer_with};
use crate::args::{Output, TenantCommand};
use crate::output::tenant::{Created, List, Tenant};

/// Runs a command about tenants.
pub(super) async fn run(
    connection: &Connection,
    command: TenantCommand,
    output: Output,
) -> Result<(), Error> {
    match command {
        TenantCommand::List => answer_with(&list(connection).await?, output),
        TenantCommand::Create { tenant, name, gpu_quota, kilowatt_quota, request_id } => {
            let (name, request_id) = (name.unwrap_or_default(), request_id.unwrap_or_default());
            let request = wire::CreateTenantRequest { tenant, name, gpu_quota, request_id, kilowatt_quota };
            let answer = connection.ask(connection.client().create_tenant(request)).await?;
            answer_with(&Created::from(answer), output)
        }
    }
}

async fn list(connection: &Connection) -> Result<List, Error> {
    let fetch = async |page_size, page_token| {
        let request = wire::ListTenantsRequest { page_size, page_token };
        let page = connection.ask(connection.client().list_tenants(request)).await?;
        Ok((page.tenants, page.next_page_token))
    };
    let tenants = pages("tenants", usize::MAX, fetch).await?;
    Ok(List { tenants: tenants.into_iter().map(Tenant::from).collect() })
}
