//! System libraries: found by builds of every kind, and by what they built when it runs, with no
//! `LD_LIBRARY_PATH` anywhere.

use std::path::Path;

use zagi_integration::git::serve_well;
use zagi_integration::machine::{Machine, Said, Who};
use zagi_integration::publish::publish;

/// One repository with a module for node that node-gyp builds, an extension of Python in C and a
/// `-sys` crate; what each says when the library itself has answered.
const BUILT: [(&str, &str); 3] = [
    ("node test.js", "libpq answers"),
    ("python -c 'import psycopg2; print(psycopg2.__libpq_version__)'", "1500"),
    ("cargo run -q", "OpenSSL 3"),
];

#[test]
fn builds_of_every_kind_find_libraries() {
    let machine = Machine::new(Who::Me);
    let served = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    publish(&fixtures.join("linked"), served.path(), "linked.git");
    let server = serve_well(served.path());
    machine.zagi(&["mount", &format!("{}/linked.git", server.base), "linked"]).ok();
    let dir = machine.work().join("linked");
    for (command, says) in BUILT {
        let said = machine.exec(&dir, command).ok();
        assert!(said.out.contains(says), "`{command}` did not say {says:?}: {}", said.out);
    }
    let variables = machine.exec(&dir, "env").ok().out;
    assert!(!variables.contains("LD_LIBRARY_PATH"), "{variables}");
    by_hand(&machine, &dir);
}

/// What a user does: add a library, build with it, run what was built, take it away.
fn by_hand(machine: &Machine, dir: &Path) {
    let zagi = |arguments: &[&str]| Said::of(&mut machine.zagi_in(dir, arguments));
    let said = zagi(&["add", "libgit2", "graphviz"]).ok().err;
    assert!(said.contains("added    libgit2 1.5"), "{said}");
    let program = "#include <git2.h>\n#include <stdio.h>\nint main() { int a, b, c; \
                   git_libgit2_version(&a, &b, &c); return printf(\"git2 %d.%d\\n\", a, b) < 0; }\n";
    machine.sh(dir, &format!("printf '%s' '{program}' > g.c")).ok();
    let build = "cc g.c -o g $(pkg-config --cflags --libs libgit2)";
    machine.exec(dir, build).ok();
    // Outside of the environment too: where the library is stands in the program.
    assert_eq!(machine.sh(dir, "./g").ok().out, "git2 1.5\n");
    let drawn = machine.exec(dir, "echo 'digraph { a -> b }' | dot -Tplain").ok().out;
    assert!(drawn.contains("edge a b"), "{drawn}");
    let shown = zagi(&["env"]).ok().out;
    assert!(shown.contains("libgit2  1.5"), "{shown}");
    zagi(&["remove", "libgit2", "graphviz"]).ok();
    assert!(
        !machine.exec(dir, "rm g; pkg-config --exists libgit2 && echo there").out.contains("there")
    );
    zagi(&["add", "libgit3"]).fails(1, "there is libgit2");
    zagi(&["add", "libgit2@1.5"]).fails(1, "one version only");
}

#[test]
fn an_ordinary_user_adds_libraries_by_hand() {
    let machine = Machine::new(Who::Ordinary);
    let repository = super::git::repository(&machine, "letters");
    machine.zagi(&["mount", repository.to_str().unwrap(), "w"]).ok();
    by_hand(&machine, &machine.work().join("w"));
}
