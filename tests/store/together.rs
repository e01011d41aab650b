//! Several at once, half-made things, files that change, full disks.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use zagi::store::{Disk, FileId, Input, Output, Storage, Store, StoreError, remove_tree};

use super::{Fixture, describe, noise, stored, text};

#[test]
fn several_handles_capture_and_restore_at_once() {
    let f = Fixture::new();
    let inputs: Vec<_> = (0..4).map(|n| f.path(&format!("in{n}"))).collect();
    for (n, input) in inputs.iter().enumerate() {
        for file in 0..60 {
            fs::create_dir_all(input.join(format!("d{}", file % 7))).unwrap();
            // Some are in every tree, some in one.
            let seed = if file % 2 == 0 { file } else { 1000 * n as u64 + file };
            let length = 100 + 1_500 * file as usize;
            fs::write(input.join(format!("d{}/{file}", file % 7)), text(seed, length)).unwrap();
        }
    }
    std::thread::scope(|scope| {
        for round in 0..3 {
            for (n, input) in inputs.iter().enumerate() {
                let f = &f;
                scope.spawn(move || {
                    let store = f.reopen();
                    let tree = store.capture(input).unwrap().tree;
                    store.set_ref(&format!("t/{n}"), &tree).unwrap();
                    let out = f.path(&format!("out {round} {n}"));
                    store.restore(&tree, &out).unwrap();
                    assert_eq!(describe(input), describe(&out));
                    let linked = f.path(&format!("linked {round} {n}"));
                    store.link_tree(&tree, &linked).unwrap();
                    assert_eq!(describe(input), describe(&linked));
                });
            }
        }
    });
    let refs = f.reopen().refs("t/").unwrap();
    assert_eq!(refs.len(), 4);
    fs::remove_file(f.path("store/index.db")).unwrap();
    for (name, tree) in refs {
        let n: usize = name[2..].parse().unwrap();
        f.reopen().restore(&tree, &f.path(&format!("last {n}"))).unwrap();
        assert_eq!(describe(&inputs[n]), describe(&f.path(&format!("last {n}"))));
    }
}

#[test]
fn a_file_that_keeps_changing_is_an_error_that_names_it() {
    let f = Fixture::new();
    let path = f.input("log");
    let beginning = noise(1, 8 << 20);
    fs::write(&path, &beginning).unwrap();
    let stop = AtomicBool::new(false);
    let captured = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut log = fs::File::options().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                log.write_all(b"x").unwrap();
            }
        });
        let captured = f.store.capture(&f.path("in"));
        stop.store(true, Ordering::Relaxed);
        captured
    });
    match captured {
        Err(StoreError::Changing { path: named }) => assert_eq!(named, path),
        // The writer slept all through one of the attempts: then it is what stood there.
        Ok(captured) => {
            f.store.restore(&captured.tree, &f.path("out")).unwrap();
            let content = fs::read(f.path("out/log")).unwrap();
            assert!(content.starts_with(&beginning));
            assert!(content[beginning.len()..].iter().all(|byte| *byte == b'x'));
        }
        Err(other) => panic!("{other}"),
    }
    // Once it is left alone it can be captured.
    f.store.capture(&f.path("in")).unwrap();
}

#[test]
fn a_farm_tree_is_made_once_and_whole_or_not_at_all() {
    let f = Fixture::new();
    fs::write(f.input("lib"), "hello\n").unwrap();
    let tree = f.store.capture(&f.path("in")).unwrap().tree;
    let failed = f.store.farm_tree("node-22", &mut |dir| {
        fs::write(dir.join("half"), "half")?;
        Err("no".into())
    });
    assert!(matches!(failed, Err(StoreError::Make { .. })), "{failed:?}");
    assert!(fs::read_dir(f.path("store/farm/trees")).unwrap().next().is_none());

    let made = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let store = f.reopen();
                let path = store.farm_tree("node-22", &mut |dir| {
                    made.fetch_add(1, Ordering::Relaxed);
                    store.link_tree(&tree, &dir.join("package"))?;
                    fs::write(dir.join("fixed up"), "here")?;
                    Ok(())
                });
                assert_eq!(fs::read(path.unwrap().join("package/lib")).unwrap(), b"hello\n");
            });
        }
    });
    assert_eq!(made.load(Ordering::Relaxed), 1);
    let path = f.path("store/farm/trees/node-22");
    for name in ["", "package", "package/lib", "fixed up"] {
        let mode = fs::metadata(path.join(name)).unwrap().mode();
        assert_eq!(mode & 0o222, 0, "{name} is read-only");
    }
    for key in ["", ".x", "a/b", "..", "a b"] {
        let refused = f.store.farm_tree(key, &mut |_| panic!("{key} is no key"));
        assert!(matches!(refused, Err(StoreError::FarmKey { .. })), "{key}");
    }
    remove_tree(&path).unwrap();
    assert!(!path.exists());
    remove_tree(&path).unwrap();
    // Links into it were removed, the farm's files not.
    assert!(f.farm_file(&FileId::of(b"hello\n")).exists());
}

