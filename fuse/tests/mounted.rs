//! Real mounts. They fail, and are not skipped, where `/dev/fuse` cannot be used.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use nix::fcntl::{AT_FDCWD, FallocateFlags, Flock, FlockArg, RenameFlags, fallocate, renameat2};
use nix::unistd::Whence;
use zagi_fuse::driver::{Driver, Serving, Start};
use zagi_fuse::fuser_driver::FuserDriver;
use zagi_fuse::layer::{Entry, Key, Kind, Layer, Node};
use zagi_fuse::linux::LinuxDriver;
use zagi_fuse::mount::{
    Device, How, MountError, MountOptions, find_fusermount3, mount, probe, unmount,
};
use zagi_fuse::overlay::{Attached, Options, Overlay};

use crate::support::open;

/// The drivers, each of which must show the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Fuser,
    Linux,
}

impl By {
    fn driver(self) -> Box<dyn Driver> {
        match self {
            By::Fuser => Box::new(FuserDriver { threads: 2 }),
            By::Linux => Box::new(LinuxDriver::new().expect("epoll is there")),
        }
    }
}

/// Each test once for each driver.
macro_rules! by_each_driver {
    ($($test:ident),* $(,)?) => {
        mod by_fuser {
            $(#[test] fn $test() { super::$test($crate::mounted::By::Fuser) })*
        }
        mod by_linux {
            $(#[test] fn $test() { super::$test($crate::mounted::By::Linux) })*
        }
    };
}

pub(crate) use by_each_driver;

by_each_driver! {
    what_is_written_is_read_now_and_after_the_next_mount,
    truncating_and_appending_work_as_on_a_disk,
    modes_times_and_attributes_stay,
    names_move_with_every_flag,
    a_deleted_file_lives_as_long_as_somebody_has_it_open,
    holes_locks_and_ranges_work,
    a_shared_mapping_reaches_the_file,
    a_directory_with_many_entries_is_listed_and_deleted,
    a_large_directory_of_a_layer_is_deleted_entirely,
    busy_and_absent_are_told_apart,
    a_file_made_without_a_name_can_be_given_one,
}

/// A mounted overlay of one directory, unmounted at the end.
pub struct Mounted {
    pub dir: tempfile::TempDir,
    driver: Box<dyn Driver>,
    serving: Option<Box<dyn Serving>>,
    fusermount3: Option<PathBuf>,
    allow_other: bool,
}

impl Mounted {
    pub fn new(by: By) -> Mounted {
        Mounted::shared(by, false)
    }

    /// As [`Mounted::new`]; others may come in, if `allow_other`.
    pub fn shared(by: By, allow_other: bool) -> Mounted {
        let dir = tempfile::tempdir().expect("a directory");
        for made in ["lower/d/deep", "mnt"] {
            fs::create_dir_all(dir.path().join(made)).expect("made");
        }
        fs::write(dir.path().join("lower/f"), "hello").expect("written");
        fs::write(dir.path().join("lower/d/g"), "g of the layer").expect("written");
        fs::write(dir.path().join("lower/d/deep/h"), "h").expect("written");
        symlink("d/g", dir.path().join("lower/link")).expect("linked");
        if allow_other {
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(dir.path(), open).expect("set");
        }
        let path = std::env::var_os("PATH");
        let fusermount3 = find_fusermount3(path.as_deref());
        let driver = by.driver();
        let mut mounted = Mounted { dir, driver, serving: None, fusermount3, allow_other };
        mounted.mount();
        mounted
    }

    pub fn mount(&mut self) {
        let overlay = open(&[("", &self.dir.path().join("lower"))], &self.delta());
        let (fusermount3, allow_other) = (self.fusermount3.clone(), self.allow_other);
        let options = MountOptions { fs_name: "a,b".into(), allow_other, fusermount3 };
        let device = mount(&self.root(), &options).expect("/dev/fuse can be used");
        let serving = self.driver.serve(device, Arc::new(overlay), Start::Mounted);
        self.serving = Some(serving.expect("serves"));
    }

    pub fn unmount(&mut self, how: How) -> Result<(), MountError> {
        unmount(&self.root(), how, self.fusermount3.as_deref())?;
        if let Some(serving) = self.serving.take() {
            serving.wait().expect("ends in order");
        }
        Ok(())
    }

    pub fn again(&mut self) {
        self.unmount(How::Normal).expect("nobody uses it");
        self.mount();
    }

    pub fn delta(&self) -> PathBuf {
        self.dir.path().join("delta")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).expect("reads")
    }

    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).expect("lists");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<String> =
            entries.map(|entry| name(entry).into_string().expect("text")).collect();
        names.sort();
        names
    }

    /// How many regular files have content in the delta.
    pub fn data_files(&self) -> usize {
        let shards = fs::read_dir(self.delta().join("data")).expect("lists");
        shards.map(|shard| fs::read_dir(shard.expect("one").path()).expect("lists").count()).sum()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that failed may have left it busy, and must not hang.
        let _ = unmount(&self.root(), How::Lazy, self.fusermount3.as_deref());
    }
}

