//! What holds of every value and of any bytes. Values come from a seeded generator that the
//! tests have anyway: a case is its seed, and each is small enough to be looked at, so a
//! library that shrinks them would bring more code than it saves.

use super::super::delta::{self, MAX_PART, MAX_PIECE};
use super::super::root::{Root, Sort};
use super::*;

impl Random {
    fn id(&mut self) -> FileId {
        FileId::from_bytes(self.array())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
    fn recipe(&mut self) -> Recipe {
        let chunks = 0..self.below(20);
        Recipe { chunks: chunks.map(|_| (1 + self.below(256 << 10), self.id())).collect() }
    }
    fn links(&mut self) -> Links {
        let mut group = || {
            let mut paths: Vec<Box<[u8]>> = (0..2 + self.below(3))
                .map(|n| [&self.name()[..], b"/", n.to_string().as_bytes()].concat().into())
                .collect();
            paths.sort();
            paths
        };
        let first = group();
        let second = group();
        Links {
            groups: [vec![], vec![first.clone()], vec![first, second]][self.below(3) as usize]
                .clone(),
        }
    }
    fn delta(&mut self) -> Delta {
        let base_size = 1 + self.u64() % (1 << 40);
        let (mut begin, mut end) = (0, 0);
        let mut patches = Vec::new();
        let mut piece = || {
            begin += u64::from(self.below(1000)).min(base_size - begin);
            end = (begin.max(end) + u64::from(self.below(1000))).min(base_size);
            let patch = self.below(30);
            patches.extend(self.bytes(patch as usize));
            let (part, length) = ((end - begin) as u32, 1 + self.below(MAX_PIECE as u32));
            Piece { offset: begin, part, length, patch }
        };
        let pieces = [piece(), piece(), piece()][..].to_vec();
        Delta { base: self.id(), base_size, pieces, patches }
    }
    fn root(&mut self) -> (Sort, Root) {
        let characters = ['a', '/', ' ', '\r', 'é', '\0', '%', '字', '\u{2028}'];
        let name = (0..1 + self.below(30)).map(|_| characters[self.below(9) as usize]).collect();
        let until = (self.below(2) == 0).then(|| self.u64() as i64);
        let sort = if until.is_some() { Sort::Lease } else { Sort::Ref };
        (sort, Root { name, tree: TreeId::from_bytes(self.array()), until })
    }
    /// A pack and what is in it.
    fn pack(&mut self) -> (Vec<u8>, Footer, Vec<Vec<u8>>) {
        let (mut bytes, mut footer) = (pack::header().to_vec(), Footer::default());
        let mut contents = Vec::new();
        for no in 0..self.below(4) {
            let mut raw = Vec::new();
            for _ in 0..1 + self.below(4) {
                let kind = RecordKind::from_u8(1 + self.below(5) as u8).unwrap();
                let (offset, length) = (raw.len() as u32, self.below(300));
                let id = RecordId { kind, id: self.array() };
                footer.records.push(Record { id, frame: no, offset, length });
                let noise = self.bytes(length as usize);
                raw.extend(if self.below(2) == 0 { noise } else { vec![b'a'; length as usize] });
            }
            let frame = frame_of(&raw);
            let (offset, stored) = (bytes.len() as u64, (frame.len() - FRAME_HEADER) as u32);
            footer.frames.push(Frame { offset, stored, raw: raw.len() as u32 });
            bytes.extend(frame);
            contents.push(raw);
        }
        bytes.extend(footer.encode(bytes.len() as u64));
        (bytes, footer, contents)
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let (recipe, links, delta) = (random.recipe(), random.links(), random.delta());
        assert_eq!(Recipe::decode(&recipe.encode().unwrap()), Ok(recipe), "seed {seed}");
        assert_eq!(Links::decode(&links.encode().unwrap()), Ok(links), "seed {seed}");
        assert_eq!(Delta::decode(&delta.encode().unwrap()), Ok(delta), "seed {seed}");
        let (sort, root) = random.root();
        assert_eq!(sort.decode(sort.encode(&root).as_bytes()), Ok(root), "seed {seed}");
        let (bytes, footer, contents) = random.pack();
        assert_eq!(read_pack(&bytes), Ok((footer, contents)), "seed {seed}");
    }
}

#[test]
fn there_is_one_encoding_of_everything() {
    // Whatever is decoded at all is encoded to the same bytes.
    for_damaged(|kind, bytes| {
        let again = match kind {
            0 => Recipe::decode(bytes).ok().map(|value| value.encode().unwrap()),
            1 => Links::decode(bytes).ok().map(|value| value.encode().unwrap()),
            2 => Delta::decode(bytes).ok().map(|value| value.encode().unwrap()),
            3 => Sort::Ref.decode(bytes).ok().map(|value| Sort::Ref.encode(&value).into()),
            4 => Sort::Lease.decode(bytes).ok().map(|value| Sort::Lease.encode(&value).into()),
            _ => return,
        };
        assert!(again.is_none_or(|again| again == bytes), "{kind} {}", bytes.escape_ascii());
    });
}

/// Encoded values with a byte changed, an integer made huge, an end cut off, or two spliced.
fn for_damaged(check: impl Fn(u32, &[u8])) {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let lease = Root { name: "n".into(), tree: TreeId::from_bytes([1; 32]), until: Some(5) };
        let refs = Root { until: None, ..lease.clone() };
        let sound = [
            random.recipe().encode().unwrap(),
            random.links().encode().unwrap(),
            random.delta().encode().unwrap(),
            Sort::Ref.encode(&refs).into_bytes(),
            Sort::Lease.encode(&lease).into_bytes(),
            tree::encode(&random.entries()).unwrap().1,
            random.pack().0,
        ];
        for (kind, bytes) in (0..).zip(&sound) {
            for _ in 0..200 {
                let mut bytes = bytes.clone();
                let at = random.below(bytes.len() as u32) as usize;
                match random.below(4) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes.truncate(at),
                    2 => {
                        let other = &sound[random.below(sound.len() as u32) as usize];
                        bytes.splice(at.., other[at.min(other.len())..].iter().copied());
                    }
                    _ => {
                        let huge = [u32::MAX, i32::MAX as u32, 1 << 30, 1 << 24];
                        let huge = huge[random.below(4) as usize].to_le_bytes();
                        let end = (at + 4).min(bytes.len());
                        bytes[at..end].copy_from_slice(&huge[..end - at]);
                    }
                }
                check(kind, &bytes);
            }
        }
    }
}

