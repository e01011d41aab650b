//! `zagi agent`: the same directory, and nothing else of the user's. Everything that must fail
//! inside is shown to work outside first.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use zagi_integration::machine::{Machine, Said, Who};

const CANARY: &str = "c4nary-7f3a91";

fn both(test: impl Fn(Who)) {
    test(Who::Me);
    test(Who::Ordinary);
}

/// A repository that is mounted.
fn mounted(machine: &Machine) -> PathBuf {
    let work = machine.work();
    let make = "mkdir origin && cd origin && git init -q && echo hello > file && \
                git add -A && git -c user.name=T -c user.email=t@localhost commit -q -m first";
    machine.sh(&work, make).ok();
    machine.zagi(&["mount", "./origin", "w"]).ok();
    work.join("w")
}

fn agent(machine: &Machine, dir: &Path, script: &str) -> Said {
    Said::of(&mut machine.zagi_in(dir, &["agent", "--name", "t", "--", "sh", "-c", script]))
}

/// A server that answers every request with [`CANARY`].
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let length = CANARY.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close");
            let _ = stream.write_all(format!("{head}\r\n\r\n{CANARY}").as_bytes());
        }
    });
    port
}

/// Asks for `http://127.0.0.1:PORT/`, by the proxy or past it.
fn fetch(port: u16, proxy: bool) -> String {
    let proxies = if proxy { "'http': os.environ.get('http_proxy', '')" } else { "" };
    format!(
        "/usr/bin/python3 -c \"import os, urllib.request as u; \
         o = u.build_opener(u.ProxyHandler({{{proxies}}})); \
         r = u.Request('http://127.0.0.1:{port}/x'); \
         os.environ.pop('no_proxy', 0); os.environ.pop('NO_PROXY', 0); \
         print(o.open(r, timeout=10).read().decode())\""
    )
}

#[test]
fn it_works_in_the_same_directory_with_the_same_tools() {
    both(|who| {
        let machine = Machine::new(who);
        let dir = mounted(&machine);
        let script = "pwd && cat file && echo edited > file && git add -A && \
                      git -c user.name=A -c user.email=a@localhost commit -q -m agents && \
                      git log --format=%s && id -u && test -w $HOME && echo kept > $HOME/kept && exit 7";
        let said = agent(&machine, &dir, script);
        assert_eq!(said.code, 7, "{said:?}");
        let expected = format!("{}\nhello\nagents\nfirst\n1000\n", dir.display());
        assert_eq!(said.out, expected);
        // It is the user's own directory.
        assert_eq!(
            machine.sh(&dir, "cat file; git log -1 --format=%s").ok().out,
            "edited\nagents\n"
        );
        // Its home stays, and is not the user's.
        assert_eq!(agent(&machine, &dir, "cat $HOME/kept").ok().out, "kept\n");
        let log = Said::of(&mut machine.zagi_in(&dir, &["agent", "--log"])).ok().out;
        assert!(log.contains("changed   file\n"), "{log}");
        assert!(!machine.home().join("kept").exists());
    });
}

/// Also where the repository has nothing of zagi's yet.
#[test]
fn it_may_ask_for_tools_and_grant_itself_nothing() {
    both(|who| {
        let machine = Machine::new(who);
        let dir = mounted(&machine);
        let script = "echo '[tools]' > .zagi/env.toml && cat .zagi/env.toml; \
                      for name in agents.toml secrets.enc; do echo x > .zagi/$name || echo no; done; \
                      mv .zagi other || echo no";
        assert_eq!(agent(&machine, &dir, script).ok().out, "[tools]\nno\nno\nno\n");
        let left = "ls -A .zagi; git status --short";
        assert_eq!(machine.sh(&dir, left).ok().out, "env.toml\n?? .zagi/\n");
        // Nothing is left where it asks for none.
        machine.sh(&dir, "rm .zagi/env.toml").ok();
        agent(&machine, &dir, "true").ok();
        assert_eq!(machine.sh(&dir, left).ok().out, "");
    });
}

