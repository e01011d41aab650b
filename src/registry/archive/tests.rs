//! Archives made by hand, as no packer would make them.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::*;

/// A tar under construction, whose names and links are taken as they are.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }
    fn entry(mut self, kind: EntryType, name: &str, link: &str, mode: u32, bytes: &[u8]) -> Tar {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.0.append(&header, bytes).expect("memory can be written");
        self
    }
    fn file(self, name: &str, bytes: &[u8]) -> Tar {
        self.entry(EntryType::Regular, name, "", 0o644, bytes)
    }
    fn directory(self, name: &str) -> Tar {
        self.entry(EntryType::Directory, name, "", 0o755, b"")
    }
    fn symlink(self, name: &str, target: &str) -> Tar {
        self.entry(EntryType::Symlink, name, target, 0o777, b"")
    }
    fn hard_link(self, name: &str, target: &str) -> Tar {
        self.entry(EntryType::Link, name, target, 0o644, b"")
    }
    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("memory can be written")
    }
}

/// A directory holding the archive, the destination, and what must not be touched.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("outside"), "outside").expect("it is ours");
        Place { dir }
    }
    fn dest(&self) -> PathBuf {
        self.dir.path().join("dest")
    }
    fn unpack(&self, kind: Kind, strip: usize, bytes: &[u8]) -> Result<Unpacked, ArchiveError> {
        let archive = self.dir.path().join("archive");
        fs::write(&archive, bytes).expect("it is ours");
        unpack(&archive, kind, strip, &self.dest())
    }
    /// Unpacks what must be refused; whatever came of it, nothing outside was changed.
    fn refused(&self, tar: Tar) -> ArchiveError {
        let error = self.unpack(Kind::Tar, 0, &tar.bytes()).expect_err("it is hostile");
        self.untouched();
        error
    }
    fn untouched(&self) {
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .expect("it is there")
            .map(|e| e.expect("it can be listed").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["archive", "dest", "outside"]);
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read(&outside).expect("it is there"), b"outside");
        assert_eq!(fs::metadata(outside).expect("it is there").nlink(), 1);
    }
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dest().join(name)).expect("it was unpacked")
    }
    fn link(&self, name: &str) -> PathBuf {
        fs::read_link(self.dest().join(name)).expect("it was unpacked")
    }
}

fn ordinary() -> Vec<u8> {
    Tar::new()
        .directory("pkg-1.0/")
        .file("pkg-1.0/README", b"read me")
        .entry(EntryType::Regular, "pkg-1.0/bin/run", "", 0o4751, b"#!/bin/sh\n")
        .symlink("pkg-1.0/bin/also", "run")
        .hard_link("pkg-1.0/LICENSE", "pkg-1.0/README")
        .file("pax_global", b"left out: nothing of it is below the first component")
        .bytes()
}

fn packed(mut encoder: impl std::io::Write, bytes: &[u8]) {
    encoder.write_all(bytes).expect("memory can be written");
}

#[test]
fn every_compression() {
    let tar = ordinary();
    let (mut gz, mut xz, zst) = (Vec::new(), Vec::new(), zstd::encode_all(&tar[..], 3));
    packed(flate2::write::GzEncoder::new(&mut gz, flate2::Compression::fast()), &tar);
    packed(liblzma::write::XzEncoder::new(&mut xz, 1), &tar);
    for (kind, bytes) in [
        (Kind::Tar, tar),
        (Kind::TarGz, gz),
        (Kind::TarXz, xz),
        (Kind::TarZst, zst.expect("memory can be written")),
    ] {
        let place = Place::new();
        let unpacked = place.unpack(kind, 1, &bytes).expect("it is ordinary");
        assert_eq!(unpacked, Unpacked { files: 4, bytes: 17, newest: 1_700_000_000 }, "{kind:?}");
        assert_eq!(place.read("README"), "read me");
        assert_eq!(place.read("LICENSE"), "read me");
        assert_eq!(place.link("bin/also"), Path::new("run"));
        let mode = |name: &str| {
            fs::metadata(place.dest().join(name)).expect("it was unpacked").permissions().mode()
        };
        assert_eq!(mode("bin/run") & 0o7777, 0o755, "executable, and not set-uid");
        assert_eq!(mode("README") & 0o7777, 0o644);
        assert!(!place.dest().join("pax_global").exists());

        // Half of it is an error, never half a tree that passes for a whole one.
        let half = Place::new().unpack(kind, 1, &bytes[..bytes.len() / 2]);
        assert!(matches!(half, Err(ArchiveError::Damaged { .. })), "{kind:?} {half:?}");
    }
}

