//! What a delta looks like on disk. This module is the specification.
//!
//! ```text
//! DIR/lock              held with flock(2) by the one process that writes
//! DIR/log               the metadata: a header, then frames, append-only
//! DIR/log.new           a compaction that did not end; deleted at open
//! DIR/data/XX/INO       the content of one regular file: XX the two lowest, INO all
//!                       sixteen hexadecimal digits of its inode number
//! DIR/data/XX/INO.new   a copy-up that did not end; deleted after an unclean end
//! ```
//!
//! All integers are little-endian. The log begins with
//!
//! | bytes | meaning |
//! |---|---|
//! | 8 | `zagidelt` |
//! | 4 | version, [`VERSION`]; a newer one is refused |
//! | 4 | zero |
//!
//! and goes on with frames, one a transaction: what is in a frame happened together.
//!
//! | bytes | meaning |
//! |---|---|
//! | 4 | [`FRAME_MAGIC`] |
//! | 4 | length of the payload, at most [`MAX_PAYLOAD`] |
//! | 8 | the first eight bytes of the payload's BLAKE3 hash |
//! | … | the payload: operations, one after the other |
//!
//! An operation is a tag byte and its fields, in the order of [`Op`]. Strings of bytes are a
//! `u32` length and the bytes; names a `u8` length and the bytes; times an `i64` of seconds
//! since the epoch and a `u32` of nanoseconds; optional things one byte 0 or 1 before them.
//!
//! A *tail* that is not a whole, correct frame is what a crash leaves; it is dropped. A bad
//! frame with a correct one behind it is damage; the delta is refused and nothing is touched.
//! (A header of zeros is space that never reached the disk: a crash, whatever follows.)
//!
//! Size, content and modification time of a regular file are those of its data file, if
//! [`Node::own`]; otherwise those of the layers' file at [`Node::origin`]. A directory with an
//! origin shows what the layers hold there, under its own entries; one without shows only its
//! own (it is *opaque*). A node without a name left does not exist, except for those who had it
//! open: until [`Op::Closed`] it is kept for a process that takes over from one that was killed.
//!
//! Inode numbers: 1 is the root; with the top bit clear, the hash of the place in the layers
//! ([`lower_ino`]); with the top bit set, a counter that never goes back.

use std::collections::BTreeMap;

use super::codec::{DecodeError, Reader, Writer};
pub use super::node::{FileKind, Node, Time};

/// The version of the format that this program writes, and the newest it reads. Version 1 had no
/// [`Op::Done`]; a log of it is written anew when it is opened.
pub const VERSION: u32 = 2;
/// The first bytes of every log.
pub const MAGIC: &[u8; 8] = b"zagidelt";
/// Length of the log's header.
pub const HEADER_LEN: usize = 16;
/// The first bytes of every frame.
pub const FRAME_MAGIC: [u8; 4] = *b"\xfezgf";
/// Length of a frame's header.
pub const FRAME_HEADER_LEN: usize = 16;
/// The longest payload of a frame.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// The longest name.
pub const MAX_NAME: usize = 255;
/// The longest target of a symbolic link.
pub const MAX_TARGET: usize = 4095;
/// The longest path in the layers that is recorded as an origin.
pub const MAX_ORIGIN: usize = 64 << 10;
/// Names and values of one node's extended attributes, together.
pub const MAX_XATTRS: usize = 128 << 10;

/// The inode number of the root.
pub const ROOT: u64 = 1;
/// Set in the inode numbers of what was created in the delta.
pub const CREATED: u64 = 1 << 63;

/// One change of the metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// 1: the node `ino` is now this.
    Node {
        /// Its inode number.
        ino: u64,
        /// All of it.
        node: Box<Node>,
    },
    /// 2: `name` in `parent` is now `ino`, whatever it was before.
    Entry {
        /// A directory known to the delta.
        parent: u64,
        /// One path component.
        name: Box<[u8]>,
        /// A node known to the delta.
        ino: u64,
        /// Whether the layers have that name there too.
        over: bool,
        /// When given, a change that is seen: `parent` and the node get new times.
        time: Option<Time>,
    },
    /// 3: `name` in `parent` is gone, and hides what the layers have there.
    Whiteout {
        /// A directory known to the delta.
        parent: u64,
        /// One path component.
        name: Box<[u8]>,
        /// As in [`Op::Entry`].
        time: Option<Time>,
    },
    /// 4: the delta knows nothing of `name` in `parent` any more.
    Remove {
        /// A directory known to the delta.
        parent: u64,
        /// One path component.
        name: Box<[u8]>,
        /// As in [`Op::Entry`].
        time: Option<Time>,
    },
    /// 5: inode numbers below this one (without [`CREATED`]) were given out.
    Next(u64),
    /// 6: the writer ended in order, or what one left was cleared away: nobody uses a nameless
    /// node any more, and no [`Op::Done`] before this one means anything.
    Closed,
    /// 7: this transaction answers the kernel's request `operation`; so that one which is asked
    /// again, since its answer never arrived, is not done twice.
    Done {
        /// The request's number, unique until [`Op::Closed`].
        operation: u64,
        /// The inode that was made or named by it; 0 if none was.
        ino: u64,
    },
}

