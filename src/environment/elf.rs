//! Makes a program find its own C library: another loader and another search path in an
//! ELF file, elf(5).
//!
//! Nothing of the file is moved. What is new (program headers, the loader's name, the
//! strings, if need be the dynamic section) goes into one segment at the end, whose
//! address keeps its distance from the file offset, so that kernels that compute where the
//! program headers are from the file's start compute right. Section headers, which linkers
//! read, are told where things are now.
//!
//! The search path is written as `DT_RPATH`, not `DT_RUNPATH`: the loader then uses it for
//! everything that the program loads, and the libraries themselves need no change.
//!
//! 64-bit little-endian files only, which all supported platforms have.

use object::LittleEndian as LE;
use object::elf::{
    DT_DEBUG, DT_NEEDED, DT_NULL, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRSZ, DT_STRTAB, Dyn64,
    DynamicTag, ELFCLASS64, ELFDATA2LSB, ELFMAG, FileHeader64, PF_R, PF_W, PT_DYNAMIC, PT_INTERP,
    PT_LOAD, PT_PHDR, ProgramHeader64, SHT_DYNAMIC, SHT_PROGBITS, SHT_STRTAB, SectionHeader64,
};
use object::pod::{bytes_of, bytes_of_slice, from_bytes, slice_from_bytes};

/// What a file is to a loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The loader, of programs.
    pub interpreter: Option<String>,
    /// The search path in the file.
    pub search: Option<String>,
    /// Libraries by name.
    pub needed: Vec<String>,
    /// Its own name, of libraries. Some (the C library) have a loader as well.
    pub name: Option<String>,
}

/// Why a file cannot be read or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// A header points outside of the file.
    #[error("its headers do not fit the file")]
    Truncated,
    /// The dynamic section names no string table, or one that is not in the file.
    #[error("it has no string table")]
    NoStrings,
    /// Another word size or byte order.
    #[error("it is not a 64-bit little-endian file")]
    Unsupported,
}

/// The new segment comes after everything that the program reserves, of which not all is
/// in the file. More than this is no program's.
const LARGEST_GAP: u64 = 1 << 28;

type Header = FileHeader64<LE>;
type Segment = ProgramHeader64<LE>;
type Dynamic = Dyn64<LE>;
type Section = SectionHeader64<LE>;

/// A dynamic ELF file, read.
struct Image<'a> {
    bytes: &'a [u8],
    header: &'a Header,
    segments: &'a [Segment],
    dynamic: &'a [Dynamic],
    strings: &'a [u8],
}

/// Whether the file begins as an ELF file does.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(&ELFMAG)
}

/// What a loader reads in the file; `None` for what no loader reads (other files, static
/// programs, object files).
pub fn describe(bytes: &[u8]) -> Result<Option<Description>, ElfError> {
    let Some(image) = Image::read(bytes)? else { return Ok(None) };
    let (mut needed, mut search, mut name) = (Vec::new(), None, None);
    for entry in image.dynamic {
        let text = || image.string(entry.d_val.get(LE));
        match tag(entry) {
            DT_NEEDED => needed.extend(text()),
            DT_RPATH | DT_RUNPATH => search = text(),
            DT_SONAME => name = text(),
            _ => {}
        }
    }
    Ok(Some(Description { interpreter: image.interpreter(), search, needed, name }))
}

/// The file with `interpreter` as its loader and `search` as its search path; entries
/// relative to the program itself (`$ORIGIN`) stay in front. `None` where nothing has to be
/// changed: not a dynamic program. A library is changed only if its own search path would
/// hide the program's (`DT_RUNPATH` does) or leads to another C library's directories.
pub fn patch(
    bytes: &[u8],
    interpreter: &str,
    search: &[String],
) -> Result<Option<Vec<u8>>, ElfError> {
    let Some(image) = Image::read(bytes)? else { return Ok(None) };
    let Some(described) = describe(bytes)? else { return Ok(None) };
    let program = described.interpreter.is_some() && described.name.is_none();
    let old = described.search.unwrap_or_default();
    let own = old.split(':').filter(|entry| entry.starts_with("$ORIGIN"));
    let absolute = old.split(':').any(|entry| entry.starts_with('/'));
    if !program && !absolute && !image.dynamic.iter().any(|d| tag(d) == DT_RUNPATH) {
        return Ok(None);
    }
    let path: Vec<&str> = own.chain(search.iter().map(String::as_str)).collect();
    image.rewrite(program.then_some(interpreter), &path.join(":")).map(Some)
}