/// What it ran is in its log: not only what it was started as, and of one program not without end.
#[test]
fn what_it_runs_is_logged() {
    both(|who| {
        let machine = Machine::new(who);
        let dir = mounted(&machine);
        let script = "git log --format=%s; printf '#!/bin/sh\\nexec ls \"$@\"\\n' > build; \
                      chmod +x build; ./build file -1; no-such-program; \
                      /usr/bin/printf 'two\\033[31m\\nlines' >/dev/null; \
                      bash -c 'exec -a /usr/bin/git ./build file -s' >/dev/null; \
                      ln -s /proc/self/root/usr/bin/uname linked; ./linked -s >/dev/null; \
                      i=0; while [ $i -lt 550 ]; do /bin/true $i; i=$((i+1)); done";
        let said = agent(&machine, &dir, script).ok();
        assert_eq!(said.out, "first\nfile\n", "{said:?}");
        let log = Said::of(&mut machine.zagi_in(&dir, &["agent", "--log"])).ok().out;
        let ran: Vec<&str> = log
            .lines()
            .filter_map(|line| line.split_once(" ran       ").map(|(_, ran)| ran))
            .collect();
        for line in [
            "git log --format=%s",
            "./build file -1",
            "ls file -1",
            &format!("{}/build (as /usr/bin/git) file -s", dir.display()),
            "./linked -s",
            "/bin/true 499",
        ] {
            assert_eq!(ran.iter().filter(|ran| **ran == line).count(), 1, "{line}: {log}");
        }
        assert_eq!(ran.iter().filter(|ran| ran.starts_with("/bin/true ")).count(), 500, "{log}");
        assert_eq!(ran.last(), Some(&"/bin/true, 50 more times"), "{log}");
        assert!(!ran.iter().any(|ran| ran.contains("no-such-program")), "{log}");
        let json = Said::of(&mut machine.zagi_in(&dir, &["agent", "--log", "--json"])).ok().json();
        let entries: Vec<_> =
            json.as_array().expect("rows").iter().map(|row| &row["entry"]).collect();
        let ls = entries.iter().find(|entry| entry["argv"][0] == "ls").expect("it ran");
        assert_eq!((&ls["what"], &ls["cut"]), (&"ran".into(), &false.into()), "{ls}");
        assert!(ls["program"].as_str().is_some_and(|file| file.ends_with("/ls")), "{ls}");
        let more = entries.iter().find(|entry| entry["what"] == "ran-more").expect("some");
        assert_eq!((&more["program"], &more["times"]), (&"/bin/true".into(), &50.into()));
    });
}

#[test]
fn its_own_program_may_be_the_users() {
    let mut machine = Machine::new(Who::Ordinary);
    let dir = mounted(&machine);
    let make = "mkdir -p $HOME/.local/bin $HOME/.npm/lib/node_modules/@x/agent && \
                cd $HOME/.npm/lib/node_modules/@x/agent && printf '#!/bin/sh\\n. \"$(dirname \"$0\")/part.sh\"\\n' > cli && \
                echo 'echo it runs; command -v own-agent; grep -c :/bin/sh$ /etc/passwd; echo $SHELL; ls -A ~/.npm ~/.local/bin 2>&1' > part.sh && chmod +x cli && \
                ln -s $PWD/cli $HOME/.local/bin/own-agent && echo $HOME/.local/bin";
    let bin = machine.sh(&machine.work(), make).ok().out;
    machine.set("PATH", &format!("{}:/usr/bin:/bin", bin.trim()));
    // A shell of the user's own is not seen.
    machine.set("SHELL", &format!("{}/fish", bin.trim()));
    let said = Said::of(&mut machine.zagi_in(&dir, &["agent", "--", "own-agent"]));
    assert!(
        said.out.starts_with("it runs\n/zagi/home/.local/bin/own-agent\n1\n/bin/sh\n"),
        "{said:?}"
    );
    assert!(said.out.contains("cannot access") && said.out.ends_with("\nown-agent\n"), "{said:?}");
}

