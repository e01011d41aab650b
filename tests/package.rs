//! Published packages as repositories, from registries of our own.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use zagi::context::Context;
use zagi::environment::files::Files as _;
use zagi::registry::archive::ArchiveError;
use zagi::registry::http::{Client, Digest, HttpError};
use zagi::source::{Address, GitFiles, How, Resolved, SourceError, checkout, resolve};

use crate::support::Machine;
use crate::support::git::git;
use crate::support::http::{Reply, Server};

/// Serves what it is told to; anything else is missing.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Shelf {
    fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.0.lock().expect("no test panics with it").insert(path.into(), bytes.into());
    }
    fn serve(&self) -> Server {
        let shelf = self.clone();
        Server::start(move |request| {
            let shelf = shelf.0.lock().expect("no test panics with it");
            match shelf.get(&request.path) {
                Some(bytes) => Reply::ranged(request, bytes),
                None => Reply::not_found(),
            }
        })
    }
}

/// A tar of these members, the same bytes for ever.
fn tar(members: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, mode, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_mtime(1_600_000_000);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes()).expect("memory can be written");
    }
    tar.into_inner().expect("memory can be written")
}

/// gzip without compression (RFC 1952, 1951 3.2.4), so that no library's version shows in it.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut gz = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut chunks = bytes.chunks(0xffff).peekable();
    while let Some(chunk) = chunks.next() {
        let length = u16::try_from(chunk.len()).expect("a chunk is short enough");
        gz.push(u8::from(chunks.peek().is_none()));
        gz.extend(length.to_le_bytes());
        gz.extend((!length).to_le_bytes());
        gz.extend(chunk);
    }
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    gz.extend(crc.sum().to_le_bytes());
    gz.extend(crc.amount().to_le_bytes());
    gz
}

fn sdist(version: &str) -> Vec<u8> {
    let member = |name: &str| format!("thing-{version}/{name}");
    stored(&tar(&[
        (&member("PKG-INFO"), 0o644, "Name: thing\n"),
        (&member("bin/run"), 0o755, "#!/bin/sh\n"),
        (&member("src/thing/__init__.py"), 0o600, &format!("__version__ = '{version}'\n")),
    ]))
}

/// One file in a document of the JSON API.
fn file(name: &str, kind: &str, bytes: &[u8], yanked: bool) -> String {
    format!(
        r#"{{"filename": "{name}", "url": "BASE/files/{name}", "packagetype": "{kind}",
        "digests": {{"sha256": "{}"}}, "yanked": {yanked},
        "upload_time_iso_8601": "2025-03-05T20:05:02.478302Z"}}"#,
        Digest::sha256(bytes).hex()
    )
}

/// An index with three versions of `thing`: 1.0 with its source, 1.1 yanked, 0.9 built only.
fn pypi(shelf: &Shelf, base: &str) {
    let document = format!(
        r#"{{"releases": {{"1.0": [{}], "1.1": [{}], "0.9": [{}]}}}}"#,
        file("thing-1.0.tar.gz", "sdist", &sdist("1.0"), false),
        file("thing-1.1.tar.gz", "sdist", &sdist("1.1"), true),
        file("thing-0.9-py3-none-any.whl", "bdist_wheel", b"", false),
    );
    shelf.put("/pypi/pypi/thing/json", document.replace("BASE", base));
    shelf.put("/files/thing-1.0.tar.gz", sdist("1.0"));
    shelf.put("/files/thing-1.1.tar.gz", sdist("1.1"));
}

fn source(ctx: &Context, text: &str) -> Result<Resolved, SourceError> {
    let address = Address::parse(text, "github.com", ctx.home.root()).expect("it is an address");
    resolve(ctx, &Client::new(ctx), &address)
}

struct Registry {
    machine: Machine,
    shelf: Shelf,
    server: Server,
    ctx: Context,
}

fn registry() -> Registry {
    let (machine, shelf) = (Machine::new(), Shelf::default());
    let server = shelf.serve();
    pypi(&shelf, &server.base);
    let ctx = machine.context(&server.base);
    Registry { machine, shelf, server, ctx }
}

