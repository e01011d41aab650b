//! Access control lists and other extended attributes: kept in agreement with the mode,
//! inherited, and obeyed by the kernel.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use zagi_fuse::delta::{FileKind, ROOT};
use zagi_fuse::overlay::{Caller, Overlay, SetAttr};

use crate::mounted::{By, Mounted, by_each_driver};
use crate::support::{find, me, open};

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

const OWNER: u16 = 1;
const USER: u16 = 2;
const GROUP: u16 = 4;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// The value of an attribute with these tags, permissions and ids.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn named(user: u16, mask: u16) -> Vec<u8> {
    let any = u32::MAX;
    list(&[
        (OWNER, 6, any),
        (USER, user, 1234),
        (GROUP, 4, any),
        (MASK, mask, any),
        (OTHER, 0, any),
    ])
}

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("lower/d")).expect("made");
        fs::write(dir.path().join("lower/f"), "text").expect("written");
        Fixture { dir }
    }

    fn open(&self) -> Overlay {
        open(&[("", &self.dir.path().join("lower"))], &self.dir.path().join("delta"))
    }
}

fn chmod(overlay: &Overlay, ino: u64, mode: u16) {
    let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
    overlay.setattr(me(), ino, &set).expect("set");
}

#[test]
fn list_and_mode_agree() {
    let fixture = Fixture::new();
    let ino = {
        let overlay = fixture.open();
        let ino = find(&overlay, "f").expect("there").ino;
        chmod(&overlay, ino, 0o2755);
        overlay.setxattr(ino, ACCESS, &named(7, 6), 0, false).expect("set");
        assert_eq!(overlay.getattr(ino).expect("there").mode, 0o2660);
        chmod(&overlay, ino, 0o2745);
        ino
    };
    let any = u32::MAX;
    let overlay = fixture.open();
    assert_eq!(find(&overlay, "f").expect("there").mode, 0o2745);
    let changed =
        list(&[(OWNER, 7, any), (USER, 7, 1234), (GROUP, 4, any), (MASK, 4, any), (OTHER, 5, any)]);
    assert_eq!(*overlay.getxattr(ino, ACCESS).expect("kept"), *changed);
    // What the mode says is not kept beside it; a stranger's list takes set-group-id away.
    let minimal = list(&[(OWNER, 6, any), (GROUP, 5, any), (OTHER, 4, any)]);
    overlay.setxattr(ino, ACCESS, &minimal, 0, true).expect("set");
    assert_eq!(overlay.getattr(ino).expect("there").mode, 0o654);
    assert_eq!(overlay.getxattr(ino, ACCESS), Err(Errno::ENODATA));
    assert_eq!(overlay.listxattr(ino, true).expect("lists"), b"");
    overlay.setxattr(ino, ACCESS, &named(7, 6), 0, false).expect("set");
    overlay.removexattr(ino, ACCESS).expect("removed");
    assert_eq!(overlay.getattr(ino).expect("there").mode, 0o660, "as on ext4");
    assert_eq!(overlay.setxattr(ino, DEFAULT, &minimal, 0, false), Err(Errno::EACCES));
    assert_eq!(overlay.setxattr(ino, ACCESS, b"noise", 0, false), Err(Errno::EOPNOTSUPP));
}