#[test]
fn it_sees_nothing_of_the_users() {
    both(|who| {
        let mut machine = Machine::new(who);
        let dir = mounted(&machine);
        let home = machine.sh(&machine.work(), "echo $HOME").ok().out.trim().to_owned();
        machine.set("OPENAI_API_KEY", CANARY);
        machine.set("SSH_AUTH_SOCK", &format!("{home}/{CANARY}"));
        let places = [
            format!("cat {home}/.canary"),
            format!("cat {home}/.zagi/canary"),
            "cat ../beside/canary".to_owned(),
            "cat /run/*/canary /tmp/canary-of-zagi".to_owned(),
            "cat /proc/[0-9]*/environ | tr '\\0' '\\n'".to_owned(),
            "env".to_owned(),
        ];
        machine
            .sh(
                &machine.work(),
                &format!(
                    "mkdir -p beside $HOME/.zagi; \
                     for f in $HOME/.canary $HOME/.zagi/canary beside/canary /tmp/canary-of-zagi; \
                     do echo {CANARY} > $f; done"
                ),
            )
            .ok();
        for look in places {
            // The control: the user's own shell finds it.
            let said = machine.sh(&dir, &format!("{look} 2>/dev/null"));
            assert!(said.out.contains(CANARY), "{look}: {said:?}");
            let said = agent(&machine, &dir, &format!("{look}; true"));
            assert!(!said.out.contains(CANARY), "{look}: {}", said.out);
        }
        machine.sh(&machine.work(), "rm -f /tmp/canary-of-zagi").ok();
    });
}

#[test]
fn what_others_run_later_stays_as_it_is() {
    both(|who| {
        let machine = Machine::new(who);
        let dir = mounted(&machine);
        for attack in [
            "mkdir -p .git/hooks; echo 'echo owned' > .git/hooks/pre-commit",
            "git config core.sshCommand 'echo owned'",
            "echo '[core] pager = owned' >> .git/config",
            "mv .git x && cp -r x .git && echo '[core] pager = owned' >> .git/config",
            "mkdir -p .zagi; echo owned > .zagi/agents.toml",
            "mkdir -p .zagi; echo owned > .zagi/secrets.enc",
            "rm -rf .zagi; mkdir .zagi; echo owned > .zagi/agents.toml",
            "mkdir -p .git/modules/x; echo '[core] pager = owned' > .git/modules/x/config",
            "echo owned > .git/commondir",
            "mkdir -p .git/remotes; echo 'URL: owned' > .git/remotes/origin",
        ] {
            // The control, in a copy of the repository's.
            let said = machine.sh(&machine.work(), &format!(
                "rm -rf control; git clone -q origin control; cd control; ({attack}) 2>/dev/null; grep -r owned .git .zagi"
            ));
            assert!(said.out.contains("owned"), "{attack}: {said:?}");
            agent(&machine, &dir, &format!("({attack}); true")).ok();
            let said = machine.sh(&dir, "grep -r owned .git .zagi");
            assert!(!said.out.contains("owned"), "{attack}: {}", said.out);
        }
        // And nothing is left over.
        assert_eq!(machine.git(&dir, &["status", "--porcelain"]).ok().out, "");
        assert!(!dir.join(".zagi/agents.toml").exists());
    });
}

