//! What a workspace's environment was, to go back to.

use std::io;
use std::path::PathBuf;

use crate::context::Context;
use crate::environment::files::{Directory, Files};
use crate::environment::{lock, spec};
use crate::workspace::description::{self, Description, write_whole};
use crate::workspace::error::{WorkspaceError, at};
use crate::workspace::{gitdir, manage};

/// The files of one moment: those of the tree, and what this home says of the workspace.
pub struct Before {
    tree: [(&'static str, Option<Vec<u8>>); 2],
    home: [(PathBuf, Vec<u8>); 2],
    description: Description,
}

impl Before {
    /// That of now.
    pub fn of(ctx: &Context, id: &str) -> Result<Before, WorkspaceError> {
        let description = Description::read(&ctx.home, id)?;
        let files = Directory::new(&description.path);
        let tree = [spec::PATH, lock::PATH].map(|name| (name, files.read(name)));
        let place = description::directory(&ctx.home, id);
        let kept = |name: &str| {
            let path = place.join(name);
            let bytes = std::fs::read(&path).map_err(at(&path))?;
            Ok::<_, WorkspaceError>((path, bytes))
        };
        let home = [kept("env.toml")?, kept("env.lock")?];
        Ok(Before { tree, home, description })
    }

    /// Makes it so again.
    pub fn restore(&self, ctx: &Context) -> Result<(), WorkspaceError> {
        let root = &self.description.path;
        for (name, bytes) in &self.tree {
            let path = root.join(name);
            match bytes {
                Some(bytes) => manage::write_into(root, name, &String::from_utf8_lossy(bytes))?,
                None => match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(at(&path)(e)),
                    _ => {}
                },
            }
        }
        for (path, bytes) in &self.home {
            write_whole(path, bytes).map_err(at(path))?;
        }
        self.description.write(&description::directory(&ctx.home, &self.description.id))?;
        let environment = self.description.environment_in(&ctx.home);
        gitdir::relink_environment(environment.as_deref(), root).map_err(at(root))
    }
}
