//! Observes, plans, checks, commits, publishes; serves agents, operators and tenants.