/// Every reader there is, on the same bytes.
fn read_as_anything(bytes: &[u8]) {
    let _ = (Recipe::decode(bytes), Links::decode(bytes), Sort::Ref.decode(bytes));
    let _ = (Sort::Lease.decode(bytes), Footer::decode(bytes), Footer::tail_offset(bytes, 1 << 40));
    let _ = tree::decode(&TreeId::from_bytes([0; 32]), bytes);
    let _ = pack::check_header(bytes);
    if let Ok(delta) = Delta::decode(bytes) {
        assert!(delta.pieces.iter().all(|piece| piece.part as usize <= MAX_PART));
        for (piece, patch) in delta.patches() {
            let _ = piece.apply(bytes, patch);
        }
    }
    if let Some((header, stored)) = bytes.split_at_checked(FRAME_HEADER)
        && let Ok(header) = FrameHeader::decode(header)
    {
        let _ = header.decode_body(stored.to_vec());
    }
    if bytes.len() >= HEADER + pack::TRAILER {
        let _ = read_pack(bytes);
    }
}

#[test]
fn no_bytes_make_a_reader_panic_or_take_much_memory() {
    const CHILD: &str = "ZAGI_TEST_WITH_LITTLE_MEMORY";
    if std::env::var_os(CHILD).is_some() {
        for_damaged(|_, bytes| read_as_anything(bytes));
        return;
    }
    // Once more in a process that is killed if it asks for more than a few of the longest
    // records there may be: lengths of gigabytes stand in what it reads.
    let program = std::env::current_exe().unwrap();
    let name = "no_bytes_make_a_reader_panic_or_take_much_memory";
    let path = format!("{}::{name}", module_path!().split_once("::").unwrap().1);
    let done = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 600000; exec \"$0\" --exact \"$1\" --test-threads 1"])
        .arg(program)
        .arg(path)
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && text.contains("1 passed"), "{done:?}");
}

