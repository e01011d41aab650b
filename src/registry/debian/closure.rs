//! The packages that some packages need, over one or more suites.
//!
//! Not a solver: archives are consistent in themselves, so the first alternative that can
//! be had is taken, as `apt` does on an empty system. `Recommends` and conflicts do not
//! count, and nothing is assumed to be there already, not even what is `Essential`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::control::Dependency;
use super::index::Package;
use super::{DebianError, Suite, version};

/// What is asked for: a package, of any suite or of one.
#[derive(Debug, Clone)]
pub struct Root {
    /// The package's name.
    pub name: String,
    /// The index of the suite that it must come from.
    pub suite: Option<usize>,
}

/// What makes two suites compete.
///
/// Of suites on one rank (a release and its security updates) the newest version is
/// taken; a lower rank (backports) is asked only for what the ranks above cannot answer.
#[derive(Debug)]
pub struct Pool {
    /// Each suite, with its rank: 0 is asked first.
    pub suites: Vec<(u32, Suite)>,
}

/// One package of the closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The package.
    pub package: Package,
    /// The index of its suite in the pool.
    pub suite: usize,
}

impl Pool {
    /// The best package that answers `wanted`: of the first rank that has one, packages of
    /// that very name before those that provide it, then the newest.
    pub fn best(
        &self,
        wanted: &Dependency,
        only: Option<usize>,
    ) -> Result<Option<Chosen>, DebianError> {
        let mut found: Vec<(u32, Chosen)> = Vec::new();
        for (n, (rank, suite)) in self.suites.iter().enumerate() {
            if only.is_some_and(|only| only != n) {
                continue;
            }
            let mut packages = Vec::new();
            for index in &suite.indexes {
                let (named, providers) = index.lookup(&wanted.name)?;
                packages.extend(named);
                for provider in providers {
                    packages.extend(index.lookup(&provider)?.0);
                }
            }
            let fitting = packages.into_iter().filter(|p| p.answers(wanted));
            found.extend(fitting.map(|package| (*rank, Chosen { package, suite: n })));
        }
        found.sort_by(|(rank_a, a), (rank_b, b)| {
            let real = |c: &Chosen| c.package.name != wanted.name;
            (rank_a.cmp(rank_b))
                .then_with(|| real(a).cmp(&real(b)))
                .then_with(|| a.package.name.cmp(&b.package.name))
                .then_with(|| version::compare(&b.package.version, &a.package.version))
        });
        Ok(found.into_iter().next().map(|(_, chosen)| chosen))
    }

    /// `roots` and everything they depend on, except what is excluded by name, sorted by
    /// name.
    pub fn closure(
        &self,
        roots: &[Root],
        exclude: &BTreeSet<String>,
    ) -> Result<Vec<Chosen>, DebianError> {
        let mut chosen: BTreeMap<String, Chosen> = BTreeMap::new();
        let mut queue = VecDeque::new();
        // All roots first, so that an alternative that is a root is not decided otherwise.
        for root in roots {
            let wanted = Dependency { name: root.name.clone(), version: None };
            let Some(found) = self.best(&wanted, root.suite)? else {
                return Err(self.missing(vec![wanted], None));
            };
            chosen.insert(found.package.name.clone(), found.clone());
            queue.push_back(found);
        }
        while let Some(dependent) = queue.pop_front() {
            for group in &dependent.package.depends {
                let settled = group.iter().any(|wanted| {
                    exclude.contains(&wanted.name)
                        || chosen.values().any(|c| c.package.answers(wanted))
                });
                if settled {
                    continue;
                }
                let mut found = None;
                for wanted in group {
                    found = self.best(wanted, None)?;
                    if found.is_some() {
                        break;
                    }
                }
                let Some(found) = found else {
                    return Err(self.missing(group.clone(), Some(&dependent.package.name)));
                };
                if exclude.contains(&found.package.name) {
                    continue;
                }
                // A second version of one package cannot stand beside the first: what asked
                // for it can only live with the newer one.
                chosen.insert(found.package.name.clone(), found.clone());
                queue.push_back(found);
            }
        }
        Ok(chosen.into_values().collect())
    }

    fn missing(&self, wanted: Vec<Dependency>, by: Option<&str>) -> DebianError {
        let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
        let suites: Vec<&str> = self.suites.iter().map(|(_, s)| s.name.as_str()).collect();
        DebianError::Missing {
            wanted: names.join(" | "),
            suites: suites.join(", "),
            by: by.unwrap_or("the catalogue").to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::index;
    use super::*;

    fn suite(dir: &std::path::Path, name: &str, packages: &str) -> Suite {
        let path = dir.join(name);
        std::fs::write(&path, index::build(packages)).unwrap();
        let index = index::Index::open(&path).unwrap().expect("it was just made");
        Suite {
            name: name.into(),
            address: format!("http://{name}"),
            snapshot: None,
            date: None,
            indexes: vec![index],
        }
    }

    fn named(chosen: &[Chosen]) -> Vec<String> {
        chosen.iter().map(|c| format!("{}={}", c.package.name, c.package.version)).collect()
    }

    const STABLE: &str = "Package: tool\nVersion: 1\nPre-Depends: libc\nDependS: a | b, virtual\n\n\
        Package: libc\nVersion: 2.36-9\n\nPackage: b\nVersion: 3\nDepends: libc (>= 2.30), tool\n\n\
        Package: impl-z\nVersion: 1\nProvides: virtual\n\nPackage: impl-a\nVersion: 1\nProvides: virtual\nDepends: debconf\n\n\
        Package: debconf\nVersion: 1\nDepends: perl\n";

    #[test]
    fn alternatives_provisions_and_exclusions() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool { suites: vec![(0, suite(dir.path(), "stable", STABLE))] };
        let root = [Root { name: "tool".into(), suite: None }];
        let without = BTreeSet::from(["debconf".to_owned()]);
        let found = pool.closure(&root, &without).unwrap();
        assert_eq!(named(&found), ["b=3", "impl-a=1", "libc=2.36-9", "tool=1"]);
        // perl is nowhere, and nobody said that it is not needed.
        let e = pool.closure(&root, &BTreeSet::new()).unwrap_err();
        assert!(e.to_string().contains("perl") && e.to_string().contains("debconf"), "{e}");
    }

    #[test]
    fn security_beats_the_release_and_backports_answer_only_what_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let security = "Package: libc\nVersion: 2.36-9+deb12u1\n";
        let backports = "Package: libc\nVersion: 2.40-1~bpo\n\n\
            Package: tool\nVersion: 9~bpo\nDepends: libc, helper (= 9~bpo)\n\n\
            Package: helper\nVersion: 9~bpo\n";
        let release = format!("{STABLE}\nPackage: helper\nVersion: 1\n");
        let pool = Pool {
            suites: vec![
                (0, suite(dir.path(), "stable", &release)),
                (0, suite(dir.path(), "security", security)),
                (1, suite(dir.path(), "backports", backports)),
            ],
        };
        let root = [Root { name: "tool".into(), suite: Some(2) }];
        let found = pool.closure(&root, &BTreeSet::new()).unwrap();
        assert_eq!(named(&found), ["helper=9~bpo", "libc=2.36-9+deb12u1", "tool=9~bpo"]);
        assert_eq!(found[1].suite, 1);
    }
}
