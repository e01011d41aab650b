//! The ends of what can be: names, targets, offsets, and what a member of a group may do.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use zagi_fuse::delta::ROOT;
use zagi_fuse::overlay::SetAttr;

use crate::mounted::{By, Mounted, by_each_driver};
use crate::support::{find, me, open};

by_each_driver! {
    names_and_targets_are_bytes_up_to_their_limits,
    set_id_bits_go_with_new_content_and_new_owners,
    a_private_mount_is_closed_to_others,
}

fn errno(result: std::io::Result<impl Sized>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn names_and_targets_are_bytes_up_to_their_limits(by: By) {
    let mut mounted = Mounted::new(by);
    let long = [b'n'; 255];
    let longer = [b'n'; 256];
    let names: [&[u8]; 5] =
        [&long, b"\xff\xfe not UTF-8", b"line\nbreak", b" . ", "ü\u{200d}".as_bytes()];
    for name in names {
        fs::write(mounted.root().join(OsStr::from_bytes(name)), name).expect("written");
    }
    let longer = mounted.root().join(OsStr::from_bytes(&longer));
    for refused in [
        errno(File::create(&longer)),
        errno(fs::metadata(&longer)),
        errno(fs::rename(mounted.at("f"), &longer)),
        errno(fs::hard_link(mounted.at("f"), &longer)),
        errno(symlink("f", &longer)),
    ] {
        assert_eq!(refused, Some(libc::ENAMETOOLONG));
    }
    let target = "t".repeat(4095);
    symlink(&target, mounted.at("far")).expect("linked");
    assert_eq!(errno(symlink(target.clone() + "t", mounted.at("x"))), Some(libc::ENAMETOOLONG));
    assert_eq!(errno(symlink("", mounted.at("x"))), Some(libc::ENOENT));
    symlink("loop", mounted.at("loop")).expect("linked");
    assert_eq!(errno(File::open(mounted.at("loop"))), Some(libc::ELOOP));
    for _ in 0..2 {
        for name in names {
            let path = mounted.root().join(OsStr::from_bytes(name));
            assert_eq!(fs::read(path).expect("reads"), name);
        }
        let link = fs::read_link(mounted.at("far")).expect("reads");
        assert_eq!(link.as_os_str().as_bytes(), target.as_bytes());
        assert_eq!(mounted.dir.path().join("mnt").read_dir().expect("lists").count(), 10);
        mounted.again();
    }
}

#[test]
fn offsets_beyond_the_last_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("lower")).expect("made");
    fs::write(dir.path().join("lower/f"), "text").expect("written");
    let overlay = open(&[("", &dir.path().join("lower"))], &dir.path().join("delta"));
    let new = overlay.create(me(), ROOT, b"new", 0o600).expect("made").ino;
    let mut buf = [0; 8];
    for ino in [find(&overlay, "f").expect("there").ino, new] {
        for offset in [u64::MAX, 1 << 63, (1 << 63) - 1] {
            assert_eq!(overlay.read(ino, offset, &mut buf), Ok(0), "{offset}");
            assert_eq!(overlay.write(ino, offset, b"x", None), Err(Errno::EFBIG), "{offset}");
            assert_eq!(overlay.seek(ino, offset, false), Err(Errno::ENXIO), "{offset}");
        }
        for size in [u64::MAX, 1 << 63] {
            let set = SetAttr { size: Some(size), ..SetAttr::default() };
            assert_eq!(overlay.setattr(me(), ino, &set), Err(Errno::EFBIG));
        }
        assert!(overlay.fallocate(ino, u64::MAX, 1, 0, None).is_err());
    }
    assert_eq!(find(&overlay, "f").expect("there").size, 4);
}

/// Runs as another, which only root can; whoever else runs this keeps his own bits.
fn run_as(uid: u32, gid: u32, script: &str, path: &Path) {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("sh");
    command.args(["-ec", script, "sh"]).arg(path);
    if me().uid == 0 {
        command.uid(uid).gid(gid);
    }
    assert!(command.status().expect("runs").success(), "{script}");
}

/// set-user-id and set-group-id go when somebody without privileges changes the content, and
/// when anybody changes the owner.
fn set_id_bits_go_with_new_content_and_new_owners(by: By) {
    let mounted = Mounted::shared(by, me().uid == 0);
    let file = mounted.at("f");
    let set = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("set");
    let mode = || fs::metadata(&file).expect("there").mode() & 0o7777;
    for script in
        ["printf x >> \"$1\"", ": > \"$1\"", "truncate -s 9 \"$1\"", "fallocate -l 99 \"$1\""]
    {
        set(0o6777);
        run_as(1234, 1234, script, &file);
        assert_eq!(mode(), 0o777, "{script}");
    }
    if me().uid == 0 {
        set(0o6777);
        File::options().append(true).open(&file).expect("opens").write_all_at(b"x", 0).ok();
        fs::write(&file, "by root").expect("written");
        assert_eq!(mode(), 0o6777, "root keeps them");
        // Without execution by the group the bit means nothing, and its members keep it.
        std::os::unix::fs::chown(&file, None, Some(1234)).expect("changed");
        set(0o2767);
        run_as(99, 1234, "printf x >> \"$1\"", &file);
        assert_eq!(mode(), 0o2767);
        set(0o6777);
        std::os::unix::fs::chown(&file, Some(5), None).expect("changed");
        assert_eq!(mode(), 0o777);
        let directory = mounted.at("d");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o2755)).expect("set");
        std::os::unix::fs::chown(&directory, Some(5), None).expect("changed");
        assert_eq!(fs::metadata(&directory).expect("there").mode() & 0o7777, 0o2755);
    }
}

/// Without `allow_other` a mount is its owner's alone, whatever the modes in it say.
fn a_private_mount_is_closed_to_others(by: By) {
    let mounted = Mounted::new(by);
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(mounted.dir.path(), open).expect("set");
    fs::set_permissions(mounted.at("f"), fs::Permissions::from_mode(0o666)).expect("set");
    run_as(me().uid, me().gid, "cat \"$1\"", &mounted.at("f"));
    if me().uid == 0 {
        let script = "! cat \"$1/f\" && ! ls \"$1\" && ! echo x >> \"$1/f\" && ! stat \"$1/f\"";
        run_as(1234, 1234, script, &mounted.root());
    }
}
