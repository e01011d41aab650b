//! What the format was in the first release that had it. A change here is a new version.

use super::super::content::WHOLE_BELOW;
use super::super::root::{Root, Sort};
use super::*;

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Text as programs write it: lines of words, indented.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut text = Vec::with_capacity(length + 64);
    while text.len() < length {
        text.extend(b"  ".repeat(random.below(5) as usize));
        for _ in 0..1 + random.below(8) {
            text.extend(format!("word{} ", random.below(300)).bytes());
        }
        text.push(b'\n');
    }
    text.truncate(length);
    text
}

/// What an executable looks like: runs of zeros, of repeated words and of noise.
fn binary(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = vec![0; 16];
    while bytes.len() < length {
        let run = 1 + random.below(9000) as usize;
        match random.below(3) {
            0 => bytes.resize(bytes.len() + run, 0),
            1 => bytes.extend(random.array::<8>().iter().cycle().take(run)),
            _ => bytes.extend(random.bytes(run)),
        }
    }
    bytes.truncate(length);
    bytes
}

fn cut(content: &[u8]) -> Vec<usize> {
    cuts(Parameters::for_file(content), content)
}

#[test]
fn cut_points_of_text() {
    let content = text(7, 200_001);
    assert_eq!(Parameters::for_file(&content), TEXT);
    assert_eq!(
        cut(&content),
        [
            5213, 2190, 22570, 29999, 20965, 16781, 11935, 8570, 2304, 14575, 19945, 19108, 17139,
            8707
        ]
    );
}

#[test]
fn cut_points_of_a_binary() {
    let content = binary(8, 900_000);
    assert_eq!(Parameters::for_file(&content), BINARY);
    assert_eq!(cut(&content), [69352, 126469, 262144, 146472, 91317, 28912, 146031, 29303]);
}

#[test]
fn cut_points_at_the_edges() {
    // The shortest content that is cut at all, and the ones beside it, odd ones included.
    let whole = WHOLE_BELOW as usize;
    assert_eq!(whole, 32_768);
    let (words, program) = (text(9, whole + 2), binary(10, whole + 2));
    for (length, last) in [(whole - 1, 15696), (whole, 15697), (whole + 1, 15698)] {
        assert_eq!(cut(&words[..length]), [17071, last]);
        assert_eq!(cut(&program[..length]), [length]);
    }
    for Parameters { min, average, max } in [TEXT, BINARY] {
        let parameters = Parameters { min, average, max };
        // Nothing is cut before the minimum, and where all bytes are equal, at the maximum.
        for byte in [0, b'a', 0xff] {
            for length in [1, 2, min - 1, min, min + 1, max - 1, max] {
                assert_eq!(cuts(parameters, &vec![byte; length]), [length], "{byte} {length}");
            }
            assert_eq!(cuts(parameters, &vec![byte; max + 1]), [max, 1], "{byte}");
            assert_eq!(cuts(parameters, &vec![byte; 2 * max + min]), [max, max, min], "{byte}");
        }
        let noise = Random::new(11).bytes(min);
        assert_eq!(cuts(parameters, &noise), [min]);
    }
}

#[test]
fn identifiers_are_those_of_blake3() {
    // BLAKE3's own test vector: the bytes 0 to 250, over and over, 1,025 of them.
    let input: Vec<u8> = (0..1025).map(|n| (n % 251) as u8).collect();
    assert_eq!(
        FileId::of(&input).to_string(),
        "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"
    );
    assert_eq!(tree::CONTEXT, "zagi store tree v1");
    assert_eq!(pack::pack_id(b"x"), PackId::from_bytes(*FileId::of(b"x").as_bytes()));
}

