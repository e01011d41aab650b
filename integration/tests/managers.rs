//! Each package manager, from an empty home: what its lock file pins is installed once, runs
//! the project's own tests, and is refused where the lock file and the registry differ.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use zagi_integration::git::serve_well;
use zagi_integration::http::Server;
use zagi_integration::machine::{Machine, Said, Who};
use zagi_integration::publish::publish;

/// A repository of `fixtures/`.
struct Project {
    name: &'static str,
    /// What its own tests print.
    says: &'static str,
    lock: &'static str,
    /// The beginnings of a package's hashes in the lock file.
    hashes: &'static [&'static str],
    /// What the manager says where that hash is another.
    refusal: &'static str,
}

const PROJECTS: [Project; 7] = [
    Project {
        name: "yarn",
        says: "generated once",
        lock: "yarn.lock",
        hashes: &["sha512-o+NO"],
        refusal: "Integrity check failed for \"kleur\"",
    },
    Project {
        name: "yarn-modules",
        says: "two versions side by side",
        lock: "yarn.lock",
        hashes: &["4110ec5d"],
        refusal: "semver@npm:7.6.3: The remote archive doesn't match the expected checksum",
    },
    Project {
        name: "yarn-pnp",
        says: "bundled without node_modules",
        lock: "yarn.lock",
        hashes: &["10c0/e9de6cb4"],
        refusal: "kleur@npm:4.1.5: The remote archive doesn't match the expected checksum",
    },
    Project {
        name: "bun",
        says: "3 pass",
        lock: "bun.lock",
        hashes: &["sha512-o+NO"],
        refusal: "Integrity check failed",
    },
    Project {
        name: "poetry",
        says: "4 passed",
        lock: "poetry.lock",
        hashes: &["sha256:9deba572", "sha256:3abbd2e3"],
        refusal: "Hash mismatch for `iniconfig==2.1.0`",
    },
    Project {
        name: "pdm",
        says: "3 passed",
        lock: "pdm.lock",
        hashes: &["sha256:9deba572", "sha256:3abbd2e3"],
        refusal: "Hash mismatch for `iniconfig==2.1.0`",
    },
    Project {
        name: "pipenv",
        says: "2 passed",
        lock: "Pipfile.lock",
        hashes: &["sha256:67f4b9c5", "sha256:9121e2c1"],
        refusal: "Hash mismatch for `iniconfig==2.3.1`",
    },
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A machine, and a server of repositories in a directory.
struct World {
    machine: Machine,
    served: tempfile::TempDir,
    server: Server,
}

impl World {
    fn new(who: Who) -> World {
        let served = tempfile::tempdir().unwrap();
        let server = serve_well(served.path());
        World { machine: Machine::new(who), served, server }
    }

    fn mount(&self, arguments: &[&str], repository: &str, name: &str) -> Said {
        let address = format!("{}/{repository}.git", self.server.base);
        let words: Vec<&str> =
            ["mount", "--json"].iter().chain(arguments).copied().chain([&*address, name]).collect();
        self.machine.zagi(&words)
    }

    /// Mounts, and runs the tests with the command that was detected.
    fn mount_and_test(&self, arguments: &[&str], project: &Project, name: &str) -> (Said, String) {
        let ready = self.mount(arguments, project.name, name).ok();
        let json = ready.json();
        let test = json["run"]["test"].as_str().expect("a test command").to_owned();
        let said = self.machine.exec(&self.machine.work().join(name), &test);
        let all = format!("{}: `{test}`:\n{}{}", project.name, said.out, said.err);
        assert_eq!(said.code, 0, "{all}");
        assert!(all.contains(project.says), "{all}");
        let key = json["dependencies"][0]["key"].as_str().expect("installed").to_owned();
        (ready, key)
    }

    /// Commits a change that no installation depends on, on the same day.
    fn commit_something_else(&self, project: &Project) {
        let bare = self.served.path().join(format!("{}.git", project.name));
        let script = "git clone -q \"$1\" tree && cd tree && echo x > NOTES && git add NOTES && \
                      git -c user.name=Test -c user.email=t@localhost commit -q -m second && \
                      git push -q origin HEAD";
        let work = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-ec", script, "sh"]).arg(bare).current_dir(work.path());
        shell.env("GIT_COMMITTER_DATE", "2025-06-01T00:01:00Z");
        assert!(shell.status().unwrap().success(), "{}", project.name);
    }
}

/// One project's way: installed, tested; found again for another commit and without network.
fn installed_once(world: &World, project: &Project) {
    publish(&fixture(project.name), world.served.path(), &format!("{}.git", project.name));
    let (first, key) = world.mount_and_test(&[], project, project.name);
    assert!(first.err.contains("installed"), "{}", first.err);
    world.commit_something_else(project);
    let other = format!("{}-other", project.name);
    let (second, same) = world.mount_and_test(&[], project, &other);
    // What the project's own script makes is made of all the source.
    if project.name != "yarn" {
        assert_eq!(key, same, "{}", project.name);
        let line = second.err.lines().find(|line| line.contains("dependencies"));
        assert!(line.is_some_and(|line| line.contains("cached")), "{}", second.err);
    }
    let offline = format!("{}-offline", project.name);
    world.mount_and_test(&["--offline"], project, &offline);
    let status = world.machine.git(&world.machine.work().join(&offline), &["status", "-s"]).ok();
    assert_eq!(status.out, "", "{}: the installation is no change", project.name);
}

#[test]
fn each_installs_what_its_lock_file_pins_once() {
    let world = World::new(Who::Me);
    for project in &PROJECTS {
        installed_once(&world, project);
    }
}

#[test]
fn an_ordinary_user_has_the_same() {
    let world = World::new(Who::Ordinary);
    for project in PROJECTS.iter().filter(|p| matches!(p.name, "yarn-pnp" | "poetry")) {
        installed_once(&world, project);
    }
}

#[test]
fn a_lock_file_that_lies_installs_nothing() {
    let world = World::new(Who::Me);
    for project in &PROJECTS {
        let work = tempfile::tempdir().unwrap();
        let tree = work.path().join("tree");
        let mut copy = Command::new("cp");
        assert!(copy.arg("-r").arg(fixture(project.name)).arg(&tree).status().unwrap().success());
        let path = tree.join(project.lock);
        let mut text = fs::read_to_string(&path).unwrap();
        for hash in project.hashes {
            let (kept, last) = hash.split_at(hash.len() - 4);
            let lie: String = kept.chars().chain(last.chars().rev()).collect();
            assert!(text.contains(hash) && lie != *hash, "{}: {hash}", project.name);
            text = text.replace(hash, &lie);
        }
        fs::write(&path, text).unwrap();
        publish(&tree, world.served.path(), &format!("{}.git", project.name));
        world.mount(&[], project.name, project.name).fails(1, project.refusal);
        let dir = world.machine.work().join(project.name);
        assert!(!dir.exists(), "{} was left behind", dir.display());
        let listed = world.machine.zagi(&["list", "--json"]).ok().json();
        assert_eq!(listed, serde_json::json!([]));
        let refs = fs::read_dir(world.machine.home().join("store/refs")).unwrap().flatten();
        let kept = refs.filter(|r| r.file_name().to_string_lossy().starts_with("dependencies"));
        assert_eq!(kept.count(), 0, "{}", project.name);
    }
}
