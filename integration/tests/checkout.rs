//! `zagi run`, `zagi agent` and services in an ordinary checkout: what git cloned, and zagi never mounted.

use std::path::PathBuf;

use zagi_integration::machine::{Machine, Said, Who};

/// A clone with an `env.toml`, whose remote takes pushes.
struct Checkout {
    machine: Machine,
    dir: PathBuf,
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let _ = self.machine.zagi_in(&self.dir, &["down"]).output();
    }
}

impl Checkout {
    fn new(who: Who, env: &str) -> Checkout {
        let machine = Machine::new(who);
        let zagi = machine.program().display();
        let script = format!(
            "git config --global user.name U; git config --global user.email u@localhost
             git init -q --bare -b main remote.git; git clone -q remote.git c 2>/dev/null; cd c
             mkdir .zagi; cat > .zagi/env.toml <<'END'\n{env}\nEND
             {zagi} lock; echo one > file; git add -A; git commit -qm first; git push -q origin HEAD:main"
        );
        machine.sh(&machine.work(), &script).ok();
        let dir = machine.work().join("c");
        Checkout { machine, dir }
    }

    fn zagi(&self, argv: &[&str]) -> Said {
        Said::of(&mut self.machine.zagi_in(&self.dir, argv))
    }

    fn agent(&self, script: &str) -> Said {
        self.zagi(&["agent", "--name", "t", "--", "sh", "-c", script])
    }

    fn sh(&self, script: &str) -> Said {
        self.machine.sh(&self.dir, script)
    }
}

/// The app, with its service, tools, variables and secrets; and no other file of its user's.
fn an_app(who: Who) {
    let checkout = Checkout::new(who, "[services]\nredis = \"7\"\n[env]\nGREETING = \"good day\"");
    let zagi = checkout.machine.program().display();
    checkout
        .sh(&format!("printf k3y-c4nary | {zagi} secrets set API_KEY --host api.example.com --header Authorization"))
        .ok();
    checkout.sh("echo private > $HOME/private").ok();
    let script = "redis-cli -s \"${REDIS_URL#unix://}\" ping; echo \"$GREETING $API_KEY\"; \
                  cat $HOME/private $0; echo written > new";
    let home = checkout.machine.home().with_file_name("private");
    let said = checkout.zagi(&["run", "--", "sh", "-c", script, home.to_str().unwrap()]).ok();
    assert!(said.out.starts_with("PONG\ngood day "), "{said:?}");
    assert!(!said.out.contains("k3y-c4nary") && !said.out.contains("private"), "{said:?}");
    assert!(said.out.lines().nth(1).unwrap().len() > "good day ".len(), "{said:?}");
    assert_eq!(checkout.sh("cat new").ok().out, "written\n");
    // Its service is one of the checkout's, found by other commands too.
    let all = checkout.zagi(&["ps", "--json"]).ok().json();
    assert_eq!(all[0]["name"], "redis", "{all}");
    assert_eq!(all[0]["health"], "ready", "{all}");
    let ping = "redis-cli -s \"${REDIS_URL#unix://}\" ping";
    assert_eq!(checkout.machine.exec(&checkout.dir, ping).ok().out, "PONG\n");
    let said = checkout.zagi(&["down"]).ok();
    assert!(said.err.contains("stopped redis"), "{said:?}");
}

#[test]
fn an_app_runs_as_root() {
    an_app(Who::Me);
}

#[test]
fn an_app_runs_as_an_ordinary_user() {
    an_app(Who::Ordinary);
}