fn mkfifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("made");
}

#[test]
fn the_machine_can_mount() {
    let path = std::env::var_os("PATH");
    let probe = probe(path.as_deref());
    assert_eq!(probe.device, Device::Usable);
    assert!(probe.root || probe.fusermount3.is_some());
    assert!(find_fusermount3(Some(OsStr::new("relative:"))).is_none_or(|p| p.is_absolute()));
}

fn what_is_written_is_read_now_and_after_the_next_mount(by: By) {
    let mut mounted = Mounted::new(by);
    assert_eq!(mounted.names(""), ["d", "f", "link"]);
    assert_eq!(
        (mounted.read("f"), mounted.read("link")),
        ("hello".into(), "g of the layer".into())
    );
    assert_eq!(mounted.data_files(), 0, "reading copies nothing");

    fs::write(mounted.at("new"), "new").expect("written");
    let mut file = File::options().append(true).open(mounted.at("f")).expect("opens");
    file.write_all(b" world").expect("written");
    drop(file);
    fs::create_dir(mounted.at("dir")).expect("made");
    fs::write(mounted.at("dir/x"), vec![b'x'; 3 << 20]).expect("written");
    symlink("../f", mounted.at("dir/up")).expect("linked");
    fs::hard_link(mounted.at("d/g"), mounted.at("dir/g")).expect("linked");
    mkfifo(&mounted.at("pipe"));
    fs::remove_file(mounted.at("d/deep/h")).expect("removed");
    fs::remove_dir(mounted.at("d/deep")).expect("removed");
    assert_eq!(mounted.data_files(), 3);

    for round in 0..2 {
        assert_eq!(mounted.names(""), ["d", "dir", "f", "link", "new", "pipe"], "round {round}");
        assert_eq!(mounted.read("f"), "hello world");
        assert_eq!(mounted.read("dir/up"), "hello world");
        assert_eq!(mounted.read("dir/x").len(), 3 << 20);
        assert_eq!(mounted.names("d"), ["g"]);
        let (a, b) = (mounted.at("d/g"), mounted.at("dir/g"));
        let (a, b) = (fs::metadata(a).expect("there"), fs::metadata(b).expect("there"));
        assert_eq!((a.ino(), a.nlink(), b.nlink()), (b.ino(), 2, 2));
        mounted.again();
    }
    assert_eq!(fs::read_to_string(mounted.dir.path().join("lower/f")).expect("reads"), "hello");
}

fn truncating_and_appending_work_as_on_a_disk(by: By) {
    let mounted = Mounted::new(by);
    fs::write(mounted.at("f"), "shorter").expect("O_TRUNC");
    assert_eq!(mounted.read("f"), "shorter");
    let file = File::options().write(true).open(mounted.at("d/g")).expect("opens");
    file.set_len(1).expect("cut");
    assert_eq!(mounted.read("d/g"), "g");
    file.set_len(4).expect("grown");
    assert_eq!(mounted.read("d/g"), "g\0\0\0");
    file.sync_all().expect("synced");
    let mut one = File::options().append(true).open(mounted.at("f")).expect("opens");
    let mut two = File::options().append(true).open(mounted.at("f")).expect("opens");
    one.write_all(b"1").expect("written");
    two.write_all(b"2").expect("written");
    one.write_all(b"3").expect("written");
    assert_eq!(mounted.read("f"), "shorter123");
}

