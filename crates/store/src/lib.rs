//! A revisioned key-value port with compare-and-swap, watch, leases and election; twins: embedded and etcd.
