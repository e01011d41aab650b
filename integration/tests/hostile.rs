//! Repositories that somebody made to hurt: refused by the real program, with the path and the
//! reason, and nothing of them stays. What only looks dangerous is shown as git shows it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use zagi_integration::git::serve_well;
use zagi_integration::machine::{Machine, Said, Who};

/// What a script needs to make trees that git itself would not.
const HELPERS: &str = r#"
    export GIT_AUTHOR_NAME=T GIT_AUTHOR_EMAIL=t@localhost GIT_COMMITTER_NAME=T GIT_COMMITTER_EMAIL=t@localhost
    git init -q -b main . && git config uploadpack.allowFilter true
    blob() { printf "$1" | git hash-object -w --stdin; }
    # MODE NAME ID …: the bytes of a tree. Names are as printf reads them.
    bytes() {
        while [ $# -gt 0 ]; do
            printf "$1 $2\\0"
            printf "$(echo "$3" | sed 's/../\\x&/g')"
            shift 3
        done
    }
    tree() { bytes "$@" | git hash-object -t tree --literally -w --stdin; }
    file=$(blob file)
"#;

/// A repository `name` whose tree is what `script` prints the id of.
fn repository(machine: &Machine, name: &str, script: &str) -> PathBuf {
    let dir = machine.work().join("served").join(name);
    let work = machine.work();
    let whole = format!(
        "mkdir -p \"$1\" && cd \"$1\" {HELPERS}\nroot=$({script})\n\
         git update-ref refs/heads/main \"$(git commit-tree -m one \"$root\")\""
    );
    // What `printf` understands differs from shell to shell.
    let mut bash = machine.command("bash", &work);
    Said::of(bash.args(["-ec", &whole, "bash"]).arg(&dir)).ok();
    dir
}

/// No workspace, nothing half-made, and no directory that was not there.
#[track_caller]
fn nothing_stays(machine: &Machine) {
    for place in ["workspaces", "tmp"] {
        let left = std::fs::read_dir(machine.home().join(place)).into_iter().flatten().flatten();
        let left: Vec<_> = left.map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(!machine.work().join("w").exists());
    let empty = std::fs::read_dir(machine.work().join("empty")).unwrap().next().is_none();
    assert!(empty, "something is in a directory that was empty");
}

/// Each with what is said of it.
const HOSTILE: [(&str, &str, &str, &str); 16] = [
    ("up", "tree 100644 a $file 40000 b $(tree 100644 .. $file)", "`b/..`", "the way to"),
    ("empty", "tree 100644 '' $file", "`/`", "no name"),
    ("slash", "tree 100644 ../../evil $file", "`../../evil`", "`/` inside"),
    ("git", "tree 40000 .git $(tree 100644 config $file)", "`.git`", "git's own"),
    ("case", "tree 40000 a $(tree 40000 .GiT $(tree))", "`a/.GiT`", "git's own"),
    ("hfs", r"tree 40000 '.g\xe2\x80\x8cit' $(tree)", r"`.g\u{200c}it`", "git's own"),
    ("ntfs", "tree 40000 git~1 $(tree)", "`git~1`", "git's own"),
    ("modules", "tree 120000 .gitmodules $file", "`.gitmodules`", "settings"),
    ("long", "tree 100644 $(printf %4096s | tr ' ' x) $file", "x…x", "255 bytes"),
    ("twice", "tree 100644 a $file 100755 a $file", "`a`", "twice"),
    ("both", "tree 100644 a $file 100644 a.c $file 40000 a $(tree)", "`a`", "twice"),
    ("order", "tree 100644 b $file 100644 a $file", "`a`", "order"),
    ("mode", "tree 104755 suid $file", "`suid`", "kind"),
    ("nul", r"tree 120000 link $(blob 'a\0b')", "`link`", "NUL"),
    ("nowhere", "tree 120000 link $(blob '')", "`link`", "nothing"),
    ("far", "tree 120000 link $(blob $(printf %4096s | tr ' ' x))", "`link`", "4,095"),
];

fn is_refused(who: Who) {
    let machine = Machine::new(who);
    machine.sh(&machine.work(), "mkdir empty").ok();
    for (name, script, path, why) in HOSTILE {
        let origin = repository(&machine, name, script);
        for dir in ["w", "empty"] {
            let said = machine.zagi(&["mount", origin.to_str().unwrap(), dir]).fails(1, why);
            assert!(said.err.contains(path), "{name}: {}", said.err);
            assert!(said.err.contains("hint: do not trust it"), "{name}: {}", said.err);
            assert!(!said.err.contains(|c: char| c.is_control() && c != '\n'), "{name}: {said:?}");
        }
        let said = machine.zagi(&["mount", "--materialise", origin.to_str().unwrap(), "w"]);
        said.fails(1, why);
        nothing_stays(&machine);
    }
}

#[test]
fn what_git_would_not_check_out_is_refused_as_root() {
    is_refused(Who::Me);
}

#[test]
fn what_git_would_not_check_out_is_refused_as_an_ordinary_user() {
    is_refused(Who::Ordinary);
}

/// From a server, which sends what it likes.
#[test]
fn what_a_server_sends_is_refused_too() {
    let machine = Machine::new(Who::Me);
    machine.sh(&machine.work(), "mkdir empty").ok();
    let server = serve_well(&machine.work().join("served"));
    for name in ["git", "twice", "far"] {
        let (_, script, path, why) = HOSTILE.into_iter().find(|h| h.0 == name).unwrap();
        repository(&machine, name, script);
        let url = format!("{}/{name}/.git", server.base);
        for options in [&["--no-deps"][..], &["--offline"]] {
            let arguments = [&["mount"], options, &[&url, "w"]].concat();
            let said = machine.zagi(&arguments);
            match options {
                ["--offline"] => said.fails(1, "never fetched"),
                _ => {
                    assert!(said.err.contains(path), "{}", said.err);
                    said.fails(1, why)
                }
            };
            nothing_stays(&machine);
        }
    }
}

/// A few kilobytes that stand for ten thousand million paths, or for one without end.
#[test]
fn bombs_are_refused_at_once() {
    let machine = Machine::new(Who::Me);
    machine.sh(&machine.work(), "mkdir empty").ok();
    let wide = "t=$(tree 100644 f $file); for _ in 0 1 2 3 4 5 6 7 8 9; do \
        t=$(tree $(for n in 0 1 2 3 4 5 6 7 8 9; do echo 40000 d$n $t; done)); done; echo $t";
    // Twenty thousand runs of git would take too long.
    let deep = r#"python3 -c '
import hashlib, os, zlib
below = bytes.fromhex(os.popen("git hash-object -t tree -w /dev/null").read())
for _ in range(20000):
    data = b"40000 d\0" + below
    data = b"tree %d\0" % len(data) + data
    name = hashlib.sha1(data)
    below, digits = name.digest(), name.hexdigest()
    os.makedirs(f".git/objects/{digits[:2]}", exist_ok=True)
    with open(f".git/objects/{digits[:2]}/{digits[2:]}", "wb") as file:
        file.write(zlib.compress(data, 1))
print(below.hex())'"#;
    for (name, script, why) in [("wide", wide, "too many"), ("deep", deep, "4,095 bytes")] {
        let origin = repository(&machine, name, script);
        let begun = Instant::now();
        machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).fails(1, why);
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}: {:?}", begun.elapsed());
        nothing_stays(&machine);
    }
}

