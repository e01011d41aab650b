//! One binary: library and command tests, tidy.

mod dependencies;
mod detect;
mod http;
mod local;
mod source;
mod store;
mod support;
