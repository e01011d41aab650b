//! Nix's archives of one file, link or directory, unpacked as a stream.
//!
//! ```text
//! archive := "nix-archive-1" node
//! node    := "(" "type" ( "regular" ["executable" ""] "contents" BYTES
//!                       | "symlink" "target" TEXT
//!                       | "directory" { "entry" "(" "name" NAME "node" node ")" } ) ")"
//! ```
//!
//! Every word is a text: its length in 64 bits, little-endian, its bytes, and zeros to the next
//! multiple of 8. There is one archive for one tree: names are in the order of their bytes,
//! padding is zero, and nothing follows.
//!
//! An archive is a stranger's until its last byte has been hashed. So nothing is trusted on
//! the way: no more than the signed size is ever read; a name is one component and comes after the one
//! before it, so that no directory has it twice and nothing is written through a link; a link's
//! target is kept as it is and never followed. After an error the destination holds part of
//! it: unpack into a directory that is renamed when it is whole.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::narinfo::Compression;
use crate::registry::archive::{Packing, decompress};
use crate::registry::digest::{Digest, Hasher};

/// How deep directories may stand in one another. A path has 4,096 bytes at most.
const DEEPEST: usize = 1024;
/// The longest name of a file.
const LONGEST_NAME: u64 = 255;
/// The longest target of a link.
const LONGEST_TARGET: u64 = 4095;
/// The longest word of the format itself.
const LONGEST_WORD: u64 = 13;

/// What an archive must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Of all its bytes.
    pub hash: Digest,
    /// How many they are.
    pub size: u64,
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum NarError {
    /// The packed file cannot be opened.
    #[error("cannot open the archive `{path}`: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// It cannot be decompressed.
    #[error("the archive is damaged: {source}")]
    Damaged {
        /// What is wrong with it.
        source: io::Error,
    },
    /// It ends early.
    #[error("the archive ends after {found} of {expected} bytes")]
    Truncated {
        /// What there was.
        found: u64,
        /// What was signed.
        expected: u64,
    },
    /// It is longer, or something stands behind it.
    #[error("the archive goes on after the {expected} bytes that it should have")]
    Longer {
        /// What was signed.
        expected: u64,
    },
    /// It is no such archive.
    #[error("it is no Nix archive: {what}")]
    Format {
        /// What is wrong.
        what: String,
    },
    /// A name that no file of an archive can have.
    #[error("the archive is hostile: it has a file called `{name}`")]
    Name {
        /// The name.
        name: String,
    },
    /// Names that are out of order, or stand there twice.
    #[error("the archive is hostile: `{name}` comes after `{before}`")]
    Order {
        /// The name.
        name: String,
        /// The one before it.
        before: String,
    },
    /// Directories in directories.
    #[error("the archive is hostile: its directories are deeper than {DEEPEST}")]
    Deep,
    /// It is not the one that was signed.
    #[error("the archive has digest {found}, expected {expected}")]
    Mismatch {
        /// What was signed.
        expected: Box<Digest>,
        /// What it has.
        found: Box<Digest>,
    },
    /// A file could not be written.
    #[error("cannot unpack to `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What becomes of the members. `path` is below the archive's root; the root itself is empty.
pub trait Sink {
    /// A directory, before what is in it.
    fn directory(&mut self, path: &Path) -> Result<(), NarError>;
    /// A file.
    fn file(&mut self, path: &Path, exec: bool, bytes: &mut dyn Read) -> Result<(), NarError>;
    /// A link.
    fn link(&mut self, path: &Path, target: &OsStr) -> Result<(), NarError>;
}

/// Unpacks the file at `packed` to `dest`, which must not be there yet.
pub fn unpack(
    packed: &Path,
    compression: Compression,
    expected: &Expected,
    dest: &Path,
) -> Result<(), NarError> {
    read(packed, compression, expected, &mut Writer(dest))
}

/// The machine (`e_machine` of ELF) of the first program or library in the archive at `packed`,
/// which is read and verified whole.
pub fn machine(
    packed: &Path,
    compression: Compression,
    expected: &Expected,
) -> Result<Option<u16>, NarError> {
    let mut found = Machine(None);
    read(packed, compression, expected, &mut found)?;
    Ok(found.0)
}

/// Hands the members of the archive at `packed` to `sink`. Only when this has returned
/// without an error is what the sink was given what was signed.
fn read(
    packed: &Path,
    compression: Compression,
    expected: &Expected,
    sink: &mut dyn Sink,
) -> Result<(), NarError> {
    let open = |source| NarError::Open { path: packed.to_owned(), source };
    let packing = match compression {
        Compression::None => Packing::None,
        Compression::Xz => Packing::Xz,
        Compression::Zstd => Packing::Zstd,
    };
    let file = File::open(packed).map_err(open)?;
    parse(&mut decompress(packing, file), expected, sink)
}

fn parse(bytes: &mut dyn Read, expected: &Expected, sink: &mut dyn Sink) -> Result<(), NarError> {
    let hasher = expected.hash.hasher();
    let mut nar = Nar { bytes, hasher, read: 0, size: expected.size, failed: None };
    let parsed = nar.archive(sink);
    // What the reader itself met says more than what a sink made of it.
    if let Some(error) = nar.failed.take() {
        return Err(error);
    }
    parsed?;
    let behind = io::copy(&mut nar.bytes.take(1), &mut io::sink());
    let behind = behind.map_err(|source| NarError::Damaged { source })? > 0;
    match nar.read < nar.size {
        true if behind => return Err(format("something stands behind its end".into())),
        true => return Err(NarError::Truncated { found: nar.read, expected: nar.size }),
        false if behind => return Err(NarError::Longer { expected: nar.size }),
        false => {}
    }
    let found = nar.hasher.finish();
    if found != expected.hash {
        let (expected, found) = (Box::new(expected.hash), Box::new(found));
        return Err(NarError::Mismatch { expected, found });
    }
    Ok(())
}

/// The stream: bounded, hashed.
struct Nar<'a> {
    bytes: &'a mut dyn Read,
    hasher: Hasher,
    read: u64,
    size: u64,
    failed: Option<NarError>,
}