/// The user's configuration may lead into the tree.
#[test]
fn hooks_and_settings_in_the_tree_stay_as_they_are() {
    both(|who| {
        let machine = Machine::new(who);
        let dir = mounted(&machine);
        let lay = "mkdir .hooks && printf '#!/bin/sh\\n' > .hooks/pre-commit && git add -A && \
                   git config user.name T && git config user.email t@localhost && git commit -q -m hooks && \
                   git config --global core.hooksPath .hooks/_ && \
                   git config --global include.path $PWD/of-user && \
                   git config includeIf.onbranch:other.path ../settings/git";
        machine.sh(&dir, lay).ok();
        for attack in [
            "mkdir -p .hooks/_; echo owned > .hooks/_/pre-commit",
            "echo owned >> .hooks/pre-commit",
            "mv .hooks x; mkdir .hooks; echo owned > .hooks/pre-commit",
            "mkdir settings; echo owned > settings/git",
            "echo owned > of-user",
        ] {
            let look = "grep -rqs owned .hooks settings of-user";
            let control = format!("rm -rf control; git clone -q w control; cd control; ({attack})");
            machine.sh(&machine.work(), &format!("{control}; {look}")).ok();
            agent(&machine, &dir, &format!("({attack}); true")).ok();
            assert_ne!(machine.sh(&dir, look).code, 0, "{attack}");
        }
        // It goes on as ever beside them, and nothing is left over.
        let said = agent(&machine, &dir, "echo more >> file && git commit -q -a -m more").ok();
        assert_eq!(said.err, "");
        let left = machine.sh(&dir, "git status --porcelain; ls -A").ok().out;
        assert_eq!(left, ".git\n.hooks\n.zagi\nfile\n");
        // Where it is at work itself, and by what it can exchange, nothing is kept; that is said.
        let open = "git config --global core.hooksPath . && ln -s file link && \
                    git config --global include.path $PWD/link";
        machine.sh(&dir, open).ok();
        let said = agent(&machine, &dir, "echo x > pre-commit").ok();
        let root = dir.display();
        assert!(said.err.contains(&format!("git's hooks are in `{root}` itself")), "{}", said.err);
        assert!(said.err.contains(&format!("by `{root}/link`")), "{}", said.err);
    });
}

/// What an agent leaves in its home is not followed by who copies a login there the next time.
#[test]
fn a_link_in_its_home_leads_nobody_out() {
    both(|who| {
        let machine = Machine::new(who);
        let dir = mounted(&machine);
        let grants = "version = 1\n[agent.t]\nhome = [\"login\", \"sub/login\", \"third\"]\n";
        let user = machine.sh(&machine.work(), "echo $HOME").ok().out.trim().to_owned();
        let script = format!(
            "printf '{}' > {}/agents.toml; mkdir $HOME/sub $HOME/other; \
             for f in login sub/login third; do echo {CANARY} > $HOME/$f; done",
            grants.replace('\n', "\\n"),
            machine.home().display()
        );
        machine.sh(&machine.work(), &script).ok();
        let said = agent(&machine, &dir, "cat ~/login ~/sub/login").ok();
        assert_eq!(said.out, format!("{CANARY}\n{CANARY}\n"));
        let plant = format!(
            "cd && rm -r login sub && ln -s {user}/planted login && ln -s {user}/other sub && rm third"
        );
        agent(&machine, &dir, &plant).ok();
        // The control: whoever writes there by name follows.
        let home = "$HOME/.zagi/workspaces/*/agents/t/home";
        let follow = format!("cat login | tee {home}/login; test -e planted; rm planted");
        machine.sh(&PathBuf::from(&user), &follow).ok();
        let said = agent(&machine, &dir, "cat ~/third").ok();
        assert_eq!(said.out, format!("{CANARY}\n"), "the rest is copied");
        assert!(said.err.contains("was not copied to the agent's `~/sub/login`"), "{}", said.err);
        let said = machine.sh(&PathBuf::from(&user), "ls -d planted other/*");
        assert!(said.out.is_empty(), "{}", said.out);
    });
}

