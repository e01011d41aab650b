//! How programs of a Nix store are started: each is a small file that this program is the
//! interpreter of, and which says what must be seen at `/nix/store` first.
//!
//! ```text
//! #!/usr/local/bin/zagi __view
//! zagi-launch 1
//! store /home/u/.zagi/store/farm/trees/node-22.14.0-…/nix/store
//! program /nix/store/…-nodejs-22.14.0/bin/node
//! ```
//!
//! So no shell is started, and nothing is parsed but this. The kernel hands over the file's
//! own path and the arguments. Without `program` the first argument is the program; that file is
//! `envs/<key>/enter`. Where the kernel could not read the first line (it ends at a blank,
//! and old kernels read 127 bytes), a shell does the same in another way:
//!
//! ```text
//! #!/bin/sh
//! exec '/opt/my tools/zagi' __view "$0" "$@"
//! zagi-launch 1
//! …
//! ```

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::words::quote;

/// The first argument by which such a file starts this program.
pub const ARGUMENT: &str = "__view";
/// The file of an environment that runs any program, in the environment's directory.
pub const ENTER: &str = "enter";

const HEADER: &[u8] = b"zagi-launch 1";
/// The longest first line that every kernel reads.
const LONGEST: usize = 127;

/// What of an environment must be seen at `/nix/store`, and the program that shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The directory.
    pub store: PathBuf,
    /// This program's own file, when the environment was made.
    pub zagi: PathBuf,
}

/// One such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// What must be seen at `/nix/store`.
    pub store: PathBuf,
    /// The program, as it is seen then.
    pub program: Option<PathBuf>,
}

impl View {
    /// The text of the file that starts `program`. `None` where a path has a line break.
    pub(super) fn launcher(&self, program: Option<&Path>) -> Option<Vec<u8>> {
        let zagi = self.zagi.as_os_str().as_bytes();
        let paths = [Some(self.store.as_path()), Some(self.zagi.as_path()), program];
        if paths.into_iter().flatten().any(|p| p.as_os_str().as_bytes().contains(&b'\n')) {
            return None;
        }
        let short = zagi.len() + ARGUMENT.len() + 3 <= LONGEST;
        let mut out = match short && !zagi.iter().any(u8::is_ascii_whitespace) {
            true => [b"#!", zagi, b" ", ARGUMENT.as_bytes()].concat(),
            false => {
                let exec = quote(self.zagi.as_os_str());
                [b"#!/bin/sh\nexec ", exec.as_slice(), b" ", ARGUMENT.as_bytes(), b" \"$0\" \"$@\""]
                    .concat()
            }
        };
        let store = self.store.as_os_str().as_bytes();
        out.extend([b"\n", HEADER, b"\nstore ", store, b"\n"].concat());
        if let Some(program) = program {
            out.extend([b"program ", program.as_os_str().as_bytes(), b"\n"].concat());
        }
        Some(out)
    }
}

impl Launcher {
    /// Reads such a file; `None` where it is none.
    pub fn decode(bytes: &[u8]) -> Option<Launcher> {
        let mut lines = bytes.split(|b| *b == b'\n');
        lines.by_ref().take(3).find(|line| *line == HEADER)?;
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let store = path(lines.next()?.strip_prefix(b"store ")?);
        let program = match lines.next()? {
            b"" => None,
            line => Some(path(line.strip_prefix(b"program ")?)),
        };
        Some(Launcher { store, program })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let store = PathBuf::from("/h/it's/nix/store");
        for zagi in ["/usr/bin/zagi", "/opt/my tools/zagi", &format!("/{}/zagi", "d".repeat(120))] {
            let view = View { store: store.clone(), zagi: zagi.into() };
            for program in [None, Some(Path::new("/nix/store/x/bin/y"))] {
                let text = view.launcher(program).unwrap();
                let first = text.split(|b| *b == b'\n').next().unwrap();
                let direct = zagi == "/usr/bin/zagi";
                assert_eq!(first == b"#!/usr/bin/zagi __view", direct, "{zagi}");
                assert!(first.len() <= LONGEST);
                let read = Launcher::decode(&text).unwrap();
                let expected =
                    Launcher { store: store.clone(), program: program.map(Path::to_owned) };
                assert_eq!(read, expected);
            }
            assert_eq!(view.launcher(Some(Path::new("/a\nb"))), None);
        }
        assert_eq!(Launcher::decode(b"#!/bin/sh\necho\n"), None);
        assert_eq!(Launcher::decode(b"#!x __view\nzagi-launch 2\nstore /x\n"), None);
    }
}
