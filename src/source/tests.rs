//! What is looked through before it is shown, with objects that git would not write.

use std::collections::{BTreeMap, BTreeSet};

use gix::ObjectId;
use gix::objs::{Kind, Write as _};

use super::survey::Survey;
use super::*;

/// A repository whose trees need not be what git writes.
pub(crate) struct Odd {
    pub dir: tempfile::TempDir,
    pub repo: gix::Repository,
}

impl Odd {
    pub fn new() -> Odd {
        let dir = tempfile::tempdir().unwrap();
        gix::init_bare(dir.path()).unwrap();
        let repo = bare::open(dir.path()).unwrap();
        Odd { dir, repo }
    }

    pub fn blob(&self, bytes: &[u8]) -> ObjectId {
        self.repo.objects.write_buf(Kind::Blob, bytes).unwrap()
    }

    pub fn raw(&self, bytes: &[u8]) -> ObjectId {
        self.repo.objects.write_buf(Kind::Tree, bytes).unwrap()
    }

    pub fn tree(&self, entries: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let entry = |(mode, name, id): &(&str, &[u8], ObjectId)| entry(mode, name, id);
        self.raw(&entries.iter().map(entry).collect::<Vec<_>>().concat())
    }

    /// A tree in a tree in a tree, `depth` of them below the root, each called `name`.
    fn chain(&self, depth: usize, name: &[u8]) -> ObjectId {
        let leaf = self.tree(&[("100644", b"f", self.blob(b"file"))]);
        (0..depth).fold(leaf, |below, _| self.tree(&[("40000", name, below)]))
    }

    fn survey(&self, root: ObjectId) -> Result<Survey, SourceError> {
        let survey = Survey::of_tree(&self.repo, "here", root)?;
        survey.check_links(&self.repo)?;
        Ok(survey)
    }

    #[track_caller]
    fn refused(&self, root: ObjectId, path: &str, why: &str) {
        match self.survey(root) {
            Err(SourceError::Refused { path: at, why: told, .. }) => {
                assert_eq!(at, path, "{told}");
                assert!(told.contains(why), "{told}");
            }
            Err(e) => panic!("{path}: {e}"),
            Ok(_) => panic!("{path}: it was not refused"),
        }
    }
}

fn entry(mode: &str, name: &[u8], id: &ObjectId) -> Vec<u8> {
    [mode.as_bytes(), b" ", name, b"\0", id.as_bytes()].concat()
}

#[test]
fn what_git_would_not_check_out_is_refused_by_its_path() {
    let odd = Odd::new();
    let file = odd.blob(b"file");
    let below = odd.tree(&[("100644", b"hooks", file)]);
    let long = [b'x'; 256];
    let names: [(&[u8], &str, &str); 9] = [
        (b"", "a/", "no name"),
        (b".", "a/.", "way"),
        (b"..", "a/..", "way"),
        (b"b/c", "a/b/c", "`/` inside"),
        (b".GiT", "a/.GiT", "git's own"),
        (b"git~1", "a/git~1", "git's own"),
        (".g\u{200c}it".as_bytes(), r"a/.g\u{200c}it", "git's own"),
        (b"\x1b[2J/", r"a/\u{1b}[2J/", "`/` inside"),
        (&long, &format!("a/{}…{}", "x".repeat(98), "x".repeat(100)), "255 bytes"),
    ];
    for (name, path, why) in names {
        for (mode, id) in [("100644", file), ("40000", below), ("120000", file)] {
            odd.refused(odd.tree(&[("40000", b"a", odd.tree(&[(mode, name, id)]))]), path, why);
        }
    }
    odd.refused(odd.tree(&[("120000", b".gitmodules", file)]), ".gitmodules", "settings");
    odd.survey(odd.tree(&[("100644", b".gitmodules", file)])).unwrap();
    for mode in ["0", "100", "10644", "20000", "60644", "140000", "104755", "1100644", "0100644"] {
        let root = odd.tree(&[(mode, b"f", file)]);
        assert!(matches!(odd.survey(root), Err(SourceError::Refused { .. })), "{mode}");
    }
    // What old versions of git wrote.
    for (mode, id) in [("100664", file), ("100600", file), ("040000", below)] {
        odd.survey(odd.tree(&[(mode, b"f", id)])).unwrap();
    }
}

