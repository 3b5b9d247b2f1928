//! Simulated sites: gas, generator sets with frequency, feeders, miners on real Stratum, GPU servers; a pool, faults, and the witness that checks the invariants.