#[test]
fn cut_points_do_not_depend_on_buffers() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let length = random.below(1_500_000) as usize;
        let mut content = random.bytes(length);
        // Some of it repeats, so that cuts fall elsewhere than in noise.
        if seed % 2 == 0 {
            content.iter_mut().step_by(3).for_each(|byte| *byte = 0);
        }
        for parameters in [TEXT, BINARY] {
            let mut at = 0;
            while at < content.len() {
                let rest = &content[at..];
                let cut = parameters.cut(rest);
                for _ in 0..3 {
                    let seen = parameters.max + random.below(parameters.max as u32) as usize;
                    let seen = &rest[..seen.min(rest.len())];
                    assert_eq!(parameters.cut(seen), cut, "seed {seed}, at {at}");
                    // Nor on where the bytes are.
                    let moved = [&[0], seen].concat();
                    assert_eq!(parameters.cut(&moved[1..]), cut, "seed {seed}, at {at}");
                }
                at += cut;
            }
        }
    }
}

#[test]
fn a_plan_covers_the_content_and_goes_forward_in_the_base() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let most = [1 << 10, 3 << 20, 200 << 20, u32::MAX][random.below(4) as usize];
        let size = 1 + u64::from(random.below(most));
        let base_size =
            size / 2 + u64::from(random.below(size as u32)) + u64::from(random.below(9));
        let Some(pieces) = delta::plan(base_size, size) else {
            assert!(size > 2 * base_size || base_size > 2 * size, "seed {seed}");
            continue;
        };
        // The bounds are those of the reader.
        let delta = Delta { base: random.id(), base_size, pieces, patches: Vec::new() };
        assert_eq!(delta.size(), size, "seed {seed}");
        assert_eq!(Delta::decode(&delta.encode().unwrap()), Ok(delta), "seed {seed}");
    }
}

#[test]
fn pieces_come_out_of_their_patches() {
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let length = random.below(300_000) as usize;
        let base = random.bytes(length);
        let mut content = base.clone();
        for _ in 0..random.below(5) {
            let at = random.below(content.len() as u32 + 1) as usize;
            let end = (at + random.below(5000) as usize).min(content.len());
            let length = random.below(5000) as usize;
            content.splice(at..end, random.bytes(length));
        }
        if content.is_empty() {
            continue;
        }
        let patch = delta::make_patch(&base, &content).unwrap();
        let piece = |length| Piece { offset: 0, part: 0, length, patch: 0 };
        let length = content.len() as u32;
        assert_eq!(piece(length).apply(&base, &patch).unwrap(), content, "seed {seed}");
        assert!(piece(length - 1).apply(&base, &patch).is_err(), "seed {seed}");
        assert!(piece(length + 1).apply(&base, &patch).is_err(), "seed {seed}");
    }
}

#[test]
fn what_the_fuzzers_begin_with_is_sound() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let seeds = |target: &str| {
        let seeds = std::fs::read_dir(corpus.join(target)).unwrap();
        seeds.map(|seed| std::fs::read(seed.unwrap().path()).unwrap()).collect::<Vec<_>>()
    };
    assert!(seeds("recipe").iter().all(|bytes| Recipe::decode(bytes).is_ok()));
    assert!(seeds("links").iter().all(|bytes| Links::decode(bytes).is_ok()));
    assert!(seeds("delta").iter().all(|bytes| Delta::decode(bytes).is_ok()));
    assert!(seeds("pack").iter().all(|bytes| read_pack(bytes).is_ok()));
    let is_root = |bytes: &Vec<u8>| Sort::Ref.decode(bytes).or(Sort::Lease.decode(bytes)).is_ok();
    assert!(seeds("root").iter().all(is_root));
    // A tree's id is not in its record: it must be the only thing that is missed.
    let nothing = TreeId::from_bytes([0; 32]);
    let unnamed = Err(FormatError::Hash { what: "a tree" });
    assert!(seeds("tree").iter().all(|bytes| tree::decode(&nothing, bytes) == unnamed));
}