/// Git finds its configuration by more than `.git/config`, and runs the monitor that is named there
/// as soon as somebody asks for the status.
#[test]
fn git_runs_nothing_that_an_agent_named() {
    let name = "git config user.name T; git config user.email t@localhost";
    // A repository inside, and a worktree elsewhere, of which this one has the index and the branches.
    let lay = format!(
        "{name}; git init -q inner; (cd inner; {name}; git commit -q --allow-empty -m inner); \
         git add inner 2>/dev/null; git commit -qm inner; git worktree add -q \"$1\"; \
         git config extensions.worktreeConfig true"
    );
    let attacks = [
        "cp -r .git other; echo \"$M\" >> other/config; echo ../other > .git/commondir",
        "cp -r .git other; echo \"$M\" >> other/config; echo ../../../other | tee .git/worktrees/*/commondir",
        "for w in .git/worktrees/*; do echo \"$M\" > $w/config.worktree; done",
        "echo \"$M\" >> inner/.git/config",
        "mv inner/.git/config c; (cat c; echo \"$M\") > inner/.git/config",
        "mv inner g && cp -r g inner && echo \"$M\" >> inner/.git/config",
    ];
    both(|who| {
        let machine = Machine::new(who);
        let dir = mounted(&machine);
        let work = machine.work();
        let mark = work.join("mark");
        let monitor = format!("M='[core] fsmonitor = \"touch {}; false\"'", mark.display());
        machine.sh(&dir, &lay.replace("$1", &work.join("tree").display().to_string())).ok();
        let look = |dir: &Path, tree: &Path| {
            let look = format!("git status; git -C {} status", tree.display());
            machine.sh(dir, &look).ok();
            std::fs::remove_file(&mark).is_ok()
        };
        for attack in attacks {
            let (control, tree) = (work.join("control"), work.join("control-tree"));
            let place = tree.display().to_string();
            machine.sh(&work, "rm -rf control control-tree; git clone -q origin control").ok();
            machine.sh(&control, &lay.replace("$1", &place)).ok();
            machine.sh(&control, &format!("{monitor}; {attack}")).ok();
            assert!(look(&control, &tree), "the control: {attack}");
        }
        let all = attacks.map(|attack| format!("({attack}); rm -rf other")).join("; ");
        agent(&machine, &dir, &format!("{monitor}; {all}; true")).ok();
        assert!(!look(&dir, &work.join("tree")));
        // One that was not there before is told of.
        let said = agent(
            &machine,
            &dir,
            &format!(
                "cp -r inner second; {monitor}; echo \"$M\" >> second/.git/config; git add second"
            ),
        )
        .ok();
        assert!(said.err.contains("put a repository at `second` into this one"), "{}", said.err);
        assert!(agent(&machine, &dir, "true").ok().err.is_empty());
    });
}

#[test]
fn its_way_to_the_network_is_a_list_and_a_log() {
    both(|who| {
        let machine = Machine::new(who);
        let dir = mounted(&machine);
        let (granted, other) = (server(), server());
        machine.sh(&machine.work(), &format!(
            "printf 'version = 1\\n[agent.t]\\nhosts = [\"127.0.0.1:{granted}\"]\\n' > {}/agents.toml", machine.home().display()
        )).ok();
        for port in [granted, other] {
            let said = machine.sh(&dir, &fetch(port, false)).ok();
            assert_eq!(said.out.trim(), CANARY, "the control");
        }
        for proxy in [false, true] {
            let said = agent(&machine, &dir, &fetch(granted, proxy)).ok();
            assert_eq!(said.out.trim(), CANARY, "{proxy}");
        }
        for (port, proxy) in [(other, false), (other, true)] {
            let said = agent(&machine, &dir, &fetch(port, proxy));
            assert!(said.code != 0 && !said.out.contains(CANARY), "{port} {proxy}: {said:?}");
        }
        let said = agent(&machine, &dir, &format!("{}; true", fetch(other, true)));
        let line = format!(
            "`hosts = [\"127.0.0.1:{other}\"]` below `[agent.t]` in `$ZAGI_HOME/agents.toml`"
        );
        assert!(said.err.contains(&line), "{}", said.err);
        let log = Said::of(&mut machine.zagi_in(&dir, &["agent", "--log", "--json"])).ok().json();
        let seen = |what: &str, host: Option<&str>| {
            log.as_array().expect("rows").iter().any(|row| {
                row["agent"] == "t"
                    && row["entry"]["what"] == what
                    && host.is_none_or(|host| row["entry"]["host"] == host)
            })
        };
        assert!(seen("began", None) && seen("ended", None), "{log}");
        assert!(seen("reached", Some(&format!("127.0.0.1:{granted}"))), "{log}");
        assert!(seen("not-listed", Some(&format!("127.0.0.1:{other}"))), "{log}");
        assert!(!seen("reached", Some(&format!("127.0.0.1:{other}"))), "{log}");
        let said = Said::of(&mut machine.zagi_in(&dir, &["agent", "--log"])).ok();
        assert!(said.out.contains(&format!("denied    127.0.0.1:{other}; {line}")), "{}", said.out);
    });
}

