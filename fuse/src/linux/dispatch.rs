//! One request of the kernel's → one call of the overlay → its answer.

use std::fs::File;
use std::io::Write;

use nix::errno::Errno;

use super::abi::{
    self, Header, Input, MAX_BACKGROUND, MAX_WRITE, Output, fattr, init, notify, opcode,
};
use crate::delta::{FileKind, Time};
use crate::overlay::{Attr, Caller, Overlay, RenameMode, SetAttr, SetTime};

/// What the kernel is asked for; one that does not know something goes without.
///
/// Without ASYNC_DIO: with it, the kernel leaves what a reader cached during a direct write as it
/// was (xfstests generic/451). And no handles by inode number: what the kernel has forgotten is
/// not found by its number alone.
const WANTED: u64 = init::ASYNC_READ
    | init::BIG_WRITES
    | init::DONT_MASK
    | init::DO_READDIRPLUS
    | init::NO_OPEN_SUPPORT
    | init::PARALLEL_DIROPS
    | init::POSIX_ACL
    | init::MAX_PAGES
    | init::CACHE_SYMLINKS
    | init::NO_OPENDIR_SUPPORT
    | init::HANDLE_KILLPRIV_V2
    | init::SETXATTR_EXT
    | init::INIT_EXT
    | init::NO_EXPORT_SUPPORT
    | init::HAS_RESEND;

/// One request on its way through the overlay.
pub(super) struct Request<'a> {
    pub overlay: &'a Overlay,
    /// Where notices go that nobody asked for.
    pub device: &'a File,
    pub header: Header,
    pub input: Input<'a>,
    pub out: &'a mut Output,
}