#[test]
fn a_source_distribution_is_the_same_commit_anywhere() {
    let r = registry();
    let resolved = source(&r.ctx, "pypi:Thing").expect("it is served");
    assert_eq!(
        resolved.commit, "6e873da2d7bb36e2a19abd2fd922cd81ee0ddf58",
        "of these bytes, published at this time, for ever"
    );
    assert_eq!((resolved.date, resolved.name.as_str()), (1_741_205_102, "Thing"));
    assert_eq!((resolved.revision.as_deref(), &resolved.branch), (Some("1.0"), &None));
    assert_eq!((&resolved.how, resolved.partial), (&How::Fetched, false));
    assert!(resolved.fetched_bytes > sdist("1.0").len() as u64);
    let names: Vec<&str> = resolved.tags.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["1.0", "v1.0"]);
    let listed = ["ls-tree", "-r", "--format=%(objectmode) %(path)", &resolved.commit];
    assert_eq!(
        git(&resolved.repo, &listed),
        "100644 PKG-INFO\n100755 bin/run\n100644 src/thing/__init__.py"
    );

    assert_eq!(git(&resolved.repo, &["fsck", "--strict", "--no-dangling"]), "");
    let packs = fs::read_dir(resolved.repo.join("objects/pack")).expect("it is a repository");
    assert_eq!(packs.count(), 2, "one pack and its index");
    let dest = r.machine.dir.path().join("out");
    checkout(&r.ctx, &resolved, &[], &dest).expect("it can be written");
    assert_eq!(git(&dest, &["status", "--porcelain", "-b"]), "## main");
    assert_eq!(git(&dest, &["describe", "--tags", "--match", "v*"]), "v1.0");
    let mode = fs::metadata(dest.join("bin/run")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
}

#[test]
fn a_version_that_is_here_is_never_asked_about_again() {
    let r = registry();
    let first = source(&r.ctx, "pypi:thing@1.0").expect("it is served");
    let asked = r.server.requests().len();
    // Neither after a year, nor without a network or any program.
    let later = Context {
        now: r.ctx.now + 365 * 86400,
        offline: true,
        vars: Arc::default(),
        ..r.ctx.clone()
    };
    let second = source(&later, "pypi:thing@1.0").expect("it is here");
    assert_eq!(second, Resolved { how: How::Cached, fetched_bytes: 0, ..first });
    // The newest is asked for again when the answer is old.
    let ctx = Context { now: r.ctx.now + 60, ..r.ctx.clone() };
    assert_eq!(source(&ctx, "pypi:thing").expect("it is here").how, How::Cached);
    assert_eq!(r.server.requests().len(), asked, "still fresh");
    let ctx = Context { now: r.ctx.now + 3600, ..r.ctx.clone() };
    assert_eq!(source(&ctx, "pypi:thing").expect("it is here").how, How::Cached);
    assert_eq!(r.server.requests().len(), asked + 1);
}

#[test]
fn a_registry_that_does_not_answer_is_as_it_was_aloud() {
    let r = registry();
    source(&r.ctx, "pypi:thing").expect("it is served");
    let ctx = Context { now: r.ctx.now + 3600, ..r.ctx.clone() };
    drop(r.server);
    let second = source(&ctx, "pypi:thing").expect("it was fetched");
    assert_eq!(second.revision.as_deref(), Some("1.0"));
    assert_eq!(r.machine.events.warnings().len(), 1, "{:?}", r.machine.events.warnings());

    // Also if the answer itself was thrown away.
    fs::remove_dir_all(ctx.home.cache("http")).expect("it is ours");
    let third = source(&ctx, "pypi:thing").expect("it was fetched");
    assert!(matches!(third.how, How::Fallback { .. }), "{third:?}");
    let never = source(&ctx, "pypi:other");
    assert!(never.is_err_and(|e| e.is_unreachable()));
    let offline = Context { offline: true, ..ctx };
    let never = source(&offline, "pypi:other");
    assert!(matches!(never, Err(SourceError::Pypi(_))), "{never:?}");
}

#[test]
fn a_mirror_that_has_only_pages() {
    let r = registry();
    r.shelf.put("/pypi/pypi/thing/json", "<html>no such interface</html>");
    let page = format!(
        r#"<a href="../../../files/thing-1.0.tar.gz#sha256={}">thing-1.0.tar.gz</a>"#,
        Digest::sha256(&sdist("1.0")).hex()
    );
    r.shelf.put("/pypi/simple/thing/", page);
    let resolved = source(&r.ctx, "pypi:thing").expect("it is served");
    assert_eq!(resolved.date, 1_600_000_000, "that of the newest file in it");
}