/// Where links lead is for whoever follows them, as in git's own checkout.
#[test]
fn links_that_lead_anywhere_are_shown_as_git_shows_them() {
    let machine = Machine::new(Who::Ordinary);
    let origin = machine.work().join("links");
    let script = r#"
        mkdir -p links/sub && cd links && git init -q -b main && echo file > file
        ln -s /etc/passwd absolute; ln -s / root; ln -s ../../../../../../.. out
        ln -s self self; ln -s two one; ln -s one two; ln -s . here; ln -s ../sub sub/loop
        ln -s nowhere dangling; ln -s .git/config settings; ln -s file plain
        ln -s "$(printf %4095s | tr ' ' x)" long; ln -s "$(printf 'a\nb \377')" odd
        git add -A && git -c user.name=T -c user.email=t@localhost commit -q -m one
        cd .. && git clone -q links checkout"#;
    machine.sh(&machine.work(), script).ok();
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let links = r"find . -path ./.git -prune -o -type l -printf '%p %l\n' | sort | od -c -v";
    let w = machine.work().join("w");
    let shown = machine.sh(&w, links).ok().out;
    assert_eq!(shown, machine.sh(&machine.work().join("checkout"), links).ok().out);
    assert!(shown.lines().count() > 250, "{shown}");
    let script = r#"
        cat plain here/here/file sub/loop/../file
        for link in self one dangling; do cat $link 2>&1 || true; done
        test "$(readlink -f absolute)" = /etc/passwd && test "$(readlink -f root)" = /
        cmp absolute /etc/passwd && git status --porcelain"#;
    let said = machine.sh(&w, script).ok().out;
    assert!(said.starts_with("file\nfile\nfile\n"), "{said}");
    assert_eq!(said.matches("Too many levels").count(), 2, "{said}");
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    assert_eq!(said.lines().count(), 6, "{said}");
}

/// Whatever is asked for by a name that cannot be.
#[test]
fn long_names_are_too_long_and_no_more() {
    let machine = Machine::new(Who::Me);
    let origin = super::git::repository(&machine, "letters");
    machine.zagi(&["mount", origin.to_str().unwrap(), "w"]).ok();
    let w = machine.work().join("w");
    let at = |length: usize| w.join("x".repeat(length));
    assert_eq!(std::fs::metadata(at(255)).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    for length in [256, 257, 1023, 1024, 1025, 4000, 4095, 4096, 5000] {
        let refused = [
            std::fs::symlink_metadata(at(length)).unwrap_err(),
            std::fs::write(at(length), "").unwrap_err(),
            std::fs::create_dir(at(length)).unwrap_err(),
            std::fs::rename(w.join("alpha.txt"), at(length)).unwrap_err(),
            std::os::unix::fs::symlink("alpha.txt", at(length)).unwrap_err(),
            std::fs::hard_link(w.join("alpha.txt"), at(length)).unwrap_err(),
            std::fs::remove_file(at(length)).unwrap_err(),
        ];
        for error in refused {
            let too_long = Errno::ENAMETOOLONG as i32;
            assert_eq!(error.raw_os_error(), Some(too_long), "{length}: {error}");
        }
    }
    std::fs::write(at(255), "as long as can be").unwrap();
    assert_eq!(std::fs::read(at(255)).unwrap(), b"as long as can be");
    assert_eq!(machine.sh(&w, "cat alpha.txt").ok().out, "alpha\n");
}
