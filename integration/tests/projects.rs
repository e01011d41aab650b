//! Real projects, from an empty home to their own tests, with nothing done by hand.

use std::path::Path;

use zagi_integration::git::serve_well;
use zagi_integration::machine::{Machine, Who};
use zagi_integration::publish::publish;

/// Published packages, at versions whose tests pass; and what their own tests print when
/// they do.
const PUBLISHED: [(&str, &str); 5] = [
    ("pypi:jinja2", " passed"),
    ("pypi:itsdangerous", " passed"),
    ("pypi:markupsafe", " passed"),
    ("crate:semver", "test result: ok"),
    ("crate:indexmap", "test result: ok"),
];

/// Repositories of `fixtures/`, served by git, and what their own tests print.
const SERVED: [(&str, &str); 5] = [
    ("npm", "1 passing"),
    ("pnpm", "Passed:    1"),
    ("go", "ok"),
    ("zig", ""),
    ("mixed", "2 passed"),
];

fn mount_and_test(machine: &Machine, repository: &str, name: &str, says: &str) {
    let dir = machine.work().join(name);
    let ready = machine.zagi(&["mount", "--json", repository, name]).ok();
    let test = ready.json()["run"]["test"].as_str().map(str::to_owned);
    let test = test.unwrap_or_else(|| panic!("{repository}: no test command: {}", ready.out));
    let said = machine.exec(&dir, &test);
    let all = format!("{}{}", said.out, said.err);
    assert_eq!(said.code, 0, "{repository}: `{test}`:\n{all}");
    assert!(all.contains(says), "{repository}: `{test}` did not say {says:?}:\n{all}");
    machine.git(&dir, &["status", "--porcelain", "--untracked-files=no"]).ok();
}

/// The first so many of each kind: what is another for root is the mount, not the project.
fn pass(who: Who, served_too: usize, published: usize) {
    let machine = Machine::new(who);
    let served = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let server = serve_well(served.path());
    for (name, says) in SERVED.into_iter().take(served_too) {
        publish(&fixtures.join(name), served.path(), &format!("{name}.git"));
        mount_and_test(&machine, &format!("{}/{name}.git", server.base), name, says);
    }
    for (package, says) in PUBLISHED.into_iter().take(published) {
        mount_and_test(&machine, package, package.split_once(':').unwrap().1, says);
    }
    if published == PUBLISHED.len() {
        again_without_network(&machine);
    }
}

/// Everything is there now: mounting it elsewhere needs neither network nor installation.
fn again_without_network(machine: &Machine) {
    for (package, _) in PUBLISHED {
        let name = format!("{}-again", package.split_once(':').unwrap().1);
        machine.zagi(&["mount", "--offline", package, &name]).ok();
    }
    let jinja = machine.work().join("jinja2-again");
    let said = machine.exec(&jinja, "pytest -q 2>&1 | tail -1").ok();
    assert!(said.out.contains(" passed"), "{}", said.out);
    let semver = machine.work().join("semver-again");
    machine.exec(&semver, "cargo check --offline").ok();
}

#[test]
fn some_pass_their_own_tests_as_root() {
    pass(Who::Me, 1, 1);
}

#[test]
fn pass_their_own_tests_as_an_ordinary_user() {
    pass(Who::Ordinary, SERVED.len(), PUBLISHED.len());
}

/// What tools of Debian's do where they were put, as of a commit's date: a name, the date, a script
/// that writes the project, and a command with what it says.
const OF_DEBIAN: [(&str, &str, &str, &str, &str); 2] = [
    (
        "old-go",
        "2021-01-01T00:00:00Z",
        "printf 'module m\\n\\ngo 1.12\\n' >go.mod; printf 'package m\\n\\nimport (\\n\\t\"net\"\\n\\t\"runtime\"\\n\\t\"testing\"\\n)\\n\\nfunc \
         TestM(t *testing.T) { t.Log(runtime.Version(), net.IPv4zero) }\\n' >m_test.go",
        "go test -v ./...",
        "go1.15.15 0.0.0.0",
    ),
    (
        "perl",
        "2023-01-01T00:00:00Z",
        "mkdir -p lib t; echo 'use 5.010;' >Makefile.PL; printf 'package M;\\nsub one { 1 }\\n1;\\n' \
         >lib/M.pm; printf 'use POSIX;\\nuse List::Util qw(max);\\nuse Test::More tests => \
         1;\\nuse M;\\nis(max(0, M::one()), 1, \"perl $^V\");\\n' >t/m.t",
        "prove -lrv t",
        "perl v5.36",
    ),
];

#[test]
fn tools_of_debian_run_where_they_were_put() {
    let machine = Machine::new(Who::Ordinary);
    for (name, date, script, command, says) in OF_DEBIAN {
        let commit = format!(
            "mkdir -p {name}; cd {name}; {script}; git init -q; git add -A; \
             GIT_COMMITTER_DATE={date} git -c user.name=T -c user.email=t@localhost commit -qm one"
        );
        machine.sh(&machine.work(), &commit).ok();
        let own = machine.work().join(name).display().to_string();
        machine.zagi(&["mount", &own, &format!("{name}-1")]).ok();
        let said = machine.exec(&machine.work().join(format!("{name}-1")), command).ok();
        assert!(said.out.contains(says), "`{command}` did not say {says:?}: {}", said.out);
    }
}
