//! Templates of the catalogue and the lock: `{word}` is replaced by what is known for it,
//! some words when a lock is made, others when it is realised.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::lock::{Elf, Fixups, Shared};

/// Values for `{…}`. What has none stays as it is, for a later time.
#[derive(Debug, Clone, Default)]
pub struct Words(pub BTreeMap<String, String>);

impl Words {
    /// With one more word.
    pub fn with(&self, name: &str, value: &str) -> Words {
        let mut words = self.0.clone();
        words.insert(name.to_owned(), value.to_owned());
        Words(words)
    }

    /// `text` with every known word in its place.
    pub fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let value = rest.find('}').and_then(|end| Some((self.0.get(&rest[1..end])?, end)));
            match value {
                Some((value, end)) => {
                    out.push_str(value);
                    rest = &rest[end + 1..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out + rest
    }

    /// A list, each expanded.
    pub fn expand_all(&self, texts: &[String]) -> Vec<String> {
        texts.iter().map(|text| self.expand(text)).collect()
    }

    /// A table, keys and values expanded.
    pub fn expand_map(&self, map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        map.iter().map(|(k, v)| (self.expand(k), self.expand(v))).collect()
    }

    /// Every text of the fixups expanded.
    pub fn expand_fixups(&self, fixups: &Fixups) -> Fixups {
        let mut out = fixups.clone();
        out.exclude = self.expand_all(&fixups.exclude);
        out.merge = self.expand_map(&fixups.merge);
        out.links = self.expand_map(&fixups.links);
        out.lists = self.expand_all(&fixups.lists);
        out.executable = self.expand_all(&fixups.executable);
        out.elf = fixups.elf.as_ref().map(|elf| Elf {
            interpreter: self.expand(&elf.interpreter),
            libraries: self.expand_all(&elf.libraries),
            libc: elf.libc.clone(),
            shared: elf.shared.as_ref().map(|shared| Shared {
                directory: self.expand(&shared.directory),
                without: self.expand_all(&shared.without),
                more: self.expand_all(&shared.more),
            }),
        });
        for replace in &mut out.replace {
            replace.file = self.expand(&replace.file);
            replace.from = self.expand(&replace.from);
            replace.to = self.expand(&replace.to);
        }
        for write in &mut out.write {
            write.file = self.expand(&write.file);
            write.text = self.expand(&write.text);
        }
        for command in &mut out.run {
            *command = self.expand_all(command);
        }
        out
    }
}

/// A word that the shell takes as it is, whatever is in it.
pub(super) fn quote(text: &OsStr) -> Vec<u8> {
    let mut out = vec![b'\''];
    for byte in text.as_bytes() {
        match byte {
            b'\'' => out.extend(br"'\''"),
            byte => out.push(*byte),
        }
    }
    out.push(b'\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_words_wait() {
        let words = Words(BTreeMap::from([("a".into(), "1".into())]));
        assert_eq!(words.with("line", "3.11").expand("{a}{root}/{line}{"), "1{root}/3.11{");
    }
}
