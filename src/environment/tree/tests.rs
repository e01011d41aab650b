//! Trees of packages, merged and fixed up.

use std::collections::BTreeMap;

use super::super::lock::{Elf, Replace, Write};
use super::*;

#[test]
fn ways_between_directories() {
    for (from, to, way) in [
        ("usr/lib", "usr/lib/x", "x"),
        ("usr/lib", "etc/x", "../../etc/x"),
        ("", "usr/bin", "usr/bin"),
        ("a/b", "a/b", "."),
    ] {
        assert_eq!(relative(Path::new(from), Path::new(to)), Path::new(way));
    }
}

#[test]
fn what_debuggers_read_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("usr/bin");
    let debug = dir.path().join("usr/lib/debug/.build-id/25/5e.debug");
    for place in [&bin, debug.parent().unwrap()] {
        std::fs::create_dir_all(place).unwrap();
    }
    // Executable too, as that of the loader is in libc6-dbg.
    std::fs::copy("/bin/ls", bin.join("ls")).unwrap();
    let made = std::process::Command::new("objcopy")
        .arg("--only-keep-debug")
        .arg("/bin/ls")
        .arg(&debug)
        .status();
    assert!(made.unwrap().success());
    let before = std::fs::read(&debug).unwrap();
    let elf = Elf {
        interpreter: "lib64/ld.so".into(),
        libraries: vec!["usr/lib".into()],
        libc: None,
        shared: None,
    };
    let fixups = Fixups { elf: Some(elf), ..Fixups::default() };
    patch_programs(&fixups, &Words::default().with("root", "/root"), dir.path()).unwrap();
    assert_eq!(std::fs::read(&debug).unwrap(), before);
    let ls = std::fs::read(bin.join("ls")).unwrap();
    assert!(ls.windows(17).any(|w| w == b"/root/lib64/ld.so"), "the control");
    // What would have happened to it.
    let unfit = elf::patch(&before, "/root/lib64/ld.so", &[]);
    assert!(!matches!(unfit, Ok(Some(_))), "it cannot be patched");
}

#[test]
fn packages_are_merged_and_fixed_up_and_the_store_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let package = |name: &str, make: &dyn Fn(&Path)| {
        let at = dir.path().join(name);
        std::fs::create_dir(&at).unwrap();
        make(&at);
        store.capture(&at).unwrap().tree
    };
    let put = |path: PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let one = package("one", &|at| {
        put(at.join("lib/arch/libc.so.6"), "libc");
        put(at.join("lib/conf"), "prefix=/usr/share\n");
        put(at.join("usr/share/doc/one"), "doc");
        std::os::unix::fs::symlink("../../usr/share/x", at.join("lib/arch/up")).unwrap();
    });
    let two = package("two", &|at| {
        put(at.join("usr/lib/arch/libz.so"), "libz");
        put(at.join("usr/share/x"), "x");
        std::os::unix::fs::symlink("../../../lib/arch/libc.so.6", at.join("usr/lib/arch/libc.so"))
            .unwrap();
    });
    let fixups = Fixups {
        exclude: vec!["usr/share/doc".into()],
        merge: BTreeMap::from([("lib".into(), "usr/lib".into())]),
        links: BTreeMap::from([("usr/bin/z".into(), "usr/lib/arch/libz.so".into())]),
        executable: vec!["usr/share/x".into()],
        replace: vec![Replace {
            file: "usr/lib/co*".into(),
            from: "/usr/share".into(),
            to: "{root}/share".into(),
            optional: false,
        }],
        write: vec![Write {
            file: "bin/sh".into(),
            text: "#!/bin/sh\necho '{root}'\n".into(),
            executable: true,
        }],
        ..Fixups::default()
    };
    let words = Words::default().with("root", "/it's");
    let dest = dir.path().join("dest");
    std::fs::create_dir(&dest).unwrap();
    build(&store, &[one, two], &fixups, &words, &dest).unwrap();
    let read = |path: &str| std::fs::read_to_string(dest.join(path)).unwrap();
    assert_eq!(read("usr/lib/arch/libc.so.6"), "libc");
    assert_eq!(read("lib/arch/libz.so"), "libz", "the merged directory keeps its old name");
    assert_eq!(read("usr/lib/arch/libc.so"), "libc");
    assert_eq!(read("usr/lib/arch/up"), "x", "a link of a moved directory leads where it did");
    assert_eq!(read("usr/bin/z"), "libz");
    assert_eq!(read("usr/lib/conf"), "prefix=/it's/share\n");
    assert_eq!(read("bin/sh"), "#!/bin/sh\necho '/it'\\''s'\n");
    assert!(!dest.join("usr/share/doc").exists());
    let mode = dest.join("usr/share/x").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    let again = dir.path().join("again");
    store.restore(&one, &again).unwrap();
    assert_eq!(std::fs::read_to_string(again.join("lib/conf")).unwrap(), "prefix=/usr/share\n");
}

#[test]
fn a_text_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let replace = Replace { file: "f".into(), from: "y".into(), to: "z".into(), optional: false };
    let fixups = Fixups { replace: vec![replace], ..Fixups::default() };
    let e = replace_texts(&fixups, &Words::default(), dir.path()).unwrap_err();
    assert!(matches!(e, TreeError::NothingToReplace { .. }), "{e}");
}
