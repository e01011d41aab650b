//! Golden vectors, which pin the format for ever; round trips of random values; and no byte
//! of anything can change without being noticed.

mod golden;
mod properties;

use fastcdc::v2020::FastCDC;

use super::content::{BINARY, Links, Parameters, Recipe, TEXT};
use super::delta::{Delta, Piece};
use super::pack::{self, Codec, FRAME_HEADER, Footer, Frame, FrameHeader, HEADER, Record};
use super::tree::{self, Entry, Kind};
use super::*;

/// Random bytes that are the same for the same seed: the output of BLAKE3.
struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: u64) -> Random {
        Random(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill(&mut bytes);
        bytes
    }
    fn below(&mut self, n: u32) -> u32 {
        u32::from_le_bytes(self.array()) % n
    }
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill(&mut bytes);
        bytes
    }
    fn name(&mut self) -> Box<[u8]> {
        let length = 1 + self.below(20) as usize;
        let byte = |b: &u8| if matches!(b, b'/' | 0 | b'.') { b'x' } else { *b };
        self.bytes(length).iter().map(byte).collect()
    }
    fn entries(&mut self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = (0..self.below(30))
            .map(|_| Entry {
                name: self.name(),
                kind: match self.below(4) {
                    0 | 1 => Kind::File {
                        exec: self.below(2) == 0,
                        id: FileId::from_bytes(self.array()),
                        size: u64::from_le_bytes(self.array()),
                    },
                    2 => Kind::Directory(TreeId::from_bytes(self.array())),
                    _ => Kind::Symlink(self.name()),
                },
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.name == b.name);
        entries
    }
}

fn sample() -> Vec<Entry> {
    let file = |name: &[u8], exec, content: &[u8]| Entry {
        name: name.into(),
        kind: Kind::File { exec, id: FileId::of(content), size: content.len() as u64 },
    };
    let (empty, _) = tree::encode(&[]).unwrap();
    vec![
        file(b"a", false, b"hello\n"),
        Entry { name: b"dir".as_slice().into(), kind: Kind::Directory(empty) },
        Entry { name: b"link".as_slice().into(), kind: Kind::Symlink(b"../a".as_slice().into()) },
        file(b"run\xff", true, b""),
    ]
}

#[test]
fn golden_file_ids() {
    // As `b3sum` prints them.
    let ids = [b"".as_slice(), b"hello\n"].map(|content| FileId::of(content).to_string());
    assert_eq!(
        ids,
        [
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
            "8e4c7c1b99dbfd50e7a95185fead5ee1448fa904a2fdd778eaf5f2dbfd629a99",
        ]
    );
}