fn modes_times_and_attributes_stay(by: By) {
    let mut mounted = Mounted::new(by);
    let before = fs::metadata(mounted.at("f")).expect("there");
    fs::set_permissions(mounted.at("f"), fs::Permissions::from_mode(0o741)).expect("set");
    let time = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for path in ["f", "d"] {
        let times = FileTimes::new().set_modified(time).set_accessed(time);
        File::open(mounted.at(path)).expect("opens").set_times(times).expect("set");
    }
    let xattr = |args: &[&str], path: &str| {
        let output = Command::new("setfattr").args(args).arg(mounted.at(path)).output();
        output.is_ok_and(|output| output.status.success())
    };
    // The program is not everywhere; the overlay's own tests cover the rest.
    let has_xattr = xattr(&["-n", "user.zagi", "-v", "value"], "f");
    for _ in 0..2 {
        let meta = fs::metadata(mounted.at("f")).expect("there");
        assert_eq!(
            (meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()),
            (0o741, 1_000_000_000, 123_456_789)
        );
        assert_eq!(meta.ino(), before.ino());
        assert!((meta.ctime(), meta.ctime_nsec()) > (before.ctime(), before.ctime_nsec()));
        assert_eq!(fs::metadata(mounted.at("d")).expect("there").mtime(), 1_000_000_000);
        if has_xattr {
            let mut command = Command::new("getfattr");
            let output = command.args(["-n", "user.zagi"]).arg(mounted.at("f")).output();
            assert!(String::from_utf8_lossy(&output.expect("runs").stdout).contains("value"));
        }
        mounted.again();
    }
    assert_eq!(mounted.data_files(), 0);
}

fn names_move_with_every_flag(by: By) {
    let mut mounted = Mounted::new(by);
    let ino = |path: &str| fs::symlink_metadata(mounted.at(path)).expect("there").ino();
    let (g, h) = (ino("d/g"), ino("d/deep/h"));
    fs::rename(mounted.at("d"), mounted.at("e")).expect("a directory of the layer moves");
    fs::rename(mounted.at("e/deep"), mounted.at("deep")).expect("and one in it");
    assert_eq!((ino("e/g"), ino("deep/h")), (g, h));
    fs::create_dir(mounted.at("d")).expect("made");
    assert_eq!(mounted.names("d"), [""; 0]);
    let rename = |from: &str, to: &str, flags| {
        renameat2(AT_FDCWD, &mounted.at(from), AT_FDCWD, &mounted.at(to), flags)
    };
    let refused = rename("f", "link", RenameFlags::RENAME_NOREPLACE);
    assert_eq!(refused, Err(nix::errno::Errno::EEXIST));
    rename("f", "deep", RenameFlags::RENAME_EXCHANGE).expect("exchanged");
    rename("e/g", "d/new", RenameFlags::RENAME_NOREPLACE).expect("moved");
    fs::write(mounted.at("over"), "over").expect("written");
    fs::rename(mounted.at("over"), mounted.at("link")).expect("replaced");
    for _ in 0..2 {
        assert_eq!(mounted.names(""), ["d", "deep", "e", "f", "link"]);
        assert_eq!((mounted.read("deep"), mounted.read("f/h")), ("hello".into(), "h".into()));
        assert_eq!(
            (mounted.read("d/new"), mounted.read("link")),
            ("g of the layer".into(), "over".into())
        );
        assert_eq!(mounted.names("e"), [""; 0]);
        mounted.again();
    }
}

fn a_deleted_file_lives_as_long_as_somebody_has_it_open(by: By) {
    let mounted = Mounted::new(by);
    for path in ["f", "mine"] {
        if path == "mine" {
            fs::write(mounted.at(path), "mine!").expect("written");
        }
        let mut file =
            File::options().read(true).write(true).open(mounted.at(path)).expect("opens");
        fs::remove_file(mounted.at(path)).expect("removed");
        assert!(!mounted.at(path).exists());
        let mut text = String::new();
        file.read_to_string(&mut text).expect("reads");
        assert_eq!(text.len(), 5);
        file.write_all(b" and more").expect("written");
        file.seek(SeekFrom::Start(0)).expect("sought");
        text.clear();
        file.read_to_string(&mut text).expect("reads");
        assert_eq!(text.len(), 14);
        assert_eq!(file.metadata().expect("there").nlink(), 0);
    }
}

