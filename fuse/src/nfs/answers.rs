//! The calls that are answered here: what the crate has no answer to, or a wrong one.

use nfsserve::nfs::{fattr3, nfs_fh3, nfsstat3, nfsstring, post_op_attr, post_op_fh3, sattr3};
use nfsserve::xdr::XDR;

use super::call::{Call, GARBAGE, MARK, Reader, accepted, put, refused, sealed};
use super::convert::{changes, status};
use super::tree::Shared;
use crate::delta::FileKind;
use crate::delta::format::MAX_NAME;
use crate::overlay::{Attr, Caller};

/// The longest handle of any server.
const MAX_HANDLE: usize = 64;
/// The longest listing.
const MAX_LISTING: u32 = 1 << 20;
/// Names that one file can have, as [`crate::overlay`] lets it.
const MAX_LINKS: u32 = 65_000;

const NULL: u32 = 0;
const ACCESS: u32 = 4;
const MKDIR: u32 = 9;
const LINK: u32 = 15;
const READDIR: u32 = 16;
const READDIRPLUS: u32 = 17;
const FSSTAT: u32 = 18;
const PATHCONF: u32 = 20;
const COMMIT: u32 = 21;

/// Who answers a call.
pub(super) enum Route {
    /// [`answer`] does.
    Here(Caller),
    /// The crate does.
    Behind,
    /// Nobody: this is all that is said.
    Refused(Vec<u8>),
}

/// Decides who answers `call`. Files are for their owner and for root, as on a FUSE mount that
/// lets no others in: the kernel on this machine says truly who calls.
pub(super) fn route(call: &Call, owner: Caller) -> Route {
    if !call.is_nfs || call.procedure == NULL {
        return Route::Behind;
    }
    match call.caller.filter(|caller| caller.uid == owner.uid || caller.uid == 0) {
        None => Route::Refused(refused(call.xid)),
        Some(caller) => match call.procedure {
            ACCESS | MKDIR | LINK | READDIR | READDIRPLUS | FSSTAT | PATHCONF | COMMIT => {
                Route::Here(caller)
            }
            _ => Route::Behind,
        },
    }
}

/// The answer to `call`, whose record (with its mark) this is. May wait for a disk.
pub(super) fn answer(tree: &Shared, call: &Call, caller: Caller, record: &[u8]) -> Vec<u8> {
    let mut out = accepted(call.xid);
    let begin = out.len();
    put(&mut out, &nfsstat3::NFS3_OK);
    let input = &mut Reader(&record[MARK + call.arguments..]);
    // Attributes may accompany a failure, too; so many times it is said that they do not.
    let (done, without) = match call.procedure {
        ACCESS => (access(tree, caller, input, &mut out), 1),
        MKDIR => (mkdir(tree, input, &mut out), 2),
        LINK => (link(tree, input, &mut out), 3),
        READDIR => (readdir(tree, false, input, &mut out), 1),
        READDIRPLUS => (readdir(tree, true, input, &mut out), 1),
        FSSTAT => (fsstat(tree, input, &mut out), 1),
        PATHCONF => (pathconf(tree, input, &mut out), 1),
        _ => (commit(tree, input, &mut out), 2),
    };
    if let Err(status) = done {
        out.truncate(begin);
        put(&mut out, &status);
        (0..without).for_each(|_| put(&mut out, &false));
    }
    sealed(out)
}

type Done = Result<(), nfsstat3>;

fn handle(tree: &Shared, input: &mut Reader<'_>) -> Result<u64, nfsstat3> {
    let handle = input.bytes(MAX_HANDLE).ok_or(GARBAGE)?;
    tree.secret.inode(handle).ok_or(nfsstat3::NFS3ERR_BADHANDLE)
}

fn name<'a>(input: &mut Reader<'a>) -> Result<&'a [u8], nfsstat3> {
    // The overlay says what is too long.
    input.bytes(4096).ok_or(GARBAGE)
}

fn attributes(tree: &Shared, ino: u64) -> Result<fattr3, nfsstat3> {
    Ok(tree.show(&tree.overlay.getattr(ino).map_err(status)?))
}

/// Attributes as they stand before and after a change: nobody saw those before.
fn put_change(out: &mut Vec<u8>, after: fattr3) {
    put(out, &false);
    put(out, &post_op_attr::attributes(after));
}

const READ: u32 = 1;
const LOOKUP: u32 = 2;
const MODIFY: u32 = 4;
const EXTEND: u32 = 8;
const DELETE: u32 = 16;
const EXECUTE: u32 = 32;

/// What `caller` may do with something, by its mode.
fn granted(attr: &Attr, caller: Caller) -> u32 {
    let directory = attr.kind == FileKind::Directory;
    let bits = match caller.uid {
        0 if directory || attr.mode & 0o111 != 0 => 7,
        0 => 6,
        uid if uid == attr.uid => attr.mode >> 6,
        _ if caller.gid == attr.gid => attr.mode >> 3,
        _ => attr.mode,
    };
    let rights = match directory {
        true => [(4, READ), (2, MODIFY | EXTEND | DELETE), (1, LOOKUP)],
        false => [(4, READ), (2, MODIFY | EXTEND), (1, EXECUTE)],
    };
    rights.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, right)| right).sum()
}