/// The library with `directory` as its search path. What it had comes first: entries relative to
/// itself as they are, others below `root`. `None` for what is no dynamic file.
pub fn patch_library(
    bytes: &[u8],
    root: &str,
    directory: &str,
) -> Result<Option<Vec<u8>>, ElfError> {
    let (Some(image), Some(described)) = (Image::read(bytes)?, describe(bytes)?) else {
        return Ok(None);
    };
    let old = described.search.unwrap_or_default();
    let own = old.split(':').filter_map(|entry| match entry.as_bytes().first()? {
        b'$' => Some(entry.to_owned()),
        b'/' => Some(format!("{root}{entry}")),
        _ => None,
    });
    let path: Vec<String> = own.chain([directory.to_owned()]).collect();
    image.rewrite(None, &path.join(":")).map(Some)
}

/// The highest version of `prefix` (`GLIBC_`) that a library defines, as it is named in the
/// file: `2.36`. For comparing C libraries without running them.
pub fn highest_symbol_version(bytes: &[u8], prefix: &str) -> Option<Vec<u64>> {
    let image = Image::read(bytes).ok()??;
    image
        .strings
        .split(|b| *b == 0)
        .filter_map(|name| std::str::from_utf8(name).ok()?.strip_prefix(prefix))
        .filter_map(|v| v.split('.').map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>())
        .max()
}

fn tag(entry: &Dynamic) -> DynamicTag {
    entry.d_tag.get(LE)
}

impl<'a> Image<'a> {
    fn read(bytes: &'a [u8]) -> Result<Option<Image<'a>>, ElfError> {
        if !is_elf(bytes) {
            return Ok(None);
        }
        let (header, _) = from_bytes::<Header>(bytes).map_err(|()| ElfError::Truncated)?;
        if header.e_ident.class != ELFCLASS64 || header.e_ident.data != ELFDATA2LSB {
            return Err(ElfError::Unsupported);
        }
        let (at, count) = (offset(header.e_phoff.get(LE))?, usize::from(header.e_phnum.get(LE)));
        let table = bytes.get(at..).ok_or(ElfError::Truncated)?;
        let (segments, _) =
            slice_from_bytes::<Segment>(table, count).map_err(|()| ElfError::Truncated)?;
        let Some(dynamic) = segments.iter().find(|s| s.p_type.get(LE) == PT_DYNAMIC) else {
            return Ok(None);
        };
        let data = contents(bytes, dynamic)?;
        let (dynamic, _) = slice_from_bytes::<Dynamic>(data, data.len() / size_of::<Dynamic>())
            .map_err(|()| ElfError::Truncated)?;
        let mut image = Image { bytes, header, segments, dynamic, strings: &[] };
        let value = |wanted| {
            let entry = dynamic.iter().find(|d| tag(d) == wanted);
            entry.map(|d| d.d_val.get(LE)).ok_or(ElfError::NoStrings)
        };
        let start = image.file_offset(value(DT_STRTAB)?).ok_or(ElfError::NoStrings)?;
        let end = start.checked_add(offset(value(DT_STRSZ)?)?).ok_or(ElfError::NoStrings)?;
        image.strings = bytes.get(start..end).ok_or(ElfError::NoStrings)?;
        Ok(Some(image))
    }

    fn loads(&self) -> impl Iterator<Item = &'a Segment> {
        self.segments.iter().filter(|s| s.p_type.get(LE) == PT_LOAD)
    }

    fn file_offset(&self, address: u64) -> Option<usize> {
        let segment = self.loads().find(|s| {
            let start = s.p_vaddr.get(LE);
            address >= start && address - start < s.p_filesz.get(LE)
        })?;
        let into = address - segment.p_vaddr.get(LE);
        usize::try_from(segment.p_offset.get(LE).checked_add(into)?).ok()
    }

