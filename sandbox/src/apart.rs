//! A look at what somebody else names, by a process that keeps something from them.
//!
//! A path that they name may lead anywhere, and elsewhere a moment later: through links, through
//! `/proc`, through directories that they exchange. So the look is taken in a thread that cannot
//! open what is kept, by whatever name (Landlock goes by where a file is, not by how it was
//! found), nor, unless it is root's, look into processes beside it. A thread that begins in it is held by the same rules, and so is
//! a program that is started.
//!
//! Landlock's rules only add, so there is one for everything that stands beside the way to the hidden
//! directory. What is made there later cannot be read, either. Whether something is there
//! (stat(2)) can be told all the same; a mount that shows the directory at a second place is root's to
//! make, and is not seen through.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use landlock::{
    AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, make_bitflags,
};
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::error::{SandboxError, Step};

/// What is governed: opening to read, and the moving of files between directories, which is never
/// allowed unless it is said.
const READING: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute | Refer});

/// Does `look` in a thread that can read nothing below `hidden` but what is below `kept`.
pub fn without<T: Send>(
    hidden: &Path,
    kept: &[&Path],
    look: impl FnOnce() -> T + Send,
) -> Result<T, SandboxError> {
    let failed = |source| SandboxError::Setup {
        step: Step::Landlock,
        path: Some(hidden.display().to_string()),
        source,
    };
    std::thread::scope(|scope| {
        let looking = || restrict(hidden, kept).map(|()| look());
        let thread = std::thread::Builder::new().name("apart".into());
        let thread = thread.spawn_scoped(scope, looking).map_err(failed)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(failed)
    })
}

fn restrict(hidden: &Path, kept: &[&Path]) -> io::Result<()> {
    let hidden = hidden.canonicalize()?;
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = rules.handle_access(READING).map_err(said)?;
    let mut rules = rules.create().map_err(said)?;
    let mut way = Path::new("/").to_owned();
    let mut at = open(AT_FDCWD, &way)?;
    for part in hidden.components() {
        let Component::Normal(name) = part else { continue };
        for beside in fs::read_dir(&way)? {
            let beside = beside?.file_name();
            // What went meanwhile is not read.
            if beside != name
                && let Ok(beside) = open(&at, Path::new(&beside))
            {
                rules = allow(rules, beside)?;
            }
        }
        at = open(&at, Path::new(name))?;
        way.push(name);
    }
    for kept in kept {
        rules = allow(rules, open(AT_FDCWD, kept)?)?;
    }
    match rules.restrict_self().map_err(said)?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        status => Err(io::Error::other(format!("the rules are {status:?}"))),
    }
}

/// Where a link leads has a rule of its own, or has none.
fn open(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(at, path, flags, Mode::empty())?)
}

fn allow(rules: RulesetCreated, at: OwnedFd) -> io::Result<RulesetCreated> {
    let Ok(about) = fstat(&at) else { return Ok(rules) };
    let rights = match SFlag::from_bits_truncate(about.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => READING,
        SFlag::S_IFREG => READING & AccessFs::from_file(landlock::ABI::V2),
        _ => return Ok(rules),
    };
    rules.add_rule(PathBeneath::new(at, rights)).map_err(said)
}

fn said(e: RulesetError) -> io::Error {
    io::Error::other(e)
}
