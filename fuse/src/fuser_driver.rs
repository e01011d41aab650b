//! Presents an overlay through the kernel's FUSE, with the crate `fuser`.
//!
//! OPEN and OPENDIR are answered ENOSYS: from then on the kernel opens by itself, keeps what it
//! has read, and neither OPEN nor RELEASE is sent. All state hangs on inode numbers. Names and
//! attributes are valid for a day, as nobody but the kernel on the other side changes anything.

mod convert;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use fuser::{
    BackgroundSession, BsdFileFlags, Config, CopyFileRangeFlags, Errno, FileHandle, Filesystem,
    FopenFlags, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, Notifier, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    Session, SessionACL, TimeOrNow, WriteFlags,
};

use crate::delta::FileKind;
use crate::driver::{Capabilities, Driver, Serving, Start};
use crate::overlay::{Caller, Overlay, SetAttr};
use convert::{
    GENERATION, TTL, attributes, caller, empty, entry, error, file_attr, file_type, foreign,
    is_hole, nothing, rename_mode, set_time, written, xattr,
};

/// The longest write the kernel sends; a buffer of each thread grows to it.
const MAX_WRITE: u32 = 1 << 20;
/// Requests the kernel keeps going without anybody waiting for them: read-ahead.
const MAX_BACKGROUND: u16 = 64;

thread_local! {
    /// What reads are read into, as long as the longest so far.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The driver.
#[derive(Debug, Clone, Copy)]
pub struct FuserDriver {
    /// How many threads answer requests; at least one.
    pub threads: usize,
}

struct Adapter {
    overlay: Arc<Overlay>,
    notifier: Arc<OnceLock<Notifier>>,
}
struct FuserServing(BackgroundSession);

impl Driver for FuserDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities { take_over: false, nameless_files: false, deadlines: false }
    }

    fn serve(
        &self,
        device: OwnedFd,
        overlay: Arc<Overlay>,
        start: Start,
    ) -> io::Result<Box<dyn Serving>> {
        if start == Start::TakenOver {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut config = Config::default();
        config.n_threads = Some(self.threads.max(1));
        // Who may come in is the kernel's decision, by the options of the mount.
        let notifier = Arc::new(OnceLock::new());
        let adapter = Adapter { overlay, notifier: Arc::clone(&notifier) };
        let session = Session::from_fd(adapter, device, SessionACL::All, config)?;
        notifier.get_or_init(|| session.notifier());
        Ok(Box::new(FuserServing(session.spawn()?)))
    }
}

impl Serving for FuserServing {
    fn is_finished(&self) -> bool {
        self.0.guard.is_finished()
    }

    fn wait(self: Box<Self>) -> io::Result<()> {
        self.0.join()
    }
}

impl Adapter {
    /// Whoever asks, if new content from there takes set-id bits of `ino` away.
    fn kills(&self, unprivileged: bool, request: &Request, ino: INodeNo) -> Option<Caller> {
        (unprivileged && self.overlay.has_set_id(ino.0)).then(|| caller(request, 0))
    }