impl Read for Nar<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.read).unwrap_or(usize::MAX);
        if left == 0 && !buffer.is_empty() {
            self.failed.get_or_insert(NarError::Longer { expected: self.size });
            return Err(io::ErrorKind::InvalidData.into());
        }
        let wanted = buffer.len().min(left);
        match self.bytes.read(&mut buffer[..wanted]) {
            Ok(0) if wanted > 0 => {
                let (found, expected) = (self.read, self.size);
                self.failed.get_or_insert(NarError::Truncated { found, expected });
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(n) => {
                self.hasher.update(&buffer[..n]);
                self.read += n as u64;
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(source) => {
                let kind = source.kind();
                self.failed.get_or_insert(NarError::Damaged { source });
                Err(kind.into())
            }
        }
    }
}

impl Nar<'_> {
    fn archive(&mut self, sink: &mut dyn Sink) -> Result<(), NarError> {
        self.word(b"nix-archive-1")?;
        let mut path = PathBuf::new();
        // Of each directory that has not ended, the last name.
        let mut open: Vec<Option<Vec<u8>>> = Vec::new();
        if self.node(&path, sink)? {
            open.push(None);
        }
        while let Some(before) = open.last_mut() {
            match self.text(LONGEST_WORD)?.as_slice() {
                b")" => {
                    open.pop();
                    if !open.is_empty() {
                        path.pop();
                        self.word(b")")?;
                    }
                }
                b"entry" => {
                    let name = self.name(before.as_deref())?;
                    path.push(OsStr::from_bytes(&name));
                    *before = Some(name);
                    if self.node(&path, sink)? {
                        open.push(None);
                    } else {
                        path.pop();
                        self.word(b")")?;
                    }
                }
                other => return Err(unexpected(other, "`entry`")),
            }
            if open.len() > DEEPEST {
                return Err(NarError::Deep);
            }
        }
        Ok(())
    }

    /// A file, a link, or the beginning of a directory, whose end the caller has to find.
    fn node(&mut self, path: &Path, sink: &mut dyn Sink) -> Result<bool, NarError> {
        self.word(b"(")?;
        self.word(b"type")?;
        match self.text(LONGEST_WORD)?.as_slice() {
            b"regular" => self.file(path, sink)?,
            b"symlink" => {
                self.word(b"target")?;
                let target = self.text(LONGEST_TARGET)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(format(format!("the link `{}` leads nowhere", path.display())));
                }
                sink.link(path, OsStr::from_bytes(&target))?;
            }
            b"directory" => return sink.directory(path).map(|()| true),
            other => return Err(unexpected(other, "a type of file")),
        }
        self.word(b")").map(|()| false)
    }

    /// The name of a directory's next entry, up to where its node begins.
    fn name(&mut self, before: Option<&[u8]>) -> Result<Vec<u8>, NarError> {
        self.word(b"(")?;
        self.word(b"name")?;
        let name = self.text(LONGEST_NAME)?;
        let component = !matches!(name.as_slice(), b"" | b"." | b"..");
        if !component || name.contains(&b'/') || name.contains(&0) {
            return Err(NarError::Name { name: lossy(&name) });
        }
        if let Some(before) = before.filter(|before| *before >= name.as_slice()) {
            return Err(NarError::Order { name: lossy(&name), before: lossy(before) });
        }
        self.word(b"node").map(|()| name)
    }

    fn file(&mut self, path: &Path, sink: &mut dyn Sink) -> Result<(), NarError> {
        let mut next = self.text(LONGEST_WORD)?;
        let exec = next == b"executable";
        if exec {
            self.word(b"")?;
            next = self.text(LONGEST_WORD)?;
        }
        if next != b"contents" {
            return Err(unexpected(&next, "`contents`"));
        }
        let length = self.number()?;
        if length > self.size - self.read {
            return Err(NarError::Longer { expected: self.size });
        }
        let mut contents = self.by_ref().take(length);
        sink.file(path, exec, &mut contents)?;
        io::copy(&mut contents, &mut io::sink()).map_err(|source| NarError::Damaged { source })?;
        self.padding(length)
    }

    fn word(&mut self, expected: &[u8]) -> Result<(), NarError> {
        let found = self.text(LONGEST_WORD)?;
        match found == expected {
            true => Ok(()),
            false => Err(unexpected(&found, &format!("`{}`", lossy(expected)))),
        }
    }

    fn text(&mut self, longest: u64) -> Result<Vec<u8>, NarError> {
        let length = self.number()?;
        if length > longest {
            return Err(format(format!(
                "a text of {length} bytes stands where at most {longest} may"
            )));
        }
        let mut text = vec![0; usize::try_from(length).expect("just bounded")];
        self.exactly(&mut text)?;
        self.padding(length)?;
        Ok(text)
    }

    fn padding(&mut self, length: u64) -> Result<(), NarError> {
        let mut zeros = [0; 8];
        let missing = (8 - length % 8) % 8;
        let zeros = &mut zeros[..usize::try_from(missing).expect("less than 8")];
        self.exactly(zeros)?;
        match zeros.iter().all(|b| *b == 0) {
            true => Ok(()),
            false => Err(format("its padding is not zero".into())),
        }
    }

    fn number(&mut self) -> Result<u64, NarError> {
        let mut bytes = [0; 8];
        self.exactly(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), NarError> {
        self.read_exact(buffer).map_err(|source| NarError::Damaged { source })
    }
}

