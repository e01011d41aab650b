//! One binary: library and command tests, tidy.

mod detect;
mod http;
mod store;
mod support;
