//! `.git/index`, made when somebody first looks at it.
//!
//! Git trusts an index entry whose stat data is that of the file; otherwise its first
//! `git status` reads and hashes everything. Everything in a mounted tree has stat data
//! that is known beforehand (inode numbers by path, the commit's date for every time), so
//! the index can be written without a look at a file ([`git_index`]). It waits until git asks;
//! the mount itself stays independent of the repository's size.
//!
//! What was made is kept in `workspaces/<id>/index`. Integers are little-endian.
//!
//! | bytes | meaning |
//! |---|---|
//! | 8 | `zagiindx` |
//! | 8 | [`VERSION`]; any other is made anew |
//! | 32 | a BLAKE3 hash of all that it follows from: [`Origin`] |
//! | 32 | the BLAKE3 hash of the index |
//! | 8 | its length |
//! | … | the index |

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use gix::ObjectId;
use zagi_fuse::layer::{Entry, Key, Kind, Layer, Node};

use super::description::{self, Description, write_whole};
use super::git_index::{self, Contents};
use super::git_layer::{GitLayer, copy_from};
use crate::context::Context;
use crate::environment::activate::LINK;

/// The version of the file, and of what is in the index.
const VERSION: u64 = 1;
const MAGIC: &[u8; 8] = b"zagiindx";
const HEADER: usize = 8 + 8 + 32 + 32 + 8;
/// Files of patterns that are longer are not looked at; git refuses much shorter ones.
const MAX_PATTERNS: u64 = 16 << 20;

/// What an index follows from, beside the user's own `core.excludesFile`, which git checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin([u8; 32]);

impl Origin {
    /// That of the workspace `description`, whose files belong to `owner`.
    pub fn of(description: &Description, owner: Owner) -> Origin {
        let Description { path, source, dependencies, created, .. } = description;
        let dependencies: Vec<_> =
            dependencies.iter().map(|d| (&d.key, &d.tree, &d.directories)).collect();
        let all = serde_json::json!({
            "version": VERSION,
            "id": description.id,
            "path": path,
            "created": created,
            "tree": source.tree,
            "date": source.date,
            "owner": [owner.uid, owner.gid],
            "dependencies": dependencies,
        });
        Origin(*blake3::hash(all.to_string().as_bytes()).as_bytes())
    }

    /// What git is given in the index to ask with: it means «since the layers».
    pub fn token(&self) -> String {
        format!("zagi-layers:{}", &blake3::Hash::from_bytes(self.0).to_hex()[..32])
    }
}

/// A directory that holds one file, `index`. To be attached at `.git`.
pub struct IndexLayer {
    source: Arc<GitLayer>,
    ctx: Context,
    description: Description,
    owner: Owner,
    origin: Origin,
    made: Mutex<Option<Made>>,
}

/// Who owns the files of the workspace, as `stat` says.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// This process's user.
    pub fn me() -> Owner {
        Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }
}

/// Where the index is.
#[derive(Clone)]
enum Made {
    /// In the file, sound, and so long.
    Kept(u64),
    /// It could not be written.
    Here(Arc<Vec<u8>>),
}

const NAME: &[u8] = b"index";

impl IndexLayer {
    /// The index of all of `source`, which the workspace `description` is of.
    pub fn new(ctx: &Context, source: Arc<GitLayer>, description: &Description) -> IndexLayer {
        let owner = Owner::me();
        IndexLayer {
            source,
            ctx: ctx.clone(),
            description: description.clone(),
            owner,
            origin: Origin::of(description, owner),
            made: Mutex::default(),
        }
    }

    fn directory(&self) -> PathBuf {
        description::directory(&self.ctx.home, &self.description.id)
    }

    fn file(&self) -> PathBuf {
        self.directory().join("index")
    }

    /// Later than every file it speaks of, or git suspects each of a change within the same
    /// second; but not later than the first change can be. So of a commit of this very second
    /// git reads what it is told has changed.
    fn mtime(&self) -> i64 {
        self.description.created.max(self.description.source.date)
    }

