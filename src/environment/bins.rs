//! `envs/<key>/bin`: the programs of an environment.
//!
//! A symbolic link, where the program needs nothing else; for a program of a Nix store a
//! launcher ([`super::launch`]). Else a script of `/bin/sh`, for
//! editors and agents that have no hook: it finds the workspace by its own path
//! (`WORKSPACE/.zagi/env/bin/NAME`), sets the environment's variables unless they are set
//! for that workspace, and starts the program. It starts no other process and costs about a
//! millisecond.
//!
//! What a flake brings is in `envs/<key>/flake`, all of it, by link or launcher; that directory
//! comes after `bin`, and in the user's shell after everything. Of its programs those are in
//! `bin` besides that the catalogue knows ([`super::stranger::is_known`]), unless a tool brings one:
//! a stranger's flake may have an `ls`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::activate::{Activation, WORKSPACE, quote};
use super::flake;
use super::launch::{ENTER, View};
use super::lock::Bin;
use super::place::Place;
use crate::registry::nix::STORE;

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub enum BinError {
    /// The package has no such file.
    #[error("{tool} has no program `{path}`")]
    Missing {
        /// The tool.
        tool: String,
        /// The path in its tree.
        path: String,
    },
    /// It is run by another program, which the environment does not have.
    #[error("`{name}` of {tool} is run by `{with}`, which no tool of the environment brings")]
    NothingToRunIt {
        /// The program.
        name: String,
        /// The tool.
        tool: String,
        /// The other program.
        with: String,
    },
    /// It cannot be written.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

/// Where programs are, in a realised environment.
pub(super) const DIRECTORY: &str = "bin";
/// Where all programs of a flake are.
pub(super) const FLAKE: &str = "flake";

/// How a program is started.
struct Program<'a> {
    /// The tool that brings it.
    place: &'a Place<'a>,
    /// The file, as the program itself sees it.
    path: PathBuf,
    /// It sees that only through the environment's launcher.
    viewed: bool,
}

/// Fills the directory `dir`, which will be `place`. `is_known` says which programs of a flake
/// may stand in front.
pub(super) fn write(
    dir: &Path,
    place: &Path,
    plans: &[Place<'_>],
    activation: &Activation,
    view: Option<&View>,
    is_known: &dyn Fn(&str) -> bool,
) -> Result<(), BinError> {
    let enter = place.join(ENTER);
    if let Some(view) = view {
        launcher(&dir.join(ENTER), view, None)?;
    }
    let mut programs = programs(plans)?;
    let flake = of_flake(plans);
    for (name, program) in &flake {
        start(&dir.join(FLAKE).join(name), program, view)?;
    }
    for (name, program) in flake.into_iter().filter(|(name, _)| is_known(name)) {
        programs.entry(name).or_insert(program);
    }
    for (name, program) in &programs {
        let place = dir.join(DIRECTORY).join(name);
        let failed = |source| BinError::Write { path: place.clone(), source };
        let plain = Bin { path: String::new(), with: None, shim: false, prefer: None };
        let bin = program.place.tool.bins.get(name).unwrap_or(&plain);
        if !bin.shim && bin.with.is_none() && bin.prefer.is_none() {
            start(&place, program, view)?;
            continue;
        }
        let with = match &bin.with {
            None => None,
            Some(with) => {
                let found = programs.get(with);
                Some(found.ok_or_else(|| BinError::NothingToRunIt {
                    name: name.clone(),
                    tool: program.place.tool.name.clone(),
                    with: with.clone(),
                })?)
            }
        };
        let viewed = program.viewed || with.is_some_and(|with| with.viewed);
        let words = [viewed.then_some(enter.as_path()), with.map(|with| with.path.as_path())];
        let words: Vec<&Path> =
            words.into_iter().flatten().chain([program.path.as_path()]).collect();
        let text = shim(bin, &words, viewed, activation);
        std::fs::write(&place, text).map_err(failed)?;
        std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).map_err(failed)?;
    }
    Ok(())
}