    fn interpreter(&self) -> Option<String> {
        let segment = self.segments.iter().find(|s| s.p_type.get(LE) == PT_INTERP)?;
        text(contents(self.bytes, segment).ok()?)
    }

    fn string(&self, at: u64) -> Option<String> {
        text(self.strings.get(usize::try_from(at).ok()?..)?)
    }

    /// Where the new segment begins in the file, and what its addresses are ahead of that.
    fn end(&self) -> Result<(u64, u64, u64), ElfError> {
        let first = self.loads().next().ok_or(ElfError::Truncated)?;
        let base = first.p_vaddr.get(LE).wrapping_sub(first.p_offset.get(LE));
        let align = self.loads().map(|s| s.p_align.get(LE)).chain([0x1000]).max().unwrap_or(0x1000);
        let ends = self
            .loads()
            .map(|s| s.p_vaddr.get(LE).wrapping_add(s.p_memsz.get(LE)).wrapping_sub(base));
        let end = ends.chain([self.bytes.len() as u64]).max().unwrap_or(0);
        let start = end.checked_next_multiple_of(align).ok_or(ElfError::Truncated)?;
        match start > self.bytes.len() as u64 + LARGEST_GAP {
            true => Err(ElfError::Truncated),
            false => Ok((start, base, align)),
        }
    }

    /// The new segment's contents, after a space for the program headers; and the dynamic
    /// section, if it fits its old place.
    fn append(
        &self,
        interpreter: Option<&str>,
        search: &str,
        (start, base): (u64, u64),
    ) -> (Appendix, Option<Vec<Dynamic>>) {
        let table = Span { at: 0, size: (self.segments.len() + 1) * size_of::<Segment>() };
        let mut bytes = vec![0; table.size];
        let interpreter = interpreter.map(|name| {
            let at = bytes.len();
            bytes.extend(name.bytes().chain([0]));
            Span { at, size: bytes.len() - at }
        });
        let at = bytes.len();
        bytes.extend(self.strings);
        let search_at = (bytes.len() - at) as u64;
        bytes.extend(search.bytes().chain([0]));
        let strings = Span { at, size: bytes.len() - at };
        bytes.resize(bytes.len().next_multiple_of(16), 0);

        let mut entries: Vec<Dynamic> =
            self.dynamic.iter().take_while(|d| tag(d) != DT_NULL).copied().collect();
        entries.retain(|d| !matches!(tag(d), DT_RPATH | DT_RUNPATH));
        for entry in &mut entries {
            match tag(entry) {
                DT_STRTAB => {
                    entry.d_val.set(LE, base.wrapping_add(start).wrapping_add(strings.at as u64));
                }
                DT_STRSZ => entry.d_val.set(LE, strings.size as u64),
                // Filled in by the loader; what is in the file does not count.
                DT_DEBUG => entry.d_val.set(LE, 0),
                _ => {}
            }
        }
        entries.push(entry(DT_RPATH, search_at));
        entries.push(entry(DT_NULL, 0));
        let mut dynamic = None;
        let in_place = match entries.len() > self.dynamic.len() {
            true => {
                let at = bytes.len();
                bytes.extend(bytes_of_slice(&entries));
                dynamic = Some(Span { at, size: bytes.len() - at });
                None
            }
            false => {
                entries.resize(self.dynamic.len(), entry(DT_NULL, 0));
                Some(entries)
            }
        };
        (Appendix { start, base, bytes, table, interpreter, strings, dynamic }, in_place)
    }

    /// The program headers, with one more for the new segment.
    fn new_segments(&self, new: &Appendix, align: u64) -> Result<Vec<Segment>, ElfError> {
        let mut segments = self.segments.to_vec();
        for segment in &mut segments {
            let moved = match segment.p_type.get(LE) {
                PT_PHDR => Some(new.table),
                PT_INTERP => new.interpreter,
                PT_DYNAMIC => new.dynamic,
                _ => None,
            };
            if let Some(span) = moved {
                new.place(segment, span);
            }
        }
        let mut load = *self.loads().next().ok_or(ElfError::Truncated)?;
        load.p_flags.set(LE, PF_R | PF_W);
        load.p_align.set(LE, align);
        new.place(&mut load, Span { at: 0, size: new.bytes.len() });
        // Loadable segments stand in the order of their addresses, and this is the last.
        let last = segments.iter().rposition(|s| s.p_type.get(LE) == PT_LOAD);
        segments.insert(last.map_or(segments.len(), |n| n + 1), load);
        Ok(segments)
    }

