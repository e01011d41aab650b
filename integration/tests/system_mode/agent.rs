//! An agent's secrets in system mode: it has what root granted it, and the process of the user's that
//! started it never does.

use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use zagi_integration::broker::ASK;
use zagi_integration::machine::{Said, processes};

use super::{KEY, RAW, System};

const OTHER: &str = "0ther-c4nary-77e1";

/// What the agent does; then it waits to be told to end.
fn script(port: u16) -> String {
    format!(
        "zagi run -- env | grep -E '^(KEY|RAW|OTHER)=' | sort; env | grep -cE '^(KEY|RAW|OTHER)='\n\
         zagi run -- sh -c 'curl -sS -H \"Authorization: Bearer $KEY\" https://localhost:{port}/direct'\n\
         zagi run -- sh -c 'curl -sS --noproxy \"\" -x http://127.0.0.1:3128 -H \"Authorization: Bearer $KEY\" https://localhost:{port}/proxy'\n\
         zagi run -- sh -c 'curl -sS -H \"Cookie: $KEY\" https://localhost:{port}/misplaced'\n\
         echo; echo done; while [ ! -e stop ]; do sleep 0.1; done\n"
    )
}

/// An agent at work, whose output is in a file.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_agent_has_what_root_granted_and_its_starter_has_not() {
    let system = System::new();
    let port = system.upstream.port;
    let header = "--header Authorization --format 'Bearer {}'";
    system.set("KEY", KEY, &format!("--host localhost:{port} {header}"));
    system.set("RAW", RAW, "--raw");
    system.set("OTHER", OTHER, "--raw");
    for name in ["KEY", "RAW"] {
        system.sudo(&["secrets", "grant", name, "--agent", "t"], "").ok();
    }
    std::fs::write(system.machine.work().join("script"), script(port)).expect("root may");
    let work = system.machine.work().display().to_string();
    system.machine.sh(&system.dir, &format!("cp {work}/script agent.sh")).ok();
    what_it_is_granted(&system, port);
    another_name_is_granted_nothing(&system);
    nobody_else_starts_it(&system);
}

fn what_it_is_granted(system: &System, port: u16) {
    let out = tempfile::NamedTempFile::new().expect("made");
    let mut command =
        system.machine.zagi_in(&system.dir, &["agent", "--name", "t", "--", "sh", "agent.sh"]);
    let to = |file: &tempfile::NamedTempFile| Stdio::from(file.reopen().expect("there"));
    let err = tempfile::NamedTempFile::new().expect("made");
    command.stdin(Stdio::null()).stdout(to(&out)).stderr(to(&err));
    let mut agent = Agent(command.spawn().expect("starts"));
    let said = || std::fs::read_to_string(out.path()).unwrap_or_default();
    wait_until("it works", || {
        let ended = agent.0.try_wait().expect("ours");
        let errors = std::fs::read_to_string(err.path()).unwrap_or_default();
        assert!(ended.is_none(), "{ended:?}: {} {errors}", said());
        said().contains("done\n")
    });
    let text = said();
    let (vars, rest) = text.split_once("\n0\n").unwrap_or_else(|| panic!("{text}"));
    let vars: Vec<&str> = vars.lines().collect();
    assert!(vars.len() == 2 && vars[1] == format!("RAW={RAW}"), "{text}");
    let placeholder = vars[0].strip_prefix("KEY=").unwrap_or_default();
    assert!(placeholder.starts_with("zagi-placeholder-"), "{text}");
    // The host has the value; the answer, which repeats it, has it no more.
    let heads = system.upstream.heads();
    assert_eq!(heads.len(), 2, "{heads:?}");
    for (head, path) in heads.iter().zip(["/direct", "/proxy"]) {
        assert!(head.starts_with(&format!("GET {path} ")), "{head}");
        assert!(head.contains(&format!("Bearer {KEY}\r\n")), "{head}");
    }
    assert!(rest.contains("***") && !rest.contains(KEY) && !rest.contains(OTHER), "{rest}");
    assert!(rest.contains("holds the placeholder of KEY"), "{rest}");

    // Whoever of the user's started it knows the placeholder, and no value.
    let starters = with_children(agent.0.id());
    assert!(starters.len() > 1, "it and the sandbox's supervisor: {starters:?}");
    let memory: Vec<String> = starters.iter().map(|pid| memory(*pid)).collect();
    let holds = |what: &str| memory.iter().any(|all| all.contains(what));
    assert!(holds(placeholder), "the control: {starters:?}");
    assert!(!holds(KEY) && !holds(RAW) && !holds(OTHER));
    assert!(!lenders(system).is_empty(), "the broker's process is there");

    system.machine.sh(&system.dir, "touch stop").ok();
    assert!(agent.0.wait().expect("ours").success());
    wait_until("the broker's process ends with it", || lenders(system).is_empty());
    let log = system.zagi(&["secrets", "log"]).ok().out;
    assert!(log.contains("run     RAW  to agent t: env"), "{log}");
    for path in ["direct", "proxy"] {
        let row = format!("put     KEY  to GET https://localhost:{port}/{path}");
        assert!(log.contains(&row), "{log}");
    }
    let log = system.zagi(&["agent", "--log", "--name", "t"]).ok().out;
    assert!(log.contains(&format!("reached   localhost:{port}")), "{log}");
}

/// The broker's processes that serve an agent of this machine's user.
fn lenders(system: &System) -> Vec<u32> {
    let ours = processes(&system.machine.home().display().to_string());
    processes("\x00__agent\x00").into_iter().filter(|pid| ours.contains(pid)).collect()
}

fn with_children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives").flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    let lists: Vec<String> = lists.map(Result::unwrap_or_default).collect();
    let children = lists.iter().flat_map(|list| list.split_whitespace());
    children.filter_map(|pid| pid.parse().ok()).chain([pid]).collect()
}

/// All that a process has written to its memory, as far as root can read it.
fn memory(pid: u32) -> String {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut file =
        std::fs::File::open(format!("/proc/{pid}/mem")).expect("it lives, and this is root");
    let mut all = Vec::new();
    let written = maps.lines().filter(|line| line.contains(" rw"));
    for range in written.filter_map(|line| line.split_once(' ')?.0.split_once('-')) {
        let number = |text| u64::from_str_radix(text, 16).expect("it is one");
        let (from, to) = (number(range.0), number(range.1));
        if file.seek(SeekFrom::Start(from)).is_ok() {
            // What the kernel itself does not map cannot be read.
            let _ = (&mut file).take(to - from).read_to_end(&mut all);
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn another_name_is_granted_nothing(system: &System) {
    let argv = ["agent", "--name", "other", "--", "sh", "-c", "zagi run -- env; echo ran"];
    let said = system.zagi(&argv).ok().out;
    assert!(said.ends_with("ran\n"), "{said}");
    for name in ["KEY=", "RAW=", "OTHER="] {
        assert!(!said.contains(name), "{said}");
    }
}

/// The command of the broker's is nobody's.
fn nobody_else_starts_it(system: &System) {
    let said = system.zagi(&["__agent", "t"]);
    assert!(said.code == 1 && said.err.contains("the broker runs this command"), "{said:?}");
    let socket = system.broker.state().with_file_name("run").join("socket");
    let mut ask = system.machine.command("/usr/bin/python3", &system.machine.work());
    ask.args(["-c", ASK]).arg(socket).arg(system.machine.home()).arg(&system.dir);
    let said = Said::of(ask.args(["__agent", "t"]).stdin(Stdio::null()));
    assert!(said.err.contains("nobody asks for an agent's secrets"), "{said:?}");
}