/// What starts a program that needs nothing else.
fn start(place: &Path, program: &Program<'_>, view: Option<&View>) -> Result<(), BinError> {
    let failed = |source| BinError::Write { path: place.to_owned(), source };
    match view.filter(|_| program.viewed) {
        Some(view) => launcher(place, view, Some(&program.path)),
        None => std::os::unix::fs::symlink(&program.path, place).map_err(failed),
    }
}

/// The programs of the flake, if there is one. What is in no path of its lock is none of them.
fn of_flake<'a>(plans: &'a [Place<'a>]) -> BTreeMap<String, Program<'a>> {
    let Some(place) = plans.iter().find(|place| place.tool.is_flake()) else {
        return BTreeMap::new();
    };
    let store = STORE.trim_start_matches('/');
    let own: BTreeSet<&str> = place.tool.parts.iter().map(|part| part.name.as_str()).collect();
    let is_own = |dir: &&String| {
        let base = dir.strip_prefix(store).and_then(|rest| rest.split('/').nth(1));
        base.is_some_and(|base| own.contains(base))
    };
    let root = place.files();
    let path: Vec<PathBuf> =
        place.tool.path.iter().filter(is_own).map(|dir| root.join(dir)).collect();
    let viewed = place.is_viewed();
    let program = |(name, file): (String, PathBuf)| {
        let path = match file.strip_prefix(root) {
            Ok(inside) if viewed => Path::new("/").join(inside),
            _ => file,
        };
        (name, Program { place, path, viewed })
    };
    flake::programs(&path).into_iter().map(program).collect()
}

/// All programs by name; of several of one name, the last tool's.
fn programs<'a>(plans: &'a [Place<'a>]) -> Result<BTreeMap<String, Program<'a>>, BinError> {
    let mut programs = BTreeMap::new();
    for place in plans {
        for adopted in &place.tool.adopted {
            let program = Program { place, path: adopted.path.clone(), viewed: false };
            programs.insert(adopted.name.clone(), program);
        }
        let viewed = place.is_viewed();
        for (name, bin) in &place.tool.bins {
            let file = place.files().join(&bin.path);
            // A link of a store's leads to somewhere only once the store is seen.
            let there = file.is_file() || (viewed && file.is_symlink());
            if !there {
                let (tool, path) = (place.tool.name.clone(), bin.path.clone());
                return Err(BinError::Missing { tool, path });
            }
            let path = if viewed { Path::new("/").join(&bin.path) } else { file };
            programs.insert(name.clone(), Program { place, path, viewed });
        }
        for (name, path) in &place.tool.programs {
            let path = place.root.join(path);
            // Not every release has every program.
            if path.is_file() && !programs.contains_key(name) {
                programs.insert(name.clone(), Program { place, path, viewed: false });
            }
        }
    }
    Ok(programs)
}

fn launcher(path: &Path, view: &View, program: Option<&Path>) -> Result<(), BinError> {
    let failed = |source| BinError::Write { path: path.to_owned(), source };
    let no_text = || io::Error::other("a path in it would hold a line break");
    let text = view.launcher(program).ok_or_else(no_text).map_err(failed)?;
    std::fs::write(path, text).map_err(failed)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).map_err(failed)
}

/// `words` start the program; the first of them is the launcher where it is `viewed`.
fn shim(bin: &Bin, words: &[&Path], viewed: bool, activation: &Activation) -> Vec<u8> {
    let mut out = b"#!/bin/sh\n\
        case $0 in\n\
        */.zagi/env/bin/*) w=${0%/.zagi/env/bin/*} ;;\n\
        .zagi/env/bin/*) w=. ;;\n\
        *) w=${ZAGI_WORKSPACE-} ;;\n\
        esac\n\
        case $w in\n\
        '' | /*) ;;\n\
        *) w=$PWD/$w ;;\n\
        esac\n\
        if [ -n \"$w\" ] && [ \"${ZAGI_WORKSPACE-}\" != \"$w\" ]; then\n"
        .to_vec();
    let path_entries: Vec<Vec<u8>> = activation.path.iter().map(|entry| word(entry)).collect();
    line(&mut out, &[b"  export PATH=", &path_entries.join(&b':'), b":\"$PATH\""]);
    for (name, value) in &activation.vars {
        line(&mut out, &[b"  export ", name.as_bytes(), b"=", &word(value)]);
    }
    line(&mut out, &[b"  export ", WORKSPACE.as_bytes(), b"=\"$w\"\nfi"]);
    let words: Vec<Vec<u8>> = words.iter().map(|word| quote(word.as_os_str())).collect();
    if let Some(prefer) = &bin.prefer {
        let own = word(prefer);
        let (there, enter) = match viewed {
            // A link into the store, which is not seen here.
            true => (&b"[ -h "[..], [words[0].as_slice(), b" "].concat()),
            false => (&b"[ -x "[..], Vec::new()),
        };
        line(
            &mut out,
            &[b"[ -n \"$w\" ] && ", there, &own, b" ] && exec ", &enter, &own, b" \"$@\""],
        );
    }
    line(&mut out, &[b"exec ", &words.join(&b' '), b" \"$@\""]);
    out
}

fn line(out: &mut Vec<u8>, pieces: &[&[u8]]) {
    out.extend(pieces.concat());
    out.push(b'\n');
}

/// A template as a word of the shell, with the workspace from `$w`.
fn word(template: &str) -> Vec<u8> {
    let pieces: Vec<Vec<u8>> = template
        .split("{workspace}")
        .map(|piece| match piece {
            "" => Vec::new(),
            piece => quote(OsStr::from_bytes(piece.as_bytes())),
        })
        .collect();
    pieces.join(&b"\"$w\""[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_finds_its_workspace_and_sets_what_is_not_set() {
        let dir = tempfile::tempdir().unwrap();
        let env = dir.path().join("it's an env");
        let workspace = dir.path().join("w $x");
        for place in [env.join("bin"), workspace.join(".zagi"), workspace.join(".venv/bin")] {
            std::fs::create_dir_all(place).unwrap();
        }
        std::os::unix::fs::symlink(&env, workspace.join(".zagi/env")).unwrap();
        let activation = Activation {
            path: vec!["{workspace}/.zagi/env/bin".into()],
            vars: [("CACHE", "{workspace}/.c/x"), ("FLAG", "a 'b'")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            ..Activation::default()
        };
        let bin = Bin {
            path: String::new(),
            with: None,
            shim: true,
            prefer: Some("{workspace}/.venv/bin/tool".into()),
        };
        let put = crate::program::write;
        let real = dir.path().join("real 'tool'");
        put(&real, b"#!/bin/sh\necho \"$CACHE|$FLAG|$ZAGI_WORKSPACE|${PATH%%:*}|$1\"\n");
        put(&env.join("bin/tool"), &shim(&bin, &[&real], false, &activation));
        let run = |program: &Path, cwd: &Path, vars: &[(&str, &Path)]| {
            let mut command = std::process::Command::new(program);
            command.arg("an arg").current_dir(cwd).env_clear().env("PATH", "/bin");
            for (name, value) in vars {
                command.env(name, value);
            }
            let out = command.output().unwrap();
            assert!(out.status.success(), "{out:?}");
            String::from_utf8(out.stdout).unwrap()
        };
        let w = workspace.to_str().unwrap();
        let expected = format!("{w}/.c/x|a 'b'|{w}|{w}/.zagi/env/bin|an arg\n");
        let tool = workspace.join(".zagi/env/bin/tool");
        assert_eq!(run(&tool, Path::new("/"), &[]), expected);
        // In its workspace already: what the user has changed stays.
        let own = [("ZAGI_WORKSPACE", workspace.as_path()), ("FLAG", Path::new("mine"))];
        assert_eq!(run(&tool, Path::new("/"), &own), format!("|mine|{w}|/bin|an arg\n"));
        // Of no workspace.
        assert_eq!(run(&env.join("bin/tool"), Path::new("/"), &[]), "|||/bin|an arg\n");
        put(&workspace.join(".venv/bin/tool"), b"#!/bin/sh\necho preferred\n");
        assert_eq!(run(&tool, Path::new("/"), &[]), "preferred\n");
    }
}
