//! Deltas: a content told by what another content, its *base*, holds already.
//!
//! ```text
//! u32 version  32 FileId of the base  u64 length of the base  u64 length of the content
//! u32 n, and for each piece of the content, in order
//!   u64 offset in the base  u32 length of the part of the base that begins there
//!   u32 length of the piece  u32 length of its patch
//! the patches, one after the other: each a zstd frame whose prefix is the part of the base
//! ```
//!
//! # Invariants
//!
//! - The base is stored plainly, as `Data` or by a `Recipe`: to read a content takes one
//!   delta at the most.
//! - Neither beginnings nor ends of the parts of the base go backwards, so a reader goes once
//!   through the base and keeps [`MAX_PART`] of it, whatever the length of the file.
//! - A record's name is the content's id. Whoever applies a delta must compare.
//!
//! A patch is decoded in one go into room of the length that the piece has, so a hostile
//! one, whatever window it asks for, allocates no more than that ([`MAX_PIECE`]).
//!
//! # Why pieces, and how they are made
//!
//! Measured on one core of a server, consecutive versions from npm; `chunks` are those that
//! the older version does not have, compressed in groups of four at level 3:
//!
//! | | chunks | whole, 3 | whole, 3 long | **4 MiB, 3 long** | 4 MiB, 9 long | whole, 12 long |
//! |---|---|---|---|---|---|---|
//! | typescript.js 5.6.3 → 5.7.2, 8.8 MB | 1,390 KB | 1,526 KB | 65 KB | **65 KB** 0.03 s | 53 KB 0.12 s | 49 KB 0.13 s |
//! | esbuild 0.24.0 → 0.24.2, 9.9 MB | 3,751 KB | 4,198 KB | 910 KB | **827 KB** 0.06 s | 713 KB 0.24 s | 685 KB 0.31 s |
//! | @swc/core 1.10.0 → 1.10.1, 48 MB | 15,047 KB 0.23 s | 14,698 KB | 6,684 KB | **6,630 KB** 0.33 s | 5,203 KB 1.3 s | 5,993 KB 1.9 s |
//! | @swc/core 1.9.3 → 1.10.0, 48 MB | 15,431 KB | 14,706 KB | 11,645 KB | **11,721 KB** 0.42 s | 9,549 KB 1.5 s | 10,088 KB 2.5 s |
//! | next-swc 15.1.0 → 15.1.1, 136 MB | 39,936 KB 1.4 s | | 16,456 KB 1.7 s | **12,688 KB** 1.3 s | 11,677 KB 7.3 s | |
//!
//! Long-distance matching ("long") is what does it, and next to it the level hardly matters:
//! level 3 takes as long as to compress the new chunks would. Pieces of 4 MiB with 2 MiB of
//! the base to either side of where the piece would be are as small as one patch of the
//! whole, for a fixed 16 MB of memory. To apply one takes a fifth of the time to make it.

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx};

use super::{FileId, FormatError, Reader, VERSION};

/// No record of a delta is longer.
pub const MAX_DELTA: usize = 16 << 20;
/// No piece is longer.
pub const MAX_PIECE: usize = 8 << 20;
/// No part of a base is longer.
pub const MAX_PART: usize = 16 << 20;

/// Length of the pieces that are made.
const PIECE: u64 = 4 << 20;
/// How far a part of the base reaches over where the piece would be.
const MARGIN: u64 = 2 << 20;
/// zstd's level.
const LEVEL: i32 = 3;

const WHAT: &str = "a delta";

/// A piece of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where the part of the base begins that it is made from.
    pub offset: u64,
    /// How long that part is.
    pub part: u32,
    /// How long the piece is.
    pub length: u32,
    /// How long its patch is.
    pub patch: u32,
}

/// A content, told by another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The other content.
    pub base: FileId,
    /// Its length.
    pub base_size: u64,
    /// The pieces, in order.
    pub pieces: Vec<Piece>,
    /// Their patches, one after the other.
    pub patches: Vec<u8>,
}

/// The pieces of a content of `size` bytes whose base has `base_size`, as a writer makes
/// them; `patch` is still 0. None where one is more than twice as long as the other.
pub fn plan(base_size: u64, size: u64) -> Option<Vec<Piece>> {
    if size == 0 || base_size > size.saturating_mul(2) || size > base_size.saturating_mul(2) {
        return None;
    }
    let in_base = |at: u64| (u128::from(at) * u128::from(base_size) / u128::from(size)) as u64;
    let piece = |begin: u64| {
        let end = (begin + PIECE).min(size);
        let offset = in_base(begin).saturating_sub(MARGIN);
        let part_end = (in_base(end) + MARGIN).min(base_size);
        let (part, length) = ((part_end - offset) as u32, (end - begin) as u32);
        Piece { offset, part, length, patch: 0 }
    };
    Some((0..size.div_ceil(PIECE)).map(|no| piece(no * PIECE)).collect())
}