fn access(tree: &Shared, caller: Caller, input: &mut Reader<'_>, out: &mut Vec<u8>) -> Done {
    let ino = handle(tree, input)?;
    let wanted = input.u32().ok_or(GARBAGE)?;
    let attr = tree.overlay.getattr(ino).map_err(status)?;
    put(out, &post_op_attr::attributes(tree.show(&attr)));
    put(out, &(wanted & granted(&attr, caller)));
    Ok(())
}

fn mkdir(tree: &Shared, input: &mut Reader<'_>, out: &mut Vec<u8>) -> Done {
    let (dir, name) = (handle(tree, input)?, name(input)?);
    let mut set = sattr3::default();
    // Of a known length: nothing in it has one of its own.
    set.deserialize(&mut input.0).map_err(|_| GARBAGE)?;
    let mode = changes(&set).mode.unwrap_or(0o755);
    let attr = tree.overlay.mkdir(tree.owner, dir, name, mode).map_err(status)?;
    put(out, &post_op_fh3::handle(nfs_fh3 { data: tree.secret.handle(attr.ino) }));
    put(out, &post_op_attr::attributes(tree.show(&attr)));
    put_change(out, attributes(tree, dir)?);
    Ok(())
}

fn link(tree: &Shared, input: &mut Reader<'_>, out: &mut Vec<u8>) -> Done {
    let (ino, dir, name) = (handle(tree, input)?, handle(tree, input)?, name(input)?);
    let attr = tree.overlay.link(ino, dir, name).map_err(status)?;
    put(out, &post_op_attr::attributes(tree.show(&attr)));
    put_change(out, attributes(tree, dir)?);
    Ok(())
}

/// A listing from a position on, `plus` attributes and handles.
fn readdir(tree: &Shared, plus: bool, input: &mut Reader<'_>, out: &mut Vec<u8>) -> Done {
    let dir = handle(tree, input)?;
    let position = input.u64().ok_or(GARBAGE)?;
    // Positions stay valid: there is nothing to be verified.
    input.u64().ok_or(GARBAGE)?;
    let names = input.u32().ok_or(GARBAGE)?;
    let most = if plus { input.u32().ok_or(GARBAGE)? } else { names };
    put(out, &post_op_attr::attributes(attributes(tree, dir)?));
    put(out, &0_u64);
    let begin = out.len();
    // The end of the list, whether there are more, and what stands before the first.
    let room = begin + (most.min(MAX_LISTING) as usize).saturating_sub(begin + 8);
    let mut end = true;
    let listed = tree.overlay.readdir(dir, position, plus, &mut |entry| {
        let before = out.len();
        put(out, &true);
        put(out, &entry.ino);
        put(out, &nfsstring(entry.name.to_vec()));
        put(out, &entry.next);
        // Of `.` and `..` only the number is asked.
        match entry.attr.filter(|_| !matches!(entry.name, b"." | b"..")) {
            _ if !plus => {}
            None => [false, false].iter().for_each(|no| put(out, no)),
            Some(attr) => {
                put(out, &post_op_attr::attributes(tree.show(&attr)));
                let data = tree.secret.handle(entry.ino);
                put(out, &post_op_fh3::handle(nfs_fh3 { data }));
            }
        }
        end = out.len() <= room;
        if !end {
            out.truncate(before);
        }
        !end
    });
    listed.map_err(status)?;
    if !end && out.len() == begin {
        return Err(nfsstat3::NFS3ERR_TOOSMALL);
    }
    put(out, &false);
    put(out, &end);
    Ok(())
}

fn fsstat(tree: &Shared, input: &mut Reader<'_>, out: &mut Vec<u8>) -> Done {
    let ino = handle(tree, input)?;
    let space = tree.overlay.statfs().map_err(status)?;
    put(out, &post_op_attr::attributes(attributes(tree, ino)?));
    for blocks in [space.blocks, space.free, space.available] {
        put(out, &blocks.saturating_mul(space.block_size));
    }
    for files in [space.files, space.files_free, space.files_free] {
        put(out, &files);
    }
    // For how many seconds that holds.
    put(out, &0_u32);
    Ok(())
}

fn pathconf(tree: &Shared, input: &mut Reader<'_>, out: &mut Vec<u8>) -> Done {
    let ino = handle(tree, input)?;
    put(out, &post_op_attr::attributes(attributes(tree, ino)?));
    put(out, &MAX_LINKS);
    put(out, &(MAX_NAME as u32));
    // Longer names fail, owners are not given away, case counts and is kept.
    [true, true, false, true].iter().for_each(|is| put(out, is));
    Ok(())
}

/// Writes are stable before they are answered. Some clients ask nevertheless.
fn commit(tree: &Shared, input: &mut Reader<'_>, out: &mut Vec<u8>) -> Done {
    let ino = handle(tree, input)?;
    tree.overlay.fsync(ino, false).map_err(status)?;
    put_change(out, attributes(tree, ino)?);
    put(out, &tree.secret.verifier());
    Ok(())
}
