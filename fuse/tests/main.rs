//! Tests of the crate from outside: the overlay against a model, crashes, real mounts.

mod acl;
mod copies;
mod crash;
mod journal;
mod lazy;
mod limits;
mod model;
mod mounted;
mod nfs;
mod parallel;
mod support;
