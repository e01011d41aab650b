//! One binary: library and command tests, tidy.

mod http;
mod support;
mod store;
