//! Between the overlay's words and those of NFS.

use nfsserve::nfs::{
    fattr3, ftype3, nfsstat3, nfstime3, sattr3, set_atime, set_gid3, set_mode3, set_mtime,
    set_size3, set_uid3, specdata3,
};
use nix::errno::Errno;

use crate::delta::{FileKind, Time};
use crate::overlay::{Attr, SetAttr, SetTime};

/// What a failure is called there. What has no name of its own is an error of the disk.
pub(super) fn status(errno: Errno) -> nfsstat3 {
    match errno {
        Errno::EPERM => nfsstat3::NFS3ERR_PERM,
        Errno::ENOENT => nfsstat3::NFS3ERR_NOENT,
        Errno::ENXIO => nfsstat3::NFS3ERR_NXIO,
        Errno::EACCES => nfsstat3::NFS3ERR_ACCES,
        Errno::EEXIST => nfsstat3::NFS3ERR_EXIST,
        Errno::EXDEV => nfsstat3::NFS3ERR_XDEV,
        Errno::ENODEV => nfsstat3::NFS3ERR_NODEV,
        Errno::ENOTDIR => nfsstat3::NFS3ERR_NOTDIR,
        Errno::EISDIR => nfsstat3::NFS3ERR_ISDIR,
        Errno::EINVAL => nfsstat3::NFS3ERR_INVAL,
        Errno::EFBIG => nfsstat3::NFS3ERR_FBIG,
        Errno::ENOSPC => nfsstat3::NFS3ERR_NOSPC,
        Errno::EROFS => nfsstat3::NFS3ERR_ROFS,
        Errno::EMLINK => nfsstat3::NFS3ERR_MLINK,
        Errno::ENAMETOOLONG => nfsstat3::NFS3ERR_NAMETOOLONG,
        Errno::ENOTEMPTY => nfsstat3::NFS3ERR_NOTEMPTY,
        Errno::EDQUOT => nfsstat3::NFS3ERR_DQUOT,
        Errno::ESTALE => nfsstat3::NFS3ERR_STALE,
        Errno::EOPNOTSUPP => nfsstat3::NFS3ERR_NOTSUPP,
        _ => nfsstat3::NFS3ERR_IO,
    }
}

/// Attributes, of a file in the file system `fsid`.
pub(super) fn attributes(attr: &Attr, fsid: u64) -> fattr3 {
    fattr3 {
        ftype: match attr.kind {
            FileKind::File => ftype3::NF3REG,
            FileKind::Directory => ftype3::NF3DIR,
            FileKind::Symlink => ftype3::NF3LNK,
            FileKind::Fifo => ftype3::NF3FIFO,
            FileKind::Socket => ftype3::NF3SOCK,
            FileKind::CharDevice => ftype3::NF3CHR,
            FileKind::BlockDevice => ftype3::NF3BLK,
        },
        mode: u32::from(attr.mode),
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        used: attr.blocks * 512,
        // As Linux packs a device's number into 32 bits.
        rdev: specdata3 {
            specdata1: attr.rdev >> 8 & 0xfff,
            specdata2: attr.rdev & 0xff | attr.rdev >> 12 & 0xfff00,
        },
        fsid,
        fileid: attr.ino,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
    }
}

/// NFS counts from 1970 to 2106; what lies outside is shown at the end.
fn time(time: Time) -> nfstime3 {
    match u32::try_from(time.secs) {
        Ok(seconds) => nfstime3 { seconds, nseconds: time.nanos },
        Err(_) => nfstime3 { seconds: if time.secs < 0 { 0 } else { u32::MAX }, nseconds: 0 },
    }
}

/// What is to be changed.
pub(super) fn changes(set: &sattr3) -> SetAttr {
    let at = |time: nfstime3| {
        SetTime::At(Time { secs: i64::from(time.seconds), nanos: time.nseconds.min(999_999_999) })
    };
    SetAttr {
        mode: match set.mode {
            set_mode3::mode(mode) => Some(mode as u16 & 0o7777),
            set_mode3::Void => None,
        },
        uid: match set.uid {
            set_uid3::uid(uid) => Some(uid),
            set_uid3::Void => None,
        },
        gid: match set.gid {
            set_gid3::gid(gid) => Some(gid),
            set_gid3::Void => None,
        },
        size: match set.size {
            set_size3::size(size) => Some(size),
            set_size3::Void => None,
        },
        atime: match set.atime {
            set_atime::DONT_CHANGE => None,
            set_atime::SET_TO_SERVER_TIME => Some(SetTime::Now),
            set_atime::SET_TO_CLIENT_TIME(time) => Some(at(time)),
        },
        mtime: match set.mtime {
            set_mtime::DONT_CHANGE => None,
            set_mtime::SET_TO_SERVER_TIME => Some(SetTime::Now),
            set_mtime::SET_TO_CLIENT_TIME(time) => Some(at(time)),
        },
    }
}
