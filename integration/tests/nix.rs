//! Tools from a Nix binary cache, on a machine that has no use for Nix: real Nix (Debian's
//! `nix-bin`) builds and signs, zagi reads what it published, and the programs run.

#[path = "nix/cache.rs"]
mod cache;
#[path = "nix/flake.rs"]
mod flake;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use zagi_integration::machine::{Machine, Said, Who};

use self::cache::{Cache, Forger};

/// A user to whom `cache` is the only one; Nix itself is not on the PATH.
fn machine(who: Who, cache: &Cache) -> Machine {
    let mut machine = Machine::new(who);
    let programs = machine.work().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for entry in std::fs::read_dir("/usr/bin").unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with("nix") {
            std::os::unix::fs::symlink(entry.path(), programs.join(entry.file_name())).unwrap();
        }
    }
    machine.set("PATH", programs.to_str().unwrap());
    machine.sh(&machine.work(), "! command -v nix").ok();
    trust(&machine, cache, &[cache.key()]);
    machine
}

/// Writes the user's configuration: where the cache is, whom to trust, what is in it.
fn trust(machine: &Machine, cache: &Cache, keys: &[&str]) {
    let home = machine.home();
    std::fs::create_dir_all(&home).unwrap();
    let base = cache.base();
    let addresses =
        format!("[addresses]\nnix-cache = \"{base}/cache\"\nnix-channel = \"{base}/channel\"\n");
    std::fs::write(home.join("config.toml"), addresses).unwrap();
    let tool = |name: &str| {
        format!(
            "[[tool.{name}.source]]\nprovider = \"nix\"\nchannel = \"nixos\"\n\
             package = \"{name}\"\n[tool.{name}.source.bins]\n\
             {name} = \"{{out}}/bin/{name}\"\n\
             {name}-shim = {{ path = \"{{out}}/bin/{name}\", shim = true }}\n"
        )
    };
    let catalogue = format!(
        "version = 1\n[channel.nixos]\naddress = \"{{nix-channel}}\"\ncache = \"{{nix-cache}}\"\n\
         keys = {keys:?}\n{}{}",
        tool("hello"),
        tool("say")
    );
    std::fs::write(home.join("catalog.toml"), catalogue).unwrap();
    machine.give(&home);
}

/// A project that asks for these tools.
fn project(machine: &Machine, name: &str, tools: &[&str]) -> PathBuf {
    let dir = machine.work().join(name);
    let tools: String = tools.iter().map(|tool| format!("{tool} = \"2\"\n")).collect();
    machine.sh(&machine.work(), &format!("mkdir -p {name}/.zagi && git init -q {name}")).ok();
    std::fs::write(dir.join(".zagi/env.toml"), format!("[tools]\n{tools}")).unwrap();
    machine.git(&dir, &["add", "-A"]).ok();
    machine.git(&dir, &["commit", "-qm", "first"]).ok();
    dir
}

fn mount(machine: &Machine, project: &str, place: &str) -> Said {
    machine.zagi(&["mount", "--materialise", &format!("./{project}"), place])
}

#[test]
fn programs_run_out_of_a_store_that_the_machine_does_not_have() {
    let cache = Cache::new();
    let before = Path::new("/nix").exists();
    for who in [Who::Me, Who::Ordinary] {
        let machine = machine(who, &cache);
        project(&machine, "p", &["hello"]);
        mount(&machine, "p", "w").ok();
        let place = machine.work().join("w");
        let uid = machine.sh(&place, "id -u").ok().out;
        let expected = |pid: &str, word: &str, dir: &Path| {
            format!("hello from the store\n{word}|{}|{pid}|{}\n", uid.trim(), dir.display())
        };
        // By its path, in the same process: id, working directory, user, input, exit code.
        for program in ["hello", "hello-shim"] {
            let script =
                format!("echo $$; echo in | exec sh -c 'exec .zagi/env/bin/{program} w 7'");
            let said = machine.sh(&place, &script);
            assert_eq!(said.code, 7, "{said:?}");
            let script = format!("echo $$; exec .zagi/env/bin/{program} w");
            let said = machine.sh(&place, &script).ok();
            let (pid, rest) = said.out.split_once('\n').unwrap();
            assert_eq!(rest, expected(pid, "w", &place));
        }
        // Where the user's own files are, all of them, and the store besides.
        let said = machine
            .sh(Path::new("/tmp"), &format!("exec {}/.zagi/env/bin/hello w", place.display()));
        assert!(said.ok().out.ends_with("|/tmp\n"));
        let said = machine.exec(&place, "ls -d /nix/store/*-words-1.0 && ls -A / && hello x 3");
        assert_eq!(said.code, 3, "{said:?}");
        for name in std::fs::read_dir("/").unwrap() {
            let name = name.unwrap().file_name().into_string().unwrap();
            assert!(said.out.lines().any(|line| line == name), "{name}: {}", said.out);
        }
        machine.sh(&place, "echo kept > f").ok();
        assert_eq!(machine.exec(&place, "cat f && echo more >> f").ok().out, "kept\n");
        assert_eq!(std::fs::read_to_string(place.join("f")).unwrap(), "kept\nmore\n");
        machine.exec(&place, "echo x > /nix/store/x").fails(2, "Read-only");
        machine.exec(&place, "no-such-program").fails(127, "not found");
        // A second workspace asks nobody.
        let asked = cache.requests().len();
        mount(&machine, "p", "again").ok();
        assert_eq!(cache.requests().len(), asked);
    }
    assert_eq!(Path::new("/nix").exists(), before, "the machine has no trace of it");
}

