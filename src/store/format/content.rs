//! Contents: how they are cut, the list of a file's chunks, and the list of hard links.

use fastcdc::v2020;

use super::{FileId, FormatError, Reader, VERSION, bounded};

/// A file below this many bytes is one record.
pub const WHOLE_BELOW: u64 = 32 << 10;
/// A file is text if none of this many first bytes is NUL.
pub const SNIFFED: usize = 8 << 10;

/// Where contents are cut: FastCDC as of 2020 (`fastcdc::v2020`, gear seed 0) with one bit of
/// normalisation. The minimum is an eighth of the average (a quarter found less to share),
/// the maximum four times; all are even, as that algorithm looks at two bytes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// The shortest chunk, but for a file's last one.
    pub min: usize,
    /// The average, a power of two.
    pub average: usize,
    /// The longest chunk.
    pub max: usize,
}

/// How text is cut.
pub const TEXT: Parameters = Parameters { min: 2 << 10, average: 16 << 10, max: 64 << 10 };
/// How everything else is cut.
pub const BINARY: Parameters = Parameters { min: 8 << 10, average: 64 << 10, max: 256 << 10 };

impl Parameters {
    /// How a file that begins with `head` (its first [`SNIFFED`] bytes or more) is cut.
    pub fn for_file(head: &[u8]) -> Parameters {
        if head[..head.len().min(SNIFFED)].contains(&0) { BINARY } else { TEXT }
    }

    /// The length of the chunk that `bytes` begins with. `bytes` must reach to the file's
    /// end or hold at least `max` bytes: then the cut does not depend on buffers.
    pub fn cut(&self, bytes: &[u8]) -> usize {
        let bits = self.average.ilog2() as usize;
        let (small, large) = (v2020::MASKS[bits + 1], v2020::MASKS[bits - 1]);
        let Parameters { min, average, max } = *self;
        v2020::cut(bytes, min, average, max, small, large, small << 1, large << 1).1
    }
}

const RECIPE: &str = "a chunk list";

/// The chunks of a file, in order.
///
/// ```text
/// u32 version  u64 length of the file  u32 n
/// n × u32 lengths of the chunks
/// n × 32  their FileIds
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    /// Length and id of each chunk.
    pub chunks: Vec<(u32, FileId)>,
}

impl Recipe {
    /// The length of the file.
    pub fn size(&self) -> u64 {
        self.chunks.iter().map(|(length, _)| u64::from(*length)).sum()
    }

    /// Its record.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::with_capacity(16 + self.chunks.len() * 36);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.size().to_le_bytes());
        bytes.extend((self.chunks.len() as u32).to_le_bytes());
        bytes.extend(self.chunks.iter().flat_map(|(length, _)| length.to_le_bytes()));
        bytes.extend(self.chunks.iter().flat_map(|(_, id)| *id.as_bytes()));
        bounded(RECIPE, bytes)
    }

    /// The recipe in a record. Whoever joins the chunks must compare the whole with the id.
    pub fn decode(bytes: &[u8]) -> Result<Recipe, FormatError> {
        let invalid = |why| FormatError::Invalid { what: RECIPE, why };
        let mut reader = Reader::new(RECIPE, bytes);
        reader.version()?;
        let size = reader.u64()?;
        let count = reader.count(36)?;
        let lengths: Vec<u32> = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
        let mut chunks = Vec::with_capacity(count);
        for length in lengths {
            if length == 0 || length as usize > BINARY.max {
                return Err(invalid("a chunk's length is out of bounds"));
            }
            chunks.push((length, FileId::from_bytes(reader.array()?)));
        }
        reader.finish()?;
        let recipe = Recipe { chunks };
        if recipe.size() != size {
            return Err(invalid("the chunks are not as long as the file"));
        }
        Ok(recipe)
    }
}

const LINKS: &str = "a list of hard links";

/// Which files of a captured tree were one inode. Stands beside the tree and is no part of
/// its id: links save space, they are not content.
///
/// ```text
/// u32 version  u32 groups, and for each group
///   u32 n ≥ 2, and for each path, in order of their bytes
///     u32 length  the path, relative to the root, with `/`
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// The paths of each inode that has several.
    pub groups: Vec<Vec<Box<[u8]>>>,
}

impl Links {
    /// Its record.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::new();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.groups.len() as u32).to_le_bytes());
        for group in &self.groups {
            bytes.extend((group.len() as u32).to_le_bytes());
            for path in group {
                bytes.extend((path.len() as u32).to_le_bytes());
                bytes.extend(path);
            }
        }
        bounded(LINKS, bytes)
    }

    /// The list in a record. That the paths of a group have one content and one exec bit
    /// is for the tree to say.
    pub fn decode(bytes: &[u8]) -> Result<Links, FormatError> {
        let invalid = |why| FormatError::Invalid { what: LINKS, why };
        let mut reader = Reader::new(LINKS, bytes);
        reader.version()?;
        let mut groups = Vec::with_capacity(reader.count(4 + 2 * 5)?);
        for _ in 0..groups.capacity() {
            let count = reader.count(5)?;
            let mut group: Vec<Box<[u8]>> = Vec::with_capacity(count);
            for _ in 0..count {
                let length = reader.u32()? as usize;
                let path = reader.take(length)?;
                if !path.split(|byte| *byte == b'/').all(super::tree::is_name) {
                    return Err(invalid("a path is not a plain relative one"));
                }
                group.push(path.into());
            }
            if group.len() < 2 || !group.is_sorted_by(|a, b| a < b) {
                return Err(invalid("a group is too small or out of order"));
            }
            groups.push(group);
        }
        reader.finish()?;
        Ok(Links { groups })
    }
}
