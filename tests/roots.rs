//! What workspaces stand on stays when the store is collected; what is only a cache goes when
//! it is old.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zagi::context::Context;
use zagi::dependencies;
use zagi::environment::lock::{Fixups, Lock, Part, Tool};
use zagi::environment::realise;
use zagi::registry::digest::Digest;
use zagi::store::{Collected, Store, StoreError, TreeId};
use zagi::workspace::description::{DependencyRecord, RunRecord, SourceRecord};
use zagi::workspace::{self, Description, Presentation};

use crate::support::{Machine, NOW};

const ID: &str = "0123456789ab";

struct Fixture {
    machine: Machine,
    ctx: Context,
    store: Store,
}

/// Dates a file before everything.
fn age(path: &Path) {
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
    File::open(path).unwrap().set_times(times).unwrap();
}

impl Fixture {
    fn new() -> Fixture {
        let machine = Machine::new();
        let ctx = machine.context("http://127.0.0.1:1");
        let store = Store::open(&ctx.home.store()).unwrap();
        Fixture { machine, ctx, store }
    }

    fn home(&self, path: &str) -> PathBuf {
        self.ctx.home.root().join(path)
    }

    /// A tree of its own, under a ref that was not used for long.
    fn tree(&self, name: &str) -> TreeId {
        let dir = self.machine.dir.path().join("input");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), name).unwrap();
        let captured = self.store.capture(&dir).unwrap();
        self.store.set_ref(name, &captured.tree).unwrap();
        age(&self.home("store/refs").join(name.replace('/', "%2f").replace(':', "%3a")));
        captured.tree
    }

    /// An environment made of one tree of the farm, which has its name.
    fn environment(&self, key: &str) {
        let tree = self.store.farm_tree(key, &mut |dir| Ok(fs::write(dir.join("x"), key)?));
        let dir = self.ctx.home.envs().join(key);
        fs::create_dir_all(dir.join("bin")).unwrap();
        let record = serde_json::json!({ "version": 1, "trees": [tree.unwrap()] });
        fs::write(dir.join("activate.json"), record.to_string()).unwrap();
    }

    fn file(&self, path: &str) -> PathBuf {
        let path = self.home(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        path
    }

    fn collect(&self) -> Collected {
        let said = workspace::collect(&self.ctx, &self.store, true).unwrap();
        let done = workspace::collect(&self.ctx, &self.store, false).unwrap();
        assert_eq!(said, done);
        done
    }

    fn refs(&self) -> Vec<String> {
        self.store.refs("").unwrap().into_iter().map(|(name, _)| name).collect()
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.home(dir)).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

fn lock(f: &Fixture) -> Lock {
    Lock::new(vec![Tool {
        name: "node".into(),
        version: "22.19.0".into(),
        platform: f.ctx.platform.to_string(),
        provider: "npm".into(),
        channel: None,
        bins: BTreeMap::new(),
        env: BTreeMap::new(),
        fixups: Fixups::default(),
        asked: Vec::new(),
        path: Vec::new(),
        answers: Vec::new(),
        programs: Default::default(),
        adopted: Vec::new(),
        parts: vec![Part {
            name: "node".into(),
            version: "22.19.0".into(),
            url: "https://one/x.tgz".into(),
            mirrors: Vec::new(),
            hash: Digest::sha256(b"x"),
            unpack: "tar.gz".into(),
            strip: 1,
            nar: None,
        }],
    }])
}

fn description(f: &Fixture, tree: String) -> Description {
    Description {
        version: 1,
        id: ID.into(),
        name: "web".into(),
        path: f.machine.dir.path().join("web"),
        created: NOW,
        presented: Presentation::Fuse,
        allow_other: false,
        environment: "needed".into(),
        environment_inputs: Vec::new(),
        source: SourceRecord {
            repository: "here".into(),
            revision: None,
            commit: "c".into(),
            tree: "t".into(),
            date: 1,
            clone: "repos/x".into(),
        },
        env: BTreeMap::new(),
        run: RunRecord::default(),
        dependencies: vec![DependencyRecord {
            key: "used".into(),
            manager: "npm".into(),
            tree,
            directories: Vec::new(),
            inputs: Vec::new(),
            vars: BTreeMap::new(),
        }],
    }
}

/// A home with a workspace, and with what others have left.
fn lived_in() -> (Fixture, TreeId) {
    let f = Fixture::new();
    let lock = lock(&f);
    let packages = realise::packages(&lock, &f.ctx.platform);
    let dir = f.home("workspaces").join(ID);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("env.lock"), lock.render()).unwrap();
    let both = f.tree(&dependencies::ref_name("used"));
    description(&f, both.to_string()).write(&dir).unwrap();
    f.tree(&packages[0]);
    for name in ["packages/old", "dependencies/old", "own"] {
        f.tree(name);
    }
    for key in ["needed", "old", "recent"] {
        f.environment(key);
    }
    for key in ["needed", "old"] {
        age(&f.home("envs").join(key).join("activate.json"));
    }
    for old in ["http/old", "files/old", "plans/old.json", "npm/a/old", "npm/b"] {
        age(&f.file(&format!("cache/{old}")));
    }
    for new in ["http/new", "files/new", "pip/a/new"] {
        f.file(&format!("cache/{new}"));
    }
    age(&f.file("cache/pip/old"));
    (f, both)
}