#[test]
fn an_installation_sees_the_store_too() {
    let cache = Cache::new();
    let machine = machine(Who::Ordinary, &cache);
    let dir = project(&machine, "p", &["hello"]);
    let text = "{\"name\": \"p\", \"version\": \"1.0.0\", \"dependencies\": {\"is-number\": \"7.0.0\"},\n\
                \"scripts\": {\"postinstall\": \"hello installed > node_modules/said\"}}\n";
    std::fs::write(dir.join("package.json"), text).unwrap();
    machine.git(&dir, &["add", "-A"]).ok();
    machine.git(&dir, &["commit", "-qm", "second"]).ok();
    mount(&machine, "p", "w").ok();
    let said = std::fs::read_to_string(machine.work().join("w/node_modules/said")).unwrap();
    assert!(said.starts_with("hello from the store\ninstalled|"), "{said}");
}

/// Runs a script in the work directory where everything is as on this machine, and `/nix`
/// besides: a directory of the user's own, empty at first.
fn with_nix(machine: &Machine, script: &str) -> Said {
    let (work, root) = (machine.work(), machine.work().join("root"));
    let nix = work.join("nix");
    if !root.is_dir() {
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir_all(nix.join("store")).unwrap();
        machine.give(&nix);
        machine.give(&nix.join("store"));
    }
    // Not by chroot: who is in one may make no namespace, and so no sandbox.
    let make = "root=$1 nix=$2 work=$3 script=$4; shift 4\n\
                mount --make-rprivate /; mount -t tmpfs none \"$root\"\n\
                for e in /*; do\n\
                  case $e in /nix) continue;; esac\n\
                  if [ -L \"$e\" ]; then cp -P \"$e\" \"$root$e\"\n\
                  elif [ -d \"$e\" ]; then mkdir \"$root$e\"; mount --rbind \"$e\" \"$root$e\"; fi\n\
                done\n\
                mkdir \"$root/nix\" \"$root/.old\"; mount --bind \"$nix\" \"$root/nix\"\n\
                cd \"$root\"; pivot_root . .old; umount -l /.old; rmdir /.old\n\
                exec \"$@\" sh -ec \"cd '$work'; $script\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", make, "sh"]).args([&root, &nix, &work]).arg(script);
    let becoming = machine.becoming();
    command.args(if becoming.is_empty() { vec!["env".to_owned()] } else { becoming });
    command.env_clear().current_dir("/").stdin(std::process::Stdio::null());
    for (name, value) in machine.command("true", Path::new("/")).get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    Said::of(&mut command)
}

/// Writes the configuration of the user's Nix.
fn configure(machine: &mut Machine, more: &str) {
    let conf = machine.work().join("conf");
    std::fs::create_dir(&conf).unwrap();
    let text = format!("substituters =\nbuild-users-group =\n{more}");
    std::fs::write(conf.join("nix.conf"), text).unwrap();
    machine.set("NIX_CONF_DIR", conf.to_str().unwrap());
}

