//! flareshift: the operator's command line over gRPC, and flareshift dev.