/// The inode number of `name` in the layers' directory `parent`, and at the same time its
/// place in a listing of any directory `parent`.
pub fn lower_ino(parent: u64, name: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&parent.to_le_bytes());
    hasher.update(name);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // The first few are the root and the marks of a listing.
    (u64::from_le_bytes(bytes) & !CREATED).max(16)
}

/// Whether `name` can stand in a directory.
pub fn valid_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// The header of a new log.
pub fn header() -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// The checksum of a payload.
pub fn checksum(payload: &[u8]) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&blake3::hash(payload).as_bytes()[..8]);
    bytes
}

/// A frame around `ops`, ready to be appended, or `None` if they are too long for one.
pub fn frame(ops: &[Op]) -> Option<Vec<u8>> {
    let mut out = Writer::with_space(FRAME_HEADER_LEN);
    ops.iter().for_each(|op| encode(op, &mut out));
    let mut bytes = out.into_bytes();
    let payload = bytes.len() - FRAME_HEADER_LEN;
    if payload > MAX_PAYLOAD {
        return None;
    }
    let sum = checksum(&bytes[FRAME_HEADER_LEN..]);
    bytes[..4].copy_from_slice(&FRAME_MAGIC);
    bytes[4..8].copy_from_slice(&(payload as u32).to_le_bytes());
    bytes[8..16].copy_from_slice(&sum);
    Some(bytes)
}

/// What [`unframe`] found at the beginning of its input.
pub enum Framed<'a> {
    /// A correct frame: its payload. It is [`FRAME_HEADER_LEN`] longer than that.
    Payload(&'a [u8]),
    /// Something else.
    Bad,
}

/// Reads one frame at the beginning of `bytes`.
pub fn unframe(bytes: &[u8]) -> Framed<'_> {
    let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEADER_LEN>() else {
        return Framed::Bad;
    };
    let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if head[..4] != FRAME_MAGIC || length > MAX_PAYLOAD || length > rest.len() {
        return Framed::Bad;
    }
    let payload = &rest[..length];
    if checksum(payload) == head[8..] { Framed::Payload(payload) } else { Framed::Bad }
}

/// Whether what begins at `bytes`, which is not a correct frame, is damage and not merely
/// the torn end of the log.
pub fn is_damage(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(FRAME_HEADER_LEN)];
    if head.iter().all(|byte| *byte == 0) {
        return false;
    }
    // Content that looks like frames on purpose must not make this take for ever.
    (1..bytes.len())
        .filter(|at| bytes[*at..].starts_with(&FRAME_MAGIC))
        .take(1024)
        .any(|at| matches!(unframe(&bytes[at..]), Framed::Payload(_)))
}

/// The operations in a payload.
pub fn decode(payload: &[u8]) -> Result<Vec<Op>, DecodeError> {
    let mut reader = Reader::new(payload);
    let mut ops = Vec::new();
    while !reader.is_empty() {
        ops.push(decode_op(&mut reader)?);
    }
    Ok(ops)
}

fn encode(op: &Op, out: &mut Writer) {
    match op {
        Op::Node { ino, node } => {
            out.u8(1);
            out.u64(*ino);
            encode_node(node, out);
        }
        Op::Entry { parent, name, ino, over, time } => {
            out.u8(2);
            out.u64(*parent);
            out.name(name);
            out.u64(*ino);
            out.u8(u8::from(*over));
            out.option(*time, Writer::time);
        }
        Op::Whiteout { parent, name, time } | Op::Remove { parent, name, time } => {
            out.u8(if matches!(op, Op::Whiteout { .. }) { 3 } else { 4 });
            out.u64(*parent);
            out.name(name);
            out.option(*time, Writer::time);
        }
        Op::Next(next) => {
            out.u8(5);
            out.u64(*next);
        }
        Op::Closed => out.u8(6),
        Op::Done { operation, ino } => {
            out.u8(7);
            out.u64(*operation);
            out.u64(*ino);
        }
    }
}

fn encode_node(node: &Node, out: &mut Writer) {
    out.u8(node.kind.code());
    out.u16(node.mode);
    out.u32(node.uid);
    out.u32(node.gid);
    out.u32(node.rdev);
    out.time(node.atime);
    out.time(node.mtime);
    out.time(node.ctime);
    out.u8(u8::from(node.own) | u8::from(node.changed) << 1);
    out.option(node.origin.as_deref(), Writer::bytes);
    out.option(node.target.as_deref(), Writer::bytes);
    out.u32(node.xattrs.len() as u32);
    for (name, value) in &node.xattrs {
        out.name(name);
        out.bytes(value);
    }
}

