//! Tenants and their API keys.
//!
//! Read next: `tenant/auth.rs` for what a key is.

use api::problem::{Kind, Problem};
use api::{common, operator as wire};
use model::TenantId;
use model::tenant::Tenant;
use store::{Compare, Txn, key};

use crate::commit::put;
use crate::context::{Context, problem};
use crate::records::{RequestRecord, TenantKeyRecord, TenantRecord};
use crate::tenant::auth::{hash, new_key};
use crate::tenant::order::{check_request_id, made_before, question};
use crate::tenant::page::{Ask, Page, cut};

/// Operators' request ids stand beside tenants' under a name that no tenant can have.
const SCOPE: &str = "_operator";
/// Longest name of a tenant.
const MAX_NAME: usize = 200;

/// One page of tenants.
pub(super) fn list(context: &Context, ask: &Ask) -> Result<Page<common::Tenant>, Problem> {
    let cache = context.cache.borrow();
    let page = cut(ask, cache.tenants.iter().map(|(id, stored)| (id.as_str(), stored.value.clone())))?;
    Ok(page.map(|tenant| (*tenant).clone().into()))
}

/// Makes a tenant and its key; a repeat with the same request id makes nothing new and answers no key.
pub(super) async fn create(
    context: &Context,
    request: wire::CreateTenantRequest,
) -> Result<wire::CreateTenantResponse, Problem> {
    let wire::CreateTenantRequest { tenant, name, gpu_quota, request_id, kilowatt_quota } = request;
    let id: TenantId = api::convert::field::id(&tenant, "tenant")?;
    if name.chars().count() > MAX_NAME {
        return Err(Problem::invalid(format!("name: expected at most {MAX_NAME} characters")));
    }
    // As it was before there was a second quota, so that what was made then is known again.
    let asked = match kilowatt_quota {
        0 => question(&(&tenant, &name, gpu_quota))?,
        _ => question(&(&tenant, &name, gpu_quota, kilowatt_quota))?,
    };
    if !request_id.is_empty() {
        check_request_id(&request_id)?;
        if made_before(context, SCOPE, &request_id, &asked).await?.is_some() {
            return repeat(context, &id);
        }
    }
    let now = context.clock.now();
    let name = if name.is_empty() { tenant.clone() } else { name };
    let made = Tenant { id: id.clone(), name, gpu_quota, kilowatt_quota, created: now };
    let api_key = new_key()?;
    let stored = |error: store::Error| problem(error.into());
    let owner = TenantKeyRecord { tenant: id.clone() };
    let mut txn = Txn::new()
        .when(Compare::Absent(key::tenant(&id)))
        .then(put(key::tenant(&id), &TenantRecord(made.clone())).map_err(stored)?)
        .then(put(key::tenant_key(hash(&api_key)), &owner).map_err(stored)?);
    if !request_id.is_empty() {
        let record = RequestRecord { made: tenant.clone(), asked, at: now };
        let key = key::request(SCOPE, &request_id);
        txn = txn.when(Compare::Absent(key.clone())).then(put(key, &record).map_err(stored)?);
    }
    match context.write(txn).await? {
        Some(_) => Ok(wire::CreateTenantResponse { tenant: Some(made.into()), api_key }),
        None => Err(Problem::new(Kind::Exists, format!("tenant {id} is there already; choose another id"))),
    }
}

fn repeat(context: &Context, id: &TenantId) -> Result<wire::CreateTenantResponse, Problem> {
    let tenant = context.cache.borrow().tenants.get(id).map(|stored| (*stored.value).clone());
    let tenant = tenant.ok_or_else(|| Problem::not_found(format!("there is no tenant {id}")))?;
    Ok(wire::CreateTenantResponse { tenant: Some(tenant.into()), api_key: String::new() })
}
