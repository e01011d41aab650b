//! What is executed inside, for its caller ([`Plan::watch`](crate::Plan::watch)).
//!
//! Init closes no call for this, but has the kernel ask about execve(2) and execveat(2)
//! (seccomp_unotify(2)). The caller gets the other end before the program is executed, and a thread
//! of it answers from then on: it reads what is to be executed out of the process that waits, puts
//! that into a queue, and lets it go on, whether it could read or not. Nobody who reads the queue
//! slowly is waited for: what it has no room for is counted.
//!
//! It is a record, no boundary:
//!
//! - A process has other threads, which may exchange the words after they were read. Code needs no
//!   execve(2) to run: an interpreter runs what it reads.
//! - What is told was about to be executed. A file that is certainly not there is not told of (whoever
//!   looks through `PATH` tries many), but what the kernel refuses for another reason is, and a link
//!   that leads nowhere.
//! - With the caller stopped (Ctrl-Z), whoever inside executes something waits.
//!
//! And it is seen inside: a program that wants to be asked about system calls itself is refused
//! (`EBUSY`: the kernel has one who is asked), a tracer that asks the filter for execve(2) by
//! `SECCOMP_RET_TRACE` is not, and a signal with a handler that says nothing of restarting, if it
//! comes in the instant before this thread looks, makes execve(2) answer `EINTR`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::sys::notify::{self, Call};

/// As many wait to be read.
const QUEUE: usize = 1024;
/// As many words are read of one command,
const WORDS: usize = 64;
/// and as many bytes of all of them.
const BYTES: usize = 4096;
/// What is read at once of a word: most are shorter.
const STEP: usize = 256;
const POINTER: usize = size_of::<usize>();

/// Something that was executed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// The file, as it was named: a path from where the process was. Empty where the process could
    /// not be read.
    pub program: String,
    /// Its words. The first is what it was told that it is called.
    pub argv: Vec<String>,
    /// The words were more or longer than is kept of them.
    pub cut: bool,
}

/// All that is executed inside but the plan's own program, in its order. Ends when nothing inside
/// lives any more. It need not be read, and may be dropped.
#[derive(Debug)]
pub struct Runs {
    queue: Receiver<Ran>,
    lost: Arc<AtomicU64>,
}

impl Runs {
    /// How many there was no room for, because nobody read the others.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Answers from now on. `argv` is the plan's.
    pub(crate) fn start(listener: OwnedFd, argv: &[String]) -> io::Result<Runs> {
        let (queue, told) = sync_channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        let runs = Runs { queue: told, lost: lost.clone() };
        let watcher = Watcher { listener, queue, lost, first: Some(argv.to_vec()), program: None };
        std::thread::Builder::new().name("runs".into()).spawn(move || watcher.watch())?;
        Ok(runs)
    }
}

impl Iterator for Runs {
    type Item = Ran;

    fn next(&mut self) -> Option<Ran> {
        self.queue.recv().ok()
    }
}

struct Watcher {
    listener: OwnedFd,
    queue: SyncSender<Ran>,
    lost: Arc<AtomicU64>,
    /// The plan's own words, until something else is executed,
    first: Option<Vec<String>>,
    /// and the process that is to be its program.
    program: Option<u32>,
}

