//! Archives as registries publish them: sdists and crates (`.tar.gz`), npm's `.tgz`,
//! wheels (`.zip`), Debian packages (`.deb`: `ar` around a tar), and what else is around.
//!
//! An archive is a stranger's. Whatever it holds, nothing outside of the destination is
//! written, linked to or pointed at, and nothing is written through a link (`writer`
//! proves it); its size is bounded. What is kept of a member is its
//! name, its bytes and whether it is executable: no owner, no time, no set-id bit.
//!
//! After an error the destination holds part of the archive: unpack into a directory that
//! is renamed when it is whole.

mod error;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

pub use self::error::ArchiveError;
use self::writer::{Member, Writer};

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An uncompressed tar.
    Tar,
    /// `.tar.gz`, `.tgz`, `.crate`
    TarGz,
    /// `.tar.xz`
    TarXz,
    /// `.tar.zst`
    TarZst,
    /// `.zip`, `.whl`
    Zip,
    /// `.deb`: its `data.tar`
    Deb,
}

impl Kind {
    /// The kind that a file of this name has, by its ending.
    pub fn of(name: &str) -> Option<Kind> {
        let name = name.to_ascii_lowercase();
        let endings = [
            (".tar", Kind::Tar),
            (".tar.gz", Kind::TarGz),
            (".tgz", Kind::TarGz),
            (".crate", Kind::TarGz),
            (".tar.xz", Kind::TarXz),
            (".txz", Kind::TarXz),
            (".tar.zst", Kind::TarZst),
            (".zip", Kind::Zip),
            (".whl", Kind::Zip),
            (".deb", Kind::Deb),
        ];
        endings.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, kind)| kind)
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files and links; hard links count each.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// The newest modification time among the members of a tar, in seconds since the
    /// epoch; 0 where there is none.
    pub newest: i64,
}

/// How much an archive may unpack to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes in all.
    pub bytes: u64,
    /// Members in all.
    pub members: u64,
}

impl Limits {
    /// The bounds for an archive of so many bytes. Real packages unpack to a few times
    /// their size, generated tables to some hundred times; a bomb to millions.
    pub fn for_size(packed: u64) -> Limits {
        const LARGEST: u64 = 64 << 30;
        let bytes = packed.saturating_mul(1000).saturating_add(64 << 20).min(LARGEST);
        Limits { bytes, members: 4_000_000 }
    }
}

/// The most memory an xz stream may ask for; `xz -9` needs 65 MB.
const XZ_MEMORY: u64 = 512 << 20;

/// Unpacks the archive at `file` below `dest`, which is made if it is missing, without the
/// first `strip` components of each name (members with no more than those are left out).
pub fn unpack(
    file: &Path,
    kind: Kind,
    strip: usize,
    dest: &Path,
) -> Result<Unpacked, ArchiveError> {
    let packed = std::fs::metadata(file).map_err(|source| open_error(file, source))?.len();
    unpack_within(file, kind, strip, dest, Limits::for_size(packed))
}

/// As [`unpack`], with other bounds.
pub fn unpack_within(
    file: &Path,
    kind: Kind,
    strip: usize,
    dest: &Path,
    limits: Limits,
) -> Result<Unpacked, ArchiveError> {
    let mut writer = Writer::new(file, dest, strip, limits)?;
    let opened = File::open(file).map_err(|source| open_error(file, source))?;
    match kind {
        Kind::Zip => unzip(opened, &mut writer)?,
        Kind::Deb => undeb(opened, &mut writer)?,
        Kind::Tar => untar(&mut decompress(Packing::None, opened), &mut writer)?,
        Kind::TarGz => untar(&mut decompress(Packing::Gzip, opened), &mut writer)?,
        Kind::TarXz => untar(&mut decompress(Packing::Xz, opened), &mut writer)?,
        Kind::TarZst => untar(&mut decompress(Packing::Zstd, opened), &mut writer)?,
    }
    Ok(writer.unpacked())
}

fn open_error(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Open { path: path.to_owned(), source }
}

/// How a stream is compressed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
}

