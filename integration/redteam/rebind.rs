//! Attacks by a name's owner: a host that may be reached, whose name leads to this machine.
//!
//! Each is tried in a network of its own with a real name server, which says what the attacker has it
//! say, and a server that the user's machine has: on its loopback, and at addresses that are
//! everybody's but for being this machine's.

use std::path::Path;
use std::process::Command;

use zagi::redteam::Canaries;

use super::{Mode, Shown, ends};
use crate::broker::Broker;
use crate::machine::{Machine, Said};

/// What the name server says of each name, in the order of its answers; the last one stays.
const NAMES: [(&str, &str); 7] = [
    ("name-of-loopback", "127.0.0.1"),
    ("name-of-zero", "0.0.0.0"),
    ("name-of-mapped", "::ffff:127.0.0.1"),
    ("name-of-own", "198.51.100.9"),
    ("name-of-own-v6", "2001:db8::9"),
    ("name-among-others", "203.0.113.7 127.0.0.1"),
    ("name-rebound", "203.0.113.7|127.0.0.1"),
];
const PORT: u16 = 8765;

/// Makes the network, serves names and pages in it, and runs a command there. Its arguments: the file
/// that is to be `/etc/resolv.conf`, names with answers, values, the command.
const WORLD: &str = r#"
import ctypes, fcntl, http.server, ipaddress, json, os, socket, struct, subprocess, sys, threading
resolv, names, values = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
open(resolv, 'w').write('nameserver 127.0.0.53\noptions timeout:2\n')
subprocess.run(['mount', '--make-rprivate', '/'], check=True)
subprocess.run(['mount', '--bind', resolv, os.path.realpath('/etc/resolv.conf')], check=True)
four, six = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
# netdevice(7): SIOCSIFFLAGS, SIOCSIFADDR
fcntl.ioctl(four, 0x8914, struct.pack('16sh14x', b'lo', 1))
own = struct.pack('HH4s8x', socket.AF_INET, 0, socket.inet_aton('198.51.100.9'))
fcntl.ioctl(four, 0x8916, struct.pack('16s16s', b'lo:1', own))
fcntl.ioctl(six, 0x8916, struct.pack('16sIi', socket.inet_pton(socket.AF_INET6, '2001:db8::9'), 128, socket.if_nametoindex('lo')))
asked = {}
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.53', 53))
def serve_names():
    while True:
        question, who = s.recvfrom(512)
        end = question.index(b'\0', 12) + 5
        kind = struct.unpack('>H', question[end - 4:end - 2])[0]
        label = question[13:13 + question[12]].decode()
        said = names.get(label, '').split('|')
        if kind == 1: asked[label] = asked.get(label, 0) + 1
        n = min(max(asked.get(label, 1) - 1, 0), len(said) - 1)
        found = [ipaddress.ip_address(a) for a in said[n].split()]
        found = [a.packed for a in found if (a.version == 4) == (kind == 1) and kind in (1, 28)]
        answers = b''.join(b'\xc0\x0c' + struct.pack('>HHIH', kind, 1, 0, len(a)) + a for a in found)
        head = question[:2] + struct.pack('>HHHHH', 0x8580, 1, len(found), 0, 0)
        s.sendto(head + question[12:end] + answers, who)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(s):
        body = values.get(s.headers.get('Host', '').split('.')[0], '').encode()
        s.send_response(200); s.send_header('Content-Length', str(len(body))); s.end_headers(); s.wfile.write(body)
    def log_message(*_): pass
class Both(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(s):
        s.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); s.socket.bind(s.server_address)
pages = Both(('::', PORT), Page)
# What serves ends with what runs there, whoever ends that: prctl(2), PR_SET_PDEATHSIG
ready, tell = os.pipe()
if not os.fork():
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    for n in 0, 1, 2: os.dup2(os.open('/dev/null', os.O_RDWR), n)
    threading.Thread(target=serve_names).start(); os.write(tell, b'.'); pages.serve_forever()
os.read(ready, 1); os.close(ready); os.close(tell)
os.execvp(sys.argv[4], sys.argv[4:])
"#;

/// Asks for each page, three times; directly, and by a proxy in both of its languages.
const CLIENT: &str = r#"
import socket, sys, urllib.request
def plain(host, proxy):
    with urllib.request.build_opener(urllib.request.ProxyHandler(proxy)).open(f'http://{host}/', timeout=3) as answer:
        return answer.read().decode()
def tunnel(host):
    with socket.create_connection(('127.0.0.1', 3128), 3) as s:
        s.sendall(f'CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\nGET / HTTP/1.0\r\nHost: {host}\r\n\r\n'.encode())
        s.shutdown(socket.SHUT_WR)
        return s.makefile('rb').read().decode()
for name in sys.argv[1:]:
    print('---', name)
    host = f'{name}.rebind.test:PORT'
    for ask in 3 * [lambda: plain(host, {}), lambda: plain(host, {'http': 'http://127.0.0.1:3128'}), lambda: tunnel(host)]:
        try: print(ask())
        except OSError as e: print(getattr(e, 'read', lambda: str(e).encode())().decode().strip())