/// Makes the patch that turns `part` of a base into `piece`.
pub fn make_patch(part: &[u8], piece: &[u8]) -> Result<Vec<u8>, FormatError> {
    let failed = |_| FormatError::Invalid { what: WHAT, why: "zstd could not compress it" };
    let window = (part.len() + piece.len()).max(1 << 10).next_power_of_two().ilog2();
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(LEVEL),
        CParameter::WindowLog(window),
        CParameter::EnableLongDistanceMatching(true),
    ] {
        context.set_parameter(parameter).map_err(failed)?;
    }
    context.ref_prefix(part).map_err(failed)?;
    let mut patch = Vec::with_capacity(zstd_safe::compress_bound(piece.len()));
    context.compress2(&mut patch, piece).map_err(failed)?;
    Ok(patch)
}

impl Piece {
    /// The piece, from its part of the base and its patch.
    pub fn apply(&self, part: &[u8], patch: &[u8]) -> Result<Vec<u8>, FormatError> {
        let failed = |_| FormatError::Invalid { what: WHAT, why: "a patch is not what zstd wrote" };
        let mut context = DCtx::create();
        context.ref_prefix(part).map_err(failed)?;
        let mut piece = Vec::with_capacity(self.length as usize);
        context.decompress(&mut piece, patch).map_err(failed)?;
        if piece.len() != self.length as usize {
            let why = "a patch gives another length";
            return Err(FormatError::Invalid { what: WHAT, why });
        }
        Ok(piece)
    }
}

impl Delta {
    /// The length of the content.
    pub fn size(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.length)).sum()
    }

    /// The pieces with their patches.
    pub fn patches(&self) -> impl Iterator<Item = (&Piece, &[u8])> {
        let mut rest = &self.patches[..];
        self.pieces.iter().map(move |piece| {
            let (patch, others) = rest.split_at(piece.patch as usize);
            rest = others;
            (piece, patch)
        })
    }

    /// Its record.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::with_capacity(56 + 20 * self.pieces.len() + self.patches.len());
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.base.as_bytes());
        bytes.extend(self.base_size.to_le_bytes());
        bytes.extend(self.size().to_le_bytes());
        bytes.extend((self.pieces.len() as u32).to_le_bytes());
        for piece in &self.pieces {
            bytes.extend(piece.offset.to_le_bytes());
            bytes.extend(piece.part.to_le_bytes());
            bytes.extend(piece.length.to_le_bytes());
            bytes.extend(piece.patch.to_le_bytes());
        }
        bytes.extend(&self.patches);
        bounded(bytes.len()).map(|()| bytes)
    }

    /// The delta in a record.
    pub fn decode(bytes: &[u8]) -> Result<Delta, FormatError> {
        let invalid = |why| FormatError::Invalid { what: WHAT, why };
        bounded(bytes.len())?;
        let mut reader = Reader::new(WHAT, bytes);
        reader.version()?;
        let base = FileId::from_bytes(reader.array()?);
        let (base_size, size) = (reader.u64()?, reader.u64()?);
        let count = reader.count(20)?;
        let mut pieces: Vec<Piece> = Vec::with_capacity(count);
        let (mut begin, mut end, mut patched) = (0, 0, 0usize);
        for _ in 0..count {
            let (offset, part) = (reader.u64()?, reader.u32()?);
            let (length, patch) = (reader.u32()?, reader.u32()?);
            if length == 0 || length as usize > MAX_PIECE || part as usize > MAX_PART {
                return Err(invalid("a piece's length is out of bounds"));
            }
            let part_end = offset.checked_add(part.into()).filter(|end| *end <= base_size);
            match part_end {
                Some(part_end) if offset >= begin && part_end >= end => {
                    (begin, end) = (offset, part_end);
                }
                Some(_) => return Err(invalid("the parts of the base are out of order")),
                None => return Err(invalid("a part of the base is out of bounds")),
            }
            // None is over MAX_DELTA, or it would not be there to be taken.
            patched = patched.saturating_add(patch as usize);
            pieces.push(Piece { offset, part, length, patch });
        }
        let patches = reader.take(patched)?.to_vec();
        reader.finish()?;
        let delta = Delta { base, base_size, pieces, patches };
        if delta.size() != size || size == 0 {
            return Err(invalid("the pieces are not as long as the content"));
        }
        Ok(delta)
    }
}

fn bounded(length: usize) -> Result<(), FormatError> {
    if length > MAX_DELTA {
        let (found, limit) = (length as u64, MAX_DELTA as u64);
        return Err(FormatError::TooLong { what: WHAT, found, limit });
    }
    Ok(())
}
