//! What is durable, what is pending, and what a cut leaves of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;

use super::caches::OUTSIDE;

/// What becomes of unsynced bytes in a file that keeps its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes {
    /// They are lost.
    Lost,
    /// They are there.
    Kept,
    /// The first half of them is there.
    Half,
    /// The first half is there, and zeros for the others.
    HalfThenZeros,
    /// There are zeros for all of them.
    Zeros,
}

/// What becomes of names whose directory was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// All is undone.
    Lost,
    /// All is there.
    Kept,
    /// New names are there, what was removed is, too.
    Added,
    /// What was removed is gone, new names are lost.
    Removed,
}

/// What is on the disk after the power was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The same for every name and file.
    All(Names, Bytes),
    /// By lot for each name and each file, from this seed.
    Mixed(u64),
}

/// The cuts that are tried after operation `k`.
pub fn cuts(k: u64) -> Vec<Cut> {
    let all = [
        (Names::Lost, Bytes::Lost),
        (Names::Kept, Bytes::Kept),
        (Names::Kept, Bytes::Lost),
        (Names::Kept, Bytes::Half),
        (Names::Kept, Bytes::HalfThenZeros),
        (Names::Kept, Bytes::Zeros),
        (Names::Added, Bytes::Kept),
        (Names::Removed, Bytes::Kept),
    ];
    let mixed = [2 * k, 2 * k + 1].map(Cut::Mixed);
    all.map(|(names, bytes)| Cut::All(names, bytes)).into_iter().chain(mixed).collect()
}

/// A name in a directory, both as the model knows them.
pub type Place = (usize, OsString);

/// Something done to names that no sync has made durable yet.
#[derive(Debug, Clone)]
pub enum Change {
    Add(Place, usize),
    Remove(Place),
    Rename(Place, Place, usize),
}

impl Change {
    fn places(&self) -> Vec<&Place> {
        match self {
            Change::Add(place, _) | Change::Remove(place) => vec![place],
            Change::Rename(from, to, _) => vec![from, to],
        }
    }

