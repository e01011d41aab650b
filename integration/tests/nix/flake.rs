//! A repository's `flake.nix`: evaluated and built by real Nix, pinned, and had from a cache by
//! who has none.

use std::path::{Path, PathBuf};

use zagi_integration::machine::{Machine, Said, Who};

use super::cache::Cache;
use super::{configure, machine as machine_without_nix, trust, with_nix};

/// A shell with programs of its own, one that the catalogue knows (`node`) and one that every
/// system has (`ls`). Everything that it tries besides must come to nothing: to change Nix's
/// configuration, to see a file of the user's, to run at once, to change how programs run.
/// Scripts end as those of [`super::cache`] do, for the same reason.
const FLAKE: &str = r#"{
  nixConfig = {
    extra-substituters = [ "http://127.0.0.1:9/evil" ];
    post-build-hook = "@evil@";
    sandbox = false;
  };
  outputs = { self }: let
    mk = name: more: script: derivation ({
      inherit name;
      system = "@system@";
      builder = "/bin/bash";
      args = [ "-ec" (script + "\nexit 0") ];
      PATH = "/usr/bin:/bin";
    } // more);
    words = mk "words-1.0" {} ''
      [ ! -e @secret@ ]
      mkdir -p $out/share
      echo "hello from the flake" > $out/share/words
    '';
    tools = mk "tools-1.0" {} ''
      mkdir -p $out/bin
      for name in ftool node ls; do
        printf '#!/bin/sh\nread -r line < ${words}/share/words; echo "%s: $line $*"\n' $name > $out/bin/$name
      done
      chmod +x $out/bin/*
    '';
  in {
    devShells.@system@.default = mk "shell" {
      outputs = [ "out" ];
      PATH = "${tools}/bin:/usr/bin:/bin";
      FLAKE_WORDS = "${words}/share/words";
      LD_PRELOAD = "@evil@.so";
      NIX_CONFIG = "sandbox = false";
      SSL_CERT_FILE = "/no-cert-file.crt";
      shellHook = "touch @evil@";
    } "exit 1";
  };
}
"#;

/// What the sandbox of the tests' Nix must see of the machine, and what users had better not
/// have in theirs.
const CONFIGURATION: &str =
    "sandbox = false\nsandbox-paths = /bin /usr /lib /lib64\nfilter-syscalls = false\n";

/// What the flake tries to make.
fn evil(machine: &Machine) -> PathBuf {
    machine.work().join("evil")
}

/// A project `p` with this flake, and a pin file that asks for a tool which the flake brings.
fn project(machine: &Machine, flake: &str) -> PathBuf {
    let (work, dir) = (machine.work(), machine.work().join("p"));
    machine.sh(&work, "git init -q p && echo secret > secret").ok();
    let text = flake
        .replace("@system@", &format!("{}-linux", std::env::consts::ARCH))
        .replace("@secret@", work.join("secret").to_str().unwrap())
        .replace("@evil@", evil(machine).to_str().unwrap());
    std::fs::write(dir.join("flake.nix"), text).unwrap();
    std::fs::write(dir.join(".node-version"), "18\n").unwrap();
    commit(machine, &dir);
    dir
}

fn commit(machine: &Machine, dir: &Path) {
    machine.git(dir, &["add", "-A"]).ok();
    machine.git(dir, &["commit", "-qm", "a change"]).ok();
}

fn with_flake(who: Who, flake: &str) -> Machine {
    let mut machine = Machine::new(who);
    configure(&mut machine, CONFIGURATION);
    project(&machine, flake);
    machine
}

/// Zagi, then what the script says with `$zagi`.
fn run(machine: &Machine, script: &str) -> Said {
    with_nix(machine, &format!("zagi={}\n{script}", machine.program().display()))
}

#[test]
fn a_flake_gives_the_tools_and_changes_nothing_else() {
    for who in [Who::Me, Who::Ordinary] {
        let machine = with_flake(who, FLAKE);
        let said = run(
            &machine,
            "$zagi mount --materialise ./p w; cd w\n\
             $zagi exec -- ftool one; $zagi exec -- node two; $zagi exec -- ls three\n\
             $zagi exec -- sh -c 'cat $FLAKE_WORDS; echo preload ${LD_PRELOAD-none}'\n\
             $zagi exec -- sh -c 'echo config ${NIX_CONFIG-none}; echo $SSL_CERT_FILE'\n\
             .zagi/env/bin/node four; test ! -e .zagi/env/bin/ls; test -e .zagi/env/flake/ls\n\
             $zagi lock; $zagi why flake; cd ..; $zagi detect p\n\
             git -C p status --porcelain",
        )
        .ok();
        for words in [
            "ftool: hello from the flake one\n",
            "node: hello from the flake two\n",
            "ls: hello from the flake three\n",
            "\nhello from the flake\npreload none\nconfig none\n",
            "node: hello from the flake four\n",
            "flake.nix:28: devShells",
        ] {
            assert!(said.out.contains(words), "{words:?}: {said:?}");
        }
        assert!(!said.out.contains("no-cert-file") && !said.out.contains("flake.lock"), "{said:?}");
        assert!(
            said.err.contains("`flake.nix` sets LD_PRELOAD, NIX_CONFIG, which no repository may"),
            "{said:?}"
        );
        assert!(!evil(&machine).exists(), "its hooks were run");
        let lock = std::fs::read_to_string(machine.work().join("w/.zagi/env.lock")).unwrap();
        assert!(lock.contains("answers = [\"node\"]"), "{lock}");
        assert_eq!(lock.matches("[[tool]]").count(), 1, "{lock}");
        assert_eq!(lock.matches("[[tool.part]]").count(), 2, "{lock}");
        assert!(!lock.contains("url ="), "{lock}");
    }
}

/// Has the machine's Nix publish, signed, what the lock of the workspace `w` names.
fn publish(machine: &Machine, cache: &Cache) -> String {
    run(
        machine,
        "nix-store --generate-binary-cache-key flakes-1 sk pk\n\
         nix --extra-experimental-features nix-command copy \
           --to file://$PWD/published?secret-key=$PWD/sk /nix/store/*-tools-1.0",
    )
    .ok();
    let place = machine.work().join("published");
    let mut pending = vec![place.clone()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => pending.push(path),
                false => {
                    let name = path.strip_prefix(&place).unwrap().display().to_string();
                    cache.put(&format!("/cache/{name}"), &std::fs::read(&path).unwrap());
                }
            }
        }
    }
    std::fs::read_to_string(machine.work().join("pk")).unwrap()
}

#[test]
fn who_has_the_lock_evaluates_nothing_with_nix_or_without() {
    let cache = Cache::new();
    let first = with_flake(Who::Me, FLAKE);
    run(&first, "$zagi mount --materialise ./p w; cd w; $zagi lock").ok();
    let key = publish(&first, &cache);
    let lock = std::fs::read(first.work().join("w/.zagi/env.lock")).unwrap();
    let locked = |machine: &Machine| {
        let dir = project(machine, FLAKE);
        // Its paths differ from those of the other machine's, and with them the flake.
        std::fs::copy(first.work().join("p/flake.nix"), dir.join("flake.nix")).unwrap();
        std::fs::create_dir(dir.join(".zagi")).unwrap();
        std::fs::write(dir.join(".zagi/env.lock"), &lock).unwrap();
        machine.give(&dir.join(".zagi"));
        commit(machine, &dir);
    };

    let without = machine_without_nix(Who::Ordinary, &cache);
    trust(&without, &cache, &[cache.key(), &key]);
    locked(&without);
    let mounted = without.zagi(&["mount", "--materialise", "./p", "w"]).ok();
    assert!(!mounted.err.contains("is not used"), "{mounted:?}");
    let place = without.work().join("w");
    let said = without.exec(&place, "ftool one && cat $FLAKE_WORDS").ok();
    assert_eq!(said.out, "ftool: hello from the flake one\nhello from the flake\n");
    let said = without.sh(&place, ".zagi/env/bin/node two").ok();
    assert_eq!(said.out, "node: hello from the flake two\n");

    // With a Nix that can bring, and cannot evaluate.
    let mut with = Machine::new(Who::Ordinary);
    configure(&mut with, CONFIGURATION);
    trust(&with, &cache, &[cache.key(), &key]);
    locked(&with);
    let said = run(
        &with,
        "mkdir only; ln -s $(command -v nix-store) only; printf '#!/bin/sh\\ntouch asked; exit 1' > only/nix\n\
         chmod +x only/nix; PATH=$PWD/only:$PATH; $zagi mount --materialise ./p w; cd w\n\
         $zagi exec -- ftool one; readlink .zagi/env/flake/ftool\n\
         nix-store --gc; $zagi exec -- ftool two\n\
         rm -r ../../user/.zagi/envs/*; nix-store --gc; echo left /nix/store/*-tools-1.0",
    )
    .ok();
    assert!(said.out.contains("ftool: hello from the flake one\n/nix/store/"), "{said:?}");
    // Kept as long as the environment is there, and no longer.
    assert!(said.out.contains("ftool: hello from the flake two\n"), "{said:?}");
    assert!(said.out.ends_with("left /nix/store/*-tools-1.0\n"), "{said:?}");
    assert!(!with.work().join("asked").exists(), "{said:?}");
}

#[test]
fn what_no_cache_has_is_built_again_or_done_without() {
    let cache = Cache::new();
    let first = with_flake(Who::Me, FLAKE);
    run(&first, "$zagi mount --materialise ./p w; cd w; $zagi lock; cp -r .zagi/env.lock ..").ok();
    let lock = std::fs::read_to_string(first.work().join("env.lock")).unwrap();
    // The same flake, with the lock, where nothing is built yet.
    let dir = first.work().join("p");
    std::fs::create_dir(dir.join(".zagi")).unwrap();
    std::fs::write(dir.join(".zagi/env.lock"), &lock).unwrap();
    commit(&first, &dir);
    let said = run(
        &first,
        "$zagi discard --yes w; rm -r ../user/.zagi/envs/* ../user/.zagi/cache; nix-store --gc\n\
         $zagi mount --materialise ./p x; cd x; $zagi exec -- ftool again",
    )
    .ok();
    assert!(said.out.ends_with("ftool: hello from the flake again\n"), "{said:?}");
    assert!(said.err.contains("has of the flake is not used"), "{said:?}");

    let without = machine_without_nix(Who::Me, &cache);
    let dir = project(&without, &FLAKE.replace("node", "knot"));
    std::fs::copy(first.work().join("p/flake.nix"), dir.join("flake.nix")).unwrap();
    std::fs::remove_file(dir.join(".node-version")).unwrap();
    std::fs::create_dir(dir.join(".zagi")).unwrap();
    std::fs::write(dir.join(".zagi/env.lock"), &lock).unwrap();
    commit(&without, &dir);
    let said = without.zagi(&["mount", "--materialise", "./p", "w"]).ok();
    assert!(said.err.contains("no Nix cache that is known here has "), "{said:?}");
    assert!(said.err.contains("this machine has no Nix to evaluate it"), "{said:?}");
}

#[test]
fn what_cannot_be_evaluated_is_said_in_nixs_words() {
    let only = |flake: &str| {
        let machine = with_flake(Who::Ordinary, flake);
        machine.sh(&machine.work(), "git -C p rm -q .node-version").ok();
        commit(&machine, &machine.work().join("p"));
        machine
    };
    let machine = only("{\n  outputs = { self }: nope;\n}\n");
    let said = run(&machine, "$zagi mount --materialise ./p w").ok();
    let told = "`flake.nix` is not used: Nix says: undefined variable 'nope' at /nix/store/";
    assert!(said.err.contains(told) && said.err.contains("flake.nix:2:23;"), "{said:?}");

    // What cannot be built is told by who was building.
    let machine = only(&FLAKE.replace("mkdir -p $out/share", "echo no such header; exit 3"));
    let said = run(&machine, "$zagi mount --materialise ./p w").ok();
    let told = "-words-1.0.drv' failed with exit code 3 (it wrote: no such header); what else";
    assert!(said.err.contains(told), "{said:?}");

    // A file of the user's, in the lock or not: it is not read.
    let input = "{\n  inputs.x = { url = \"path:@secret@\"; flake = false; };\n\
                 outputs = { self, x }: builtins.throw (builtins.readFile x);\n}\n";
    let machine = only(input);
    let said = run(&machine, "$zagi mount --materialise ./p w").ok();
    assert!(said.err.contains("'--no-update-lock-file'"), "{said:?}");
    assert!(!said.err.contains("secret\n"), "{said:?}");
    let secret = machine.work().join("secret").display().to_string();
    let node = format!("{{\"type\": \"path\", \"path\": \"{secret}\"}}");
    let lock = format!(
        "{{\"nodes\": {{\"root\": {{\"inputs\": {{\"x\": \"x\"}}}}, \"x\": {{\"flake\": false, \
         \"locked\": {node}, \"original\": {node}}}}}, \"root\": \"root\", \"version\": 7}}"
    );
    let dir = machine.work().join("p");
    std::fs::write(dir.join("flake.lock"), lock).unwrap();
    commit(&machine, &dir);
    let said = run(&machine, "$zagi mount --materialise ./p x").ok();
    assert!(said.err.contains("its input `x` is a file of the machine"), "{said:?}");
}

#[test]
fn without_nix_a_flake_is_said_to_be_there() {
    let machine = machine_without_nix(Who::Me, &Cache::new());
    let dir = project(&machine, FLAKE);
    std::fs::remove_file(dir.join(".node-version")).unwrap();
    commit(&machine, &dir);
    let said = machine.zagi(&["mount", "--materialise", "./p", "w"]).ok();
    let told = "`flake.nix` is not used: this machine has no Nix to evaluate it; what else";
    assert!(said.err.contains(told), "{said:?}");
    // `env.toml` decides about what it names, whoever else would bring it.
    let said = machine.zagi(&["detect", "p"]).ok();
    assert!(said.out.contains("flake    its tools, where Nix evaluates it"), "{said:?}");
}