    fn made(&self) -> io::Result<Made> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made {
            return Ok(made.clone());
        }
        let now = match length(&self.file(), &self.origin) {
            Some(length) => Made::Kept(length),
            None => self.keep(self.build()?),
        };
        *made = Some(now.clone());
        Ok(now)
    }

    fn keep(&self, index: Vec<u8>) -> Made {
        let (hash, length) = (blake3::hash(&index), index.len() as u64);
        let mut file = [&MAGIC[..], &VERSION.to_le_bytes(), &self.origin.0].concat();
        file.extend_from_slice(hash.as_bytes());
        file.extend_from_slice(&length.to_le_bytes());
        file.extend_from_slice(&index);
        match write_whole(&self.file(), &file) {
            Ok(()) => Made::Kept(length),
            Err(_) => Made::Here(Arc::new(index)),
        }
    }

    fn build(&self) -> io::Result<Vec<u8>> {
        let own = description::own(&self.directory());
        let listings = self.source.listings();
        // What is not known now is asked for one by one.
        let _ = listings.make();
        let repo = self.source.repository();
        let read = |id: &ObjectId| {
            repo.find_object(*id).map(|found| found.detach().data).map_err(io::Error::other)
        };
        let directories = self.description.dependencies.iter().flat_map(|d| &d.directories);
        let mut foreign: Vec<Vec<u8>> = directories.map(|d| d.clone().into_bytes()).collect();
        // And the link to the environment.
        foreign.push(LINK.as_bytes().to_vec());
        git_index::write(&Contents {
            listings,
            tree: self.source.tree(),
            date: self.description.source.date,
            owner: (self.owner.uid, self.owner.gid),
            work_tree: self.description.path.as_os_str().as_bytes(),
            token: &self.origin.token(),
            exclude: [
                patterns(&own.join(".git/info/exclude")),
                excludes_file(&self.ctx).as_deref().and_then(patterns),
            ],
            foreign: &foreign,
            read: &read,
        })
    }

    fn index(&self) -> io::Result<Node> {
        let size = match self.made()? {
            Made::Kept(length) => length,
            Made::Here(index) => index.len() as u64,
        };
        Ok(Node { kind: Kind::File, mode: 0o644, size, mtime: self.mtime(), key: NAME.into() })
    }
}

/// The length of the index in the file `path`, if it is sound and of `origin`.
fn length(path: &Path, origin: &Origin) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let mut head = [0; HEADER];
    file.read_exact(&mut head).ok()?;
    let expected = [&MAGIC[..], &VERSION.to_le_bytes(), &origin.0].concat();
    if head[..48] != expected {
        return None;
    }
    let length = u64::from_le_bytes(head[80..].try_into().ok()?);
    let mut hasher = blake3::Hasher::new();
    let hashed = io::copy(&mut file.take(length), &mut hasher).ok()?;
    (hashed == length && head[48..80] == *hasher.finalize().as_bytes()).then_some(length)
}

/// The content of a file of patterns, if git can read it.
fn patterns(path: &Path) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path).ok()?.take(MAX_PATTERNS).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Where the user's own patterns are, if anywhere.
fn excludes_file(ctx: &Context) -> Option<PathBuf> {
    let asked = Command::new("git")
        .args(["config", "--type=path", "--get", "core.excludesFile"])
        .current_dir("/")
        .env_clear()
        .envs(ctx.vars.iter())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    if let Ok(said) = asked
        && let Some(path) = said.stdout.strip_suffix(b"\n").filter(|path| !path.is_empty())
    {
        return Some(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
    }
    let absolute = |name| ctx.var(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let configuration =
        absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(configuration.join("git/ignore"))
}

impl Layer for IndexLayer {
    fn root(&self) -> Node {
        Node {
            kind: Kind::Directory,
            mode: 0o755,
            size: 0,
            mtime: self.mtime(),
            key: Key::from(&b""[..]),
        }
    }

    fn lookup(&self, _: &Key, name: &[u8]) -> io::Result<Option<Node>> {
        if name == NAME { self.index().map(Some) } else { Ok(None) }
    }

    fn list(&self, _: &Key) -> io::Result<Vec<Entry>> {
        Ok(vec![Entry { name: NAME.into(), node: self.index()? }])
    }

    fn read(&self, _: &Key, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        match self.made()? {
            Made::Here(index) => Ok(copy_from(&index, offset, buf)),
            Made::Kept(length) => {
                let want = buf.len().min(length.saturating_sub(offset) as usize);
                File::open(self.file())?
                    .read_exact_at(&mut buf[..want], HEADER as u64 + offset)
                    .map(|()| want)
            }
        }
    }
}