#[test]
fn what_there_is_not_has_a_name() {
    let r = registry();
    match source(&r.ctx, "pypi:thing@1.2") {
        Err(SourceError::NoVersion { version, nearest, .. }) => {
            assert_eq!((version.as_str(), nearest), ("1.2", vec!["1.0".into(), "0.9".into()]));
        }
        other => panic!("{other:?}"),
    }
    match source(&r.ctx, "pypi:thing@0.9") {
        Err(SourceError::NoSource { files, with_source, .. }) => {
            assert_eq!(files, ["thing-0.9-py3-none-any.whl"]);
            assert_eq!(with_source.as_deref(), Some("1.0"));
        }
        other => panic!("{other:?}"),
    }
    let missing = source(&r.ctx, "pypi:missing");
    assert!(matches!(missing, Err(SourceError::Pypi(_))), "{missing:?}");
    assert!(r.machine.events.warnings().is_empty());

    let yanked = source(&r.ctx, "pypi:thing@1.1").expect("it was asked for by name");
    assert_eq!(yanked.revision.as_deref(), Some("1.1"));
    let warnings = r.machine.events.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("yanked"), "{warnings:?}");
    let names: Vec<String> = yanked.tags.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["1.1", "v1.1"], "not those of other versions");
}

#[test]
fn an_archive_that_is_not_what_was_promised() {
    let r = registry();
    r.shelf.put("/files/thing-1.0.tar.gz", sdist("6.6.6"));
    match source(&r.ctx, "pypi:thing") {
        Err(SourceError::Fetch { source: HttpError::Mismatch { .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
    r.shelf.put("/files/thing-1.0.tar.gz", sdist("1.0"));
    source(&r.ctx, "pypi:thing").expect("what is right is taken then");
}

#[test]
fn what_points_to_the_repository_of_a_submodule_is_left_out() {
    let r = registry();
    let bytes = stored(&tar(&[
        ("thing-1.0/thing.py", 0o644, "x = 1\n"),
        ("thing-1.0/tests/data/.git", 0o644, "gitdir: ../../.git/modules/data\n"),
        ("thing-1.0/tests/data/a.json", 0o644, "{}\n"),
    ]));
    let document = format!(
        r#"{{"releases": {{"1.0": [{}]}}}}"#,
        file("thing-1.0.tar.gz", "sdist", &bytes, false).replace("BASE", &r.server.base)
    );
    r.shelf.put("/pypi/pypi/thing/json", document);
    r.shelf.put("/files/thing-1.0.tar.gz", bytes);
    source(&r.ctx, "pypi:thing").expect("the rest is a repository");
    let warnings = r.machine.events.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("`tests/data/.git`"), "{warnings:?}");
}

#[test]
fn a_hostile_archive_leaves_nothing() {
    for (name, bytes) in [
        ("climbs", {
            let mut bytes = tar(&[("thing-1.0/XX/XX/outside", 0o644, "mine")]);
            let at = bytes.windows(5).position(|w| w == b"XX/XX").expect("it is its name");
            bytes[at..at + 5].copy_from_slice(b"../..");
            // The header's checksum, of which the name is part.
            let sum: u32 = bytes[..512]
                .iter()
                .enumerate()
                .map(|(at, byte)| match at {
                    148..156 => u32::from(b' '),
                    _ => u32::from(*byte),
                })
                .sum();
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            bytes
        }),
        ("git", tar(&[("thing-1.0/.git/hooks/post-checkout", 0o755, "#!/bin/sh\nid\n")])),
        ("Git", tar(&[("thing-1.0/sub/.GIT/config", 0o644, "")])),
        ("empty", tar(&[("left-out", 0o644, "")])),
    ] {
        let r = registry();
        let bytes = stored(&bytes);
        let document = format!(
            r#"{{"releases": {{"1.0": [{}]}}}}"#,
            file("thing-1.0.tar.gz", "sdist", &bytes, false).replace("BASE", &r.server.base)
        );
        r.shelf.put("/pypi/pypi/thing/json", document);
        r.shelf.put("/files/thing-1.0.tar.gz", bytes);
        let refused = source(&r.ctx, "pypi:thing");
        let as_expected = match name {
            "climbs" => matches!(
                refused,
                Err(SourceError::Unpack { source: ArchiveError::Climbs { .. }, .. })
            ),
            "empty" => matches!(refused, Err(SourceError::NoFiles { .. })),
            _ => matches!(refused, Err(SourceError::GitInside { .. })),
        };
        assert!(as_expected, "{name}: {refused:?}");
        let left = fs::read_dir(r.ctx.home.tmp()).expect("it is there");
        let left: Vec<_> = left.map(|e| e.expect("it can be listed").file_name()).collect();
        assert_eq!(left, ["lock"], "{name}");
    }
}

#[test]
fn npm_packages_with_scopes_and_tags() {
    let r = registry();
    let tarball = stored(&tar(&[
        ("package/package.json", 0o644, r#"{"name": "@acme/x"}"#),
        ("package/cli.js", 0o755, "#!/usr/bin/env node\n"),
    ]));
    let mut sha512 = Vec::new();
    write!(sha512, "{}", base64(Digest::Sha512([0; 64]).of_same_kind(&tarball).bytes()))
        .expect("memory can be written");
    let integrity = String::from_utf8(sha512).expect("base64 is ASCII");
    let document = format!(
        r#"{{"dist-tags": {{"latest": "1.0.0", "next": "2.0.0-rc.1"}}, "versions": {{
            "1.0.0": {{"deprecated": "old", "dist": {{"integrity": "sha512-{integrity}",
                "tarball": "https://registry.npmjs.org/@acme/x/-/x-1.0.0.tgz"}}}},
            "2.0.0-rc.1": {{"dist": {{"integrity": "sha512-{integrity}",
                "tarball": "https://registry.npmjs.org/@acme/x/-/x-1.0.0.tgz"}}}}}},
            "time": {{"1.0.0": "2018-04-09T01:10:45.796Z"}}}}"#
    );
    r.shelf.put("/npm/@acme%2Fx", document);
    r.shelf.put("/npm/@acme/x/-/x-1.0.0.tgz", tarball);
    let latest = source(&r.ctx, "npm:@acme/x").expect("it is served");
    assert_eq!((latest.name.as_str(), latest.date), ("x", 1_523_236_245));
    let files = GitFiles::open(&latest.repo, &latest.tree).expect("it was resolved");
    assert_eq!(files.read("package.json").as_deref(), Some(&br#"{"name": "@acme/x"}"#[..]));
    let warnings = r.machine.events.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("deprecated"), "{warnings:?}");
    let next = source(&r.ctx, "npm:@acme/x@next").expect("it is served");
    assert_eq!(next.revision.as_deref(), Some("2.0.0-rc.1"));
    assert_eq!(next.tree, latest.tree);
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        (0..4).map(move |at| bits >> (18 - 6 * at) & 63).collect::<Vec<_>>()
    };
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        for (at, digit) in group(chunk).into_iter().enumerate() {
            let padding = at > chunk.len();
            text.push(if padding { '=' } else { char::from(DIGITS[digit as usize]) });
        }
    }
    text
}

