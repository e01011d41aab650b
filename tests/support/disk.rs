//! A disk whose power is cut, or which fails, at any operation.
//!
//! [`SimulatedDisk`] does on a real directory what the store asks for and keeps, beside it, what
//! of that would survive: the bytes of a file up to its last sync, and the names in a directory
//! as of the directory's last sync. What is newer is *pending*, and a [`Cut`] says what becomes
//! of it. What a file system promises without a sync, and no more, is kept to: a rename happens
//! wholly or not at all, and what is done to one name happens in order; names otherwise
//! survive in any order, with or without the bytes of the files that they name.
//!
//! What the store keeps past the seam (the index, the farm, caches) is copied when the power
//! goes, and [`Outside`] says in what shape it is found again.

mod caches;
mod model;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tempfile::TempDir;
use zagi::store::{Disk, Input, Output, Storage};

pub use caches::{OUTSIDES, Outside, copy, memory};
use caches::{copy_outside, spoil};
pub use model::{Bytes, Cut, Names, cuts};
use model::{Change, Model, Node};

/// What happens at the operation that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this operation and every later one fails.
    Power,
    /// The operation fails, half done if it is a write. The next ones succeed.
    Fails(io::ErrorKind),
    /// From this operation on, whatever needs space fails, until [`SimulatedDisk::mend`].
    Full,
    /// A write takes one byte only, and says so.
    Short,
    /// It is not the operation that fails, but the reading one with this number.
    Unreadable,
}

struct State {
    model: Model,
    operations: u64,
    reads: u64,
    fault: Option<(u64, Fault)>,
    is_off: bool,
    /// The caches when the power went.
    outside: Option<TempDir>,
}

/// See the module. The store is the directory `store` on it.
#[derive(Clone)]
pub struct SimulatedDisk {
    root: PathBuf,
    state: Arc<Mutex<State>>,
    /// The caches at the beginning.
    before: Arc<TempDir>,
}

impl SimulatedDisk {
    /// A disk that is mounted at `root` and holds what it holds now, durably.
    pub fn new(root: &Path) -> SimulatedDisk {
        let state = State {
            model: Model::new(root),
            operations: 0,
            reads: 0,
            fault: None,
            is_off: false,
            outside: None,
        };
        let before = Arc::new(copy_outside(&root.join("store")));
        SimulatedDisk { root: root.to_owned(), state: Arc::new(Mutex::new(state)), before }
    }

    /// Where the store is.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Lets something happen at the operation with this number, the first being 0.
    pub fn fail_at(self, operation: u64, fault: Fault) -> SimulatedDisk {
        self.state().fault = Some((operation, fault));
        self
    }

    /// Lets nothing more happen. After [`Fault::Power`] this is another process, on a machine
    /// that kept running.
    pub fn mend(&self) {
        let mut state = self.state();
        state.fault = None;
        state.is_off = false;
    }