#[test]
fn what_a_workspace_stands_on_stays_and_old_caches_go() {
    let (f, both) = lived_in();
    let collected = f.collect();
    let package = realise::packages(&lock(&f), &f.ctx.platform).remove(0);
    assert_eq!(f.refs(), [dependencies::ref_name("used"), "own".into(), package]);
    assert_eq!(f.names("store/farm/trees"), ["needed", "recent"]);
    assert_eq!(f.names("envs"), ["needed", "recent"]);
    assert_eq!(f.names("cache"), ["files", "http", "pip", "plans"]);
    for (kind, left) in [("http", vec!["new"]), ("files", vec!["new"]), ("plans", vec![])] {
        assert_eq!(f.names(&format!("cache/{kind}")), left);
    }
    assert_eq!(f.names("cache/pip"), ["a", "old"]);
    let removed: Vec<_> = collected.removed.iter().map(|t| (t.kind, t.count)).collect();
    let expected = [
        ("packs", 2),
        ("refs", 2),
        ("farm trees", 1),
        ("environments", 1),
        ("answers of registries", 1),
        ("downloads", 1),
        ("plans", 1),
        ("caches of package managers", 1),
    ];
    for one in expected {
        assert!(removed.contains(&one), "{one:?} in {removed:?}");
    }
    assert_eq!(removed.len(), expected.len(), "{removed:?}");
    assert!(f.store.restore(&both, &f.machine.dir.path().join("out")).is_ok());

    // Without the workspace its things are old caches too.
    fs::remove_dir_all(f.home("workspaces").join(ID)).unwrap();
    f.collect();
    assert_eq!(f.refs(), ["own"]);
    assert_eq!(f.names("store/farm/trees"), ["recent"]);
    assert_eq!(f.names("envs"), ["recent"]);
}