#[test]
fn a_debian_package() {
    for (name, kind) in [("data.tar.xz", Kind::TarXz), ("data.tar.zst/", Kind::TarZst)] {
        let tar = Tar::new()
            .directory("./")
            .file("./usr/lib/ld.so", b"loader")
            .symlink("./lib64/ld.so", "/usr/lib/ld.so")
            .bytes();
        let data = match kind {
            Kind::TarXz => {
                let mut xz = Vec::new();
                packed(liblzma::write::XzEncoder::new(&mut xz, 1), &tar);
                xz
            }
            _ => zstd::encode_all(&tar[..], 3).expect("memory can be written"),
        };
        let mut deb = ar::Builder::new(Vec::new());
        for (name, bytes) in
            [("debian-binary", b"2.0\n".as_slice()), ("control.tar.xz", b"no"), (name, &data)]
        {
            let header = ar::Header::new(name.into(), bytes.len() as u64);
            deb.append(&header, bytes).expect("memory can be written");
        }
        let place = Place::new();
        let deb = deb.into_inner().expect("memory can be written");
        place.unpack(Kind::Deb, 0, &deb).expect("it is ordinary");
        assert_eq!(place.link("lib64/ld.so"), Path::new("../usr/lib/ld.so"), "re-rooted");
        assert_eq!(place.read("lib64/ld.so"), "loader");
    }
    let error = Place::new().unpack(Kind::Deb, 0, b"!<arch>\n");
    assert!(matches!(error, Err(ArchiveError::Unsupported { .. })), "{error:?}");
}

fn zipped(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, mode, bytes) in entries {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        match mode & 0o170000 {
            0o120000 => {
                let target = std::str::from_utf8(bytes).expect("the test's own");
                zip.add_symlink(*name, target, options).expect("memory can be written");
            }
            _ => {
                zip.start_file(*name, options).expect("memory can be written");
                zip.write_all(bytes).expect("memory can be written");
            }
        }
    }
    zip.finish().expect("memory can be written").into_inner()
}