fn decode_op(reader: &mut Reader<'_>) -> Result<Op, DecodeError> {
    let tag = reader.u8()?;
    Ok(match tag {
        1 => Op::Node { ino: reader.u64()?, node: Box::new(decode_node(reader)?) },
        2 => Op::Entry {
            parent: reader.u64()?,
            name: entry_name(reader)?,
            ino: reader.u64()?,
            over: reader.flag()?,
            time: reader.option(Reader::time)?,
        },
        3 | 4 => {
            let (parent, name) = (reader.u64()?, entry_name(reader)?);
            let time = reader.option(Reader::time)?;
            if tag == 3 {
                Op::Whiteout { parent, name, time }
            } else {
                Op::Remove { parent, name, time }
            }
        }
        5 => Op::Next(reader.u64()?),
        6 => Op::Closed,
        7 => Op::Done { operation: reader.u64()?, ino: reader.u64()? },
        _ => return Err(DecodeError::Tag),
    })
}

fn entry_name(reader: &mut Reader<'_>) -> Result<Box<[u8]>, DecodeError> {
    let name = reader.name()?;
    if valid_name(name) { Ok(name.into()) } else { Err(DecodeError::Name) }
}

fn decode_node(reader: &mut Reader<'_>) -> Result<Node, DecodeError> {
    let kind = *FileKind::ALL.get(usize::from(reader.u8()?)).ok_or(DecodeError::Tag)?;
    let mode = reader.u16()?;
    let (uid, gid, rdev) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (atime, mtime, ctime) = (reader.time()?, reader.time()?, reader.time()?);
    let flags = reader.u8()?;
    if mode > 0o7777 || flags > 3 {
        return Err(DecodeError::Tag);
    }
    let origin = reader.option(|reader| reader.bytes(MAX_ORIGIN))?.map(Box::from);
    let target = reader.option(|reader| reader.bytes(MAX_TARGET))?.map(Box::from);
    let mut xattrs = BTreeMap::new();
    let mut length = 0;
    for _ in 0..reader.u32()? {
        let (name, value) = (reader.name()?, reader.bytes(MAX_XATTRS)?);
        length += name.len() + value.len();
        if length > MAX_XATTRS {
            return Err(DecodeError::Long);
        }
        xattrs.insert(name.into(), value.into());
    }
    let (own, changed) = (flags & 1 != 0, flags & 2 != 0);
    Ok(Node {
        kind,
        mode,
        uid,
        gid,
        rdev,
        atime,
        mtime,
        ctime,
        own,
        changed,
        origin,
        target,
        xattrs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let time = |secs| Time { secs, nanos: 999_999_999 };
        Node {
            kind: FileKind::Symlink,
            mode: 0o7777,
            uid: 1,
            gid: u32::MAX,
            rdev: 7,
            atime: time(-1),
            mtime: time(i64::MAX),
            ctime: time(i64::MIN),
            own: true,
            changed: true,
            origin: Some(Box::from(&b""[..])),
            target: Some(Box::from(&b"../\xff"[..])),
            xattrs: BTreeMap::from([(Box::from(&b"user.a"[..]), Box::from(&b"\0"[..]))]),
        }
    }

    fn every_op() -> Vec<Op> {
        let name: Box<[u8]> = Box::from(&b"n\xfe"[..]);
        let time = Some(Time { secs: 5, nanos: 6 });
        vec![
            Op::Node { ino: 3, node: Box::new(node()) },
            Op::Entry { parent: 1, name: name.clone(), ino: CREATED | 9, over: true, time },
            Op::Whiteout { parent: 1, name: name.clone(), time: None },
            Op::Remove { parent: 1, name, time },
            Op::Next(77),
            Op::Closed,
            Op::Done { operation: 1 << 62, ino: CREATED | 9 },
        ]
    }

    #[test]
    fn every_operation_survives_the_round_trip() {
        let bytes = frame(&every_op()).expect("fits");
        let Framed::Payload(payload) = unframe(&bytes) else { panic!("a frame is a frame") };
        assert_eq!(decode(payload).expect("decodes"), every_op());
    }

    #[test]
    fn no_prefix_and_no_flipped_bit_is_taken_for_a_frame() {
        let bytes = frame(&every_op()).expect("fits");
        for end in 0..bytes.len() {
            assert!(matches!(unframe(&bytes[..end]), Framed::Bad), "prefix of {end}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(unframe(&bad), Framed::Bad), "bit {bit}");
        }
    }

    #[test]
    fn a_payload_of_noise_is_an_error_and_never_a_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut payload = frame(&every_op()).expect("fits")[FRAME_HEADER_LEN..].to_vec();
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % payload.len();
            payload[at] = (state >> 20) as u8;
            let _ = decode(&payload);
        }
    }

    #[test]
    fn damage_is_told_from_a_torn_tail() {
        let one = frame(&[Op::Next(1)]).expect("fits");
        let mut two = [one.clone(), one.clone()].concat();
        assert!(!is_damage(&two[..one.len() - 1]));
        two[one.len() - 1] ^= 1;
        assert!(is_damage(&two));
        two[..one.len()].fill(0);
        assert!(!is_damage(&two), "space never written is not damage");
    }
}