#[test]
fn golden_tree_ids_and_record() {
    let (empty, record) = tree::encode(&[]).unwrap();
    assert_eq!(
        empty.to_string(),
        "312675eef46afc959dcb09c9089dadf978ed918fc6b4d51c80132827dbffc78e"
    );
    assert_eq!(record, [1, 0, 0, 0, 0, 0, 0, 0]);
    let (id, record) = tree::encode(&sample()).unwrap();
    assert_eq!(id.to_string(), "f04ce168bd926e3e96c853972a894144af8e0201488c07260ec0927d1b9013de");
    assert_eq!(record[..8], [1, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(&record[8..16], b"\x01\x03\x04\x02\x01\x03\x04\x04");
    assert_eq!(&record[16..28], b"adirlinkrun\xff");
    assert_eq!(&record[28..44], [[6, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat());
    assert_eq!(&record[44..76], FileId::of(b"hello\n").as_bytes());
    assert_eq!(&record[140..], b"\x04\x00../a");
}

fn cuts(parameters: Parameters, content: &[u8]) -> Vec<usize> {
    let (mut lengths, mut rest) = (Vec::new(), content);
    while !rest.is_empty() {
        let length = parameters.cut(rest);
        lengths.push(length);
        rest = &rest[length..];
    }
    lengths
}

#[test]
fn golden_cut_points() {
    let content = Random::new(2020).bytes(600_001);
    assert_eq!(cuts(BINARY, &content), [67396, 50256, 87660, 157846, 69741, 65593, 13246, 88263]);
    assert_eq!(
        cuts(TEXT, &content[..150_001]),
        [2064, 28756, 20111, 16465, 27745, 22284, 22588, 3221, 6767]
    );
    assert_eq!(cuts(BINARY, &[0; 600_000]), [262_144, 262_144, 75_712]);
}

#[test]
fn cut_points_are_those_of_the_published_algorithm() {
    for (seed, Parameters { min, average, max }) in [(1, TEXT), (2, BINARY)] {
        let content = Random::new(seed).bytes(2_000_000);
        let theirs: Vec<_> =
            FastCDC::new(&content, min, average, max).map(|chunk| chunk.length).collect();
        assert_eq!(cuts(Parameters { min, average, max }, &content), theirs);
        assert!([min, average, max].iter().all(|size| size % 2 == 0));
    }
}

#[test]
fn text_is_what_has_no_nul_near_its_beginning() {
    let mut content = vec![b'a'; 40_000];
    assert_eq!(Parameters::for_file(&content), TEXT);
    content[8 << 10] = 0;
    assert_eq!(Parameters::for_file(&content), TEXT);
    content[(8 << 10) - 1] = 0;
    assert_eq!(Parameters::for_file(&content), BINARY);
}

#[test]
fn random_trees_round_trip_and_no_byte_of_them_may_change() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let entries = random.entries();
        let (id, record) = tree::encode(&entries).unwrap();
        assert_eq!(tree::decode(&id, &record), Ok(entries.clone()), "seed {seed}");

        let sizes =
            8 + entries.len() * 2 + entries.iter().map(|entry| entry.name.len()).sum::<usize>();
        let files = entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count();
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 1 << (at % 8);
            // Sizes are no part of the id: the frame's hash keeps them.
            let is_size = (sizes..sizes + 8 * files).contains(&at);
            assert_eq!(tree::decode(&id, &changed).is_ok(), is_size, "seed {seed}, byte {at}");
            assert!(tree::decode(&id, &record[..at]).is_err(), "seed {seed}, cut at {at}");
        }
        let longer = [&record[..], b"x"].concat();
        assert!(tree::decode(&id, &longer).is_err(), "seed {seed}");
    }
}

#[test]
fn hostile_names_and_targets_are_refused() {
    let long = [b'x'; 256];
    for name in [b"".as_slice(), b".", b"..", b"a/b", b"/", b"a\0b", &long] {
        let entry = Entry { name: name.into(), kind: Kind::Symlink(b"t".as_slice().into()) };
        assert!(tree::encode(&[entry]).is_err(), "{}", name.escape_ascii());
    }
    for target in [b"".as_slice(), b"a\0b", &[b'x'; 4096]] {
        let entry = Entry { name: b"l".as_slice().into(), kind: Kind::Symlink(target.into()) };
        assert!(tree::encode(&[entry]).is_err(), "{}", target.escape_ascii());
    }
    let mut unordered = sample();
    unordered.swap(0, 1);
    assert!(tree::encode(&unordered).is_err());
    let twice = vec![sample()[0].clone(), sample()[0].clone()];
    assert!(tree::encode(&twice).is_err());

    // The same in a record that was made by somebody else.
    let (id, record) = tree::encode(&sample()).unwrap();
    for (at, byte) in [(16, b'/'), (16, 0), (16, b'.'), (16, b'z'), (8, 9)] {
        let mut changed = record.clone();
        changed[at] = byte;
        let refused = matches!(
            tree::decode(&id, &changed),
            Err(FormatError::Invalid { .. } | FormatError::Truncated { .. })
        );
        assert!(refused, "{at} {byte}");
    }
}

#[test]
fn recipes_and_links_round_trip_and_are_bounded() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let chunks = (0..random.below(20))
            .map(|_| (1 + random.below(256 << 10), FileId::from_bytes(random.array())))
            .collect();
        let recipe = Recipe { chunks };
        let record = recipe.encode().unwrap();
        assert_eq!(Recipe::decode(&record), Ok(recipe), "seed {seed}");
        for end in 0..record.len() {
            assert!(Recipe::decode(&record[..end]).is_err(), "seed {seed}, cut at {end}");
        }

        let groups = (0..random.below(4)).map(|_| {
            let mut paths: Vec<_> = (0..2 + random.below(3))
                .map(|n| {
                    [&random.name(), b"/".as_slice(), &n.to_le_bytes().map(|b| b + 1)].concat()
                })
                .map(Vec::into_boxed_slice)
                .collect();
            paths.sort();
            paths
        });
        let links = Links { groups: groups.collect() };
        let record = links.encode().unwrap();
        assert_eq!(Links::decode(&record), Ok(links), "seed {seed}");
        for end in 0..record.len() {
            assert!(Links::decode(&record[..end]).is_err(), "seed {seed}, cut at {end}");
        }
    }
    // A count that would need far more memory than there are bytes.
    let huge = [1u32.to_le_bytes(), u32::MAX.to_le_bytes()].concat();
    assert_eq!(Links::decode(&huge), Err(FormatError::Truncated { what: "a list of hard links" }));
    let climbing = Links { groups: vec![vec![b"../a".as_slice().into(), b"b".as_slice().into()]] };
    assert!(Links::decode(&climbing.encode().unwrap()).is_err());
}