impl Request<'_> {
    /// Does what is asked and puts the answer's arguments into `out`.
    pub fn answer(&mut self) -> Result<(), Errno> {
        match self.header.opcode {
            opcode::LOOKUP => self.lookup(),
            opcode::GETATTR => {
                self.overlay.getattr(self.header.ino).map(|a| self.out.attributes(&a))
            }
            opcode::STATX => {
                self.overlay.getattr(self.header.ino).map(|attr| self.out.statx(&attr))
            }
            opcode::SETATTR => self.setattr(),
            opcode::READLINK => {
                self.overlay.readlink(self.header.ino).map(|target| self.out.bytes(&target))
            }
            opcode::READ => self.read(),
            opcode::WRITE => self.write(),
            opcode::READDIR => self.readdir(false),
            opcode::READDIRPLUS => self.readdir(true),
            opcode::STATFS => self.statfs(),
            opcode::FSYNC | opcode::FSYNCDIR => self.fsync(),
            opcode::SYNCFS => self.overlay.sync_all(),
            opcode::GETXATTR => self.getxattr(),
            opcode::LISTXATTR => self.listxattr(),
            opcode::FALLOCATE => self.fallocate(),
            opcode::LSEEK => self.lseek(),
            opcode::COPY_FILE_RANGE => self.copy_file_range(),
            opcode::IOCTL => Err(Errno::ENOTTY),
            opcode::INIT => self.init(),
            opcode::DESTROY => Ok(()),
            opcode::TMPFILE
            | opcode::MKNOD
            | opcode::MKDIR
            | opcode::SYMLINK
            | opcode::LINK
            | opcode::UNLINK
            | opcode::RMDIR
            | opcode::RENAME
            | opcode::RENAME2
            | opcode::SETXATTR
            | opcode::REMOVEXATTR => self.once(),
            // OPEN and OPENDIR among them: from then on the kernel opens by itself. And CREATE, or
            // what is made before the first OPEN would be opened here, and released; the kernel
            // makes files by MKNOD then, with as few requests.
            _ => Err(Errno::ENOSYS),
        }
    }

    fn caller(&self) -> Caller {
        Caller { uid: self.header.uid, gid: self.header.gid, umask: 0 }
    }

    /// What must not be done twice. If it is asked for again, as its answer never arrived from a
    /// process that was killed, and was done, the answer is made up for.
    fn once(&mut self) -> Result<(), Errno> {
        let unique = self.header.unique;
        let done = match unique & abi::RESENT {
            0 => None,
            _ => self.overlay.done(unique & !abi::RESENT),
        };
        let opcode = self.header.opcode;
        let attr = match (opcode, done) {
            (
                opcode::UNLINK
                | opcode::RMDIR
                | opcode::RENAME
                | opcode::RENAME2
                | opcode::SETXATTR
                | opcode::REMOVEXATTR,
                done,
            ) => return if done.is_some() { Ok(()) } else { self.change() },
            (_, Some(ino)) => self.overlay.found(ino)?,
            (_, None) => self.make()?,
        };
        self.out.entry(&attr);
        if opcode == opcode::TMPFILE {
            self.out.opened();
        }
        Ok(())
    }

    /// What gives a name to something.
    fn make(&mut self) -> Result<Attr, Errno> {
        let (overlay, mut caller, ino) = (self.overlay, self.caller(), self.header.ino);
        let input = &mut self.input;
        let bits = |mode: u32| mode as u16 & 0o7777;
        match self.header.opcode {
            opcode::TMPFILE => {
                input.skip(4)?;
                let mode = bits(input.u32()?);
                caller.umask = bits(input.u32()?) & 0o777;
                overlay.tmpfile(caller, ino, mode)
            }
            opcode::MKNOD => {
                let (mode, rdev) = (input.u32()?, input.u32()?);
                caller.umask = bits(input.u32()?) & 0o777;
                input.skip(4)?;
                let kind = FileKind::of_mknod(mode).ok_or(Errno::EINVAL)?;
                overlay.mknod(caller, ino, input.name()?, kind, bits(mode), rdev)
            }
            opcode::MKDIR => {
                let mode = bits(input.u32()?);
                caller.umask = bits(input.u32()?) & 0o777;
                overlay.mkdir(caller, ino, input.name()?, mode)
            }
            opcode::SYMLINK => {
                let (name, target) = (input.name()?, input.name()?);
                overlay.symlink(caller, ino, name, target)
            }
            _ => {
                let old = input.u64()?;
                overlay.link(old, ino, input.name()?)
            }
        }
    }

    /// What takes a name away or moves it, and what changes extended attributes.
    fn change(&mut self) -> Result<(), Errno> {
        let (overlay, ino) = (self.overlay, self.header.ino);
        let input = &mut self.input;
        match self.header.opcode {
            opcode::UNLINK => overlay.unlink(ino, input.name()?),
            opcode::RMDIR => overlay.rmdir(ino, input.name()?),
            opcode::REMOVEXATTR => overlay.removexattr(ino, input.name()?),
            opcode::SETXATTR => {
                let (size, flags) = (input.u32()? as usize, input.u32()? as i32);
                // Kernels before 5.13 have no second pair of words, and begin with the name.
                let foreign = match input.second_byte() {
                    Some(0) => {
                        let foreign = input.u32()? & abi::SETXATTR_ACL_KILL_SGID != 0;
                        input.skip(4)?;
                        foreign
                    }
                    _ => false,
                };
                let name = input.name()?;
                overlay.setxattr(ino, name, input.bytes(size)?, flags, foreign)
            }
            opcode => {
                let new_parent = input.u64()?;
                let flags = if opcode == opcode::RENAME2 {
                    let flags = input.u32()?;
                    input.skip(4)?;
                    flags
                } else {
                    0
                };
                let mode = match flags {
                    0 => RenameMode::Replace,
                    libc::RENAME_NOREPLACE => RenameMode::NoReplace,
                    libc::RENAME_EXCHANGE => RenameMode::Exchange,
                    _ => return Err(Errno::EINVAL),
                };
                let (name, new_name) = (input.name()?, input.name()?);
                overlay.rename(ino, name, new_parent, new_name, mode)
            }
        }
    }

    fn lookup(&mut self) -> Result<(), Errno> {
        match self.overlay.lookup(self.header.ino, self.input.name()?) {
            Ok(attr) => self.out.entry(&attr),
            Err(Errno::ENOENT) => self.out.no_entry(),
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn setattr(&mut self) -> Result<(), Errno> {
        let input = &mut self.input;
        let valid = input.u32()?;
        input.skip(4 + 8)?;
        let size = input.u64()?;
        input.skip(8)?;
        let (atime, mtime, _ctime) = (input.u64()?, input.u64()?, input.u64()?);
        let (atime_nanos, mtime_nanos) = (input.u32()?, input.u32()?);
        input.skip(4)?;
        let mode = input.u32()?;
        input.skip(4)?;
        let (uid, gid) = (input.u32()?, input.u32()?);
        let given = |bit| valid & bit != 0;
        let time = |bit, now, secs: u64, nanos| match (given(bit), given(now)) {
            (true, true) => Some(SetTime::Now),
            (true, false) => Some(SetTime::At(Time { secs: secs as i64, nanos })),
            _ => None,
        };
        let set = SetAttr {
            mode: given(fattr::MODE).then_some(mode as u16 & 0o7777),
            uid: given(fattr::UID).then_some(uid),
            gid: given(fattr::GID).then_some(gid),
            size: given(fattr::SIZE).then_some(size),
            atime: time(fattr::ATIME, fattr::ATIME_NOW, atime, atime_nanos),
            mtime: time(fattr::MTIME, fattr::MTIME_NOW, mtime, mtime_nanos),
        };
        let attr = self.overlay.setattr(self.caller(), self.header.ino, &set)?;
        self.out.attributes(&attr);
        Ok(())
    }

    fn read(&mut self) -> Result<(), Errno> {
        self.input.skip(8)?;
        let (offset, size) = (self.input.u64()?, self.input.u32()?);
        let (overlay, ino) = (self.overlay, self.header.ino);
        self.out.fill(size.min(MAX_WRITE) as usize, |buf| overlay.read(ino, offset, buf))
    }

    fn write(&mut self) -> Result<(), Errno> {
        self.input.skip(8)?;
        let (offset, size) = (self.input.u64()?, self.input.u32()?);
        let flags = self.input.u32()?;
        self.input.skip(16)?;
        let data = self.input.bytes(size as usize)?;
        let ino = self.header.ino;
        let kill = self.kills(flags & abi::WRITE_KILL_SUIDGID != 0, ino);
        let written = self.overlay.write(ino, offset, data, kill);
        self.mode_changed(kill, ino);
        self.out.u32(written? as u32);
        self.out.u32(0);
        Ok(())
    }

    fn readdir(&mut self, plus: bool) -> Result<(), Errno> {
        self.input.skip(8)?;
        let (offset, size) = (self.input.u64()?, self.input.u32()? as usize);
        let out = &mut *self.out;
        self.overlay.readdir(self.header.ino, offset, plus, &mut |entry| {
            let length = if plus { abi::direntplus_len } else { abi::dirent_len };
            if out.len() + length(entry.name) > size {
                return true;
            }
            match (plus, &entry.attr) {
                (true, Some(attr)) => out.entry(attr),
                (true, None) => out.no_entry(),
                (false, _) => {}
            }
            out.dirent(entry.ino, entry.next, entry.kind, entry.name);
            false
        })
    }

    fn statfs(&mut self) -> Result<(), Errno> {
        let space = self.overlay.statfs()?;
        for value in [space.blocks, space.free, space.available, space.files, space.files_free] {
            self.out.u64(value);
        }
        let block = space.block_size as u32;
        for value in [block, crate::delta::format::MAX_NAME as u32, block, 0] {
            self.out.u32(value);
        }
        self.out.bytes(&[0; 24]);
        Ok(())
    }

    fn fsync(&mut self) -> Result<(), Errno> {
        self.input.skip(8)?;
        let content_only = self.input.u32()? & abi::FSYNC_FDATASYNC != 0;
        self.overlay.fsync(self.header.ino, content_only)
    }

    fn getxattr(&mut self) -> Result<(), Errno> {
        let size = self.input.u32()?;
        self.input.skip(4)?;
        let value = self.overlay.getxattr(self.header.ino, self.input.name()?)?;
        self.sized(size, &value)
    }

    fn listxattr(&mut self) -> Result<(), Errno> {
        let size = self.input.u32()?;
        let names = self.overlay.listxattr(self.header.ino, self.header.uid == 0)?;
        self.sized(size, &names)
    }

    /// An answer into a buffer of `size` bytes; its length only where that is 0.
    fn sized(&mut self, size: u32, value: &[u8]) -> Result<(), Errno> {
        match size as usize {
            0 => {
                self.out.u32(value.len() as u32);
                self.out.u32(0);
            }
            size if value.len() > size => return Err(Errno::ERANGE),
            _ => self.out.bytes(value),
        }
        Ok(())
    }

    fn fallocate(&mut self) -> Result<(), Errno> {
        self.input.skip(8)?;
        let (offset, length) = (self.input.u64()?, self.input.u64()?);
        let mode = self.input.u32()? as i32;
        let ino = self.header.ino;
        let kill = self.kills(self.header.uid != 0, ino);
        let result = self.overlay.fallocate(ino, offset, length, mode, kill);
        self.mode_changed(kill, ino);
        result
    }

    fn lseek(&mut self) -> Result<(), Errno> {
        self.input.skip(8)?;
        let (offset, whence) = (self.input.u64()?, self.input.u32()? as i32);
        let hole = match whence {
            libc::SEEK_DATA => false,
            libc::SEEK_HOLE => true,
            _ => return Err(Errno::EINVAL),
        };
        if i64::try_from(offset).is_err() {
            return Err(Errno::ENXIO);
        }
        let found = self.overlay.seek(self.header.ino, offset, hole)?;
        self.out.u64(found);
        Ok(())
    }

    fn copy_file_range(&mut self) -> Result<(), Errno> {
        self.input.skip(8)?;
        let from = (self.header.ino, self.input.u64()?);
        let to = self.input.u64()?;
        self.input.skip(8)?;
        let (offset, length) = (self.input.u64()?, self.input.u64()?);
        let kill = self.kills(self.header.uid != 0, to);
        let copied = self.overlay.copy_range(from, (to, offset), length, kill);
        self.mode_changed(kill, to);
        self.out.u32(copied? as u32);
        self.out.u32(0);
        Ok(())
    }

    /// Whoever asks, if new content from there takes set-id bits of `ino` away.
    fn kills(&self, unprivileged: bool, ino: u64) -> Option<Caller> {
        (unprivileged && self.overlay.has_set_id(ino)).then(|| self.caller())
    }

    /// Tells the kernel, before it is answered, that the mode of `ino` is another now. Until
    /// then it holds on to the inode, and a negative offset means the attributes and no content:
    /// so the notice waits for nobody.
    fn mode_changed(&self, kill: Option<Caller>, ino: u64) {
        if kill.is_some() {
            let mut notice = Output::default();
            notice.begin();
            for value in [ino, u64::MAX, 0] {
                notice.u64(value);
            }
            // If it cannot be told, it shows the old mode until it asks again; ours is in force.
            let _ = (&*self.device).write(notice.finish(0, notify::INVAL_INODE));
        }
    }

    fn init(&mut self) -> Result<(), Errno> {
        let (major, minor) = (self.input.u32()?, self.input.u32()?);
        let (readahead, low) = (self.input.u32()?, self.input.u32()?);
        // Older kernels stop here.
        let high = self.input.u32().unwrap_or(0);
        if major != 7 || minor < 31 {
            return Err(Errno::EPROTO);
        }
        let flags = WANTED & (u64::from(low) | u64::from(high) << 32);
        for value in [7, minor.min(40), readahead, flags as u32] {
            self.out.u32(value);
        }
        self.out.u16(MAX_BACKGROUND);
        self.out.u16(MAX_BACKGROUND * 3 / 4);
        // Times are exact to the nanosecond.
        for value in [MAX_WRITE, 1] {
            self.out.u32(value);
        }
        self.out.u16((MAX_WRITE / 4096) as u16);
        self.out.u16(0);
        self.out.u32((flags >> 32) as u32);
        self.out.bytes(&[0; 28]);
        Ok(())
    }
}