/// The bytes of a stream; damage is an error of a read.
pub(super) fn decompress<'a>(packing: Packing, packed: impl Read + 'a) -> Box<dyn Read + 'a> {
    let packed = BufReader::with_capacity(64 << 10, packed);
    match packing {
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Packing::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)
                .expect("the flags are valid, and a decoder that is not used allocates little");
            Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
        }
        Packing::Zstd => match zstd::stream::read::Decoder::with_buffer(packed) {
            Ok(decoder) => Box::new(decoder),
            Err(e) => Box::new(Broken(Some(e))),
        },
        Packing::None => Box::new(packed),
    }
}

/// A decoder that could not be made: its first read says so, as any other damage does.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.take().unwrap_or_else(|| io::ErrorKind::InvalidData.into()))
    }
}

fn untar(reader: &mut dyn Read, writer: &mut Writer<'_>) -> Result<(), ArchiveError> {
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(|e| writer.damaged(e))? {
        let mut entry = entry.map_err(|e| writer.damaged(e))?;
        let name = entry.path_bytes().into_owned();
        writer.seen_at(entry.header().mtime().unwrap_or(0));
        let kind = entry.header().entry_type();
        let link = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
        let executable = entry.header().mode().map_err(|e| writer.damaged(e))? & 0o111 != 0;
        // What `tar` itself means by a name that ends so, whatever the type says.
        let directory = kind.is_dir() || (kind.is_file() && name.ends_with(b"/"));
        match kind {
            _ if directory => writer.add(&name, Member::Directory)?,
            _ if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => {
                writer.add(&name, Member::File { executable, bytes: &mut entry })?;
            }
            _ if kind.is_symlink() => writer.add(&name, Member::Symlink(&link))?,
            _ if kind.is_hard_link() => writer.add(&name, Member::HardLink(&link))?,
            // Comments of the archive itself: git writes its commit there.
            _ if kind.is_pax_global_extensions() => {}
            _ => writer.add(&name, Member::Special)?,
        }
    }
    Ok(())
}

fn unzip(file: File, writer: &mut Writer<'_>) -> Result<(), ArchiveError> {
    const TYPE: u32 = 0o170000;
    let damaged = |e: zip::result::ZipError| match e {
        zip::result::ZipError::Io(e) => e,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    };
    let mut archive = zip::ZipArchive::new(file).map_err(|e| writer.damaged(damaged(e)))?;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(|e| writer.damaged(damaged(e)))?;
        let name = entry.name_raw().to_vec();
        let mode = entry.unix_mode().unwrap_or(0o644);
        match mode & TYPE {
            _ if name.ends_with(b"/") => writer.add(&name, Member::Directory)?,
            0o040000 => writer.add(&name, Member::Directory)?,
            0 | 0o100000 => {
                let executable = mode & 0o111 != 0;
                writer.add(&name, Member::File { executable, bytes: &mut entry })?;
            }
            0o120000 => {
                let mut target = Vec::new();
                // PATH_MAX; a longer one is no link that could be made.
                let read = entry.by_ref().take(4097).read_to_end(&mut target);
                read.map_err(|e| writer.damaged(e))?;
                writer.add(&name, Member::Symlink(&target))?;
            }
            _ => writer.add(&name, Member::Special)?,
        }
    }
    Ok(())
}

fn undeb(file: File, writer: &mut Writer<'_>) -> Result<(), ArchiveError> {
    let mut archive = ar::Archive::new(BufReader::new(file));
    while let Some(entry) = archive.next_entry() {
        let entry = entry.map_err(|e| writer.damaged(e))?;
        let name = String::from_utf8_lossy(entry.header().identifier()).into_owned();
        if !name.starts_with("data.tar") {
            continue;
        }
        let packing = match name.trim_end_matches('/') {
            "data.tar" => Packing::None,
            "data.tar.gz" => Packing::Gzip,
            "data.tar.xz" => Packing::Xz,
            "data.tar.zst" => Packing::Zstd,
            _ => return Err(writer.unsupported(&name)),
        };
        return untar(&mut decompress(packing, entry), writer);
    }
    Err(writer.unsupported("a Debian package without `data.tar`"))
}