#[test]
fn a_program_that_is_not_there_is_said_as_a_shell_says_it() {
    let machine = Machine::new(Who::Ordinary);
    let dir = mounted(&machine);
    machine.sh(&dir, "echo text > plain").ok();
    for verb in ["agent", "run"] {
        let said = |program| Said::of(&mut machine.zagi_in(&dir, &[verb, "--", program]));
        said("nosuchprogram").fails(127, "`nosuchprogram` was not found");
        said("./plain").fails(126, "`./plain` is not executable");
    }
}

#[test]
fn a_repositorys_own_grants_are_asked_about() {
    let machine = Machine::new(Who::Ordinary);
    let port = server();
    let dir = mounted(&machine);
    let write = format!(
        "mkdir -p .zagi; printf 'version = 1\\n[agent.t]\\nhosts = [\"127.0.0.1:{port}\"]\\nhome = [\".canary\"]\\n' > .zagi/agents.toml; echo {CANARY} > $HOME/.canary"
    );
    machine.sh(&dir, &write).ok();
    // No terminal to ask at: not granted, and said.
    let said = agent(&machine, &dir, &fetch(port, true));
    assert!(said.code != 0 && !said.out.contains(CANARY), "{said:?}");
    assert!(said.err.contains("is not granted"), "{}", said.err);
    // At a terminal, with a yes: the host, and still nothing of the home.
    let zagi = machine.program().display().to_string();
    let script = format!("{}; cat $HOME/.canary", fetch(port, true).replace('"', "\\\""));
    let at_a_terminal = format!(
        "printf 'y\\n' | script -qec \"{zagi} agent --name t -- sh -c '{}'\" /dev/null",
        script.replace('\'', "'\\''")
    );
    let said = machine.sh(&dir, &at_a_terminal);
    assert!(said.out.contains("asks for"), "{said:?}");
    assert_eq!(agent(&machine, &dir, &fetch(port, true)).ok().out.trim(), CANARY);
    assert!(!agent(&machine, &dir, "cat $HOME/.canary; true").ok().out.contains(CANARY));
    // In every workspace of the repository, and in none of another that says the same.
    for (from, granted) in [("./origin", true), ("./other", false)] {
        machine.sh(&machine.work(), "test -d other || git clone -q origin other").ok();
        let to = format!("of-{granted}");
        machine.zagi(&["mount", from, &to]).ok();
        let beside = machine.work().join(&to);
        machine.sh(&beside, &write).ok();
        let said = agent(&machine, &beside, &fetch(port, true));
        assert_eq!(said.out.contains(CANARY), granted, "{said:?}");
    }
    // Until its text is another.
    machine.sh(&dir, "echo '# more' >> .zagi/agents.toml").ok();
    assert!(agent(&machine, &dir, "true").ok().err.contains("is not granted"));
    // What is no such file starts nobody.
    machine.sh(&dir, "echo 'secrets = 1' > .zagi/agents.toml").ok();
    agent(&machine, &dir, "true").fails(1, "unknown field `secrets`");
}