fn frame_of(raw: &[u8]) -> Vec<u8> {
    pack::encode_frame(raw, &mut pack::compressor(3).unwrap()).unwrap()
}

/// A pack of two frames, one of which compresses.
fn sample_pack() -> (Vec<u8>, Footer, Vec<Vec<u8>>) {
    let contents = [Random::new(1).bytes(300), b"abc".repeat(200)];
    let mut bytes = pack::header().to_vec();
    let mut footer = Footer::default();
    for (no, raw) in contents.iter().enumerate() {
        let frame = frame_of(raw);
        let stored = (frame.len() - FRAME_HEADER) as u32;
        let offset = bytes.len() as u64;
        footer.frames.push(Frame { offset, stored, raw: raw.len() as u32 });
        let id = RecordId::data(&FileId::of(raw));
        let length = raw.len() as u32;
        footer.records.push(Record { id, frame: no as u32, offset: 0, length });
        bytes.extend(frame);
    }
    let end = bytes.len() as u64;
    bytes.extend(footer.encode(end));
    (bytes, footer, contents.to_vec())
}

/// All that a reader may do with a pack, given its bytes.
fn read_pack(bytes: &[u8]) -> Result<(Footer, Vec<Vec<u8>>), FormatError> {
    let truncated = FormatError::Truncated { what: "a pack" };
    pack::check_header(bytes.get(..HEADER).ok_or(truncated.clone())?)?;
    let size = bytes.len() as u64;
    let at = bytes.len().checked_sub(pack::TRAILER).ok_or(truncated.clone())?;
    let tail = Footer::tail_offset(&bytes[at..], size)?;
    let (footer, whole) = Footer::decode(bytes.get(tail as usize..).ok_or(truncated)?)?;
    assert_eq!(whole, size);
    let mut contents = Vec::new();
    for frame in &footer.frames {
        let (at, end) = (frame.offset as usize, tail as usize);
        let header = FrameHeader::decode(&bytes[at..at + FRAME_HEADER])?;
        let start = at + FRAME_HEADER;
        let stored = bytes.get(start..start + header.stored as usize);
        let stored = stored.ok_or(FormatError::Truncated { what: "a frame" })?;
        assert!(start <= end);
        contents.push(header.decode_body(stored.to_vec())?);
    }
    Ok((footer, contents))
}

#[test]
fn packs_round_trip() {
    let (bytes, footer, contents) = sample_pack();
    assert_eq!(read_pack(&bytes), Ok((footer, contents)));
}

#[test]
fn golden_pack_of_one_raw_frame() {
    let frame = frame_of(b"hello\n");
    assert_eq!(frame[4], Codec::Raw as u8);
    let footer = Footer {
        frames: vec![Frame { offset: 16, stored: 6, raw: 6 }],
        records: vec![Record {
            id: RecordId::data(&FileId::of(b"hello\n")),
            frame: 0,
            offset: 0,
            length: 6,
        }],
    };
    let end = (HEADER + frame.len()) as u64;
    let bytes = [&pack::header()[..], &frame, &footer.encode(end)].concat();
    assert_eq!(
        blake3::hash(&bytes).to_hex().as_str(),
        "6a5be783f9677e0eabfe1e066e4f68e028a33875429ff1afea41cca95133e078"
    );
}

