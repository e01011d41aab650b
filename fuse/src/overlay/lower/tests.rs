//! Tests of merging, with layers that are only in memory.

use std::io;

use super::*;
use crate::layer::Entry;

/// A tree written as text: `dir/`, `file`, in any order; content and key are the path.
struct Paths(Vec<&'static str>);

impl Paths {
    fn node(&self, path: &str) -> Option<Node> {
        let as_dir = format!("{path}/");
        let directory = path.is_empty() || self.0.iter().any(|line| line.starts_with(&as_dir));
        let file = self.0.contains(&path);
        let kind = if directory { Kind::Directory } else { Kind::File };
        let (size, key) = (path.len() as u64, path.as_bytes().into());
        (directory || file).then_some(Node { kind, mode: 0o755, size, mtime: 7, key })
    }
}

impl Layer for Paths {
    fn root(&self) -> Node {
        self.node("").expect("the root is there")
    }

    fn lookup(&self, dir: &Key, name: &[u8]) -> io::Result<Option<Node>> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let path = format!("{}/{}", text(dir), text(name));
        Ok(self.node(path.trim_start_matches('/')))
    }

    fn list(&self, dir: &Key) -> io::Result<Vec<Entry>> {
        let dir = String::from_utf8_lossy(dir).into_owned();
        let prefix = if dir.is_empty() { dir } else { format!("{dir}/") };
        let below = self.0.iter().filter_map(|line| line.strip_prefix(&prefix));
        let mut names: Vec<&str> = below.filter_map(|rest| rest.split('/').next()).collect();
        names.retain(|name| !name.is_empty());
        names.sort_unstable();
        names.dedup();
        let entry = |name: &str| {
            let node = self.node(&format!("{prefix}{name}")).expect("listed");
            Entry { name: name.as_bytes().into(), node }
        };
        Ok(names.into_iter().map(entry).collect())
    }

    fn read(&self, file: &Key, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = file.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

fn layers(all: Vec<(&str, Vec<&'static str>)>) -> Layers {
    let attach = |(at, paths): (&str, _)| Attached { at: at.into(), layer: Arc::new(Paths(paths)) };
    Layers::new(all.into_iter().map(attach).collect()).unwrap_or_else(|at| panic!("{at:?}"))
}

/// Everything in the merged tree as text, found by listing and again by looking up.
fn tree(layers: &Layers) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![layers.root()];
    while let Some(dir) = todo.pop() {
        for child in layers.list(&dir).expect("lists").iter() {
            let path = String::from_utf8(child.path().expect("short").into()).expect("text");
            let again = layers.resolve(&layers.root(), path.as_bytes()).expect("looks");
            assert_eq!(again.expect("is there").ino, child.ino, "{path}");
            if child.kind() == FileKind::Directory {
                todo.push(Arc::clone(child));
                lines.push(format!("{path}/"));
                continue;
            }
            let mut content = [0; 64];
            let length = layers.read(child, 0, &mut content).expect("reads");
            lines.push(format!("{path}={}", String::from_utf8_lossy(&content[..length])));
        }
    }
    lines.sort();
    lines
}

/// As [`tree`], but nothing was listed before something is looked up.
fn kind_of(layers: &Layers, path: &str) -> Option<FileKind> {
    let found = layers.resolve(&layers.root(), path.as_bytes()).expect("looks");
    found.map(|node| node.kind())
}

#[test]
fn directories_merge_and_what_is_above_wins() {
    let layers = layers(vec![("", vec!["a/x", "a/y", "b"]), ("", vec!["a/y/z", "b/c", "d"])]);
    assert_eq!(kind_of(&layers, "a/y"), Some(FileKind::Directory));
    let expected = ["a/", "a/x=a/x", "a/y/", "a/y/z=a/y/z", "b/", "b/c=b/c", "d=d"];
    assert_eq!(tree(&layers), expected);
}

#[test]
fn a_file_hides_directories_below_it_and_all_under_them() {
    let layers = layers(vec![("", vec!["a/low"]), ("", vec!["a"]), ("", vec!["a/high"])]);
    assert_eq!(kind_of(&layers, "a/low"), None);
    assert_eq!(tree(&layers), ["a/", "a/high=a/high"]);
}

#[test]
fn the_way_to_an_attached_layer_is_there_and_merges() {
    let layers = layers(vec![
        ("", vec!["p/own", "file"]),
        ("p/q", vec!["deep"]),
        ("p/q/r", vec!["deeper"]),
        ("file/under", vec!["over"]),
    ]);
    assert_eq!(kind_of(&layers, "p/q/r/deeper"), Some(FileKind::File));
    assert_eq!(kind_of(&layers, "p/x"), None);
    assert_eq!(
        tree(&layers),
        [
            "file/",
            "file/under/",
            "file/under/over=over",
            "p/",
            "p/own=p/own",
            "p/q/",
            "p/q/deep=deep",
            "p/q/r/",
            "p/q/r/deeper=deeper",
        ]
    );
}

#[test]
fn a_file_hides_what_is_attached_under_it_before() {
    let layers = layers(vec![("p/q", vec!["deep"]), ("", vec!["p"])]);
    assert_eq!(kind_of(&layers, "p/q"), None);
    assert_eq!(tree(&layers), ["p=p"]);
}

#[test]
fn no_layer_makes_an_empty_root() {
    let none = layers(vec![]);
    assert_eq!(tree(&none), [""; 0]);
    assert_eq!((none.root().ino, none.root().mode), (ROOT, 0o755));
}

#[test]
fn layers_do_not_stand_outside() {
    for at in ["../x", "/x", "a/../b"] {
        let layer: Arc<dyn Layer> = Arc::new(Paths(vec![]));
        assert!(Layers::new(vec![Attached { at: at.into(), layer }]).is_err(), "{at}");
    }
}

#[test]
fn names_that_cannot_be_are_not_listed() {
    /// A layer that lies.
    struct Hostile;
    impl Layer for Hostile {
        fn root(&self) -> Node {
            Paths(vec![]).root()
        }
        fn lookup(&self, _: &Key, _: &[u8]) -> io::Result<Option<Node>> {
            Ok(None)
        }
        fn list(&self, _: &Key) -> io::Result<Vec<Entry>> {
            let names: [&[u8]; 6] = [b"", b".", b"..", b"a/b", b"nul\0", b"good"];
            let node = Paths(vec!["x"]).node("x").expect("there");
            Ok(names.map(|name| Entry { name: name.into(), node: node.clone() }).into())
        }
        fn read(&self, _: &Key, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }
    }
    let layers = Layers::new(vec![Attached { at: "".into(), layer: Arc::new(Hostile) }]);
    let layers = layers.unwrap_or_else(|at| panic!("{at:?}"));
    let listing = layers.list(&layers.root()).expect("lists");
    assert_eq!(listing.iter().map(|child| child.name()).collect::<Vec<_>>(), [b"good"]);
}