#[test]
fn a_name_stands_in_a_tree_once_and_in_order() {
    let odd = Odd::new();
    let (file, below) = (odd.blob(b"file"), odd.tree(&[]));
    let twice = [("100644", &b"a"[..], file), ("100644", b"a", file)];
    odd.refused(odd.tree(&twice), "a", "twice");
    let both = [("100644", &b"a"[..], file), ("100644", b"a.c", file), ("40000", b"a", below)];
    odd.refused(odd.tree(&both), "a", "twice");
    let order = [("100644", &b"b"[..], file), ("100644", b"a", file)];
    odd.refused(odd.tree(&order), "a", "order");
    let order = [("40000", &b"a"[..], below), ("100644", b"a.c", file)];
    odd.refused(odd.tree(&order), "a.c", "order");
    odd.survey(odd.tree(&[("100644", b"a.c", file), ("40000", b"a", below)])).unwrap();
}

#[test]
fn a_tree_is_a_tree_and_what_its_hash_says() {
    let odd = Odd::new();
    let file = odd.blob(b"file");
    odd.refused(odd.tree(&[("40000", b"d", file)]), "d/", "is none");
    let cut = entry("100644", b"f", &file);
    odd.refused(odd.tree(&[("40000", b"d", odd.raw(&cut[..cut.len() - 1]))]), "d/", "be read");
    odd.refused(odd.raw(b"\0"), "/", "be read");
    // One that holds itself needs a file of the wrong name.
    let id = ObjectId::from_hex(b"00112233445566778899aabbccddeeff00112233").unwrap();
    let written = odd.tree(&[("40000", b"d", id)]).to_string();
    let objects = odd.dir.path().join("objects");
    let id = id.to_string();
    std::fs::create_dir(objects.join(&id[..2])).unwrap();
    let (from, to) =
        (format!("{}/{}", &written[..2], &written[2..]), format!("{}/{}", &id[..2], &id[2..]));
    std::fs::copy(objects.join(from), objects.join(to)).unwrap();
    odd.refused(ObjectId::from_hex(id.as_bytes()).unwrap(), "/", "hash");
}

#[test]
fn links_are_data_unless_no_disk_can_hold_them() {
    let odd = Odd::new();
    let link = |target: &[u8]| odd.tree(&[("120000", b"link", odd.blob(target))]);
    let longest = [b'x'; 4095];
    for target in [&b"/etc/passwd"[..], b"../../..", b"link", b".", b"a\nb\xff", &longest] {
        odd.survey(link(target)).unwrap();
    }
    odd.refused(link(b""), "link", "nothing");
    odd.refused(link(b"a\0b"), "link", "NUL");
    odd.refused(link(&[b'x'; 4096]), "link", "4,095");
    odd.refused(odd.tree(&[("120000", b"link", odd.tree(&[]))]), "link", "is none");
}

#[test]
fn paths_end_where_linux_ends_them() {
    let odd = Odd::new();
    odd.survey(odd.chain(2047, b"d")).unwrap();
    for (depth, name) in [(2048, &b"d"[..]), (5_000, b"d"), (40, &[b'x'; 255])] {
        match odd.survey(odd.chain(depth, name)) {
            Err(SourceError::Refused { why, .. }) => assert!(why.contains("4,095"), "{why}"),
            other => panic!("{depth}: {:?}", other.err()),
        }
    }
    // Each half is short where it was met first.
    let half = odd.chain(1100, b"d");
    let top = (0..1100).fold(half, |below, _| odd.tree(&[("40000", b"e", below)]));
    let root = odd.tree(&[("40000", b"a", half), ("40000", b"b", top)]);
    match odd.survey(root) {
        Err(SourceError::Refused { path, why, .. }) => {
            assert!(path.starts_with("b/e/e/") && path.ends_with("/d/d"), "{path}");
            assert!(why.contains("4,095"), "{why}");
        }
        other => panic!("{:?}", other.err()),
    }
}