    /// Tells the kernel, before it is answered, that the mode of `ino` is another now. Until
    /// then it holds on to the inode, and a negative offset means the attributes and no content:
    /// so the notice waits for nobody.
    fn mode_changed(&self, ino: INodeNo) {
        if let Some(notifier) = self.notifier.get() {
            // If it cannot be told, it shows the old mode until it asks again; ours is in force.
            let _ = notifier.inval_inode(ino, -1, 0);
        }
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_POSIX_ACL
            | InitFlags::FUSE_DONT_MASK
            | InitFlags::FUSE_NO_EXPORT_SUPPORT
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        // Without FUSE_ASYNC_DIO: with it, the kernel leaves what a reader cached during a direct
        // write as it was (xfstests generic/451). And no handles by inode number: what the
        // kernel has forgotten is not found by its number alone.
        // An older kernel goes without what it does not know.
        let _ = config.add_capabilities(wanted & config.capabilities());
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(MAX_BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.overlay.lookup(parent.0, name.as_bytes()) {
            Err(nix::errno::Errno::ENOENT) => reply.entry(&TTL, &nothing(), GENERATION),
            result => entry(reply, result),
        }
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.overlay.forget(ino.0, count);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        attributes(reply, self.overlay.getattr(ino.0));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (atime, mtime) = (atime.map(set_time), mtime.map(set_time));
        let mode = mode.map(|mode| mode as u16 & 0o7777);
        let set = SetAttr { mode, uid, gid, size, atime, mtime };
        attributes(reply, self.overlay.setattr(caller(request, 0), ino.0, &set));
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.overlay.readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = FileKind::of_mknod(mode) else { return reply.error(Errno::EINVAL) };
        let (name, mode) = (name.as_bytes(), mode as u16 & 0o7777);
        entry(reply, self.overlay.mknod(caller(request, umask), parent.0, name, kind, mode, rdev));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let (caller, mode) = (caller(request, umask), mode as u16 & 0o7777);
        entry(reply, self.overlay.mkdir(caller, parent.0, name.as_bytes(), mode));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.overlay.unlink(parent.0, name.as_bytes()));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.overlay.rmdir(parent.0, name.as_bytes()));
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        entry(reply, self.overlay.symlink(caller(request, 0), parent.0, name.as_bytes(), target));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = rename_mode(flags) else { return reply.error(Errno::EINVAL) };
        let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
        empty(reply, self.overlay.rename(parent.0, name, new_parent.0, new_name, mode));
    }

    fn link(
        &self,
        _: &Request,
        ino: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        entry(reply, self.overlay.link(ino.0, new_parent.0, new_name.as_bytes()));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // Nothing waits here: the kernel need not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            match self.overlay.read(ino.0, offset, &mut buffer[..size]) {
                Ok(count) => reply.data(&buffer[..count]),
                Err(errno) => reply.error(error(errno)),
            }
        });
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let kill =
            self.kills(write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID), request, ino);
        let result = self.overlay.write(ino.0, offset, data, kill);
        if kill.is_some() {
            self.mode_changed(ino);
        }
        written(reply, result.map(|count| count as u32));
    }

    fn fsync(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        content_only: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.overlay.fsync(ino.0, content_only));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.overlay.fsync(ino.0, true));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let result = self.overlay.readdir(ino.0, offset, false, &mut |entry| {
            let name = OsStr::from_bytes(entry.name);
            reply.add(INodeNo(entry.ino), entry.next, file_type(entry.kind), name)
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let result = self.overlay.readdir(ino.0, offset, true, &mut |entry| {
            let attr = entry.attr.as_ref().map_or_else(nothing, file_attr);
            reply.add(
                INodeNo(entry.ino),
                entry.next,
                OsStr::from_bytes(entry.name),
                &TTL,
                &attr,
                GENERATION,
            )
        });
        match result {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match self.overlay.statfs() {
            Ok(space) => reply.statfs(
                space.blocks,
                space.free,
                space.available,
                space.files,
                space.files_free,
                space.block_size as u32,
                255,
                space.block_size as u32,
            ),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let foreign = foreign(request, self.overlay.getattr(ino.0));
        empty(reply, self.overlay.setxattr(ino.0, name.as_bytes(), value, flags, foreign));
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        xattr(reply, size, self.overlay.getxattr(ino.0, name.as_bytes()).map(Into::into));
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        xattr(reply, size, self.overlay.listxattr(ino.0, request.uid() == 0));
    }

    fn removexattr(&self, _: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.overlay.removexattr(ino.0, name.as_bytes()));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let (caller, mode) = (caller(request, umask), mode as u16 & 0o7777);
        match self.overlay.create(caller, parent.0, name.as_bytes(), mode) {
            Ok(attr) => reply.created(
                &TTL,
                &file_attr(&attr),
                GENERATION,
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let kill = self.kills(request.uid() != 0, request, ino);
        let result = self.overlay.fallocate(ino.0, offset, length, mode, kill);
        if kill.is_some() {
            self.mode_changed(ino);
        }
        empty(reply, result);
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Some(hole) = is_hole(whence) else { return reply.error(Errno::EINVAL) };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        match self.overlay.seek(ino.0, offset, hole) {
            Ok(found) => reply.offset(found as i64),
            Err(errno) => reply.error(error(errno)),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        ino_in: INodeNo,
        _: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _: FileHandle,
        offset_out: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((ino_in.0, offset_in), (ino_out.0, offset_out));
        let kill = self.kills(request.uid() != 0, request, ino_out);
        let result = self.overlay.copy_range(from, to, len, kill);
        if kill.is_some() {
            self.mode_changed(ino_out);
        }
        written(reply, result.map(|count| count as u32));
    }
}
