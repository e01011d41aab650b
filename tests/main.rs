//! One binary: library and command tests, tidy.

mod dependencies;
mod detect;
mod http;
mod store;
mod support;
