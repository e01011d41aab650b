//! The head of a request on its way to a host that values go to.
//!
//! A placeholder is exchanged for its value in the one field that the policy names, at its host,
//! for a method and path that it allows. Field and form are the policy's, never the program's. A
//! placeholder anywhere else in the head is refused: the request would tell it to somebody.

use memchr::memmem;
use zeroize::Zeroizing;

use super::broker::{Broker, Credential, Wanted};
use super::request::{Head, Refusal, is_between};
use super::rule::Target;

/// Besides, what answers come in, and what was answered already.
const OURS: [&str; 2] = ["accept-encoding", "expect"];

/// The request as it goes to `target`.
pub(super) fn head(
    broker: &Broker,
    target: &Target,
    head: &Head,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let refused = |status, why: String| Refusal::new(status, target, why);
    if !head.target.starts_with('/') {
        return Err(refused(400, "it asks for no path".into()));
    }
    let mut hosts = head
        .all("host")
        .map(|host| Target::parse(std::str::from_utf8(host).ok()?.trim(), Some(443)));
    if !(hosts.next().flatten().as_ref() == Some(target) && hosts.next().is_none()) {
        return Err(refused(400, "its `Host` is another".into()));
    }
    if head.all("upgrade").next().is_some() {
        let why = "another protocol (a WebSocket) cannot be looked into, and no secret goes there";
        return Err(refused(501, why.into()));
    }
    let path = head.target.split(['?', '#']).next().unwrap_or_default();
    let wanted = Wanted { method: &head.method, path };
    let used = used(broker, target, head, &wanted)?;
    // Never moved while it is filled: no copy of a value is left behind.
    let room = 8192 + head.fields.iter().map(|(n, v)| n.len() + v.len() + 4).sum::<usize>();
    let mut out = Zeroizing::new(Vec::with_capacity(room + head.target.len() + 65536));
    let mut line = |name: &[u8], value: &[u8]| {
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    };
    let is_used = |name: &str| used.iter().any(|c| c.header().eq_ignore_ascii_case(name));
    let kept = head
        .fields
        .iter()
        .filter(|(name, _)| !is_between(name) && !OURS.contains(&name.as_str()) && !is_used(name));
    for (name, value) in kept {
        line(name.as_bytes(), value);
    }
    line(b"Accept-Encoding", b"identity");
    for credential in &used {
        let put = &mut |value: &[u8]| line(credential.header().as_bytes(), value);
        credential.release(&wanted, put).map_err(|why| refused(503, why))?;
    }
    let begin = format!("{} {} HTTP/1.1\r\n", head.method, head.target);
    let mut whole = Zeroizing::new(Vec::with_capacity(begin.len() + out.len() + 2));
    for part in [begin.as_bytes(), &out, b"\r\n"] {
        whole.extend_from_slice(part);
    }
    Ok(whole)
}

/// The credentials that the request asks for.
fn used<'b>(
    broker: &'b Broker,
    target: &Target,
    head: &Head,
    wanted: &Wanted<'_>,
) -> Result<Vec<&'b dyn Credential>, Refusal> {
    let mut used = Vec::new();
    for credential in broker.credentials.iter().map(|credential| &**credential) {
        let placeholder = credential.placeholder().as_bytes();
        let has = |bytes: &[u8]| memmem::find(bytes, placeholder).is_some();
        let mut fields = head.fields.iter().filter(|(_, value)| has(value)).map(|(name, _)| name);
        let there = credential.host() == target.to_string();
        let mut asked = false;
        let elsewhere = fields.find_map(|name| {
            let right = there && name.eq_ignore_ascii_case(credential.header());
            asked |= right;
            (!right).then(|| format!("the field `{name}`"))
        });
        let elsewhere = elsewhere.or(has(head.target.as_bytes()).then(|| "the address".into()));
        if let Some(place) = elsewhere {
            return Err(misplaced(credential, target, &place));
        }
        if !asked {
            continue;
        }
        if let Some(why) = credential.refuses(wanted) {
            return Err(Refusal::new(403, target, format!("{} {why}", credential.name())));
        }
        used.push(credential);
    }
    Ok(used)
}

/// A placeholder where its value does not go.
pub(super) fn misplaced(credential: &dyn Credential, target: &Target, place: &str) -> Refusal {
    let (name, header, host) = (credential.name(), credential.header(), credential.host());
    let why = format!(
        "{place} holds the placeholder of {name}, which goes to {host} in `{header}` alone"
    );
    Refusal::new(403, target, why)
}
