//! Writing and reading pack files. What their bytes mean is in [`super::format::pack`].

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::StoreError;
use super::format::pack::{
    FRAME_HEADER, Footer, Frame, FrameHeader, HEADER, PACK, PACK_RECORDS, Record, TRAILER,
    check_header, compressor, encode_frame, header,
};
use super::format::{FormatError, PackId, RecordId};
use super::index::Packed;
use super::storage::{self, Input, Output, Storage};

/// zstd's level: the next ones cost twice the time for a tenth of the size.
const LEVEL: i32 = 3;

/// The directory of the packs of the store `root`.
pub fn directory(root: &Path) -> PathBuf {
    root.join("packs")
}

/// The file of a pack.
pub fn pack_path(root: &Path, pack: &PackId) -> PathBuf {
    root.join(format!("packs/{pack}.pack"))
}

/// The copy of a pack's tail.
pub fn tail_path(root: &Path, pack: &PackId) -> PathBuf {
    root.join(format!("packs/{pack}.index"))
}

/// Records that will be one frame.
#[derive(Default)]
pub struct FrameBuilder {
    raw: Vec<u8>,
    records: Vec<(RecordId, u32, u32)>,
    // Kept from frame to frame, as a new one must clear its tables first.
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl FrameBuilder {
    /// Adds a record.
    pub fn push(&mut self, id: RecordId, bytes: &[u8]) {
        self.records.push((id, self.raw.len() as u32, bytes.len() as u32));
        self.raw.extend_from_slice(bytes);
    }

    /// Whether `more` bytes would make it longer than `limit`.
    pub fn is_full(&self, more: usize, limit: usize) -> bool {
        !self.records.is_empty() && self.raw.len() + more > limit
    }

    /// Compresses what was added, and begins anew. None if nothing was.
    pub fn encode(&mut self) -> Result<Option<EncodedFrame>, FormatError> {
        if self.records.is_empty() {
            return Ok(None);
        }
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(compressor(LEVEL)?),
        };
        let bytes = encode_frame(&self.raw, zstd)?;
        let raw = self.raw.len() as u32;
        self.raw.clear();
        Ok(Some(EncodedFrame { bytes, raw, records: std::mem::take(&mut self.records) }))
    }
}

/// A frame, ready to be appended to a pack.
pub struct EncodedFrame {
    bytes: Vec<u8>,
    raw: u32,
    records: Vec<(RecordId, u32, u32)>,
}

