//! Writes objects as one pack and its index, version 2 of both
//! (<https://git-scm.com/docs/gitformat-pack>), without deltas.
//!
//! A package may have ten thousand files; as loose objects they would be as many files in
//! the home, each opened and closed to be read.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::objs::Kind;
use sha1::{Digest as _, Sha1};

use super::error::SourceError;

/// Where an object stands in the pack, and the CRC-32 of what stands there.
struct Entry {
    id: ObjectId,
    crc: u32,
    offset: u64,
}

/// A pack in the making, for one repository. Dropped before it is finished, it leaves
/// nothing.
pub(super) struct Pack<'a> {
    repo: gix::Repository,
    directory: &'a Path,
    file: BufWriter<tempfile::NamedTempFile>,
    offset: u64,
    entries: Vec<Entry>,
    added: HashSet<ObjectId>,
}

impl<'a> Pack<'a> {
    /// A pack for `repo`, whose `objects/pack` is `directory`.
    pub fn begin(repo: &gix::Repository, directory: &'a Path) -> Result<Pack<'a>, SourceError> {
        let mut repo = repo.clone();
        // Each object is looked for once; nobody else adds any while the lock is held.
        repo.objects.refresh_never();
        let mut file = tempfile::Builder::new()
            .prefix("tmp_pack_")
            .tempfile_in(directory)
            .map_err(SourceError::io(directory))?;
        // The count is not known yet.
        file.write_all(b"PACK\0\0\0\x02\0\0\0\0").map_err(SourceError::io(directory))?;
        let (entries, added) = (Vec::new(), HashSet::new());
        let file = BufWriter::new(file);
        Ok(Pack { repo, directory, file, offset: 12, entries, added })
    }

    /// Adds an object, unless the repository has it.
    pub fn add(&mut self, kind: Kind, bytes: &[u8]) -> Result<ObjectId, SourceError> {
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, bytes)
            .map_err(|e| SourceError::repository(self.directory)(Box::new(e)))?;
        if self.added.contains(&id) || self.repo.has_object(id) {
            return Ok(id);
        }
        let packed = packed(kind, bytes);
        self.file.write_all(&packed).map_err(SourceError::io(self.directory))?;
        let mut crc = flate2::Crc::new();
        crc.update(&packed);
        self.entries.push(Entry { id, crc: crc.sum(), offset: self.offset });
        self.offset += packed.len() as u64;
        self.added.insert(id);
        Ok(id)
    }

    /// Makes the objects part of the repository.
    pub fn finish(self) -> Result<(), SourceError> {
        let directory = self.directory;
        self.write().map_err(SourceError::io(directory))
    }

    fn write(mut self) -> io::Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(self.entries.len()).map_err(io::Error::other)?;
        self.file.flush()?;
        let mut pack = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        pack.seek(SeekFrom::Start(8))?;
        pack.write_all(&count.to_be_bytes())?;
        let checksum = sha1(pack.as_file_mut())?;
        pack.write_all(&checksum)?;
        self.entries.sort_unstable_by_key(|entry| entry.id);
        let mut index = tempfile::Builder::new().prefix("tmp_idx_").tempfile_in(self.directory)?;
        index.write_all(&index_of(&self.entries, &checksum))?;
        let name: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        // The index comes last: with it, the pack is seen.
        for (file, ending) in [(pack, "pack"), (index, "idx")] {
            file.as_file().sync_all()?;
            let path: PathBuf = self.directory.join(format!("pack-{name}.{ending}"));
            let mut permissions = file.as_file().metadata()?.permissions();
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o444);
            file.as_file().set_permissions(permissions)?;
            file.persist(&path).map_err(|e| e.error)?;
        }
        fs::File::open(self.directory)?.sync_all()
    }
}

/// One object: its kind and size, and its bytes, deflated.
fn packed(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let kind = match kind {
        Kind::Commit => 1u8,
        Kind::Tree => 2,
        Kind::Blob => 3,
        Kind::Tag => 4,
    };
    let mut size = bytes.len() as u64;
    let mut packed = Vec::with_capacity(bytes.len() / 2 + 16);
    let mut byte = kind << 4 | (size & 0x0f) as u8;
    size >>= 4;
    while size > 0 {
        packed.push(byte | 0x80);
        byte = (size & 0x7f) as u8;
        size >>= 7;
    }
    packed.push(byte);
    let mut encoder = ZlibEncoder::new(packed, Compression::fast());
    encoder.write_all(bytes).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

/// Hashes the whole file, and leaves it at its end.
fn sha1(file: &mut File) -> io::Result<[u8; 20]> {
    file.seek(SeekFrom::Start(0))?;
    let mut hasher = Sha1::new();
    let mut reader = BufReader::with_capacity(1 << 16, &mut *file);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().into())
}

/// The index of a pack; `entries` are sorted by id.
fn index_of(entries: &[Entry], checksum: &[u8; 20]) -> Vec<u8> {
    let mut index = b"\xfftOc\0\0\0\x02".to_vec();
    let mut at = 0;
    for first in 0..=255u8 {
        at += entries[at..].iter().take_while(|entry| entry.id.first_byte() == first).count();
        index.extend((at as u32).to_be_bytes());
    }
    for entry in entries {
        index.extend(entry.id.as_slice());
    }
    for entry in entries {
        index.extend(entry.crc.to_be_bytes());
    }
    // Offsets of 2 GiB and more stand in a table of their own.
    let mut large = Vec::new();
    for entry in entries {
        let offset = match u32::try_from(entry.offset) {
            Ok(offset) if offset < 1 << 31 => offset,
            _ => {
                large.push(entry.offset);
                1 << 31 | (large.len() - 1) as u32
            }
        };
        index.extend(offset.to_be_bytes());
    }
    for offset in large {
        index.extend(offset.to_be_bytes());
    }
    index.extend(checksum);
    let own: [u8; 20] = Sha1::digest(&index).into();
    index.extend(own);
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_offset_stands_in_its_own_table() {
        let id = |byte: u8| ObjectId::from_bytes_or_panic(&[byte; 20]);
        let entry = |byte, offset| Entry { id: id(byte), crc: 7, offset };
        let entries = [entry(0, 12), entry(3, 1 << 31), entry(255, 1 << 40)];
        let index = index_of(&entries, &[9; 20]);
        let (fanout, rest) = index[8..].split_at(1024);
        let count = |at: usize| u32::from_be_bytes(fanout[at * 4..][..4].try_into().expect("four"));
        assert_eq!((count(0), count(2), count(3), count(254), count(255)), (1, 1, 2, 2, 3));
        let offsets = &rest[3 * 24..];
        assert_eq!(offsets[..4], 12u32.to_be_bytes());
        assert_eq!(offsets[4..8], (1u32 << 31).to_be_bytes());
        assert_eq!(offsets[8..12], (1u32 << 31 | 1).to_be_bytes());
        assert_eq!(offsets[12..20], (1u64 << 31).to_be_bytes());
        assert_eq!(offsets[20..28], (1u64 << 40).to_be_bytes());
        assert_eq!(offsets[28..48], [9; 20]);
        assert_eq!(offsets.len(), 28 + 20 + 20);
    }
}
