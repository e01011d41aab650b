//! A directory that runs: layers, delta and environment, mounted or materialised; the daemon that holds the mounts.
