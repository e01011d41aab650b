//! One binary: library and command tests, tidy.

mod cli;
mod dependencies;
mod detect;
mod environment;
mod http;
mod local;
mod package;
mod roots;
mod secrets;
mod source;
mod store;
mod support;
mod tidy;
