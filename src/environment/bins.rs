//! `envs/<key>/bin`: the programs of an environment.
//!
//! A symbolic link, where the program needs nothing else. Else a script of `/bin/sh`, for
//! editors and agents that have no hook: it finds the workspace by its own path
//! (`WORKSPACE/.zagi/env/bin/NAME`), sets the environment's variables unless they are set
//! for that workspace, and starts the program. It starts no other process and costs about a
//! millisecond.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::activate::{Activation, WORKSPACE, quote};
use super::lock::Bin;
use super::place::Place;

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

/// Fills the directory `dir`.
pub(super) fn write(
    dir: &Path,
    plans: &[Place<'_>],
    activation: &Activation,
) -> Result<(), BinError> {
    let mut programs: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for plan in plans {
        programs.extend(plan.tool.adopted.iter().map(|a| (a.name.as_str(), a.path.clone())));
        for (name, bin) in &plan.tool.bins {
            let path = plan.root.join(&bin.path);
            if !path.is_file() {
                let (tool, path) = (plan.tool.name.clone(), bin.path.clone());
                return Err(BinError::Missing { tool, path });
            }
            programs.insert(name, path);
        }
    }
    for plan in plans {
        for (name, path) in &programs {
            let place = dir.join(name);
            let failed = |source| BinError::Write { path: place.clone(), source };
            let Some(bin) = plan.tool.bins.get(*name).filter(|b| plan.root.join(&b.path) == *path)
            else {
                if plan.tool.adopted.iter().any(|a| a.name == *name && a.path == *path) {
                    std::os::unix::fs::symlink(path, &place).map_err(failed)?;
                }
                continue;
            };
            if !bin.shim && bin.with.is_none() && bin.prefer.is_none() {
                std::os::unix::fs::symlink(path, &place).map_err(failed)?;
                continue;
            }
            let with = match &bin.with {
                None => None,
                Some(with) => {
                    let found = programs.get(with.as_str());
                    Some(found.ok_or_else(|| BinError::NothingToRunIt {
                        name: (*name).to_owned(),
                        tool: plan.tool.name.clone(),
                        with: with.clone(),
                    })?)
                }
            };
            let text = shim(bin, path, with.map(PathBuf::as_path), activation);
            std::fs::write(&place, text).map_err(failed)?;
            std::fs::set_permissions(&place, PermissionsExt::from_mode(0o755)).map_err(failed)?;
        }
    }
    Ok(())
}

fn shim(bin: &Bin, path: &Path, with: Option<&Path>, activation: &Activation) -> Vec<u8> {
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
    if let Some(prefer) = &bin.prefer {
        let own = word(prefer);
        line(&mut out, &[b"[ -n \"$w\" ] && [ -x ", &own, b" ] && exec ", &own, b" \"$@\""]);
    }
    let program = quote(path.as_os_str());
    match with {
        Some(with) => {
            line(&mut out, &[b"exec ", &quote(with.as_os_str()), b" ", &program, b" \"$@\""]);
        }
        None => line(&mut out, &[b"exec ", &program, b" \"$@\""]),
    }
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
        let put = |path: &Path, text: &[u8]| {
            std::fs::write(path, text).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        };
        let real = dir.path().join("real 'tool'");
        put(&real, b"#!/bin/sh\necho \"$CACHE|$FLAG|$ZAGI_WORKSPACE|${PATH%%:*}|$1\"\n");
        put(&env.join("bin/tool"), &shim(&bin, &real, None, &activation));
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
