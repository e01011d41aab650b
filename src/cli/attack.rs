//! What `zagi doctor --attack` starts: the process that is attacked, and the attacks. Like all that
//! the program starts of itself, it reads no configuration and opens no home.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::output::print_bytes;
use crate::redteam::{self, ARGUMENT, Case, VARIABLE};

/// Becomes one of them, if the program was started for that. To be called before any thread is
/// started.
pub(super) fn main_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let arguments: Vec<OsString> = arguments.collect();
    Some(match act(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    })
}

fn act(arguments: &[OsString]) -> io::Result<()> {
    let line = |value: &redteam::Tried| format!("{}\n", serde_json::json!(value));
    match arguments {
        // The third is for whoever looks at it.
        [what, dir, _] if what == "victim" => {
            let values = std::env::var(VARIABLE).unwrap_or_default();
            redteam::be(Path::new(dir), &values, |case| {
                say(format!("{}\n", serde_json::json!(case)).as_bytes())
            })
        }
        [what, file] if what == "linger" => redteam::linger(Path::new(file)),
        [what, case] if what == "try" => {
            redteam::try_all(&case.to_string_lossy(), |tried| say(line(tried).as_bytes()))
        }
        [id, case] => {
            let case: Case = serde_json::from_str(&case.to_string_lossy())?;
            let got = redteam::one(&id.to_string_lossy(), &case)?;
            say(&got)
        }
        _ => Err(io::Error::other("this is for `zagi doctor --attack`")),
    }
}

fn say(bytes: &[u8]) -> io::Result<()> {
    print_bytes(bytes).map_err(|_| io::Error::other("cannot write to standard output"))
}
