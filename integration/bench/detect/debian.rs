//! System packages of 40 Debian source packages, as upstream published them, against the
//! `-dev` packages that Debian builds them with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use zagi::environment::files::Directory;
use zagi::environment::system::Table;
use zagi::registry::debian::control::{Paragraph, dependencies, paragraphs};

/// The archive; `DEBIAN` names another.
const ARCHIVE: &str = "http://deb.debian.org/debian";
/// A larger source is not fetched.
const LARGEST: u64 = 4_000_000;

/// How many of each kind.
const KINDS: [(Kind, usize); 5] =
    [(Kind::Cmake, 9), (Kind::Meson, 7), (Kind::Make, 14), (Kind::Python, 5), (Kind::Cargo, 5)];

/// What a package is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cmake,
    Meson,
    /// Autoconf, or make alone.
    Make,
    Python,
    /// Cargo and Go.
    Cargo,
}

/// One source package.
struct Source {
    name: String,
    kind: Kind,
    /// Below the archive.
    tarball: String,
    /// By Debian's names.
    wanted: BTreeSet<String>,
}

/// Prints the table.
pub fn measure() {
    let archive = std::env::var("DEBIAN").unwrap_or_else(|_| ARCHIVE.into());
    let work = tempfile::tempdir().expect("a temporary directory");
    let index = work.path().join("Sources.xz");
    let address = format!("{archive}/dists/bookworm/main/source/Sources.xz");
    assert!(fetch(&address, &index), "{address}");
    let text = Command::new("xz").arg("-dc").arg(&index).output().expect("there is xz").stdout;
    let text = String::from_utf8_lossy(&text);
    println!(
        "| source package | built with | Debian's `-dev` packages | found | missed | besides |"
    );
    println!("|---|---|---|---|---|---|");
    let (mut asked, mut right, mut said) = (0, 0, 0);
    let mut left = KINDS;
    for source in ordered(&text) {
        let of_kind = left.iter_mut().find(|(kind, left)| *kind == source.kind && *left > 0);
        let Some((_, left)) = of_kind else { continue };
        // What a mirror does not have is passed over.
        let Some(dir) = unpacked(&archive, &source, work.path()) else { continue };
        *left -= 1;
        let found = super::found(&Directory::new(&dir));
        let ours: BTreeSet<String> = found.spec.system.iter().map(|name| family(name)).collect();
        let theirs: BTreeSet<String> = source.wanted.iter().map(|name| family(name)).collect();
        let both = theirs.intersection(&ours).count();
        let missed: Vec<&str> = theirs.difference(&ours).map(String::as_str).collect();
        // Debian names programs among its dependencies too, which are not counted above.
        let besides: Vec<&str> =
            ours.difference(&theirs).map(String::as_str).filter(|n| is_library(n)).collect();
        println!(
            "| {} | {:?} | {} | {both} | {} | {} |",
            source.name,
            source.kind,
            theirs.len(),
            missed.join(", "),
            besides.join(", ")
        );
        asked += theirs.len();
        right += both;
        said += both + besides.len();
        std::fs::remove_dir_all(&dir).expect("it is ours");
    }
    let percent = |part: usize, whole: usize| 100.0 * part as f64 / whole.max(1) as f64;
    println!(
        "\nRecall {:.1} % ({right} of {asked}), precision {:.1} % ({right} of {said}).",
        percent(right, asked),
        percent(right, said)
    );
}

/// The packages, in the order of the hashes of their names.
fn ordered(text: &str) -> Vec<Source> {
    let mut all: Vec<Source> = paragraphs(text).filter_map(|p| source(&p)).collect();
    all.sort_by_key(|source| *blake3::hash(source.name.as_bytes()).as_bytes());
    all
}