#[test]
fn every_structure() {
    let id = FileId::of(b"hello\n");
    let tree = TreeId::from_bytes([7; 32]);
    let recipe = Recipe { chunks: vec![(70_000, id), (1, FileId::of(b"\n"))] };
    let bytes = recipe.encode().unwrap();
    assert_eq!(bytes[..24], hex("01000000 7111010000000000 02000000 70110100 01000000"));
    let mut hashes = vec![hash(&bytes)];

    let paths = |paths: [&str; 2]| paths.map(|path| path.as_bytes().into()).to_vec();
    let links = Links { groups: vec![paths(["a", "b/c"]), paths(["d", "e"])] };
    let bytes = links.encode().unwrap();
    assert_eq!(bytes[..17], hex("01000000 02000000 02000000 01000000 61"));
    hashes.push(hash(&bytes));

    let (_, bytes) = tree::encode(&sample()).unwrap();
    hashes.push(hash(&bytes));

    assert_eq!(pack::header()[..], *b"zagipack\x01\0\0\0\0\0\0\0");
    let kinds = [
        RecordId::data(&id),
        RecordId::recipe(&id),
        RecordId::tree(&tree),
        RecordId::links(&tree),
        RecordId::delta(&id),
    ];
    assert_eq!(kinds.map(|record| record.kind as u8), [1, 2, 3, 4, 5]);
    for n in 0..=255 {
        assert_eq!(
            RecordKind::from_u8(n).map(|kind| kind as u8),
            (1..=5).contains(&n).then_some(n)
        );
    }
    let record = |id| Record { id, frame: 0, offset: 3, length: 4 };
    let footer = Footer {
        frames: vec![Frame { offset: 16, stored: 5, raw: 9 }],
        records: kinds.map(record).to_vec(),
    };
    let bytes = footer.encode(16 + 48 + 5);
    assert_eq!(bytes[8..24], hex("1000000000000000 05000000 09000000"));
    assert_eq!(bytes[24..25], [1]);
    assert_eq!(bytes[bytes.len() - 8..], *b"zagiend\n");
    hashes.push(hash(&bytes));
    let plain = Footer { records: kinds[..4].iter().map(|id| record(*id)).collect(), ..footer };
    hashes.push(hash(&plain.encode(16 + 48 + 5)));
    assert_eq!(
        hashes,
        [
            "c78eb91594403b06d406ac63d579c5ca1b83f67853ddd79faf67684c7837e3a6",
            "49201bd2e9c292e54a641e9ba18316ff55e83038da3a42fa73bcb39ac210eea6",
            "4bcafa36b6091044401cbaa753610ca5277422059cb1dd23b8384a9a92f19ccd",
            "5b153a09f99de2569e838e78c73f7e7c6efdda6976e4d3ba4dacf00539aa4cb2",
            "45da46e42165ce4a2667c2b27653a33156e045b584235ee2f91341c0b655de8c",
        ]
    );
}

#[test]
fn refs_and_leases() {
    let mut root = Root { name: "a/b c".into(), tree: TreeId::from_bytes([7; 32]), until: None };
    let seven = "07".repeat(32);
    let expected = format!(
        "zagi ref 1\nname a/b c\ntree {seven}\nhash fe9f3efe31a901cb926042549ce823f06096fcae94dbc4acd2f3919f1150d7cf\n"
    );
    assert_eq!(Sort::Ref.encode(&root), expected);
    root.until = Some(1_800_000_000);
    let expected = format!(
        "zagi lease 1\nname a/b c\ntree {seven}\nuntil 1800000000\nhash 549dd986d3d975e3b8471336762ccee3793c4b48945f922f3a7213c2d43dad07\n"
    );
    assert_eq!(Sort::Lease.encode(&root), expected);
}

/// A frame that zstd 1.5.7 made, and a delta's patch; every later one must read them.
const FRAME_OF_ZSTD: &str = "7a676672 01000000 14000000 58020000 \
    2cc599fb7d5d03cab82c0dbc1bc9009b70070703c44458076e5344f5de8aaba1 \
    28b52ffd60580155000018616263010052acdc10";
const PATCH: &[u8] = b"(\xb5/\xfd \x87u\x00\x00(cat. \x02\x00\x07&\rK\x15\x04";

#[test]
fn frames() {
    let raw = frame_of(b"hello\n");
    assert_eq!(raw[..16], hex("7a676672 00000000 06000000 06000000"));
    assert_eq!(hash(&raw), "33ea8e9bcd66c6a0da205f5bf52af8381c92f5d3b936114630f60648d20f3a1f");

    let zstd = hex(FRAME_OF_ZSTD);
    let header = FrameHeader::decode(&zstd[..FRAME_HEADER]).unwrap();
    assert_eq!(header.decode_body(zstd[FRAME_HEADER..].to_vec()).unwrap(), b"abc".repeat(200));
}

#[test]
fn deltas() {
    let base = b"The quick brown fox jumps over the lazy dog. ".repeat(3);
    let content = b"The quick brown fox jumps over the lazy cat. ".repeat(3);
    let delta = Delta {
        base: FileId::of(&base),
        base_size: 135,
        pieces: vec![Piece { offset: 0, part: 135, length: 135, patch: PATCH.len() as u32 }],
        patches: PATCH.to_vec(),
    };
    let record = delta.encode().unwrap();
    assert_eq!(hash(&record), "8e855026ed286cf71dff582f8d9a9c78e5ad99c09928a8d3d0e11de2795d3d35");
    assert_eq!(delta.pieces[0].apply(&base, &delta.patches).unwrap(), content);
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|b| *b != b' ').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}