impl EncodedFrame {
    /// Its length in the pack.
    pub fn stored(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// A pack that has no name yet. Dropped before it is finished, it is removed.
pub struct PackWriter {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    output: Box<dyn Output>,
    hasher: blake3::Hasher,
    offset: u64,
    footer: Footer,
    named: bool,
}

impl Drop for PackWriter {
    fn drop(&mut self) {
        if !self.named {
            // What stays is garbage that the next process to open the store sweeps.
            let _ = self.storage.remove(&self.path);
        }
    }
}

impl PackWriter {
    /// Begins a pack in the file `path`.
    pub fn new(storage: Arc<dyn Storage>, path: PathBuf) -> Result<PackWriter, StoreError> {
        let output = storage.create(&path).map_err(StoreError::write(&path))?;
        let footer = Footer::default();
        let hasher = blake3::Hasher::new();
        let mut writer =
            PackWriter { storage, path, output, hasher, offset: 0, footer, named: false };
        writer.write(&header())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.output.write_all(bytes).map_err(StoreError::write(&self.path))?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Appends a frame.
    pub fn append(&mut self, frame: EncodedFrame) -> Result<(), StoreError> {
        let no = self.footer.frames.len() as u32;
        let stored = (frame.bytes.len() - FRAME_HEADER) as u32;
        self.footer.frames.push(Frame { offset: self.offset, stored, raw: frame.raw });
        self.footer.records.extend(frame.records.into_iter().map(|(id, offset, length)| Record {
            id,
            frame: no,
            offset,
            length,
        }));
        self.write(&frame.bytes)
    }

    /// Whether the pack should end here.
    pub fn is_full(&self) -> bool {
        self.offset >= PACK || self.footer.records.len() >= PACK_RECORDS
    }

    /// Writes the footer, makes all of it survive a crash, and gives the pack its name.
    /// `tmp` is for the copy of the tail.
    pub fn finish(self, root: &Path, tmp: &Path) -> Result<Packed, StoreError> {
        self.seal()?.name(root, tmp)
    }

    /// Writes the footer and syncs the file, which keeps its present name.
    pub fn seal(mut self) -> Result<SealedPack, StoreError> {
        let tail = self.footer.encode(self.offset);
        self.write(&tail)?;
        self.output.sync().map_err(StoreError::write(&self.path))?;
        let pack = PackId::from_bytes(*self.hasher.finalize().as_bytes());
        Ok(SealedPack { pack, tail, writer: self })
    }
}

/// A whole pack that is not among the others yet. Dropped before that, it is removed.
pub struct SealedPack {
    /// What it will be called.
    pub pack: PackId,
    tail: Vec<u8>,
    writer: PackWriter,
}

impl SealedPack {
    /// Gives the pack its name, durably. `tmp` is for the copy of the tail.
    pub fn name(mut self, root: &Path, tmp: &Path) -> Result<Packed, StoreError> {
        let PackWriter { storage, path, .. } = &self.writer;
        let directory = directory(root);
        let sync = || storage.sync_directory(&directory).map_err(StoreError::write(&directory));
        // First the copy, which is nothing without the pack; so no pack is without it.
        let beside = tail_path(root, &self.pack);
        storage::write(&**storage, tmp, &beside, &self.tail).map_err(StoreError::write(&beside))?;
        sync()?;
        let to = pack_path(root, &self.pack);
        storage.rename(path, &to).map_err(StoreError::write(&to))?;
        let synced = sync();
        self.writer.named = true;
        synced?;
        let footer = std::mem::take(&mut self.writer.footer);
        Ok(Packed { pack: self.pack, footer, size: self.writer.offset })
    }
}

/// Makes the copy of a pack's tail anew, durably, through `tmp`.
pub fn write_tail(
    storage: &dyn Storage,
    root: &Path,
    tmp: &Path,
    pack: &PackId,
) -> Result<(), StoreError> {
    let damaged = |source| StoreError::DamagedPack { pack: *pack, source };
    let (path, beside) = (pack_path(root, pack), tail_path(root, pack));
    let input = storage.open(&path).map_err(StoreError::read(&path))?;
    let size = input.size().map_err(StoreError::read(&path))?;
    let mut trailer = [0; TRAILER];
    let at = size.saturating_sub(TRAILER as u64);
    input.read_exact_at(&mut trailer, at).map_err(StoreError::read(&path))?;
    let offset = Footer::tail_offset(&trailer, size).map_err(damaged)?;
    let mut tail = vec![0; (size - offset) as usize];
    input.read_exact_at(&mut tail, offset).map_err(StoreError::read(&path))?;
    Footer::decode(&tail).map_err(damaged)?;
    let directory = directory(root);
    storage::write(storage, tmp, &beside, &tail)
        .and_then(|()| storage.sync_directory(&directory))
        .map_err(StoreError::write(&beside))
}

/// Reads a pack's footer: from the copy beside it or, where that is missing or damaged or
/// speaks of a file of another length, from the pack itself.
pub fn read_footer(
    storage: &dyn Storage,
    root: &Path,
    pack: &PackId,
) -> Result<Packed, StoreError> {
    let damaged = |source| StoreError::DamagedPack { pack: *pack, source };
    let path = pack_path(root, pack);
    let read = StoreError::read;
    let input = storage.open(&path).map_err(read(&path))?;
    let size = input.size().map_err(read(&path))?;

    let beside = storage::read(storage, &tail_path(root, pack)).ok();
    if let Some(Ok((footer, expected))) = beside.map(|tail| Footer::decode(&tail))
        && expected == size
    {
        return Ok(Packed { pack: *pack, footer, size });
    }
    let mut head = [0; HEADER];
    let mut trailer = [0; TRAILER];
    if size < (HEADER + TRAILER) as u64 {
        return Err(damaged(FormatError::Truncated { what: "a pack" }));
    }
    input.read_exact_at(&mut head, 0).map_err(read(&path))?;
    check_header(&head).map_err(damaged)?;
    input.read_exact_at(&mut trailer, size - TRAILER as u64).map_err(read(&path))?;
    let offset = Footer::tail_offset(&trailer, size).map_err(damaged)?;
    let mut tail = vec![0; (size - offset) as usize];
    input.read_exact_at(&mut tail, offset).map_err(read(&path))?;
    let (footer, _) = Footer::decode(&tail).map_err(damaged)?;
    Ok(Packed { pack: *pack, footer, size })
}

/// Reads, verifies and decodes the frame at `offset`.
pub fn read_frame(
    input: &dyn Input,
    path: &Path,
    pack: &PackId,
    offset: u64,
) -> Result<Vec<u8>, StoreError> {
    let (_, header, stored) = read_stored(input, path, pack, offset)?;
    header.decode_body(stored).map_err(|source| StoreError::DamagedPack { pack: *pack, source })
}

/// Reads and verifies the frame at `offset`, which holds `records`, as it is.
pub fn read_encoded(
    input: &dyn Input,
    path: &Path,
    pack: &PackId,
    offset: u64,
    records: &[&Record],
) -> Result<EncodedFrame, StoreError> {
    let (mut bytes, header, stored) = read_stored(input, path, pack, offset)?;
    header
        .verify_body(&stored)
        .map_err(|source| StoreError::DamagedPack { pack: *pack, source })?;
    bytes.extend(stored);
    let records = records.iter().map(|record| (record.id, record.offset, record.length));
    Ok(EncodedFrame { bytes, raw: header.raw, records: records.collect() })
}

/// A frame's header, as it is and decoded, and what follows it.
fn read_stored(
    input: &dyn Input,
    path: &Path,
    pack: &PackId,
    offset: u64,
) -> Result<(Vec<u8>, FrameHeader, Vec<u8>), StoreError> {
    let damaged = |source| StoreError::DamagedPack { pack: *pack, source };
    let read = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(FormatError::Truncated { what: "a pack" }),
        _ => StoreError::read(path)(error),
    };
    let mut bytes = vec![0; FRAME_HEADER];
    input.read_exact_at(&mut bytes, offset).map_err(read)?;
    let header = FrameHeader::decode(&bytes).map_err(damaged)?;
    let mut stored = vec![0; header.stored as usize];
    input.read_exact_at(&mut stored, offset + FRAME_HEADER as u64).map_err(read)?;
    Ok((bytes, header, stored))
}

/// The packs that are there, whether or not the index knows them.
pub fn list(storage: &dyn Storage, root: &Path) -> Result<Vec<PackId>, StoreError> {
    list_all(storage, root).map(|(packs, _)| packs)
}

/// The same, and the files that are called like packs, but by no id.
pub fn list_all(
    storage: &dyn Storage,
    root: &Path,
) -> Result<(Vec<PackId>, Vec<PathBuf>), StoreError> {
    let directory = directory(root);
    let (mut packs, mut strays) = (Vec::new(), Vec::new());
    for name in storage.list(&directory).map_err(StoreError::read(&directory))? {
        let path = PathBuf::from(name);
        let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        if path.extension() != Some(OsStr::new("pack")) {
            continue;
        }
        match stem.parse() {
            Ok(pack) => packs.push(pack),
            Err(_) => strays.push(directory.join(path)),
        }
    }
    packs.sort_unstable();
    strays.sort_unstable();
    Ok((packs, strays))
}