#[test]
fn no_byte_of_a_pack_may_change_and_none_may_be_missing() {
    let (bytes, ..) = sample_pack();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            assert!(read_pack(&changed).is_err(), "bit {bit} of byte {at}");
        }
        assert!(read_pack(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn newer_versions_are_refused_by_name() {
    let newer = |what| FormatError::Newer { what, found: 2 };
    let (mut bytes, ..) = sample_pack();
    bytes[8] = 2;
    assert_eq!(read_pack(&bytes), Err(newer("a pack's header")));
    bytes[8] = 1;
    let version = bytes.len() - pack::TRAILER + 8;
    bytes[version] = 3;
    let trailer = FormatError::Newer { what: "a pack's trailer", found: 3 };
    assert_eq!(read_pack(&bytes), Err(trailer));

    let (id, mut record) = tree::encode(&sample()).unwrap();
    record[0] = 2;
    assert_eq!(tree::decode(&id, &record), Err(newer("a tree")));
    assert_eq!(Recipe::decode(&[2, 0, 0, 0]), Err(newer("a chunk list")));
    assert_eq!(Links::decode(&[2, 0, 0, 0]), Err(newer("a list of hard links")));
    assert_eq!(Delta::decode(&[2, 0, 0, 0]), Err(newer("a delta")));
}

#[test]
fn a_pack_with_a_delta_says_so_where_version_1_looks() {
    let (_, mut footer, _) = sample_pack();
    let end = 16 + footer.frames.iter().map(|frame| 48 + u64::from(frame.stored)).sum::<u64>();
    let plain = footer.encode(end);
    footer.records[0].id.kind = RecordKind::Delta;
    let mut tail = footer.encode(end);
    let version = tail.len() - pack::TRAILER + 8;
    assert_eq!((plain[version], tail[version]), (1, 2));
    assert_eq!(Footer::decode(&tail).unwrap().0, footer);

    // Deltas in a pack that says that there are none.
    tail[version] = 1;
    let hashed = tail.len() - 40;
    let hash = *blake3::hash(&tail[..hashed]).as_bytes();
    tail[hashed..hashed + 32].copy_from_slice(&hash);
    assert!(matches!(Footer::decode(&tail), Err(FormatError::Invalid { .. })));
}

#[test]
fn a_frame_that_lies_about_its_length_is_not_decoded() {
    // 64 MB of zeroes in a frame that claims to hold 100 bytes, its hash being right.
    let mut frame = frame_of(&vec![0; MAX_RECORD]);
    frame[12..16].copy_from_slice(&100u32.to_le_bytes());
    let stored = frame[FRAME_HEADER..].to_vec();
    let hash = blake3::Hasher::new().update(&frame[..16]).update(&stored).finalize();
    frame[16..48].copy_from_slice(hash.as_bytes());
    let header = FrameHeader::decode(&frame[..FRAME_HEADER]).unwrap();
    assert!(matches!(header.decode_body(stored), Err(FormatError::Invalid { .. })));
    // The next one is decoded by the same context.
    let sound = frame_of(&b"abc".repeat(200));
    let header = FrameHeader::decode(&sound[..FRAME_HEADER]).unwrap();
    assert_eq!(header.decode_body(sound[FRAME_HEADER..].to_vec()), Ok(b"abc".repeat(200)));

    let over = (MAX_RECORD as u32 + 1).to_le_bytes();
    frame[12..16].copy_from_slice(&over);
    let refused = FrameHeader::decode(&frame[..FRAME_HEADER]);
    assert!(matches!(refused, Err(FormatError::TooLong { .. })));
}

#[test]
fn random_bytes_are_refused_without_a_panic() {
    for seed in 0..2_000 {
        let mut random = Random::new(seed);
        let length = random.below(400) as usize;
        let mut bytes = random.bytes(length);
        // So that more than the version is looked at.
        if seed % 2 == 0 && length >= 4 {
            bytes[..4].copy_from_slice(&VERSION.to_le_bytes());
        }
        assert!(tree::decode(&TreeId::from_bytes([0; 32]), &bytes).is_err(), "seed {seed}");
        assert!(Footer::decode(&bytes).is_err(), "seed {seed}");
        assert!(FrameHeader::decode(&bytes).is_err(), "seed {seed}");
        // A few of these may be sound by chance; none may panic.
        let _ = (Recipe::decode(&bytes), Links::decode(&bytes));
    }
}

#[test]
fn ids_are_read_as_they_are_written() {
    let id = FileId::of(b"x");
    assert_eq!(id.to_string().parse(), Ok(id));
    for text in ["", "abc", &"g".repeat(64), &"a".repeat(65)] {
        assert!(text.parse::<TreeId>().is_err(), "{text}");
    }
}