    /// See the module's documentation for the layout.
    fn rewrite(&self, interpreter: Option<&str>, search: &str) -> Result<Vec<u8>, ElfError> {
        let (start, base, align) = self.end()?;
        let (mut new, in_place) = self.append(interpreter, search, (start, base));
        let segments = self.new_segments(&new, align)?;
        new.bytes[..new.table.size].copy_from_slice(bytes_of_slice(&segments));

        let mut out = self.bytes.to_vec();
        if let Some(dynamic) = in_place {
            let old = self.segments.iter().find(|s| s.p_type.get(LE) == PT_DYNAMIC);
            let at = offset(old.ok_or(ElfError::Truncated)?.p_offset.get(LE))?;
            let dynamic = bytes_of_slice(&dynamic);
            let place = out.get_mut(at..at.saturating_add(dynamic.len()));
            place.ok_or(ElfError::Truncated)?.copy_from_slice(dynamic);
        }
        self.tell_sections(&mut out, &new);
        let mut header = *self.header;
        header.e_phoff.set(LE, start);
        header.e_phnum.set(LE, u16::try_from(segments.len()).map_err(|_| ElfError::Truncated)?);
        out[..size_of::<Header>()].copy_from_slice(bytes_of(&header));
        out.resize(offset(start)?, 0);
        out.extend(new.bytes);
        Ok(out)
    }

    /// Tells each section of `out` that has moved where it now is. A table of sections that
    /// does not fit the file is nobody's, and left alone.
    fn tell_sections(&self, out: &mut [u8], new: &Appendix) {
        let size = size_of::<Section>();
        let strings = self.dynamic.iter().find(|d| tag(d) == DT_STRTAB).map(|d| d.d_val.get(LE));
        let loader = self.segments.iter().find(|s| s.p_type.get(LE) == PT_INTERP);
        let loader = loader.map(|segment| segment.p_vaddr.get(LE));
        for n in 0..usize::from(self.header.e_shnum.get(LE)) {
            let at = usize::try_from(self.header.e_shoff.get(LE)).ok();
            let Some(at) = at.and_then(|table| table.checked_add(n * size)) else { return };
            let Some(here) = out.get_mut(at..at.saturating_add(size)) else { return };
            let Ok((section, _)) = from_bytes::<Section>(&*here) else { return };
            let mut section = *section;
            let old = Some(section.sh_addr.get(LE));
            let moved = match section.sh_type.get(LE) {
                SHT_STRTAB if old == strings => Some(new.strings),
                SHT_DYNAMIC => new.dynamic,
                SHT_PROGBITS if old == loader => new.interpreter,
                _ => None,
            };
            if let Some(span) = moved {
                section.sh_offset.set(LE, new.offset(span));
                section.sh_addr.set(LE, new.address(span));
                section.sh_size.set(LE, span.size as u64);
                here.copy_from_slice(bytes_of(&section));
            }
        }
    }
}

/// A part of the new segment.
#[derive(Clone, Copy)]
struct Span {
    at: usize,
    size: usize,
}

/// The new segment.
struct Appendix {
    start: u64,
    base: u64,
    bytes: Vec<u8>,
    table: Span,
    interpreter: Option<Span>,
    strings: Span,
    /// Where it did not fit its old place.
    dynamic: Option<Span>,
}

impl Appendix {
    fn offset(&self, span: Span) -> u64 {
        self.start.wrapping_add(span.at as u64)
    }

    fn address(&self, span: Span) -> u64 {
        self.base.wrapping_add(self.offset(span))
    }

    fn place(&self, segment: &mut Segment, span: Span) {
        segment.p_offset.set(LE, self.offset(span));
        segment.p_vaddr.set(LE, self.address(span));
        segment.p_paddr.set(LE, self.address(span));
        segment.p_filesz.set(LE, span.size as u64);
        segment.p_memsz.set(LE, span.size as u64);
    }
}