fn source(paragraph: &Paragraph<'_>) -> Option<Source> {
    let name = paragraph.get("Package")?.to_owned();
    let all = ["Build-Depends", "Build-Depends-Arch"].map(|key| paragraph.get(key).unwrap_or(""));
    let all = all.join(", ");
    let first = dependencies(&all).into_iter().filter_map(|any| any.into_iter().next());
    let names: BTreeSet<String> = first.map(|one| one.name).collect();
    let has = |package: &str| names.contains(package);
    let kind = match () {
        _ if has("dh-cargo") || has("cargo") || has("dh-golang") => Kind::Cargo,
        _ if has("dh-python") => Kind::Python,
        _ if has("meson") => Kind::Meson,
        _ if has("cmake") => Kind::Cmake,
        _ => Kind::Make,
    };
    let wanted: BTreeSet<String> = names.into_iter().filter(|name| is_library(name)).collect();
    // Other languages' packages are -dev packages too.
    let foreign = [
        "haskell",
        "ocaml",
        "node-",
        "ruby",
        "r-",
        "lib32",
        "gcc-",
        "linux",
        "golang-github",
        "rust-",
    ];
    if wanted.is_empty() || foreign.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let mut tarball = None;
    for line in paragraph.get("Checksums-Sha256")?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, size, file] = words.as_slice() else { continue };
        if file.contains(".orig.tar.") && !file.ends_with(".asc") {
            tarball =
                Some(file.to_string()).filter(|_| size.parse().is_ok_and(|n: u64| n <= LARGEST));
        }
    }
    let tarball = format!("{}/{}", paragraph.get("Directory")?, tarball?);
    Some(Source { name, kind, tarball, wanted })
}

/// Whether a Debian package is a library of the system: no language's own packages, nothing
/// that every machine has.
fn is_library(name: &str) -> bool {
    let prefixes = [
        "python",
        "golang-",
        "librust-",
        "libghc-",
        "libc6",
        "dh-",
        "ruby",
        "libperl",
        "r-",
        "node-",
        "erlang",
        "libpython",
        "linux-libc",
        "libkf5",
        "php",
    ];
    let foreign = prefixes.iter().any(|prefix| name.starts_with(prefix));
    !foreign
        && (name.ends_with("-dev")
            || Table::built_in().by_debian(name).is_some()
            || Table::built_in().canonical(name).is_some())
}

/// The name under which packages of one library are counted as one.
fn family(name: &str) -> String {
    let plain = name.strip_suffix("-dev").unwrap_or(name);
    for (prefix, whole) in [
        ("libboost", "boost"),
        ("boost", "boost"),
        ("libncurses", "ncurses"),
        ("ncurses", "ncurses"),
        ("libreadline", "readline"),
        ("libgnutls", "gnutls"),
        ("libcurl4", "curl"),
        ("liblua", "lua"),
        ("libgdk-pixbuf", "gdk-pixbuf"),
        ("libjpeg", "libjpeg"),
        ("libdb", "berkeley-db"),
        ("libx11-", "x11"),
        ("libgl1", "mesa"),
        ("libgl-", "mesa"),
        ("libegl", "mesa"),
    ] {
        if plain.starts_with(prefix) {
            return whole.to_owned();
        }
    }
    Table::built_in()
        .canonical(name)
        .or_else(|| Table::built_in().by_debian(name))
        .unwrap_or(name)
        .to_owned()
}

/// The source as upstream published it: without `debian/`.
fn unpacked(archive: &str, source: &Source, work: &Path) -> Option<PathBuf> {
    let file = work.join("source.tar");
    if !fetch(&format!("{archive}/{}", source.tarball), &file) {
        return None;
    }
    let dir = work.join(&source.name);
    std::fs::create_dir(&dir).expect("it is ours");
    let mut tar = Command::new("tar");
    tar.args(["--strip-components=1", "--exclude=debian", "-xf"]).arg(&file).arg("-C").arg(&dir);
    assert!(tar.status().expect("there is tar").success(), "{}", source.tarball);
    Some(dir)
}

/// Whether there is such a file; then it is at `to`.
fn fetch(url: &str, to: &Path) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["-fsSL", "--retry", "3", "-o"]).arg(to).arg(url);
    curl.status().expect("there is curl").success()
}