#[test]
fn half_made_things_of_dead_processes_are_swept_and_those_of_living_ones_not() {
    let f = Fixture::new();
    let alive = fs::read_dir(f.path("store/tmp")).unwrap().count();
    assert_eq!(alive, 1);
    let dead = f.path("store/tmp/1-2");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("0"), "half a pack").unwrap();
    let other = f.reopen();
    assert!(!dead.exists());
    assert_eq!(fs::read_dir(f.path("store/tmp")).unwrap().count(), 2);
    drop(other);
    assert_eq!(fs::read_dir(f.path("store/tmp")).unwrap().count(), 1);
}

/// A disk that says it is full at one operation, and at every one after it.
struct Full {
    left: Arc<AtomicU64>,
}

fn spend(left: &AtomicU64) -> io::Result<()> {
    match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) {
        Ok(_) => Ok(()),
        Err(_) => Err(io::ErrorKind::StorageFull.into()),
    }
}

struct FullOutput {
    left: Arc<AtomicU64>,
    output: Box<dyn Output>,
}

impl Write for FullOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(full) = spend(&self.left) {
            // As the kernel does: what fits is written.
            let _ = self.output.write(&bytes[..bytes.len() / 2]);
            return Err(full);
        }
        self.output.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl Output for FullOutput {
    fn sync(&mut self) -> io::Result<()> {
        spend(&self.left)?;
        self.output.sync()
    }
}

impl Storage for Full {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        spend(&self.left)?;
        let (left, output) = (Arc::clone(&self.left), Disk.create(path)?);
        Ok(Box::new(FullOutput { left, output }))
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Input>> {
        Disk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        spend(&self.left)?;
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        Disk.list(path)
    }
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        spend(&self.left)?;
        Disk.create_directory(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        spend(&self.left)?;
        Disk.sync_directory(path)
    }
}

#[test]
fn a_full_disk_at_any_operation_leaves_the_old_state_whole() {
    let (f, old) = stored();
    let expected = describe(&f.path("in"));
    fs::write(f.input("new"), noise(9, 900_000)).unwrap();
    let mut refused = 0;
    for operations in 0.. {
        let left = Arc::new(AtomicU64::new(operations));
        let full = Arc::new(Full { left: Arc::clone(&left) });
        let store = Store::open_on(&f.path("store"), full).unwrap();
        let done = store.capture(&f.path("in")).and_then(|captured| {
            store.set_ref("new", &captured.tree)?;
            Ok(captured.tree)
        });
        let halves: Vec<_> = fs::read_dir(f.path("store/tmp"))
            .unwrap()
            .flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap())
            .collect();
        assert!(halves.is_empty(), "after {operations}: {halves:?}");
        let sound = f.reopen();
        match done {
            Err(StoreError::NoSpace { .. }) => refused += 1,
            Err(other) => panic!("after {operations}: {other}"),
            Ok(tree) => {
                assert_eq!(sound.get_ref("new").unwrap(), Some(tree));
                sound.restore(&tree, &f.path("new")).unwrap();
                assert_eq!(describe(&f.path("in")), describe(&f.path("new")));
                break;
            }
        }
        assert_eq!(sound.get_ref("new").unwrap(), None, "after {operations}");
        let out = f.path(&format!("out{operations}"));
        sound.restore(&old, &out).unwrap();
        assert_eq!(describe(&out), expected, "after {operations}");
        fs::remove_dir_all(out).unwrap();
    }
    assert!(refused >= 8, "{refused}");
}