fn entry(tag: DynamicTag, value: u64) -> Dynamic {
    let mut entry = Dynamic { d_tag: Default::default(), d_val: Default::default() };
    entry.d_tag.set(LE, tag);
    entry.d_val.set(LE, value);
    entry
}

fn offset(value: u64) -> Result<usize, ElfError> {
    usize::try_from(value).map_err(|_| ElfError::Truncated)
}

fn contents<'a>(bytes: &'a [u8], segment: &Segment) -> Result<&'a [u8], ElfError> {
    let start = offset(segment.p_offset.get(LE))?;
    let end = start.checked_add(offset(segment.p_filesz.get(LE))?).ok_or(ElfError::Truncated)?;
    bytes.get(start..end).ok_or(ElfError::Truncated)
}

fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|b| *b == 0)?;
    String::from_utf8(bytes[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A dynamic program that every machine has which can run these tests: the test itself.
    fn program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().expect("a test has a file")).expect("it is readable")
    }

    #[test]
    fn a_patched_program_runs_and_says_what_it_was_told() {
        let bytes = program();
        let before = describe(&bytes).unwrap().expect("tests are dynamic programs");
        let loader = before.interpreter.clone().expect("a program has a loader");
        let dir = tempfile::tempdir().unwrap();
        // A longer name for the same loader, so that it cannot stand where the old one was.
        let own = dir.path().join("a-loader-of-our-own");
        std::os::unix::fs::symlink(&loader, &own).unwrap();
        let own = own.to_str().expect("temporary names are text");
        let search = ["/nonexistent/one".to_owned(), "/nonexistent/two".to_owned()];
        let patched = patch(&bytes, own, &search).unwrap().expect("it is a program");
        let after = describe(&patched).unwrap().unwrap();
        assert_eq!(after.interpreter.as_deref(), Some(own));
        assert_eq!(after.search.as_deref(), Some("/nonexistent/one:/nonexistent/two"));
        assert_eq!(after.needed, before.needed);
        // Twice is as good as once.
        let again = patch(&patched, own, &search).unwrap().unwrap();
        assert_eq!(describe(&again).unwrap().unwrap(), after);
        for (name, bytes) in [("once", &patched), ("twice", &again)] {
            let file = dir.path().join(name);
            crate::program::write(&file, bytes);
            let out = Command::new(&file).arg("--list").output().unwrap();
            assert!(out.status.success(), "{name}: {out:?}");
        }
    }

    #[test]
    fn a_linker_finds_what_moved() {
        let bytes = program();
        let patched = patch(&bytes, "/loader", &["/a/longer/path".into()]).unwrap().unwrap();
        let image = Image::read(&patched).unwrap().unwrap();
        let strings = image.dynamic.iter().find(|d| tag(d) == DT_STRTAB).unwrap().d_val.get(LE);
        let table = &patched[image.header.e_shoff.get(LE) as usize..];
        let (sections, _) =
            slice_from_bytes::<Section>(table, image.header.e_shnum.get(LE).into()).unwrap();
        let told = sections.iter().find(|s| s.sh_addr.get(LE) == strings).expect("it was told");
        assert_eq!(told.sh_size.get(LE), image.strings.len() as u64);
        assert_eq!(told.sh_offset.get(LE), image.file_offset(strings).unwrap() as u64);
    }

    #[test]
    fn what_is_no_program_is_left_alone() {
        assert_eq!(patch(b"#!/bin/sh\n", "/l", &[]), Ok(None));
        assert_eq!(patch(&[], "/l", &[]), Ok(None));
    }

    #[test]
    fn damaged_files_are_errors_or_left_alone_and_never_a_panic() {
        let bytes = program();
        for length in (0..4096).step_by(7) {
            let _ = patch(&bytes[..length], "/loader", &["/lib".into()]);
        }
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..2000 {
            let mut damaged = bytes[..8192.min(bytes.len())].to_vec();
            for _ in 0..4 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = (seed % 1024) as usize;
                damaged[at] = (seed >> 32) as u8;
            }
            let result = patch(&damaged, "/loader", &["/lib".into()]);
            // A seed that a failure can be replayed from is in the message of the panic.
            assert!(result.is_ok() || result.is_err(), "round {round}");
        }
    }
}
