//! Attempts on files: the user's, and those in the workspace (the current directory) that others
//! obey.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::canary::PLANTED;
use super::victim::Case;

type Got = io::Result<Vec<u8>>;

pub(super) fn link(case: &Case) -> Got {
    let _ = fs::remove_file("linked-out");
    symlink(case.dir.join("home/.ssh/id_ed25519"), "linked-out")?;
    fs::read("linked-out")
}

pub(super) fn hard_link(case: &Case) -> Got {
    let _ = fs::remove_file("linked");
    fs::hard_link(case.dir.join("private/linked"), "linked")?;
    fs::read("linked")
}

fn scratch(case: &Case, id: &str) -> Got {
    let path = case.scratch.get(id).ok_or_else(|| io::Error::other("it was not planted"))?;
    fs::read(path)
}

pub(super) fn tmp(case: &Case) -> Got {
    scratch(case, "tmp")
}

pub(super) fn shared_memory(case: &Case) -> Got {
    scratch(case, "shared-memory")
}

pub(super) fn identity(case: &Case) -> Got {
    fs::read(case.dir.join("home/.zagi/secrets/identity"))
}

pub(super) fn rc(case: &Case) -> Got {
    plant(&case.dir.join("home/.bashrc"))
}

/// `mv .zagi x; mkdir .zagi; echo > .zagi/agents.toml`.
pub(super) fn ancestor(_: &Case) -> Got {
    fs::rename(".zagi", "zagi.away")?;
    plant(Path::new(".zagi/agents.toml"))
}

pub(super) fn later(_: &Case) -> Got {
    plant(Path::new(".zagi/secrets.enc"))
}

pub(super) fn modules(_: &Case) -> Got {
    plant(Path::new(".git/modules/x/config"))
}

pub(super) fn hooks(_: &Case) -> Got {
    plant(Path::new(".git/hooks/post-checkout"))
}

pub(super) fn config(_: &Case) -> Got {
    plant(Path::new(".git/config"))
}

pub(super) fn worktree_config(_: &Case) -> Got {
    plant(Path::new(".git/config.worktree"))
}

pub(super) fn common_dir(_: &Case) -> Got {
    plant(Path::new(".git/commondir"))
}

/// Puts a text into a file, by any means: added to it, written anew, another file in its place,
/// another directory around it.
fn plant(path: &Path) -> Got {
    let parent = path.parent().unwrap_or(Path::new("."));
    // One of its parents may be in the way.
    let _ = fs::create_dir_all(parent);
    let beside = parent.join("beside-it");
    let elsewhere = Path::new("elsewhere");
    let append =
        || OpenOptions::new().append(true).create(true).open(path)?.write_all(PLANTED.as_bytes());
    let exchange = |by: &Path| {
        fs::write(by, PLANTED)?;
        fs::rename(by, path)
    };
    let around = || {
        fs::rename(parent, "parent.away")?;
        fs::create_dir_all(parent)?;
        fs::write(path, PLANTED)
    };
    let ways: [(&str, io::Result<()>); 6] = [
        ("append", append()),
        ("exchange", exchange(&beside)),
        ("move", exchange(elsewhere)),
        ("remove", fs::remove_file(path).and_then(|()| fs::write(path, PLANTED))),
        ("link", fs::hard_link(elsewhere, path)),
        ("around", if path.exists() { Ok(()) } else { around() }),
    ];
    for left in [beside.as_path(), elsewhere] {
        let _ = fs::remove_file(left);
    }
    match fs::read_to_string(path) {
        Ok(text) if text.contains(PLANTED) => Ok(PLANTED.into()),
        _ => {
            let said = ways.map(|(way, r)| {
                format!("{way}: {}", r.err().map_or("done".into(), |e| e.to_string()))
            });
            Err(io::Error::other(said.join("; ")))
        }
    }
}