/// Ten trees, each ten times in the next: ten thousand million paths in three kilobytes.
#[test]
fn what_stands_often_is_looked_at_once() {
    let odd = Odd::new();
    let bomb = |levels: usize, leaf: ObjectId| {
        (0..levels).fold(leaf, |below, _| {
            let names: Vec<String> = (0..10).map(|n| format!("d{n}")).collect();
            let entries = names.iter().map(|name| ("40000", name.as_bytes(), below));
            odd.tree(&entries.collect::<Vec<_>>())
        })
    };
    let leaf = odd.tree(&[("100644", b"f", odd.blob(b"file"))]);
    for leaf in [leaf, odd.tree(&[])] {
        match odd.survey(bomb(10, leaf)) {
            Err(SourceError::TooLarge { paths, .. }) => assert!(paths > 10_000_000_000, "{paths}"),
            other => panic!("{:?}", other.err()),
        }
        // More than any number can count.
        assert!(matches!(odd.survey(bomb(100, leaf)), Err(SourceError::TooLarge { .. })));
        odd.survey(bomb(6, leaf)).unwrap();
    }
}

/// What a hostile tree is made of: objects that are there, and what they are.
pub(crate) struct Parts {
    files: Vec<ObjectId>,
    links: Vec<ObjectId>,
    trees: Vec<ObjectId>,
    known: BTreeMap<ObjectId, Option<Vec<u8>>>,
}

/// What a tree that may be shown holds, by name: `d`, `f`, `x`, `l` or `m`, and its length.
pub(crate) type Shown = BTreeMap<Vec<u8>, (char, usize)>;

impl Parts {
    pub fn new(odd: &Odd) -> Parts {
        let blobs: [&[u8]; 8] =
            [b"file", b"longer", b"/etc/passwd", b"..", b"self", b"", b"a\0b", &[b'x'; 4096]];
        let ids = blobs.map(|bytes| odd.blob(bytes));
        let trees = vec![odd.tree(&[]), odd.tree(&[("100644", b"f", ids[0])])];
        let known = ids.into_iter().zip(blobs).map(|(id, bytes)| (id, Some(bytes.to_vec())));
        let known = known.chain(trees.iter().map(|id| (*id, None))).collect();
        Parts { files: ids[..2].to_vec(), links: ids[2..].to_vec(), trees, known }
    }