#[test]
fn what_is_made_in_a_directory_inherits_its_default_list() {
    let fixture = Fixture::new();
    let overlay = fixture.open();
    let caller = Caller { umask: 0o077, ..me() };
    let plain = overlay.create(caller, ROOT, b"plain", 0o666).expect("made");
    assert_eq!(plain.mode, 0o600, "without a list the umask counts");
    let made = overlay.mkdir(caller, ROOT, b"made", 0o2777).expect("made");
    assert_eq!(made.mode, 0o2700);
    let pipe = overlay.mknod(caller, ROOT, b"pipe", FileKind::Fifo, 0o666, 0).expect("made");
    assert_eq!(pipe.mode, 0o600);

    let dir = find(&overlay, "d").expect("there").ino;
    overlay.setxattr(dir, DEFAULT, &named(7, 7), 0, false).expect("set");
    assert_eq!(overlay.getattr(dir).expect("there").mode, 0o755, "a default list is no access");
    let file = overlay.create(caller, dir, b"file", 0o666).expect("made");
    assert_eq!(file.mode, 0o660, "the umask does not count");
    assert_eq!(*overlay.getxattr(file.ino, ACCESS).expect("inherited"), *named(7, 6));
    assert_eq!(overlay.getxattr(file.ino, DEFAULT), Err(Errno::ENODATA));
    let sub = overlay.mkdir(caller, dir, b"sub", 0o755).expect("made");
    assert_eq!(sub.mode, 0o650);
    assert_eq!(*overlay.getxattr(sub.ino, ACCESS).expect("inherited"), *named(7, 5));
    assert_eq!(*overlay.getxattr(sub.ino, DEFAULT).expect("inherited"), *named(7, 7));
    let link = overlay.symlink(caller, dir, b"link", b"file").expect("made");
    assert_eq!(link.mode, 0o777);
    assert_eq!(overlay.listxattr(link.ino, true).expect("lists"), b"");

    let any = u32::MAX;
    let minimal = list(&[(OWNER, 7, any), (GROUP, 5, any), (OTHER, 5, any)]);
    overlay.setxattr(dir, DEFAULT, &minimal, 0, false).expect("set");
    let file = overlay.create(caller, dir, b"other", 0o666).expect("made");
    assert_eq!(file.mode, 0o644);
    assert_eq!(overlay.getxattr(file.ino, ACCESS), Err(Errno::ENODATA));
}

#[test]
fn attributes_have_the_limits_of_a_disk() {
    let fixture = Fixture::new();
    let overlay = fixture.open();
    let file = find(&overlay, "f").expect("there").ino;
    let link = overlay.symlink(me(), ROOT, b"link", b"f").expect("made").ino;
    let set = |ino, name: &[u8], value: &[u8]| overlay.setxattr(ino, name, value, 0, false);
    for (name, errno) in [
        (&b"user."[..], Errno::EINVAL),
        (b"user", Errno::EOPNOTSUPP),
        (b"other.x", Errno::EOPNOTSUPP),
        (b"system.x", Errno::EOPNOTSUPP),
        (b"", Errno::ERANGE),
        (&[b'x'; 256], Errno::ERANGE),
    ] {
        assert_eq!(set(file, name, b""), Err(errno), "{}", String::from_utf8_lossy(name));
    }
    assert_eq!(set(link, b"user.x", b""), Err(Errno::EPERM));
    assert_eq!(set(link, ACCESS, &named(7, 7)), Err(Errno::EOPNOTSUPP));
    set(link, b"trusted.x", b"").expect("set");
    assert_eq!(overlay.listxattr(link, true).expect("lists"), b"trusted.x\0");
    assert_eq!(overlay.listxattr(link, false).expect("lists"), b"");

    assert_eq!(set(file, b"user.big", &[0; (64 << 10) + 1]), Err(Errno::E2BIG));
    set(file, b"user.big", &[7; 64 << 10]).expect("set");
    assert_eq!(overlay.getxattr(file, b"user.big").expect("there").len(), 64 << 10);
    set(file, b"user.big", b"").expect("replaced");
    // More names than a list can hold are refused when they are made.
    let mut count = 1;
    let full = loop {
        let name = format!("user.{count:0>250}");
        match set(file, name.as_bytes(), b"") {
            Ok(()) => count += 1,
            Err(errno) => break errno,
        }
    };
    assert_eq!(full, Errno::ENOSPC);
    let names = overlay.listxattr(file, false).expect("lists");
    assert!(names.len() <= 64 << 10 && names.len() > 63 << 10, "{}", names.len());
    let sorted: Vec<_> = names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    assert!(sorted.is_sorted() && sorted.len() == count);
}

