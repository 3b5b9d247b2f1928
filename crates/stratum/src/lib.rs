//! Stratum V1, sans-I/O: messages, sessions, share verification, vardiff. Pure.