#[test]
fn a_machine_with_nix_has_nix_bring_it() {
    let cache = Cache::new();
    let mut machine = Machine::new(Who::Me);
    trust(&machine, &cache, &[cache.key()]);
    configure(&mut machine, "");
    project(&machine, "p", &["say"]);
    let zagi = machine.program().display().to_string();
    let script = format!(
        "{zagi} mount --materialise ./p w; readlink w/.zagi/env/bin/say; w/.zagi/env/bin/say one\n\
         nix-store --gc 2>&1; w/.zagi/env/bin/say-shim two; cd w; {zagi} exec -- say three; cd ..\n\
         nix-store --verify --check-contents\n\
         rm -r {home}/envs/*; mkdir broken; printf '#!/bin/sh\\necho out of order >&2; exit 1' > broken/nix-store\n\
         chmod +x broken/nix-store; PATH=$PWD/broken:$PATH {zagi} mount --materialise ./p x\n\
         rm -r /nix/store/*-words-1.0; x/.zagi/env/bin/say four",
        home = machine.home().display()
    );
    let said = with_nix(&machine, &script);
    for word in ["one|", "two|", "three|"] {
        assert!(said.out.contains(word), "{said:?}");
    }
    assert!(
        said.out.lines().any(|l| l.starts_with("/nix/store/") && l.ends_with("-say-2.0/bin/say")),
        "{said:?}"
    );
    // What somebody broke in the machine's store is not used; zagi's own is shown instead.
    assert!(
        said.out.contains("four|") && said.err.contains("Nix does not bring say 2.0"),
        "{said:?}"
    );
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn tools_of_one_environment_share_a_store() {
    let cache = Cache::new();
    let machine = machine(Who::Ordinary, &cache);
    project(&machine, "p", &["hello", "say"]);
    mount(&machine, "p", "w").ok();
    let place = machine.work().join("w");
    // `say` is a script: its interpreter is one store path, what it starts another.
    let said = machine.sh(&place, ".zagi/env/bin/say one && .zagi/env/bin/hello two").ok();
    assert!(said.out.contains("one|") && said.out.contains("two|"), "{}", said.out);
    machine.exec(&place, "say-shim three && ls -d /nix/store/*-shell-1.0").ok();
    // The lock has every path, once a tool, and where they were chosen.
    Said::of(&mut machine.zagi_in(&place, &["lock"])).ok();
    let lock = std::fs::read_to_string(place.join(".zagi/env.lock")).unwrap();
    let release = format!("channel = \"{}/release-1\"", cache.base());
    assert_eq!(lock.matches(&release).count(), 2, "{lock}");
    assert_eq!(lock.matches("-words-1.0\"").count(), 2, "{lock}");
    assert_eq!(lock.matches("[tool.part.nar]").count(), 3 + 5, "{lock}");
}

/// Fails with `said`; nothing is left, what there was works, and once the cache is mended so
/// does what failed.
#[track_caller]
fn refused(cache: &Cache, spoil: impl FnOnce(&Cache), said: &str) {
    let whole = cache.files();
    let machine = machine(Who::Me, cache);
    project(&machine, "p", &["hello"]);
    project(&machine, "q", &["say"]);
    mount(&machine, "p", "w").ok();
    let place = machine.work().join("w");
    // So that it is asked again.
    std::fs::remove_dir_all(machine.home().join("cache")).unwrap();
    spoil(cache);
    mount(&machine, "q", "x").fails(1, said);
    assert!(!machine.work().join("x").exists());
    assert!(machine.sh(&place, ".zagi/env/bin/hello one").ok().out.contains("one|"));
    cache.set_files(whole);
    trust(&machine, cache, &[cache.key()]);
    std::fs::remove_dir_all(machine.home().join("cache")).unwrap();
    mount(&machine, "q", "x").ok();
    let said = machine.sh(&machine.work().join("x"), ".zagi/env/bin/say two");
    assert!(said.ok().out.contains("two|"));
}

#[test]
fn what_was_not_signed_or_was_changed_since_is_refused() {
    let cache = Cache::new();
    let edit = |from: &'static str, to: &'static str| {
        move |cache: &Cache| cache.edit("say", |text| text.replace(from, to))
    };
    let changed = "it was changed after it was signed";
    refused(&cache, edit("NarSize: ", "NarSize: 1"), changed);
    let cut = |text: String| {
        let line = text.lines().find(|line| line.starts_with("References: ")).unwrap().to_owned();
        text.replace(&line, line.rsplit_once(' ').unwrap().0)
    };
    refused(&cache, |cache| cache.edit("say", cut), changed);
    let unsigned = |text: String| {
        text.lines().filter(|l| !l.starts_with("Sig")).collect::<Vec<_>>().join("\n")
    };
    refused(&cache, |cache| cache.edit("words", unsigned), "is not signed; trusted are test-1");
    refused(
        &cache,
        edit("Sig: test-1:", "Sig: other-1:"),
        "is signed by other-1 only; trusted are test-1",
    );
    refused(&cache, |cache| cache.edit("say", |_| cache.info("words")), "is about /nix/store/");
    refused(&cache, |cache| cache.remove("words"), "-words-1.0, to which /nix/store/");
    refused(
        &cache,
        |cache| cache.edit("words", |_| "<html>".into()),
        "is no narinfo: line 1 has no name",
    );
    refused(
        &cache,
        |cache| cache.put("/cache/nix-cache-info", b"StoreDir: /gnu/store\n"),
        "is of /gnu/store",
    );
    refused(
        &cache,
        |cache| cache.put("/release-1/store-paths.xz", b"<html>"),
        "is no list of store paths",
    );
}

#[test]
fn an_unknown_key_is_refused() {
    let cache = Cache::new();
    let machine = machine(Who::Me, &cache);
    project(&machine, "p", &["hello"]);
    let stranger = Forger::new("stranger-1");
    trust(&machine, &cache, &[&stranger.key()]);
    mount(&machine, "p", "w").fails(1, "is signed by test-1 only; trusted are stranger-1");
    trust(&machine, &cache, &["test-1:short"]);
    mount(&machine, "p", "w").fails(1, "`test-1:short` is no key of a Nix cache");
    // The right name, and another's key.
    trust(&machine, &cache, &[&stranger.key().replace("stranger-1", "test-1")]);
    mount(&machine, "p", "w").fails(1, "it was changed after it was signed");
    trust(&machine, &cache, &[&stranger.key(), cache.key()]);
    mount(&machine, "p", "w").ok();
}

#[test]
fn archives_that_are_not_what_was_signed_are_refused() {
    let cache = Cache::new();
    let flip = |mut bytes: Vec<u8>| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        bytes
    };
    refused(&cache, |cache| cache.edit_file("words", flip), "has digest sha256:");
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() - 7].to_vec();
    refused(&cache, |cache| cache.edit_file("words", cut), "has digest sha256:");
    // Nobody signs what the packed file hashes to: another path's archive comes, and fits that.
    let other = |cache: &Cache| {
        let shell = cache.info("shell");
        let field = |name: &str| shell.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
        cache.edit("words", |text| {
            let replace = |line: &str| match line.split_once(':').unwrap().0 {
                name @ ("URL" | "FileHash" | "FileSize") => field(name),
                _ => line.to_owned(),
            };
            text.lines().map(replace).collect::<Vec<_>>().join("\n")
        });
    };
    refused(&cache, other, "the archive goes on after the 472 bytes that it should have");
}

