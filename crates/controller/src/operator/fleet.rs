//! Sites and modules: what was configured beside what is.
//!
//! Read next: `operator/status.rs` for the status half.

use api::Problem;
use api::operator as wire;
use model::{ModuleId, SiteId};
use store::Revision;

use super::status;
use crate::context::Context;
use crate::tenant::page::{Ask, Page, cut};

/// One page of sites.
pub(super) fn sites(context: &Context, ask: &Ask) -> Result<Page<wire::Site>, Problem> {
    let ids: Page<SiteId> = {
        let cache = context.cache.borrow();
        cut(ask, cache.sites.keys().map(|id| (id.as_str(), id.clone())))?
    };
    let entries =
        ids.entries.iter().map(|id| site(context, id.as_str())).collect::<Result<Vec<_>, Problem>>()?;
    Ok(Page { entries, next: ids.next })
}

/// One site.
pub(super) fn site(context: &Context, id: &str) -> Result<wire::Site, Problem> {
    let missing = || Problem::not_found(format!("there is no site {id:?}; list the sites to see their ids"));
    let id = SiteId::new(id).map_err(|_| missing())?;
    let view = status::View::of(context);
    let stored = view.cache.sites.get(&id).ok_or_else(missing)?;
    Ok(wire::Site {
        config: Some((*stored.value).clone().into()),
        status: Some(status::site(&view, &stored.value)),
        modules: view.modules_of(&id).map(|module| module.id.as_str().to_owned()).collect(),
        etag: etag(stored.revision),
    })
}

/// One page of modules; of one site, or of all where `site` is empty.
pub(super) fn modules(context: &Context, site: &str, ask: &Ask) -> Result<Page<wire::Module>, Problem> {
    let ids: Page<ModuleId> = {
        let cache = context.cache.borrow();
        let here =
            cache.modules.iter().filter(|(_, m)| site.is_empty() || m.value.module.site.as_str() == site);
        cut(ask, here.map(|(id, _)| (id.as_str(), id.clone())))?
    };
    let entries =
        ids.entries.iter().map(|id| module(context, id.as_str())).collect::<Result<Vec<_>, Problem>>()?;
    Ok(Page { entries, next: ids.next })
}

/// One module.
pub(super) fn module(context: &Context, id: &str) -> Result<wire::Module, Problem> {
    let id = module_id(context, id)?;
    let view = status::View::of(context);
    let stored = &view.cache.modules[&id];
    Ok(wire::Module {
        config: Some(stored.value.module.clone().into()),
        status: Some(status::module(&view, &stored.value.module)),
        etag: etag(stored.revision),
    })
}

/// The id of a module that is there.
pub(super) fn module_id(context: &Context, id: &str) -> Result<ModuleId, Problem> {
    let known = ModuleId::new(id).ok().filter(|id| context.cache.borrow().modules.contains_key(id));
    known.ok_or_else(|| {
        Problem::not_found(format!("there is no module {id:?}; list the modules to see their ids"))
    })
}

/// Names a version of a record.
pub(super) fn etag(revision: Revision) -> String {
    revision.to_string()
}