#[test]
fn a_wheel() {
    let wheel = zipped(&[
        ("pkg/__init__.py", 0o644, b"x = 1\n"),
        ("pkg/bin/tool", 0o755, b"ELF"),
        ("pkg/link", 0o120777, b"bin/tool"),
    ]);
    let place = Place::new();
    let unpacked = place.unpack(Kind::Zip, 0, &wheel).expect("it is ordinary");
    assert_eq!(unpacked, Unpacked { files: 3, bytes: 9, newest: 0 });
    assert_eq!(place.read("pkg/link"), "ELF");
    let tool = fs::metadata(place.dest().join("pkg/bin/tool")).expect("it was unpacked");
    assert_eq!(tool.permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_hostile_wheel() {
    for (name, mode, bytes) in [
        ("../outside", 0o644, &b"mine"[..]),
        ("a/../../outside", 0o644, b"mine"),
        ("link", 0o120777, b"../outside"),
    ] {
        let place = Place::new();
        let error = place.unpack(Kind::Zip, 0, &zipped(&[(name, mode, bytes)]));
        let hostile =
            matches!(error, Err(ArchiveError::Climbs { .. } | ArchiveError::LinkClimbs { .. }));
        assert!(hostile, "{name}: {error:?}");
        place.untouched();
    }
}

#[test]
fn names_that_climb_out() {
    for name in ["../outside", "a/../../outside", "/../outside", "./.././outside", ".."] {
        let error = Place::new().refused(Tar::new().directory("a").file(name, b"mine"));
        assert!(matches!(error, ArchiveError::Climbs { .. }), "{name}: {error}");
    }
}

#[test]
fn absolute_names_stand_below_the_destination() {
    let place = Place::new();
    let tar = Tar::new().file("/etc//./passwd", b"mine").file("a/../b", b"b").bytes();
    place.unpack(Kind::Tar, 0, &tar).expect("nothing climbs");
    assert_eq!(place.read("etc/passwd"), "mine");
    assert_eq!(place.read("b"), "b");
    place.untouched();
}

#[test]
fn links_that_lead_out() {
    for (name, target) in [
        ("l", "../outside"),
        ("a/l", "../../outside"),
        ("a/l", "b/../../../outside"),
        ("l", ".."),
        ("l", "/../outside"),
        ("l", ""),
    ] {
        let error = Place::new().refused(Tar::new().symlink(name, target));
        assert!(matches!(error, ArchiveError::LinkClimbs { .. }), "{target}: {error}");
    }
    // Every one of these stays inside if read letter by letter, yet `up/..` is outside.
    let place = Place::new();
    let tar = Tar::new().symlink("a/b/up", "../..").symlink("out", "a/b/up/../outside").bytes();
    place.unpack(Kind::Tar, 0, &tar).expect("it is made harmless");
    assert_eq!(place.link("out"), Path::new("a/b/outside"));
    assert!(!place.dest().join("out").exists());
}

#[test]
fn absolute_links_are_re_rooted() {
    let place = Place::new();
    let tar = Tar::new()
        .file("usr/lib/x", b"x")
        .symlink("usr/bin/x", "/usr/lib/x")
        .symlink("root", "/")
        .symlink("usr/here", "/usr")
        .symlink("kept", "usr/./lib/x")
        .bytes();
    place.unpack(Kind::Tar, 0, &tar).expect("nothing climbs");
    assert_eq!(place.link("usr/bin/x"), Path::new("../lib/x"));
    assert_eq!(place.link("root"), Path::new("."));
    assert_eq!(place.link("usr/here"), Path::new("."));
    assert_eq!(place.link("kept").as_os_str(), "usr/./lib/x", "as published");
    assert_eq!(place.read("usr/bin/x"), "x");
}

#[test]
fn hard_links_to_what_was_not_unpacked() {
    let error = Place::new().refused(Tar::new().hard_link("l", "../outside"));
    assert!(matches!(error, ArchiveError::LinkClimbs { .. }), "{error}");
    for (name, target) in [("l", "missing"), ("l", "d"), ("l", "s"), ("l", "s/x"), ("x", "x")] {
        let tar = Tar::new().directory("d").file("d/x", b"x").symlink("s", "d");
        let error = Place::new().refused(tar.file("x", b"x").hard_link(name, target));
        assert!(matches!(error, ArchiveError::HardLink { .. }), "{target}: {error}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let error = Place::new().refused(Tar::new().symlink("a", "b").file("a/x", b"mine"));
    assert!(matches!(error, ArchiveError::ThroughLink { .. }), "{error}");
    let error = Place::new().refused(Tar::new().symlink("a", ".").directory("a/x"));
    assert!(matches!(error, ArchiveError::ThroughLink { .. }), "{error}");

    // One that was there before is no way out either.
    let place = Place::new();
    fs::create_dir(place.dest()).expect("it is ours");
    std::os::unix::fs::symlink(place.dir.path(), place.dest().join("a")).expect("it is ours");
    std::os::unix::fs::symlink("../outside", place.dest().join("f")).expect("it is ours");
    let error = place.refused(Tar::new().file("a/outside", b"mine"));
    assert!(matches!(error, ArchiveError::ThroughLink { .. }), "{error}");
    place.unpack(Kind::Tar, 0, &Tar::new().file("f", b"mine").bytes()).expect("it is replaced");
    assert_eq!(place.read("f"), "mine");
    place.untouched();
}

#[test]
fn of_the_same_name_the_last_counts() {
    let place = Place::new();
    let tar = Tar::new()
        .file("x", b"one")
        .hard_link("y", "x")
        .file("x", b"two")
        .symlink("z", "x")
        .file("z", b"three")
        .directory("d")
        .directory("d")
        .bytes();
    place.unpack(Kind::Tar, 0, &tar).expect("duplicates are allowed");
    assert_eq!((place.read("x"), place.read("y")), ("two".into(), "one".into()));
    assert_eq!(place.read("z"), "three", "not written through the link to x");

    for tar in [
        Tar::new().directory("d").file("d", b"x"),
        Tar::new().file("d", b"x").file("d/x", b"x"),
        Tar::new().directory("d").symlink("d", "e"),
        Tar::new().file("d", b"x").directory("d"),
        Tar::new().file(".", b"x"),
    ] {
        let error = Place::new().refused(tar);
        assert!(matches!(error, ArchiveError::Conflict { .. }), "{error}");
    }
}

#[test]
fn devices_and_pipes() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let error = Place::new().refused(Tar::new().entry(kind, "dev", "", 0o666, b""));
        assert!(matches!(error, ArchiveError::Special { .. }), "{error}");
    }
}

#[test]
fn bombs_are_bounded() {
    let tar = Tar::new().file("zeros", &vec![0; 70 << 20]).bytes();
    let bomb = zstd::encode_all(&tar[..], 3).expect("memory can be written");
    assert!(bomb.len() < 1 << 16);
    let place = Place::new();
    let bounded = place.unpack(Kind::TarZst, 0, &[0; 10]);
    assert!(matches!(bounded, Err(ArchiveError::Damaged { .. })), "{bounded:?}");

    let archive = place.dir.path().join("archive");
    fs::write(&archive, &bomb).expect("it is ours");
    let limits = Limits { bytes: 1 << 20, members: 10 };
    let error = unpack_within(&archive, Kind::TarZst, 0, &place.dest(), limits);
    assert!(matches!(error, Err(ArchiveError::TooLarge { .. })), "{error:?}");
    let written = fs::metadata(place.dest().join("zeros")).expect("it was begun").len();
    assert!(written <= 1 << 20, "{written}");

    let many = (0..11).fold(Tar::new(), |tar, n| tar.directory(&format!("d{n}")));
    fs::write(&archive, many.bytes()).expect("it is ours");
    let error = unpack_within(&archive, Kind::Tar, 0, &place.dest(), limits);
    assert!(matches!(error, Err(ArchiveError::TooMany { .. })), "{error:?}");

    assert_eq!(Limits::for_size(0).bytes, 64 << 20);
    assert!(Limits::for_size(u64::MAX).bytes < 1 << 40);
}

#[test]
fn what_cannot_be_written_is_told_apart() {
    let place = Place::new();
    let blocked = place.dir.path().join("outside");
    fs::write(place.dir.path().join("archive"), Tar::new().file("x", b"x").bytes())
        .expect("it is ours");
    // The destination cannot be made where a file stands.
    let error = unpack(&place.dir.path().join("archive"), Kind::Tar, 0, &blocked);
    assert!(matches!(error, Err(ArchiveError::Write { .. })), "{error:?}");
}

#[test]
fn kinds_by_name() {
    assert_eq!(Kind::of("jinja2-3.1.6.tar.gz"), Some(Kind::TarGz));
    assert_eq!(Kind::of("left-pad-1.3.0.tgz"), Some(Kind::TarGz));
    assert_eq!(Kind::of("semver-1.0.26.crate"), Some(Kind::TarGz));
    assert_eq!(Kind::of("A-1-py3-none-any.WHL"), Some(Kind::Zip));
    assert_eq!(Kind::of("libc6_2.41_amd64.deb"), Some(Kind::Deb));
    assert_eq!(Kind::of("old-1.0.tar.bz2"), None);
}
