//! A workspace that is presented through NFS: what its server is known by, and the kernel's side.
//!
//! The daemon serves it at a port of this machine; the kernel's own client then mounts it at DIR,
//! if this machine has one and its user may. Where not, the command is told, and the server runs.
//!
//! # Format
//! ```text
//! workspaces/<id>/nfs   zagi-nfs 1
//!                       PORT
//!                       SECRET, 64 hexadecimal digits
//! ```
//! Readable by its owner only, and there from `mount` to `unmount`: a daemon that takes over
//! listens at the same port and knows the same handles.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;
use zagi_fuse::nfs::Secret;

use super::description::{self, Description, Presentation};
use super::error::{WorkspaceError, at};
use super::mounts;
use crate::context::Context;
use crate::home::Home;

/// The first line of the file.
const HEAD: &str = "zagi-nfs 1";

/// What a server is known by.
pub(super) struct Export {
    /// Where it listens.
    pub port: u16,
    /// What its path and its handles follow from.
    pub secret: Secret,
}

/// How the kernel came to have a workspace that the daemon serves, or can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NfsMount {
    /// The server's address.
    pub url: String,
    /// The command that mounts it.
    pub command: String,
    /// Why that was not done, if it was not.
    pub by_hand: Option<String>,
}

impl Export {
    /// What was kept of the workspace `id`; `None` if it is not served.
    pub fn read(home: &Home, id: &str) -> io::Result<Option<Export>> {
        match std::fs::read_to_string(description::directory(home, id).join("nfs")) {
            Ok(text) => parse(&text).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Keeps it. What was there before is taken away first: nobody else may have it open.
    pub fn write(&self, home: &Home, id: &str) -> io::Result<()> {
        Export::remove(home, id)?;
        let path = description::directory(home, id).join("nfs");
        let mut file =
            std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(self.text().as_bytes())
    }

    /// Forgets it: every handle that was given out is void.
    pub fn remove(home: &Home, id: &str) -> io::Result<()> {
        match std::fs::remove_file(description::directory(home, id).join("nfs")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}\n{}\n", self.port);
        for byte in self.secret.as_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
        text + "\n"
    }

    /// As libnfs and its programs write an address.
    fn url(&self) -> String {
        let (token, port) = (self.secret.token(), self.port);
        format!("nfs://127.0.0.1/{token}?version=3&nfsport={port}&mountport={port}")
    }

    /// The program that mounts it at `dir`, and its arguments.
    fn command(&self, macos: bool, dir: &Path) -> Vec<String> {
        let port = self.port;
        let (program, options): (&[&str], _) = match macos {
            // Not tried: no such machine was at hand.
            true => (
                &["mount_nfs"],
                format!("vers=3,tcp,port={port},mountport={port},locallocks,nosuid,nodev"),
            ),
            // With `addr` it needs no helper, and with `sec` the kernel says who calls.
            false => (
                &["mount", "-t", "nfs"],
                format!(
                    "vers=3,proto=tcp,mountproto=tcp,addr=127.0.0.1,port={port},\
                     mountport={port},nolock,sec=sys,nosuid,nodev"
                ),
            ),
        };
        let mut words: Vec<String> = program.iter().map(|word| (*word).to_owned()).collect();
        words.extend(["-o".into(), options]);
        words.push(format!("127.0.0.1:/{}", self.secret.token()));
        words.push(dir.to_string_lossy().into_owned());
        words
    }
}

fn parse(text: &str) -> Option<Export> {
    let mut lines = text.lines();
    if lines.next()? != HEAD {
        return None;
    }
    let port = lines.next()?.parse().ok()?;
    let digits = lines.next()?.as_bytes();
    let mut secret = [0; Secret::LENGTH];
    if digits.len() != 2 * secret.len() || lines.next().is_some() {
        return None;
    }
    for (byte, pair) in secret.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Export { port, secret: Secret::from_bytes(secret) })
}

/// Has the kernel mount the workspace, which the daemon serves, unless it has. `None` if it is
/// presented otherwise.
pub fn attach(
    ctx: &Context,
    description: &Description,
) -> Result<Option<NfsMount>, WorkspaceError> {
    if description.presented != Presentation::Nfs {
        return Ok(None);
    }
    let dir = &description.path;
    let place = description::directory(&ctx.home, &description.id).join("nfs");
    let Some(export) = Export::read(&ctx.home, &description.id).map_err(at(&place))? else {
        return Err(WorkspaceError::NotMounted(dir.clone()));
    };
    let macos = cfg!(target_os = "macos");
    let command = export.command(macos, dir);
    let root = nix::unistd::geteuid().is_root();
    let by_hand = match mounts::is_nfs(dir).map_err(at(dir))? {
        true => None,
        false if !root && !macos => Some("only root may mount NFS".to_owned()),
        false => run(ctx, &command).err(),
    };
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let sudo = if root || macos { "" } else { "sudo " };
    Ok(Some(NfsMount { url: export.url(), command: format!("{sudo}{}", words.join(" ")), by_hand }))
}

fn run(ctx: &Context, command: &[String]) -> Result<(), String> {
    let output = Command::new(&command[0])
        .args(&command[1..])
        .env("PATH", ctx.var("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next().unwrap_or("mount failed").trim().to_owned())
        }
        Err(e) => Err(format!("`{}` cannot be run: {e}", command[0])),
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export() -> Export {
        Export { port: 40_001, secret: Secret::from_bytes([0xa5; Secret::LENGTH]) }
    }

    #[test]
    fn what_is_kept_is_read_again_and_nothing_else_is() {
        let text = export().text();
        let again = parse(&text).unwrap();
        assert_eq!((again.port, again.secret.as_bytes()), (40_001, &[0xa5; 32]));
        for wrong in [
            "",
            "zagi-nfs 2\n1\n00\n",
            &text.replace("40001", "70000"),
            &text.replace("a5a5", "a5"),
            &text.replace("a5a5", "+5xy"),
            &(text.clone() + "more\n"),
        ] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_commands_of_both_systems() {
        let (export, dir) = (export(), Path::new("/home/you/a b"));
        let token = export.secret.token();
        assert_eq!(
            export.command(false, dir).join(" "),
            format!(
                "mount -t nfs -o vers=3,proto=tcp,mountproto=tcp,addr=127.0.0.1,port=40001,\
                 mountport=40001,nolock,sec=sys,nosuid,nodev 127.0.0.1:/{token} /home/you/a b"
            )
        );
        assert_eq!(
            export.command(true, dir).join(" "),
            format!(
                "mount_nfs -o vers=3,tcp,port=40001,mountport=40001,locallocks,nosuid,nodev \
                 127.0.0.1:/{token} /home/you/a b"
            )
        );
        assert_eq!(quoted("/home/you/a b"), "'/home/you/a b'");
        assert_eq!(quoted("vers=3,port=1"), "vers=3,port=1");
    }
}