impl Watcher {
    fn watch(mut self) {
        while self.asked() {
            let call = match notify::receive(self.listener.as_fd()) {
                Ok(call) => call,
                // Who waited is dead; or this thread was interrupted.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => continue,
                Err(_) => return,
            };
            let ran = self.told(&call);
            // Who was killed meanwhile needs no answer.
            let _ = notify::let_go(self.listener.as_fd(), &call);
            if let Some(ran) = ran.filter(|ran| !self.is_own(&call, ran))
                && self.queue.try_send(ran).is_err()
            {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits for a call. False: nobody is left to make one.
    fn asked(&self) -> bool {
        loop {
            let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(_) => return false,
                // Of a call that waits and of the end at once there cannot be both.
                Ok(_) => {
                    return fds[0].revents().is_some_and(|r| r.contains(PollFlags::POLLIN));
                }
            }
        }
    }

    /// Whether that is the plan's own program, which its caller knows: looked for in each directory
    /// of `PATH`, by a process of the sandbox's that not everybody may read.
    fn is_own(&mut self, call: &Call, ran: &Ran) -> bool {
        let program = *self.program.get_or_insert(call.pid);
        let own = self.first.as_ref().is_some_and(|argv| {
            let whole = &ran.argv[..ran.argv.len() - usize::from(ran.cut)];
            let same = if ran.cut { argv.starts_with(whole) } else { argv == whole };
            program == call.pid && (ran.program.is_empty() || same)
        });
        if !own {
            self.first = None;
        }
        own
    }

    /// What is about to be executed, if it is there.
    fn told(&self, call: &Call) -> Option<Ran> {
        let read = Reader::new(call).and_then(|reader| reader.read());
        // Who waits no more was killed, or comes again; and it may be another that was read.
        if !notify::waits(self.listener.as_fd(), call) {
            return None;
        }
        match read {
            Ok((ran, there)) => there.then_some(ran),
            Err(_) => Some(Ran::default()),
        }
    }
}

/// Reads a process that waits.
struct Reader<'a> {
    call: &'a Call,
    /// `/proc/<pid>`.
    process: PathBuf,
    memory: File,
    /// How many more bytes are kept.
    room: usize,
}

impl Reader<'_> {
    fn new(call: &Call) -> io::Result<Reader<'_>> {
        let process = Path::new("/proc").join(call.pid.to_string());
        let memory = File::open(process.join("mem"))?;
        Ok(Reader { call, process, memory, room: BYTES })
    }

    /// What is to be executed, and whether it is there.
    fn read(mut self) -> io::Result<(Ran, bool)> {
        let [first, second, third, _, flags, _] = self.call.arguments;
        let (directory, path, words) = match self.call.number == libc::SYS_execveat {
            true => (Some(first as i32), second, third),
            false => (None, first, second),
        };
        let (path, _) = self.text(path, libc::PATH_MAX as usize)?;
        let program = match directory {
            Some(fd) if path.is_empty() && flags as i32 & libc::AT_EMPTY_PATH != 0 => {
                self.linked(&format!("fd/{fd}"))?
            }
            Some(fd) if fd != libc::AT_FDCWD && !path.starts_with(b"/") => {
                self.linked(&format!("fd/{fd}"))?.join(text(path))
            }
            _ => text(path),
        };
        let there = self.is_there(&program);
        let (argv, cut) = self.words(words)?;
        let program = program.to_string_lossy().into_owned();
        Ok((Ran { program, argv, cut }, there))
    }

    fn linked(&self, name: &str) -> io::Result<PathBuf> {
        fs::read_link(self.process.join(name))
    }

    /// Whether there is such a file, as the process sees it. True where that cannot be found out.
    fn is_there(&self, program: &Path) -> bool {
        // Links there lead to whoever looks; and a file that has a descriptor may have no name.
        if ["/proc", "/dev"].iter().any(|dir| program.starts_with(dir))
            || self.call.number == libc::SYS_execveat
        {
            return true;
        }
        let Ok(root) = File::open(self.process.join("root")) else { return true };
        match self.place(&root, program) {
            Some(path) => !is_missing(&root, &path),
            None => true,
        }
    }

    /// A path from the root of the process. None: where the process is has no name there, as of a
    /// directory that was removed.
    fn place(&self, root: &File, program: &Path) -> Option<PathBuf> {
        if program.is_absolute() {
            return Some(program.to_owned());
        }
        let cwd = self.linked("cwd").ok()?;
        let named = File::from(look(root, &cwd, OFlag::O_DIRECTORY).ok()?).metadata().ok()?;
        let is = fs::metadata(self.process.join("cwd")).ok()?;
        ((named.dev(), named.ino()) == (is.dev(), is.ino())).then(|| cwd.join(program))
    }

    /// The words of the list at `at`, and whether there is more of them.
    fn words(&mut self, at: u64) -> io::Result<(Vec<String>, bool)> {
        let mut list = [0; (WORDS + 1) * POINTER];
        let read = match at {
            // None at all, which the kernel takes for an empty list.
            0 => 0,
            at => self.memory.read_at(&mut list, at)?,
        };
        let mut words = Vec::new();
        for pointer in list[..read].chunks_exact(POINTER) {
            let pointer = usize::from_ne_bytes(pointer.try_into().map_err(io::Error::other)?);
            if pointer == 0 {
                return Ok((words, false));
            }
            if words.len() == WORDS || self.room == 0 {
                return Ok((words, true));
            }
            let (word, cut) = self.text(pointer as u64, self.room)?;
            self.room -= word.len();
            words.push(String::from_utf8_lossy(&word).into_owned());
            if cut {
                return Ok((words, true));
            }
        }
        Ok((words, at != 0))
    }

    /// What is at `at` up to a NUL, at most `most` bytes, and whether there is more of it.
    fn text(&self, at: u64, most: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut found = Vec::new();
        while found.len() < most {
            let mut step = [0; STEP];
            let step = &mut step[..STEP.min(most - found.len())];
            // Up to the end of what is mapped.
            let read = self.memory.read_at(step, at + found.len() as u64)?;
            let end = step[..read].iter().position(|byte| *byte == 0);
            found.extend_from_slice(&step[..end.unwrap_or(read)]);
            match (end, read) {
                (Some(_), _) => return Ok((found, false)),
                (None, 0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                (None, _) => {}
            }
        }
        Ok((found, true))
    }
}

fn look(root: &File, path: &Path, more: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | more)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    openat2(root, path, how)
}

/// Whether there is certainly no such file. A link on the way that leads nowhere may lead somewhere for
/// who executes it: what `/proc` has for `self` depends on who looks, and this thread is nobody there.
fn is_missing(root: &File, path: &Path) -> bool {
    if !matches!(look(root, path, OFlag::empty()), Err(Errno::ENOENT | Errno::ENOTDIR)) {
        return false;
    }
    // Up to the first part that is not there for this thread: there must be nothing of its name.
    let mut before = path;
    loop {
        let missing = before;
        let Some(parent) = before.parent() else { return false };
        before = parent;
        match look(root, before, OFlag::empty()) {
            Ok(dir) => {
                let named = look(root, missing, OFlag::O_NOFOLLOW);
                return matches!(named, Err(Errno::ENOENT | Errno::ENOTDIR))
                    && fstatfs(&dir).is_ok_and(|fs| fs.filesystem_type() != PROC_SUPER_MAGIC);
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(_) => return false,
        }
    }
}

fn text(bytes: Vec<u8>) -> PathBuf {
    std::ffi::OsString::from_vec(bytes).into()
}
