//! `zagi secrets edit`: all values in an editor, in a file that is on no disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::SigSet;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};

use super::ask::{self, ENDING};
use super::session::{Session, Who};
use crate::cli::error::CommandError;
use crate::cli::settings::Settings;
use crate::secrets::vault::Change;
use crate::secrets::{Pages, dotenv};

/// `RAMFS_MAGIC` of `linux/magic.h`.
const RAMFS: FsType = FsType(0x8584_58f6_u32 as _);

/// Change values in your editor ($VISUAL, $EDITOR)
///
/// They are NAME=value lines in a file of yours alone, in memory, that is overwritten and removed
/// when the editor ends. A line that is gone removes its secret. Secrets that are no text are left
/// out, and stay. The machine may write such a file to swap, and your editor keep copies: `set`
/// does neither.
#[derive(Debug, clap::Args)]
pub struct Edit {
    #[command(flatten)]
    who: Who,
}

impl Edit {
    pub(super) fn run(self, settings: &Settings) -> Result<(), CommandError> {
        if !ask::is_terminal() {
            return Err(CommandError::failed("there is no terminal to edit at")
                .hint("`zagi secrets set NAME` reads a value from standard input"));
        }
        let session = Session::begin(settings, self.who)?;
        let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| session.ctx.var(name));
        let editor = editor.map_or_else(|| "vi".into(), |e| e.to_string_lossy().into_owned());
        let mut vault = session.existing()?;
        let values = session.unlock(&vault)?;
        let names: Vec<String> = values.names().map(str::to_owned).collect();
        let receipt = session.record("edit", &vault, names.clone())?;
        let failed = |e: io::Error| CommandError::failed(format!("cannot keep the values: {e}"));
        let mut text = Pages::new(4096).map_err(failed)?;
        text.push(b"# NAME=value; quotes as in a shell. A line that is gone removes its secret.\n")
            .map_err(failed)?;
        let mut shown = Vec::new();
        for name in &names {
            let value = values.expose(name, &receipt)?;
            if std::str::from_utf8(value).is_ok_and(|text| !text.contains('\0')) {
                dotenv::write(&mut text, name, value).map_err(failed)?;
                shown.push(name);
            }
        }
        let edited = in_editor(&editor, &text, session.ctx.var("XDG_RUNTIME_DIR").map(Path::new))?;
        let mut change = Change::default();
        let mut edited = dotenv::parse(edited.bytes()).map_err(|e| {
            CommandError::failed(format!("what was edited cannot be read, and is not kept: {e}"))
        })?;
        for name in shown {
            match edited.remove(name) {
                Some(value) if value.bytes() == values.expose(name, &receipt)? => {}
                value => drop(change.values.insert(name.clone(), value)),
            }
        }
        change.values.extend(edited.into_iter().map(|(name, value)| (name, Some(value))));
        if change.values.is_empty() {
            session.say("nothing was changed");
            return Ok(());
        }
        let names = change.values.keys().cloned().collect();
        // Only now: others may have written while the editor was open, which is noticed.
        let turn = session.turn()?;
        session.commit(&turn, (&mut vault, &values), ("set", names), &change)
    }
}

/// A directory in memory with the file in it; both are gone when it is dropped.
struct InMemory {
    dir: PathBuf,
    blocked: SigSet,
}

impl InMemory {
    fn new(runtime: Option<&Path>) -> Result<InMemory, CommandError> {
        let places = runtime.into_iter().chain([Path::new("/dev/shm")]);
        let in_memory = |dir: &&Path| {
            File::open(dir)
                .and_then(|dir| Ok(fstatfs(&dir)?))
                .is_ok_and(|about| [TMPFS_MAGIC, RAMFS].contains(&about.filesystem_type()))
        };
        let failed = |e: io::Error| {
            CommandError::failed(format!("cannot make a file in memory: {e}"))
                .hint("`zagi secrets set NAME` needs none")
        };
        let missing = || failed(io::Error::other("neither $XDG_RUNTIME_DIR nor /dev/shm is one"));
        let place = places.into_iter().find(in_memory).ok_or_else(missing)?;
        let dir = tempfile::Builder::new()
            .prefix("zagi-edit-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .tempdir_in(place)
            .map_err(failed)?
            .keep();
        let blocked: SigSet = ENDING.into_iter().collect();
        let this = InMemory { dir, blocked };
        // A signal to all of the terminal is the editor's; it must not leave the file behind.
        this.blocked.thread_block().map_err(|e| failed(e.into()))?;
        Ok(this)
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        wipe(&self.dir);
        let _ = std::fs::remove_dir_all(&self.dir);
        let _ = self.blocked.thread_unblock();
    }
}

/// Overwrites what is there: the file, and what the editor left beside it.
fn wipe(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            wipe(&entry.path());
        } else if kind.is_file() {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
            let Ok(mut file) = options.open(entry.path()) else { continue };
            let length = file.metadata().map_or(0, |about| about.len());
            let _ = io::copy(&mut io::Read::take(io::repeat(0), length), &mut file);
        }
    }
}

fn in_editor(editor: &str, text: &Pages, runtime: Option<&Path>) -> Result<Pages, CommandError> {
    let memory = InMemory::new(runtime)?;
    let path = memory.dir.join("secrets.env");
    let failed = |e: io::Error| CommandError::failed(format!("cannot edit in memory: {e}"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(text.bytes()).map_err(failed)?;
    drop(file);
    // As git does: $EDITOR may have arguments.
    let ended = Command::new("sh")
        .args(["-c", &format!("{editor} \"$@\""), editor])
        .arg(&path)
        .status()
        .map_err(|e| CommandError::failed(format!("cannot start the editor `{editor}`: {e}")))?;
    if !ended.success() {
        return Err(CommandError::failed(format!(
            "the editor `{editor}` failed; nothing was kept"
        ))
        .hint("$VISUAL or $EDITOR names another"));
    }
    let mut edited = Pages::new(text.bytes().len()).map_err(failed)?;
    edited.read(&mut File::open(&path).map_err(failed)?, 4 << 20).map_err(failed)?;
    Ok(edited)
}