/// An agent that edits, commits, and pushes by its user's word, and cannot lead its user's git.
fn an_agent(who: Who) {
    let checkout = Checkout::new(who, "[env]\nGREETING = \"good day\"");
    checkout.sh("echo private > $HOME/private; git config core.pager cat").ok();
    let private = checkout.machine.home().with_file_name("private");
    let script = format!(
        "echo $GREETING; cat {} 2>&1; echo two >> file; git commit -qam second && git log --format=%s
         echo 'touch ran' > .git/hooks/post-checkout; git config core.pager 'sh -c id'; git push 2>&1",
        private.display()
    );
    let said = checkout.agent(&script);
    assert!(said.out.starts_with("good day\ncat: "), "{said:?}");
    assert!(said.out.contains("\nsecond\nfirst\n") && !said.out.contains("\nprivate"), "{said:?}");
    assert!(said.out.contains("zagi agent --approve 1"), "{said:?}");
    assert_eq!(checkout.sh("git log --format=%s; git status --short").ok().out, "second\nfirst\n");
    let kept = "git config core.pager; ls .git/hooks | grep -v sample || echo none";
    assert_eq!(checkout.sh(kept).ok().out, "cat\nnone\n");

    let waiting = checkout.zagi(&["agent", "--pushes", "--json"]).ok().json();
    assert_eq!(waiting[0]["reference"], "refs/heads/main", "{waiting}");
    let approve = format!(
        "printf 'yes\\n' | script -qec '{} agent --approve 1' /dev/null",
        checkout.machine.program().display()
    );
    let said = checkout.sh(&approve).ok();
    assert!(said.out.contains("second"), "{said:?}");
    assert_eq!(
        checkout.sh("git -C ../remote.git log --format=%s main").ok().out,
        "second\nfirst\n"
    );
    let log = checkout.zagi(&["agent", "--log"]).ok().out;
    assert!(log.contains("git commit -qam second") && log.contains("refs/heads/main"), "{log}");
}

#[test]
fn an_agent_works_as_root() {
    an_agent(Who::Me);
}

#[test]
fn an_agent_works_as_an_ordinary_user() {
    an_agent(Who::Ordinary);
}

#[test]
fn what_cannot_be_worked_in_is_said() {
    let checkout = Checkout::new(Who::Me, "");
    // No environment, no repository of its own, and one that would show what is zagi's own.
    checkout.sh("git worktree add -q ../linked").ok();
    let linked = checkout.machine.work().join("linked");
    let in_linked = |argv: &[&str]| Said::of(&mut checkout.machine.zagi_in(&linked, argv)).ok();
    let said = in_linked(&["agent", "--", "sh", "-c", "cat file; echo changed > .git || true"]);
    assert!(said.out == "one\n" && said.err.contains("git does not work in it"), "{said:?}");
    assert_eq!(in_linked(&["run", "--", "cat", "file"]).out, "one\n");
    assert_eq!(checkout.machine.sh(&linked, "git status --short").ok().out, "");
    checkout.zagi(&["run", "--", "true"]).ok();

    let plain = checkout.machine.zagi(&["run", "--", "true"]);
    assert!(plain.fails(1, "is not in a workspace").err.contains("`zagi init`"));
    let user = checkout.machine.home().parent().unwrap().to_owned();
    checkout.machine.sh(&user, "touch .zagi/env.toml").ok();
    for verb in ["run", "agent"] {
        let said = Said::of(&mut checkout.machine.zagi_in(&user, &[verb, "--", "ls", "-a"]));
        assert!(said.code == 1 && said.err.contains("no sandbox is shown"), "{said:?}");
    }
}

#[test]
fn what_an_agent_sees_and_leaves_is_told() {
    let checkout = Checkout::new(Who::Me, "");
    checkout.sh("echo TOKEN=x > .env; echo TOKEN= > .env.example").ok();
    // A rebase that stops where it runs a command, as an agent would leave it.
    let said = checkout.agent(
        "echo two >> file; git commit -qam second; GIT_SEQUENCE_EDITOR='printf \"break\\nexec touch ran\\n\" >' git rebase -qi HEAD~1",
    );
    let said = said.ok().err;
    assert!(said.contains("the agent reads `.env`,") && !said.contains(".env.example"), "{said}");
    assert!(
        said.contains("a rebase that has not ended") && said.contains("git-rebase-todo"),
        "{said}"
    );
    // What was there before is its user's.
    let again = checkout.agent("true").ok().err;
    assert!(!again.contains("rebase"), "{again}");
    // The warning is for a reason.
    checkout.sh("git rebase --continue 2>&1; test -e ran").ok();
}