#[test]
fn a_hostile_archive_writes_nothing_though_it_is_signed() {
    let cache = Cache::new();
    let machine = machine(Who::Me, &cache);
    project(&machine, "p", &["hello"]);
    let forger = Forger::new("stranger-1");
    trust(&machine, &cache, &[cache.key(), &forger.key()]);
    let target = machine.work().join("target");
    std::fs::create_dir(&target).unwrap();
    let target = target.to_str().unwrap();
    let climbing = format!("../../../../../../..{target}/file");
    for (words, said) in [
        (cache::directory(&[&climbing]), "the archive is hostile: it has a file called `../"),
        (cache::directory(&["b", "a"]), "the archive is hostile: `a` comes after `b`"),
        (cache::link_then_file(target), "the archive is hostile: `d` comes after `d`"),
    ] {
        forger.publish(&cache, "hello", &words);
        let _ = std::fs::remove_dir_all(machine.home().join("cache"));
        mount(&machine, "p", "w").fails(1, said);
        assert_eq!(std::fs::read_dir(target).unwrap().count(), 0);
        assert!(!machine.work().join("w").exists());
    }
}

#[test]
fn a_cache_that_does_not_answer_is_passed_over_at_once_and_said() {
    let cache = Cache::new();
    let machine = machine(Who::Me, &cache);
    project(&machine, "p", &["hello"]);
    drop(cache);
    let begun = Instant::now();
    mount(&machine, "p", "w").fails(1, "hello from nix is passed over");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let said = machine.zagi(&["--offline", "mount", "./p", "w"]);
    said.fails(1, "the network may not be used");
}