    fn apply(&self, names: &mut BTreeMap<Place, usize>) {
        match self {
            Change::Add(place, node) => drop(names.insert(place.clone(), *node)),
            Change::Remove(place) => drop(names.remove(place)),
            Change::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

/// A file or directory.
#[derive(Debug, Clone)]
pub enum Node {
    Directory,
    File { durable: Vec<u8>, bytes: Vec<u8> },
}

const ROOT: usize = 0;

/// Files and directories.
pub struct Model {
    pub nodes: Vec<Node>,
    /// What is on the disk whatever happens.
    durable: BTreeMap<Place, usize>,
    /// What programs see.
    names: BTreeMap<Place, usize>,
    pending: Vec<Change>,
}

impl Model {
    /// What is in the directory `root`, durably.
    pub fn new(root: &Path) -> Model {
        let mut model = Model {
            nodes: vec![Node::Directory],
            durable: BTreeMap::new(),
            names: BTreeMap::new(),
            pending: Vec::new(),
        };
        model.load(root, ROOT);
        model.durable.clone_from(&model.names);
        model
    }

    /// Makes `to` the directory as a cut leaves it.
    pub fn found(&self, to: &Path, cut: Cut) {
        let mut lots = Lots(match cut {
            Cut::Mixed(seed) => seed,
            Cut::All(..) => 0,
        });
        let names = self.surviving(cut, &mut lots);
        self.write(ROOT, to, &names, cut, &mut lots);
    }

    /// The node of a path. Directories that somebody made past the seam are taken as they are.
    pub fn find(&mut self, path: &Path) -> usize {
        let mut at = ROOT;
        for name in path {
            let place = (at, name.to_owned());
            at = match self.names.get(&place) {
                Some(node) => *node,
                None => {
                    let node = self.add(Node::Directory);
                    self.names.insert(place.clone(), node);
                    self.durable.insert(place, node);
                    node
                }
            };
        }
        at
    }

    pub fn place(&mut self, path: &Path) -> Place {
        let parent = self.find(path.parent().expect("nothing is done to the root"));
        (parent, path.file_name().expect("a file has a name").to_owned())
    }

    /// The file that programs see there.
    pub fn named(&self, place: &Place) -> usize {
        self.names[place]
    }

    pub fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.pending.push(change);
    }

    fn load(&mut self, path: &Path, at: usize) {
        for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
            if OUTSIDE.iter().any(|name| entry.file_name() == OsStr::new(name)) {
                continue;
            }
            let is_dir = entry.file_type().unwrap().is_dir();
            let node = self.add(if is_dir {
                Node::Directory
            } else {
                let bytes = fs::read(entry.path()).unwrap();
                Node::File { durable: bytes.clone(), bytes }
            });
            self.names.insert((at, entry.file_name()), node);
            if is_dir {
                self.load(&entry.path(), node);
            }
        }
    }

    /// Makes what was done to names in `directory` durable, and what had to come before it.
    pub fn sync(&mut self, directory: usize) {
        let mut needed: BTreeSet<Place> = BTreeSet::new();
        let mut chosen = vec![false; self.pending.len()];
        for (at, change) in self.pending.iter().enumerate().rev() {
            let places = change.places();
            if places.iter().any(|place| place.0 == directory || needed.contains(*place)) {
                chosen[at] = true;
                needed.extend(places.into_iter().cloned());
            }
        }
        let mut chosen = chosen.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let is_chosen = chosen.next().expect("there is one for each");
            if is_chosen {
                change.apply(durable);
            }
            !is_chosen
        });
    }

    /// The names that a cut leaves.
    fn surviving(&self, cut: Cut, lots: &mut Lots) -> BTreeMap<Place, usize> {
        let mut names = self.durable.clone();
        let mut undone: BTreeSet<&Place> = BTreeSet::new();
        for change in &self.pending {
            let is_removal = matches!(change, Change::Remove(_));
            let wanted = match cut {
                Cut::All(Names::Lost, _) => false,
                Cut::All(Names::Kept, _) => true,
                Cut::All(Names::Added, _) => !is_removal,
                Cut::All(Names::Removed, _) => is_removal,
                Cut::Mixed(_) => lots.draw(2) == 0,
            };
            let places = change.places();
            if wanted && !places.iter().any(|place| undone.contains(*place)) {
                change.apply(&mut names);
            } else {
                undone.extend(places);
            }
        }
        names
    }

    fn write(
        &self,
        at: usize,
        to: &Path,
        names: &BTreeMap<Place, usize>,
        cut: Cut,
        lots: &mut Lots,
    ) {
        let inside = names.range((at, OsString::new())..(at + 1, OsString::new()));
        for ((_, name), node) in inside {
            let to = to.join(name);
            match &self.nodes[*node] {
                Node::Directory => {
                    fs::create_dir_all(&to).unwrap();
                    self.write(*node, &to, names, cut, lots);
                }
                Node::File { durable, bytes } => {
                    let fate = match cut {
                        Cut::All(_, fate) => fate,
                        Cut::Mixed(_) => lots.fate(),
                    };
                    fs::write(&to, fate.of(durable, bytes)).unwrap();
                }
            }
        }
    }
}

impl Bytes {
    fn of(self, durable: &[u8], bytes: &[u8]) -> Vec<u8> {
        let half = durable.len() + (bytes.len() - durable.len()) / 2;
        let mut found = match self {
            Bytes::Lost => durable.to_vec(),
            Bytes::Kept => bytes.to_vec(),
            Bytes::Half | Bytes::HalfThenZeros => [durable, &bytes[durable.len()..half]].concat(),
            Bytes::Zeros => durable.to_vec(),
        };
        if matches!(self, Bytes::HalfThenZeros | Bytes::Zeros) {
            found.resize(bytes.len(), 0);
        }
        found
    }
}

/// Lots that fall the same for the same seed.
struct Lots(u64);

impl Lots {
    /// A number below `n` (splitmix64).
    fn draw(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn fate(&mut self) -> Bytes {
        [Bytes::Lost, Bytes::Kept, Bytes::Half, Bytes::HalfThenZeros, Bytes::Zeros]
            [self.draw(5) as usize]
    }
}