"#;

pub(super) fn measure(mode: Mode) -> Vec<Shown> {
    let machine = Machine::new(mode.who());
    let work = machine.work();
    let script = "mkdir -p origin $HOME; cd origin; git init -q; echo x > f; git add f; \
                  git -c user.name=T -c user.email=t@localhost commit -qm first";
    machine.sh(&work, script).ok();
    let broker = mode.broker(&machine);
    let shared: &[&str] = if mode == Mode::System { &["--allow-other"] } else { &[] };
    machine.zagi(&[&["mount", "--no-deps", "./origin", "w"], shared].concat()).ok();
    let dir = work.join("w");
    // One is granted by its own name, the others by that of what they are in.
    let granted = format!(
        "printf 'version = 1\\n[agent.t]\\nhosts = [\"{}.rebind.test:{PORT}\", \"*.rebind.test:{PORT}\"]\\n' \
         > {}/agents.toml",
        NAMES[0].0,
        machine.home().display()
    );
    machine.sh(&dir, &granted).ok();
    std::fs::write(work.join("client"), CLIENT.replace("PORT", &PORT.to_string()))
        .expect("written");
    machine.sh(&dir, "cp ../client client.py").ok();
    let canaries = Canaries::new(NAMES.map(|(name, _)| name)).expect("the kernel has random bytes");
    let program = machine.program().display().to_string();
    let client: Vec<&str> =
        ["/usr/bin/python3", "client.py"].into_iter().chain(NAMES.map(|(name, _)| name)).collect();
    let run = |before: &[&str]| {
        let argv = [before, &client].concat();
        there(&machine, &dir, &canaries, &argv)
    };
    let control = run(&[]);
    let inside = run(&[&program, "agent", "--name", "t", "--"]);
    let mut shown = rows(&canaries, &control, &inside, "");
    let inside = match broker {
        None => run(&[&program, "run", "--"]),
        // There it is the broker that resolves and reaches: in that network, and who asks is elsewhere.
        Some(broker) => {
            drop(broker);
            let world = world(&machine, &canaries);
            let words: Vec<&str> = world.iter().map(String::as_str).collect();
            let _broker = Broker::start_within(&machine, None, &words);
            Said::of(&mut machine.zagi_in(&dir, &[&["run", "--"], &client[..]].concat()))
        }
    };
    shown.extend(rows(&canaries, &control, &inside, "app-"));
    shown
}

fn rows(canaries: &Canaries, control: &Said, inside: &Said, before: &str) -> Vec<Shown> {
    let row = |(name, _): (&str, &str)| {
        let canary = canaries.of(name).expect("each has one");
        let got = |said: &Said| {
            let all = format!("{}{}", said.out, said.err);
            let part = all.split(&format!("--- {name}\n")).nth(1).unwrap_or(&all);
            let part = part.split("--- ").next().unwrap_or_default();
            canary.found_in(all.as_bytes()).map(drop).ok_or_else(|| ends(part))
        };
        let within = got(inside);
        // It was asked for there, and found: else nothing is shown. What others have is not there.
        if let Err(said) = &within {
            let whys = ["of this machine or its network", "Network is unreachable"];
            assert!(whys.iter().any(|why| said.contains(why)), "{name}: {inside:?}");
        }
        Shown::new(13, &format!("{before}{name}"), got(control), within)
    };
    NAMES.map(row).into()
}

/// The words that start a command in that network.
fn world(machine: &Machine, canaries: &Canaries) -> Vec<String> {
    let values: serde_json::Map<String, serde_json::Value> = NAMES
        .map(|(name, _)| (name.to_owned(), canaries.of(name).expect("each has one").text().into()))
        .into_iter()
        .collect();
    let names: serde_json::Map<String, serde_json::Value> =
        NAMES.map(|(name, said)| (name.to_owned(), said.into())).into_iter().collect();
    let resolv = machine.work().join("resolv.conf").display().to_string();
    let values = serde_json::Value::from(values).to_string();
    let mut words =
        ["unshare", "--mount", "--net", "/usr/bin/python3", "-c"].map(str::to_owned).to_vec();
    words.push(WORLD.replace("PORT", &PORT.to_string()));
    words.extend([resolv, serde_json::Value::from(names).to_string(), values]);
    words
}

/// Runs a command of the user's in that network.
fn there(machine: &Machine, dir: &Path, canaries: &Canaries, argv: &[&str]) -> Said {
    let own = machine.command(argv[0], dir);
    let world = world(machine, canaries);
    let mut command = Command::new(&world[0]);
    command.args(&world[1..]);
    command.arg(own.get_program()).args(own.get_args()).args(&argv[1..]);
    command.env_clear();
    // The user's own proxy is not in that network.
    let is_proxy =
        |name: &std::ffi::OsStr| name.to_string_lossy().to_lowercase().ends_with("_proxy");
    command.envs(own.get_envs().filter_map(|(n, v)| (!is_proxy(n)).then_some((n, v?))));
    command.current_dir(own.get_current_dir().unwrap_or(dir));
    Said::of(&mut command)
}