fn run(program: &str, args: &[&str], path: &Path) -> String {
    let output = Command::new(program).args(args).arg(path).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

by_each_driver! {
    the_tools_of_the_system_see_lists_as_on_a_disk,
    the_kernel_obeys_the_lists,
}

/// `setfacl` and `getfacl` come with the package `acl`.
fn the_tools_of_the_system_see_lists_as_on_a_disk(by: By) {
    let mut mounted = Mounted::new(by);
    fs::set_permissions(mounted.at("f"), fs::Permissions::from_mode(0o644)).expect("set");
    fs::set_permissions(mounted.at("d"), fs::Permissions::from_mode(0o755)).expect("set");
    run("setfacl", &["-m", "u:1234:rw,g:4321:r"], &mounted.at("f"));
    run("setfacl", &["-m", "d:u:1234:rwx"], &mounted.at("d"));
    fs::write(mounted.at("d/new"), "new").expect("written");
    fs::create_dir(mounted.at("d/sub")).expect("made");
    for _ in 0..2 {
        let lists =
            run("getfacl", &["--omit-header", "--numeric", "--absolute-names"], &mounted.at("f"));
        assert_eq!(
            lists.trim(),
            "user::rw-\nuser:1234:rw-\ngroup::r--\ngroup:4321:r--\nmask::rw-\nother::r--"
        );
        let lists = run("getfacl", &["-cnp"], &mounted.at("d/new"));
        assert_eq!(
            lists.trim(),
            "user::rw-\nuser:1234:rwx\t#effective:rw-\ngroup::r-x\t#effective:r--\nmask::rw-\n\
             other::r--"
        );
        assert!(run("getfacl", &["-cnpd"], &mounted.at("d/sub")).contains("user:1234:rwx"));
        mounted.again();
    }
    let mode = |path: &str| fs::metadata(mounted.at(path)).expect("there").mode() & 0o7777;
    assert_eq!((mode("f"), mode("d/new"), mode("d/sub")), (0o664, 0o664, 0o775));
    fs::set_permissions(mounted.at("f"), fs::Permissions::from_mode(0o600)).expect("set");
    assert!(run("getfacl", &["-cnp"], &mounted.at("f")).contains("mask::---"));
    run("setfacl", &["-b"], &mounted.at("f"));
    assert_eq!(mode("f"), 0o600);
    assert_eq!(mounted.data_files(), 1, "lists copy nothing");
}

/// Only root lets others into a mount, and can become one; whoever else runs this sees that
/// the owner is not kept out by the lists of others.
fn the_kernel_obeys_the_lists(by: By) {
    let mounted = Mounted::shared(by, me().uid == 0);
    let (file, dir) = (mounted.at("f"), mounted.at("d"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("set");
    run("setfacl", &["-m", "u:1234:r"], &file);
    run("setfacl", &["-m", "u:1234:rx,g:4321:x"], &dir);
    assert_eq!(fs::read_to_string(&file).expect("reads"), "hello");
    if me().uid != 0 {
        return;
    }
    let can = |uid: u32, gid: u32, flag: &str, path: &Path| {
        let mut test = Command::new("test");
        test.arg(flag).arg(path).uid(uid).gid(gid);
        test.status().expect("runs").success()
    };
    assert!(can(1234, 1234, "-r", &file) && !can(1234, 1234, "-w", &file));
    assert!(!can(1235, 1234, "-r", &file));
    assert!(can(1234, 1, "-r", &mounted.at("d/g")) && can(2, 4321, "-x", &dir));
    assert!(!can(2, 4321, "-r", &dir) && !can(2, 2, "-r", &mounted.at("d/g")));
    // The mask takes it away again.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    assert!(!can(1234, 1234, "-r", &file));
}
