//! Where a tool's tree stands in the farm of this home, and what its texts mean there.

use std::path::{Path, PathBuf};

use super::elf;
use super::lock::{Elf, Tool};
use super::version::Version;
use super::words::Words;
use crate::context::Context;

/// One tool's place in the farm.
pub(super) struct Place<'a> {
    /// The tool.
    pub(super) tool: &'a Tool,
    /// Where its tree is, or will be.
    pub(super) root: PathBuf,
    /// Its name in the farm.
    pub(super) key: String,
    /// What texts of its lock mean here.
    pub(super) words: Words,
    /// The machine's own Nix has it.
    pub(super) native: bool,
}

impl<'a> Place<'a> {
    pub(super) fn new(ctx: &Context, words: &Words, tool: &'a Tool) -> Place<'a> {
        let flags = tool.fixups.elf.as_ref().map(|elf| loader_flags(words, elf));
        let flags = flags.unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._+".contains(c) { c } else { '_' };
        let name: String = tool.name.chars().chain(['_']).chain(tool.version.chars()).collect();
        // What is in a tree depends on where it is: paths in it are absolute.
        let place = ctx.home.root().as_os_str().as_encoded_bytes();
        let mut hasher = blake3::Hasher::new_derive_key("zagi 2026 farm tree of a tool v3");
        for piece in [tool.key().as_bytes(), flags.as_bytes(), place] {
            hasher.update(&(piece.len() as u64).to_le_bytes());
            hasher.update(piece);
        }
        let name: String = name.chars().map(plain).take(60).collect();
        let key = format!("{name}-{}", &hasher.finalize().to_hex()[..16]);
        let root = ctx.home.store().join("farm/trees").join(&key);
        let text = root.display().to_string();
        let literal = text.replace('\\', r"\\").replace('\'', r"\'");
        let words = words.with("root", &text).with("root-literal", &literal);
        // The flags hold the root themselves.
        let flags = words.expand(&flags.replace("{root}", &text.replace('\'', r"'\''")));
        Place { tool, root, key, words: words.with("loader-flags", &flags), native: false }
    }

    /// The directory that paths in the lock are relative to.
    pub(super) fn files(&self) -> &Path {
        if self.native { Path::new("/") } else { &self.root }
    }

    /// Whether anything is fetched for it.
    pub(super) fn has_tree(&self) -> bool {
        !self.tool.parts.is_empty() && !self.native
    }

    /// Whether its tree has to be built.
    pub(super) fn is_missing(&self) -> bool {
        self.has_tree() && !self.root.is_dir()
    }

    /// Whether its programs must be shown a store.
    pub(super) fn is_viewed(&self) -> bool {
        self.tool.is_of_nix() && !self.native
    }
}

/// What a compiler must say so that what it makes can run here. Nothing, where the machine's
/// own C library is at least as new as the one that is compiled against: then programs run
/// on other machines too. Else they get the loader and libraries of the compiler's tree.
fn loader_flags(words: &Words, elf: &Elf) -> String {
    let needed = elf.libc.as_deref().and_then(|libc| Version::parse(libc).ok());
    let machine = words.expand("{machine-libraries}");
    let here = |name: &str| {
        machine.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
    };
    let own = here("libc.so.6")
        .and_then(|path| std::fs::read(path).ok())
        .and_then(|bytes| elf::highest_symbol_version(&bytes, "GLIBC_"))
        .map(|numbers| Version::from_numbers(&numbers));
    let loader = Path::new(&words.expand("{machine-loader}")).exists();
    let enough = own.zip(needed).is_some_and(|(own, needed)| own >= needed);
    if loader && enough && here("libstdc++.so.6").is_some() {
        return String::new();
    }
    let mut flags = format!("-Xlinker '--dynamic-linker={{root}}/{}'", elf.interpreter);
    for dir in &elf.libraries {
        flags.push_str(&format!(" -Xlinker '-rpath={{root}}/{dir}'"));
    }
    flags + " -Xlinker --disable-new-dtags"
}
