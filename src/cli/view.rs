//! The interpreter of what [`launch`] writes: shows a program of a Nix store that store, and
//! becomes the program. It starts at every start of the program, so it reads no
//! configuration and opens no home.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::error::CommandError;
use super::exec;
use crate::environment::launch::{self, Launcher};
use crate::registry::nix::STORE;

/// Becomes the program, if a launcher has started this one. Returns only what went wrong.
/// To be called before any thread is started.
pub(super) fn main_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != launch::ARGUMENT {
        return None;
    }
    let error = match arguments.next() {
        Some(file) => start(Path::new(&file), arguments.collect()),
        None => CommandError::launch(125, "no launcher is named".to_owned()),
    };
    error.print();
    Some(error.exit_code())
}

fn start(file: &Path, mut arguments: Vec<OsString>) -> CommandError {
    let shown = file.display();
    let read = std::fs::read(file);
    let decode = |bytes: Vec<u8>| {
        Launcher::decode(&bytes).ok_or_else(|| io::Error::other("it is no launcher of this zagi's"))
    };
    let launcher = match read.and_then(decode) {
        Ok(launcher) => launcher,
        Err(e) => return CommandError::launch(125, format!("cannot use `{shown}`: {e}")),
    };
    if let Err(e) = zagi_sandbox::show(&launcher.store, Path::new(STORE)) {
        let error = CommandError::launch(125, e.to_string());
        return match e.hint() {
            Some(hint) => error.hint(&hint),
            None => error,
        };
    }
    let program = match launcher.program {
        Some(program) => program.into_os_string(),
        None if arguments.is_empty() => {
            return CommandError::launch(125, format!("`{shown}` needs a program to start"));
        }
        None => arguments.remove(0),
    };
    exec::replace(&program, &arguments, None)
}