fn holes_locks_and_ranges_work(by: By) {
    let mounted = Mounted::new(by);
    let file = File::create_new(mounted.at("sparse")).expect("made");
    file.write_all_at(b"end", 10 << 20).expect("written");
    assert!(file.metadata().expect("there").blocks() < 1000);
    let data = nix::unistd::lseek(file.as_fd(), 0, Whence::SeekData).expect("data");
    assert!(data > 0 && data <= 10 << 20, "{data}");
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, punch, 10 << 20, 2).expect("punched");
    let mut tail = [1; 3];
    file.read_exact_at(&mut tail, 10 << 20).expect("reads");
    assert_eq!(&tail, b"\0\0d");
    fallocate(&file, FallocateFlags::empty(), 0, 11 << 20).expect("reserved");
    assert_eq!(file.metadata().expect("there").len(), 11 << 20);
    io::copy(&mut File::open(mounted.at("d/g")).expect("opens"), &mut &file).expect("copied");

    let lock = Flock::lock(File::open(mounted.at("f")).expect("opens"), FlockArg::LockExclusive);
    let other = File::open(mounted.at("f")).expect("opens");
    assert!(Flock::lock(other, FlockArg::LockExclusiveNonblock).is_err());
    drop(lock);
    assert_eq!(mounted.data_files(), 1, "locking copies nothing");
}

/// Other processes write through memory in the real suites (fsx); here one program does.
fn a_shared_mapping_reaches_the_file(by: By) {
    let mounted = Mounted::new(by);
    let script = "import mmap,sys\n\
        f=open(sys.argv[1],'r+b')\n\
        m=mmap.mmap(f.fileno(),0)\n\
        m[0:4]=b'HELL'\n\
        m.flush()\n\
        m.close()\n";
    let python = Command::new("python3").args(["-c", script]).arg(mounted.at("f")).status();
    assert!(python.expect("python3 is needed for this test").success());
    assert_eq!(mounted.read("f"), "HELLo");
    assert_eq!(fs::read_to_string(mounted.dir.path().join("lower/f")).expect("reads"), "hello");
}

fn a_directory_with_many_entries_is_listed_and_deleted(by: By) {
    let mounted = Mounted::new(by);
    let many = mounted.at("many");
    fs::create_dir(&many).expect("made");
    for number in 0..12_000 {
        File::create(many.join(format!("file-{number}"))).expect("made");
    }
    assert_eq!(mounted.names("many").len(), 12_000);
    // Deleting while the listing goes on, as `rm -rf` does: nothing is left out.
    for entry in fs::read_dir(&many).expect("lists") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    fs::remove_dir(&many).expect("it is empty");
}

fn a_large_directory_of_a_layer_is_deleted_entirely(by: By) {
    let mut mounted = Mounted::new(by);
    mounted.unmount(How::Normal).expect("nobody uses it");
    let many = mounted.dir.path().join("lower/many");
    fs::create_dir(&many).expect("made");
    for number in 0..11_000 {
        File::create(many.join(number.to_string())).expect("made");
    }
    mounted.mount();
    fs::remove_dir_all(mounted.at("many")).expect("removed");
    assert_eq!(mounted.names(""), ["d", "f", "link"]);
    mounted.again();
    assert_eq!(mounted.names(""), ["d", "f", "link"]);
    fs::create_dir(mounted.at("many")).expect("made");
    assert_eq!(mounted.names("many"), [""; 0]);
}

