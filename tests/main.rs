//! One binary: library and command tests, tidy.

mod http;
mod store;
mod support;
