//! The nouns of Flareshift: ids, units, sites, modules, tenants, workloads, plans, envelopes, reports.