#[test]
fn a_workspace_that_cannot_be_read_keeps_everything() {
    let (f, _) = lived_in();
    let dir = f.home("workspaces").join(ID);
    let sound = description(&f, "xyz".into());
    let refused = || match workspace::collect(&f.ctx, &f.store, false) {
        Err(StoreError::Roots { source }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    sound.write(&dir).unwrap();
    assert!(refused().contains("`xyz`, which is not the id of a tree"), "{}", refused());
    fs::write(dir.join("workspace.toml"), "version = 1\n").unwrap();
    assert!(refused().contains("is not a workspace's description"), "{}", refused());
    let tree = f.store.get_ref(&dependencies::ref_name("used")).unwrap().unwrap();
    description(&f, tree.to_string()).write(&dir).unwrap();
    let text = fs::read(dir.join("env.lock")).unwrap();
    fs::write(dir.join("env.lock"), "version = ").unwrap();
    assert!(refused().contains("env.lock"), "{}", refused());
    fs::write(dir.join("env.lock"), text).unwrap();
    let record = f.home("envs/needed/activate.json");
    fs::write(&record, "{}").unwrap();
    assert!(refused().contains("does not say what the environment is made of"), "{}", refused());
    assert_eq!(f.refs().len(), 5);
    assert_eq!(f.names("store/farm/trees").len(), 3);
    // One that is gone needs nothing.
    fs::remove_dir_all(f.home("envs/needed")).unwrap();
    f.collect();
    assert_eq!(f.names("store/farm/trees"), ["recent"]);
}

/// As `zagi mount` does it: what is there is used, what is not is made, and the description
/// comes last. All with a hold.
fn mount(f: &Fixture, store: &Store, id: &str, input: &Path) -> TreeId {
    let _hold = store.hold().unwrap();
    let env = f.ctx.home.envs().join("needed");
    let tree = f.home("store/farm/trees/needed");
    if !(env.join("activate.json").exists() && tree.is_dir()) {
        store.farm_tree("needed", &mut |dir| Ok(fs::write(dir.join("x"), "tool")?)).unwrap();
        let building = f.ctx.home.tmp().join(format!("env-{id}"));
        fs::create_dir_all(&building).unwrap();
        let record = serde_json::json!({ "version": 1, "trees": [tree] });
        fs::write(building.join("activate.json"), record.to_string()).unwrap();
        if fs::rename(&building, &env).is_err() {
            fs::remove_dir_all(&building).unwrap();
        }
    }
    let name = dependencies::ref_name("used");
    let tree = store.get_ref(&name).unwrap().unwrap_or_else(|| {
        let captured = store.capture(input).unwrap();
        store.set_ref(&name, &captured.tree).unwrap();
        captured.tree
    });
    let building = f.ctx.home.tmp().join(id);
    fs::create_dir_all(&building).unwrap();
    let described = Description { id: id.into(), ..description(f, tree.to_string()) };
    described.write(&building).unwrap();
    fs::rename(building, f.home("workspaces").join(id)).unwrap();
    tree
}

#[test]
fn a_collection_never_takes_away_what_a_mount_is_about_to_use() {
    let mut f = Fixture::new();
    // All that no workspace needs is old at once.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    f.ctx.now = now + 40 * 24 * 3600;
    let input = f.machine.dir.path().join("dependencies");
    fs::create_dir_all(input.join("tree")).unwrap();
    for n in 0..20 {
        fs::write(input.join(format!("tree/{n}")), n.to_string().repeat(500)).unwrap();
    }
    let (stop, removed) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (f, input, stop, removed) = (&f, &input, &stop, &removed);
        let mounting = [1, 2].map(|n| {
            scope.spawn(move || {
                let store = Store::open(&f.ctx.home.store()).unwrap();
                for round in 0..60 {
                    let id = format!("{n}{round:011}");
                    let tree = mount(f, &store, &id, input);
                    let tool = fs::read(f.home("store/farm/trees/needed/x"));
                    assert_eq!(tool.unwrap(), b"tool", "round {round}");
                    let out = f.machine.dir.path().join(format!("out {id}"));
                    store.restore(&tree, &out).unwrap();
                    assert_eq!(fs::read(out.join("tree/7")).unwrap(), "7".repeat(500).as_bytes());
                    assert!(f.ctx.home.envs().join("needed/activate.json").exists());
                    assert_eq!(store.get_ref(&dependencies::ref_name("used")).unwrap(), Some(tree));
                    fs::remove_dir_all(f.home("workspaces").join(&id)).unwrap();
                    if round % 4 == n {
                        // Time for a moment without any workspace.
                        std::thread::sleep(Duration::from_millis(40));
                    }
                }
            })
        });
        scope.spawn(move || {
            let store = Store::open(&f.ctx.home.store()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let collected = workspace::collect(&f.ctx, &store, false).unwrap();
                let trees = collected.removed.iter().filter(|tally| tally.kind == "farm trees");
                removed.fetch_add(trees.map(|tally| tally.count).sum(), Ordering::Relaxed);
            }
        });
        let done: Vec<_> = mounting.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        done.into_iter().for_each(|done| done.unwrap());
    });
    assert!(removed.load(Ordering::Relaxed) > 3, "{removed:?}: nothing was tried");
}
