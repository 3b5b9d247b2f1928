//! Tenants: the list, and one that was just made with its key.

use api::common;
use api::convert::field::optional_time;
use api::operator as wire;
use serde::Serialize;

use super::show;
use super::table::{list, pairs};
use super::{View, read};

/// Who buys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its id.
    pub tenant: String,
    /// Its name, for people.
    pub name: String,
    /// Most GPUs it may hold at once.
    pub gpu_quota: u32,
    /// Most kilowatts of powered shell it may hold at once.
    pub kilowatt_quota: u32,
    /// When the operator made it.
    pub created: Option<String>,
}

/// All tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct List {
    /// In order of id.
    pub tenants: Vec<Tenant>,
}

/// A tenant that was made.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Created {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: Tenant,
    /// Its API key, shown this once; `null` in the answer to a repeat.
    pub api_key: Option<String>,
}

impl View for List {
    fn table(&self) -> String {
        let row = |tenant: &Tenant| {
            vec![
                tenant.tenant.clone(),
                tenant.name.clone(),
                tenant.gpu_quota.to_string(),
                tenant.kilowatt_quota.to_string(),
                show::moment(&tenant.created),
            ]
        };
        let none = "No tenants; make one with `flareshift tenant create ID --gpu-quota N`.";
        let headers = ["TENANT", "NAME", ">GPU QUOTA", ">KW QUOTA", "CREATED"];
        list(&headers, self.tenants.iter().map(row).collect(), none)
    }
}

impl View for Created {
    fn table(&self) -> String {
        let repeat = "not shown again: it was shown when the tenant was made";
        pairs(&[
            ("Tenant", self.tenant.tenant.clone()),
            ("Name", self.tenant.name.clone()),
            ("GPU quota", self.tenant.gpu_quota.to_string()),
            ("Kilowatt quota", self.tenant.kilowatt_quota.to_string()),
            ("Created", show::moment(&self.tenant.created)),
            ("API key", self.api_key.clone().unwrap_or_else(|| repeat.to_owned())),
        ])
    }
}

impl From<common::Tenant> for Tenant {
    fn from(tenant: common::Tenant) -> Self {
        Self {
            tenant: tenant.id,
            name: tenant.name,
            gpu_quota: tenant.gpu_quota,
            kilowatt_quota: tenant.kilowatt_quota,
            created: read::moment(optional_time(tenant.created, "created")),
        }
    }
}

impl From<wire::CreateTenantResponse> for Created {
    fn from(made: wire::CreateTenantResponse) -> Self {
        Self { tenant: Tenant::from(made.tenant.unwrap_or_default()), api_key: read::text(made.api_key) }
    }
}
