//! Programs that tests write.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes the program `text` at `path`, for everybody to run.
///
/// By a process of its own: what this one has open for writing, a child of any other thread of it has
/// too between its fork and its exec, and to start the program is `ETXTBSY` meanwhile (execve(2)).
pub fn write(path: &Path, text: &[u8]) {
    let mut install = Command::new("install");
    install.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped());
    let mut install = install.spawn().expect("install is there");
    let mut input = install.stdin.take().expect("it is a pipe");
    input.write_all(text).expect("install reads all of it");
    drop(input);
    assert!(install.wait().expect("it ends").success(), "{} cannot be written", path.display());
}