fn format(what: String) -> NarError {
    NarError::Format { what }
}

fn unexpected(found: &[u8], expected: &str) -> NarError {
    format(format!("`{}` stands where {expected} should", lossy(found)))
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Writes what it is given.
struct Writer<'a>(&'a Path);

impl Writer<'_> {
    /// The root is the destination itself, which may be a file.
    fn place(&self, path: &Path) -> PathBuf {
        match path.as_os_str().is_empty() {
            true => self.0.to_owned(),
            false => self.0.join(path),
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> NarError + use<> {
    let path = path.to_owned();
    move |source| NarError::Write { path, source }
}

impl Sink for Writer<'_> {
    fn directory(&mut self, path: &Path) -> Result<(), NarError> {
        let place = self.place(path);
        fs::create_dir(&place).map_err(failed(&place))
    }

    fn file(&mut self, path: &Path, exec: bool, bytes: &mut dyn Read) -> Result<(), NarError> {
        let place = self.place(path);
        let mode = if exec { 0o755 } else { 0o644 };
        let mut options = File::options();
        let opened = options.write(true).create_new(true).mode(mode).open(&place);
        let mut file = opened.map_err(failed(&place))?;
        io::copy(bytes, &mut file).map(drop).map_err(failed(&place))
    }

    fn link(&mut self, path: &Path, target: &OsStr) -> Result<(), NarError> {
        let place = self.place(path);
        std::os::unix::fs::symlink(target, &place).map_err(failed(&place))
    }
}

/// Looks for a program.
struct Machine(Option<u16>);

impl Sink for Machine {
    fn directory(&mut self, _: &Path) -> Result<(), NarError> {
        Ok(())
    }

    fn file(&mut self, _: &Path, _: bool, bytes: &mut dyn Read) -> Result<(), NarError> {
        if self.0.is_some() {
            return Ok(());
        }
        let mut head = Vec::new();
        let read = bytes.take(20).read_to_end(&mut head);
        read.map_err(|source| NarError::Damaged { source })?;
        if let [0x7f, b'E', b'L', b'F', _, order, .., low, high] = head.as_slice()
            && head.len() == 20
        {
            let bytes = [*low, *high];
            self.0 = Some(match order {
                2 => u16::from_be_bytes(bytes),
                _ => u16::from_le_bytes(bytes),
            });
        }
        Ok(())
    }

    fn link(&mut self, _: &Path, _: &OsStr) -> Result<(), NarError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