    /// How many operations there were that change something.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many there were that read a file or directory.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Whether the power went.
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Makes `to` the disk as it is found when the power comes back.
    pub fn found(&self, to: &Path, cut: Cut, outside: Outside) {
        fs::create_dir_all(to).unwrap();
        let state = self.state();
        state.model.found(to, cut);
        let now;
        let caches = match (outside, &state.outside) {
            (Outside::Missing, _) => return,
            (Outside::Older, _) => self.before.path(),
            (_, Some(outside)) => outside.path(),
            (_, None) => {
                now = copy_outside(&self.store());
                now.path()
            }
        };
        // There may be no store yet.
        let to = to.join("store");
        if to.exists() {
            copy(caches, &to);
            if matches!(outside, Outside::Halved | Outside::Garbage) {
                spoil(caches, &to, outside);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The relative path, where it is one of this disk's.
    fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.root).expect("the store writes into its directory")
    }

    /// Counts an operation, and says how it fails if it does. `grows` is what needs space.
    fn operation(&self, grows: bool) -> Result<(MutexGuard<'_, State>, bool), io::Error> {
        let mut state = self.state();
        if state.is_off {
            return Err(off());
        }
        let at = state.operations;
        state.operations += 1;
        match state.fault {
            Some((k, Fault::Power)) if at >= k => {
                state.outside = Some(copy_outside(&self.store()));
                state.is_off = true;
                Err(off())
            }
            Some((k, Fault::Fails(kind))) if at == k => Err(kind.into()),
            Some((k, Fault::Full)) if at >= k && grows => Err(io::ErrorKind::StorageFull.into()),
            Some((k, Fault::Short)) if at == k => Ok((state, true)),
            _ => Ok((state, false)),
        }
    }
}

impl SimulatedDisk {
    /// Counts an operation that changes nothing.
    fn read(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.is_off {
            return Err(off());
        }
        state.reads += 1;
        match state.fault {
            Some((k, Fault::Unreadable)) if state.reads == k + 1 => {
                Err(io::Error::other("a block cannot be read"))
            }
            _ => Ok(()),
        }
    }
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

struct SimulatedInput {
    disk: SimulatedDisk,
    input: Arc<dyn Input>,
}

impl Input for SimulatedInput {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read()?;
        self.input.read_exact_at(buf, offset)
    }
    fn size(&self) -> io::Result<u64> {
        self.input.size()
    }
}

struct SimulatedOutput {
    disk: SimulatedDisk,
    node: usize,
    output: Box<dyn Output>,
    /// Bytes that an operation which failed has lost for good: a later sync does not bring
    /// them to the disk, though it succeeds and the file reads as if it had.
    dropped: Option<(usize, usize)>,
}

impl SimulatedOutput {
    fn append(&mut self, state: &mut State, bytes: &[u8]) -> io::Result<usize> {
        let n = self.output.write(bytes)?;
        if let Node::File { bytes: written, .. } = &mut state.model.nodes[self.node] {
            written.extend_from_slice(&bytes[..n]);
        }
        Ok(n)
    }
}

impl Write for SimulatedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let disk = self.disk.clone();
        match disk.operation(true) {
            Ok((mut state, is_short)) => {
                let end = if is_short { 1.min(bytes.len()) } else { bytes.len() };
                self.append(&mut state, &bytes[..end])
            }
            Err(e) => {
                let mut state = disk.state();
                if !state.is_off {
                    // As the kernel does: what fits is written.
                    self.append(&mut state, &bytes[..bytes.len() / 2])?;
                }
                Err(e)
            }
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl Output for SimulatedOutput {
    fn sync(&mut self) -> io::Result<()> {
        let disk = self.disk.clone();
        let done = disk.operation(true).map(drop);
        let mut state = disk.state();
        let Node::File { durable, bytes } = &mut state.model.nodes[self.node] else {
            return done;
        };
        if let Err(e) = done {
            self.dropped.get_or_insert((durable.len(), bytes.len()));
            return Err(e);
        }
        durable.clone_from(bytes);
        if let Some((from, to)) = self.dropped {
            durable[from..to].fill(0);
        }
        Ok(())
    }
}

impl Storage for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let (mut state, _) = self.operation(true)?;
        let output = Disk.create(path)?;
        let place = state.model.place(self.relative(path));
        let node = state.model.add(Node::File { durable: Vec::new(), bytes: Vec::new() });
        state.model.change(Change::Add(place, node));
        Ok(Box::new(SimulatedOutput { disk: self.clone(), node, output, dropped: None }))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Input>> {
        self.read()?;
        Ok(Arc::new(SimulatedInput { disk: self.clone(), input: Disk.open(path)? }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, _) = self.operation(true)?;
        Disk.rename(from, to)?;
        let from = state.model.place(self.relative(from));
        let to = state.model.place(self.relative(to));
        let node = state.model.named(&from);
        state.model.change(Change::Rename(from, to, node));
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.operation(false)?;
        Disk.remove(path)?;
        let place = state.model.place(self.relative(path));
        state.model.change(Change::Remove(place));
        Ok(())
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.read()?;
        Disk.list(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.operation(true)?;
        let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        Disk.create_directory(path)?;
        while let Some(path) = missing.pop() {
            if path.starts_with(&self.root) {
                let place = state.model.place(self.relative(path));
                let node = state.model.add(Node::Directory);
                state.model.change(Change::Add(place, node));
            }
        }
        Ok(())
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let (mut state, _) = self.operation(true)?;
        // The disk below need not be as good as that.
        fs::metadata(path)?;
        // What is above the store's directory is not simulated.
        if let Ok(path) = path.strip_prefix(&self.root) {
            let node = state.model.find(path);
            state.model.sync(node);
        }
        Ok(())
    }
}
