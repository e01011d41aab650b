//! A private `.git` that borrows its objects from a shared clone.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::Resolved;
use super::bare::quoted;
use super::error::SourceError;
use super::git::{Git, Run};
use crate::context::Context;

/// What a new `.git` directory holds; paths are relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DotGit {
    /// Directories that git wants to be there, parents first.
    pub directories: Vec<String>,
    /// Files and their bytes.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl DotGit {
    /// The `.git` of a work tree of `source`: its own configuration, references and index
    /// (none yet: git makes it when it first looks), with objects borrowed. `exclude` are
    /// patterns of what git must not see.
    ///
    /// HEAD is the branch that was asked for, a new branch `main` where that was a package,
    /// or the commit itself.
    pub fn of(source: &Resolved, exclude: &[String]) -> DotGit {
        let directories = ["objects", "objects/info", "objects/pack", "refs", "refs/heads"];
        let more = ["refs/tags", "info", "hooks"];
        let directories = directories.into_iter().chain(more).map(ToOwned::to_owned).collect();
        let mut borrowed = source.repo.join("objects").into_os_string().into_encoded_bytes();
        borrowed.push(b'\n');
        let excluded: String = exclude.iter().map(|pattern| format!("{pattern}\n")).collect();
        let head = match source.head() {
            Some(branch) => format!("ref: refs/heads/{branch}\n"),
            None => format!("{}\n", source.commit),
        };
        let files = [
            ("HEAD", head.into_bytes()),
            ("config", source.configuration().into_bytes()),
            ("packed-refs", source.references().into_bytes()),
            ("objects/info/alternates", borrowed),
            ("info/exclude", excluded.into_bytes()),
        ];
        let files = files.map(|(path, bytes)| (path.to_owned(), bytes)).into();
        DotGit { directories, files }
    }

    /// Lets git ask `program` what changed since it last looked, and remember what is
    /// untracked.
    pub fn ask(&mut self, program: &str) {
        let settings = format!(
            "[core]\n\tfsmonitor = {}\n\tfsmonitorHookVersion = 2\n\tuntrackedCache = true\n",
            quoted(&as_command(program))
        );
        self.files.entry("config".into()).or_default().extend(settings.into_bytes());
    }
}

/// A program as git's settings name it: git gives what holds any of these to a shell.
fn as_command(program: &str) -> String {
    if program.contains(|c: char| "|&;<>()$`\\\"' \t\n*?[#~=%".contains(c)) {
        format!("'{}'", program.replace('\'', r"'\''"))
    } else {
        program.to_owned()
    }
}

impl Resolved {
    /// The branch that HEAD is on.
    fn head(&self) -> Option<&str> {
        match (&self.branch, &self.revision, &self.remote) {
            (Some(branch), _, _) => Some(branch),
            // A package: there is no branch to be off.
            (None, _, None) => Some("main"),
            (None, _, Some(_)) => None,
        }
    }

    fn configuration(&self) -> String {
        let mut text = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\
             \tlogallrefupdates = true\n"
            .to_owned();
        if let Some(remote) = &self.remote {
            text += &format!(
                "[remote \"origin\"]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
                quoted(remote)
            );
            if self.partial {
                // What is missing of history, git then fetches when it is looked at.
                text += "\tpromisor = true\n\tpartialclonefilter = blob:none\n";
            }
            if let Some(branch) = &self.branch {
                let section = quoted(branch);
                text += &format!(
                    "[branch {section}]\n\tremote = origin\n\tmerge = refs/heads/{branch}\n"
                );
            }
        }
        text
    }

    /// In the form of git's `packed-refs`, which wants them sorted.
    fn references(&self) -> String {
        let mut all = BTreeMap::new();
        if let Some(branch) = self.head() {
            all.insert(format!("refs/heads/{branch}"), &self.commit);
            if self.remote.is_some() {
                all.insert(format!("refs/remotes/origin/{branch}"), &self.commit);
            }
        }
        all.extend(self.tags.iter().map(|(name, id)| (format!("refs/tags/{name}"), id)));
        let lines: String = all.iter().map(|(name, id)| format!("{id} {name}\n")).collect();
        format!("# pack-refs with: sorted \n{lines}")
    }
}

/// Writes the files of `source` at `dest`, which is made, with a `.git` of its own that does
/// not see what matches `exclude`.
pub fn checkout(
    ctx: &Context,
    source: &Resolved,
    exclude: &[String],
    dest: &Path,
) -> Result<(), SourceError> {
    let git = Git::find(ctx)?;
    let inside = dest.join(".git");
    let dot_git = DotGit::of(source, exclude);
    fs::create_dir_all(&inside).map_err(SourceError::io(&inside))?;
    for directory in &dot_git.directories {
        let path = inside.join(directory);
        fs::create_dir_all(&path).map_err(SourceError::io(&path))?;
    }
    for (name, bytes) in &dot_git.files {
        let path = inside.join(name);
        fs::write(&path, bytes).map_err(SourceError::io(&path))?;
    }
    // A filter is a program of the user's that may want the network. What it would make is
    // left as it is stored, which was said when the source was resolved.
    let no_filter = ["filter.lfs.smudge", "filter.lfs.process"].map(|key| (key, OsStr::new("")));
    let not_required = ("filter.lfs.required", OsStr::new("false"));
    let settings = [no_filter[0], no_filter[1], not_required];
    let env = [("GIT_DIR", inside.as_os_str()), ("GIT_WORK_TREE", dest.as_os_str())];
    let args = ["reset", "--hard", "--quiet"].map(OsStr::new);
    git.run(Run { settings: &settings, env: &env, ..Run::new(&source.spec, &args) })?;
    Ok(())
}