#[test]
fn crates_by_either_spelling() {
    let r = registry();
    let packed = stored(&tar(&[
        ("a_thing-0.1.0/Cargo.toml", 0o644, "[package]\n"),
        ("a_thing-0.1.0/Cargo.toml.orig", 0o644, "# as written\n"),
    ]));
    let line = |version: &str, yanked: bool| {
        format!(
            r#"{{"name":"a_thing","vers":"{version}","cksum":"{}","yanked":{yanked},"deps":[],"pubtime":"2020-01-02T03:04:05Z"}}"#,
            Digest::sha256(&packed).hex()
        )
    };
    let index = format!("{}\n{}\n", line("0.1.0", false), line("0.2.0", true));
    r.shelf.put("/crates-index/a_/th/a_thing", index);
    r.shelf.put("/crates-files/a_thing/a_thing-0.1.0.crate", packed);
    let resolved = source(&r.ctx, "crate:a-thing").expect("it is served");
    assert_eq!((resolved.revision.as_deref(), resolved.date), (Some("0.1.0"), 1_577_934_245));
    let listed = git(&resolved.repo, &["ls-tree", "--name-only", &resolved.commit]);
    assert_eq!(listed, "Cargo.toml\nCargo.toml.orig");
    let asked = r.server.requests().len();
    assert_eq!(source(&r.ctx, "crate:a-thing").expect("it is here").how, How::Cached);
    assert_eq!(r.server.requests().len(), asked, "which spelling is right is known");
    let other = source(&r.ctx, "crate:a_thing@0.1.0").expect("it is here");
    assert_eq!((other.commit, other.how), (resolved.commit, How::Cached));
    assert_eq!(r.server.requests().len(), asked);
}