    /// A tree of a few entries, and then some bytes of it changed.
    pub fn mutant(&self, random: &mut Random) -> Vec<u8> {
        const NAMES: [&[u8]; 22] = [
            b"a",
            b"a.c",
            b"a0",
            b"b",
            b"link",
            b"z",
            b".gitignore",
            b".gitattributes",
            b"\xff",
            b"\xe2\x80\x8c",
            b"...",
            b".gi",
            b"git",
            b".gitmodules",
            b".git",
            b".GIT",
            b"git~1",
            b"..",
            b".",
            b"",
            b"a/b",
            b".git ",
        ];
        let mut entries = BTreeMap::new();
        for _ in 0..random.below(6) {
            let most = if random.below(4) == 0 { NAMES.len() } else { 14 };
            let name = NAMES[random.below(most)];
            let (modes, ids): (&[&str], _) = match random.below(4) {
                0 => (&["40000", "040000", "40000", "40000"], &self.trees),
                1 => (&["120000"], &self.links),
                _ => (&["100644", "100755", "100664", "160000"], &self.files),
            };
            let mode = modes[random.below(modes.len())];
            // Targets that cannot be are rare.
            let few = if random.below(8) == 0 { ids.len() } else { ids.len().min(3) };
            let slash = if mode.ends_with("40000") { &b"/"[..] } else { b"" };
            let id = ids[random.below(few)];
            entries.insert([name, slash].concat(), entry(mode, name, &id));
        }
        let mut bytes: Vec<u8> = entries.into_values().flatten().collect();
        if random.below(3) == 0 {
            return bytes;
        }
        for _ in 0..=random.below(2) {
            let at = random.below(bytes.len() + 1);
            let end = (at + random.below(30)).min(bytes.len());
            match random.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(at..end),
                2 => drop(bytes.drain(at..end)),
                3 => bytes.insert(at, b"\0/. 0147"[random.below(8)]),
                _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                _ => {}
            }
        }
        bytes
    }

    /// What `bytes` holds, if it may be shown: the rules once more, said in another way.
    pub fn model(&self, bytes: &[u8]) -> Option<Shown> {
        let (mut shown, mut keys, mut rest) = (Shown::new(), Vec::new(), bytes);
        while !rest.is_empty() {
            let space = rest.iter().position(|byte| *byte == b' ')?;
            let mode = std::str::from_utf8(&rest[..space]).ok()?;
            rest = &rest[space + 1..];
            let nul = rest.iter().position(|byte| *byte == 0)?;
            let name = &rest[..nul];
            let id = ObjectId::try_from(rest.get(nul + 1..nul + 21)?).unwrap();
            rest = &rest[nul + 21..];
            let octal = |digits: &str| digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
            let is_file = mode.len() == 6 && mode.starts_with("100") && octal(&mode[3..]);
            let target = self.known.get(&id);
            let (kind, length) = match (mode, target) {
                ("40000" | "040000", Some(None)) => ('d', 0),
                ("160000", _) => ('m', 0),
                ("120000", Some(Some(to))) if (1..4096).contains(&to.len()) => {
                    (!to.contains(&0)).then_some(('l', to.len()))?
                }
                (_, Some(Some(content))) if is_file => {
                    let is_program = (mode.as_bytes()[3] - b'0') & 1 == 1;
                    (if is_program { 'x' } else { 'f' }, content.len())
                }
                // The length of something that is no file is nothing to rely on.
                (_, Some(None)) if is_file => ('f', usize::MAX),
                _ => return None,
            };
            let lower = name.to_ascii_lowercase();
            let own: [&[u8]; 2] = [b".git", b"git~1"];
            let mut own = own.iter().filter_map(|own| lower.strip_prefix(*own));
            let is_own = |rest: &[u8]| {
                let end = rest.iter().position(|byte| !b" .".contains(byte));
                end.is_none_or(|end| rest[end] == b':')
            };
            let settings = lower == b".gitmodules" && kind == 'l';
            if name.is_empty() || name == b"." || name == b".." || settings || own.any(is_own) {
                return None;
            }
            if name.contains(&b'/') || name.len() > 255 {
                return None;
            }
            keys.push([name, if kind == 'd' { b"/" } else { b"" }].concat());
            shown.insert(name.to_vec(), (kind, length)).is_none().then_some(())?;
        }
        let sorted: BTreeSet<&Vec<u8>> = keys.iter().collect();
        keys.iter().eq(sorted).then_some(shown)
    }
}

/// Numbers that follow from a seed.
pub(crate) struct Random(blake3::OutputReader);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    pub fn below(&mut self, n: usize) -> usize {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes) as usize % n
    }
}

#[test]
fn mutated_trees_are_refused_or_what_they_seem() {
    let odd = Odd::new();
    let parts = Parts::new(&odd);
    let (mut shown, mut refused) = (0, 0);
    for seed in 0..4000 {
        let bytes = parts.mutant(&mut Random::new(seed));
        let expected = parts.model(&bytes);
        let root = odd.raw(&bytes);
        // Below something, where paths are made of more than a name.
        let root = odd.tree(&[("40000", b"top", root)]);
        let survey = odd.survey(root);
        let whole = survey.as_ref().is_ok_and(|survey| survey.missing.is_empty());
        let said = || survey.as_ref().map_or_else(ToString::to_string, |_| "taken".into());
        assert_eq!(whole, expected.is_some(), "{seed}: {}, {}", bytes.escape_ascii(), said());
        *if whole { &mut shown } else { &mut refused } += 1;
        if let Err(e) = survey {
            assert!(!e.to_string().contains(char::is_control), "{seed}: {e:?}");
        }
    }
    assert!(shown > 500 && refused > 500, "{shown} shown, {refused} refused");
}

#[test]
fn near_names() {
    let names = ["main", "mian", "release/1.0", "v1.0", "v1.0.1", "completely-else"];
    assert_eq!(nearest("mian", names.into_iter()), ["mian", "main"]);
    assert_eq!(nearest("1.0", names.into_iter()), ["release/1.0", "v1.0", "v1.0.1"]);
    assert_eq!(distance("kitten", "sitting"), 3);
    assert_eq!(distance("", "é"), 1);
}
