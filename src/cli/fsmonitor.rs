//! What git runs to learn what changed: this program under another name, which must be quick.
//! So it reads no configuration and opens no home. See `workspace/fsmonitor.rs`.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use super::output::print_bytes;
use crate::workspace::daemon::client;
use crate::workspace::fsmonitor::PROGRAM;

/// The version of git's protocol that is spoken.
const PROTOCOL: &str = "2";
/// The first git that knows what a directory in the answer stands for.
const DIRECTORIES: (u32, u32) = (2, 38);

/// Answers git, if that is who started the program. Whatever fails, fails quietly: git then
/// looks by itself.
pub(super) fn main_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let program = arguments.next()?;
    let program = Path::new(&program);
    if program.file_name() != Some(OsStr::new(PROGRAM)) {
        return None;
    }
    let (protocol, token) = (arguments.next(), arguments.next());
    let answered = match (protocol, token) {
        (Some(protocol), Some(token)) if protocol == PROTOCOL => answer(program, &token),
        _ => None,
    };
    Some(answered.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

fn answer(program: &Path, token: &OsString) -> Option<()> {
    let mut answer = client::git(program.parent()?, &token.to_string_lossy()).ok()?;
    if answer.directories && !knows_directories() {
        answer = answer.plain();
    }
    print_bytes(&answer.text).ok()
}

/// Whether the git that asks, which is the first on the PATH that it gave us, is new enough.
fn knows_directories() -> bool {
    let asked = Command::new("git").arg("--version").stdin(Stdio::null()).output();
    let Ok(said) = asked else { return false };
    let said = String::from_utf8_lossy(&said.stdout);
    let mut numbers =
        said.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= DIRECTORIES
}