fn busy_and_absent_are_told_apart(by: By) {
    let mut mounted = Mounted::new(by);
    let held = File::open(mounted.at("f")).expect("opens");
    assert!(matches!(mounted.unmount(How::Normal), Err(MountError::Busy { .. })));
    // Whoever has a file open goes on; then the rest ends too.
    unmount(&mounted.root(), How::Lazy, mounted.fusermount3.as_deref()).expect("detached");
    assert!(!mounted.at("f").exists());
    let mut text = String::new();
    (&held).read_to_string(&mut text).expect("reads");
    assert_eq!(text, "hello");
    drop(held);
    mounted.serving.take().expect("was mounted").wait().expect("ends in order");
    let gone = unmount(&mounted.root(), How::Normal, mounted.fusermount3.as_deref());
    assert!(matches!(gone, Err(MountError::NotMounted { .. })), "{gone:?}");
    let options =
        MountOptions { fusermount3: mounted.fusermount3.clone(), ..MountOptions::default() };
    assert!(mount(&mounted.dir.path().join("lower/f"), &options).is_err(), "not a directory");
    assert!(mount(&mounted.dir.path().join("nowhere"), &options).is_err());
}

fn a_file_made_without_a_name_can_be_given_one(by: By) {
    let mut mounted = Mounted::new(by);
    let mut options = File::options();
    options.read(true).write(true).mode(0o640).custom_flags(libc::O_TMPFILE);
    let opened = options.open(mounted.at("d"));
    if !mounted.driver.capabilities().nameless_files {
        let refused = opened.expect_err("this driver cannot").raw_os_error();
        assert_eq!(refused, Some(libc::EOPNOTSUPP));
        return;
    }
    let mut file = opened.expect("made");
    file.write_all(b"nameless").expect("written");
    assert_eq!(mounted.names("d"), ["deep", "g"]);
    assert_eq!(file.metadata().expect("there").nlink(), 0);
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    nix::unistd::linkat(
        AT_FDCWD,
        link.as_str(),
        AT_FDCWD,
        &mounted.at("named"),
        nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW,
    )
    .expect("linked");
    drop(file);
    drop(options.open(mounted.at("")).expect("another, which nobody names"));
    for _ in 0..2 {
        mounted.again();
        assert_eq!(mounted.read("named"), "nameless");
        let meta = fs::metadata(mounted.at("named")).expect("there");
        assert_eq!((meta.nlink(), meta.mode() & 0o7777), (1, 0o640));
        assert_eq!(mounted.data_files(), 1);
    }
}

/// A layer of one file, which takes its time to be read.
struct Slow;

impl Layer for Slow {
    fn root(&self) -> Node {
        let key = b"".as_slice().into();
        Node { kind: Kind::Directory, mode: 0o755, size: 0, mtime: 0, key }
    }

    fn lookup(&self, _: &Key, name: &[u8]) -> io::Result<Option<Node>> {
        let key = b"f".as_slice().into();
        let file = Node { kind: Kind::File, mode: 0o644, size: 5, mtime: 0, key };
        Ok((name == b"f").then_some(file))
    }

    fn list(&self, _: &Key) -> io::Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn read(&self, _: &Key, _: u64, _: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(Duration::from_secs(2));
        Ok(5)
    }
}

#[test]
fn a_request_that_takes_too_long_is_answered_and_holds_up_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().join("mnt");
    fs::create_dir(&at).expect("made");
    let layers = vec![Attached { at: PathBuf::new(), layer: Arc::new(Slow) }];
    let options = Options { layers, delta: dir.path().join("delta"), uid: 0, gid: 0 };
    let overlay = Arc::new(Overlay::open(options).expect("opens"));
    let fusermount3 = find_fusermount3(std::env::var_os("PATH").as_deref());
    let options = MountOptions { fusermount3: fusermount3.clone(), ..MountOptions::default() };
    let device = mount(&at, &options).expect("/dev/fuse can be used");
    let driver = LinuxDriver::with_deadline(Duration::from_millis(200)).expect("epoll is there");
    let serving = driver.serve(device, overlay, Start::Mounted).expect("serves");
    let (file, other) = (at.join("f"), at.join("other"));
    let reader = std::thread::spawn(move || fs::read(file));
    fs::write(&other, "meanwhile").expect("the mount goes on");
    let answer = reader.join().expect("no panic").expect_err("it takes too long");
    assert_eq!(answer.raw_os_error(), Some(libc::ETIMEDOUT));
    unmount(&at, How::Normal, fusermount3.as_deref()).expect("nobody uses it");
    serving.wait().expect("ends in order");
}
