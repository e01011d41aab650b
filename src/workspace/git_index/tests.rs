//! The small parts; that git itself believes the whole is tested with real git, in
//! `integration/tests/git.rs`.

use super::*;

#[test]
fn numbers_are_written_as_git_reads_them() {
    // Git's own reading: each further byte adds one, so that no number has two forms.
    let read = |bytes: &[u8]| {
        bytes[1..]
            .iter()
            .fold(usize::from(bytes[0] & 127), |n, byte| ((n + 1) << 7) + usize::from(byte & 127))
    };
    for n in (0..70_000).chain([1 << 20, u32::MAX as usize]) {
        let mut bytes = Vec::new();
        variable(n, &mut bytes);
        assert_eq!(read(&bytes), n);
        let more = bytes.iter().rev().skip(1).all(|byte| byte & 128 != 0);
        assert!(more && bytes[bytes.len() - 1] & 128 == 0, "{bytes:?}");
    }
}

#[test]
fn a_bitmap_says_its_bits_its_words_and_where_they_begin() {
    let empty = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(bitmap(&[]).expect("it fits"), empty);
    let mut bits = vec![false; 65];
    (bits[0], bits[64]) = (true, true);
    let bytes = bitmap(&bits).expect("it fits");
    assert_eq!(bytes[..8], [0, 0, 0, 65, 0, 0, 0, 3]);
    assert_eq!(bytes[8..16], (2_u64 << 33).to_be_bytes());
    assert_eq!(bytes[16..24], 1_u64.to_be_bytes());
    assert_eq!(bytes[24..32], 1_u64.to_be_bytes());
    assert_eq!(bytes[32..], [0; 4]);
}

#[test]
fn patterns_have_the_id_that_git_gives_them() {
    let hex = |id: [u8; 20]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // `git hash-object` of nothing, and of "a\n\n".
    assert_eq!(hex(as_read(b"")), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    assert_eq!(hex(as_read(b"a\n")), "442406aa9341668f9c43c2d5378a777ad69324a0");
}

#[test]
fn what_may_convert_a_file_of_patterns_is_noticed() {
    for yes in ["* text=auto", "*.txt -diff\n.gitignore eol=lf", "/.git* text", "\"*\" filter=x"] {
        assert!(converts(yes.as_bytes()), "{yes}");
    }
    for no in ["", "# * text", "* -text", "*.png binary", "docs/x text"] {
        assert!(!converts(no.as_bytes()), "{no}");
    }
}

#[test]
fn a_pattern_that_may_match_is_not_overlooked() {
    for pattern in ["node_modules", "*", "**", "node_*", "*_modules", "n?x", "[n]", "\\n", "*o*"] {
        assert!(may_match(pattern.as_bytes(), b"node_modules"), "{pattern}");
    }
    for pattern in ["", "node_module", "*.js", "node_modules2", "x*", "settings.json"] {
        assert!(!may_match(pattern.as_bytes(), b"node_modules"), "{pattern}");
    }
}

#[test]
fn below_is_not_beside() {
    assert!(is_in(b"a/b", b"a") && is_in(b"a", b"") && !is_in(b"ab", b"a") && !is_in(b"a", b"a"));
}
