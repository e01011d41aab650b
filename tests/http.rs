//! The HTTP client against a server that also misbehaves.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use zagi::context::Context;
use zagi::registry::http::{Client, Digest, HttpError, Limits};

use crate::support::http::{Reply, Server};
use crate::support::{Machine, NOW};

/// Some bytes that no part of repeats another.
fn file() -> Vec<u8> {
    (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn impatient(ctx: &Context) -> Client {
    let short = Duration::from_millis(300);
    let limits = Limits { connect: short, answer: short, stall: short, metadata: 1 << 20 };
    Client::with_limits(ctx, limits)
}

/// Every file below the cache of downloads.
fn files(ctx: &Context) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(ctx.home.cache("files")) else { return Vec::new() };
    entries.map(|entry| entry.expect("it can be listed").path()).collect()
}

/// A handler that answers each request in its turn; the last one for ever.
fn in_turn(replies: Vec<Box<dyn Fn() -> Reply + Send + Sync>>) -> Server {
    let at = AtomicUsize::new(0);
    Server::start(move |_| {
        let n = at.fetch_add(1, Ordering::SeqCst).min(replies.len() - 1);
        replies[n]()
    })
}

#[test]
fn metadata_is_fresh_as_long_as_it_says_and_then_revalidated() {
    let server = Server::start(|request| match request.header("if-none-match") {
        Some("\"one\"") => Reply::new(304, "").with("cache-control", "max-age=600"),
        _ => Reply::ok("one").with("etag", "\"one\"").with("cache-control", "max-age=600"),
    });
    let machine = Machine::new();
    let mut ctx = machine.context(&server.base);
    let url = format!("{}/index", server.base);
    let get = |ctx: &Context| Client::new(ctx).get(&url, None).expect("it is served");

    assert_eq!(get(&ctx), b"one");
    assert_eq!(get(&ctx), b"one");
    assert_eq!(server.requests().len(), 1, "fresh: not asked again");
    ctx.now = NOW + 601;
    assert_eq!(get(&ctx), b"one");
    assert_eq!(server.requests().len(), 2);
    assert_eq!(server.requests()[1].header("if-none-match"), Some("\"one\""));
    ctx.now = NOW + 1200;
    assert_eq!(get(&ctx), b"one");
    assert_eq!(server.requests().len(), 2, "revalidating made it fresh again");
}

#[test]
fn each_media_type_is_kept_for_itself() {
    let server = Server::start(|r| Reply::ok(r.header("accept").expect("always sent")));
    let machine = Machine::new();
    let client = Client::new(&machine.context(&server.base));
    for _ in 0..2 {
        let json = client.get(&server.base, Some("application/json")).expect("it is served");
        let html = client.get(&server.base, Some("text/html")).expect("it is served");
        assert_eq!(
            (json.as_slice(), html.as_slice()),
            (&b"application/json"[..], &b"text/html"[..])
        );
    }
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn what_may_not_be_stored_is_not() {
    let server = Server::start(|_| Reply::ok("x").with("cache-control", "no-store"));
    let machine = Machine::new();
    let client = Client::new(&machine.context(&server.base));
    for _ in 0..2 {
        client.get(&server.base, None).expect("it is served");
    }
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_server_that_fails_is_replaced_by_what_it_said_last_aloud() {
    let server = in_turn(vec![
        Box::new(|| Reply::ok("said").with("cache-control", "max-age=0")),
        Box::new(|| Reply::new(503, "")),
    ]);
    let machine = Machine::new();
    let client = Client::new(&machine.context(&server.base));
    let url = format!("{}/a", server.base);
    client.get(&url, None).expect("it is served");
    assert_eq!(client.get(&url, None).expect("it is kept"), b"said");
    assert_eq!(machine.events.warnings().len(), 1);
    assert!(machine.events.warnings()[0].contains("503"), "{:?}", machine.events.warnings());
    let other = client.get(&format!("{}/b", server.base), None);
    assert!(matches!(other, Err(HttpError::Status { code: 503, .. })), "{other:?}");
}

#[test]
fn a_reset_and_an_overloaded_server_are_tried_once_more() {
    for first in [500, 0] {
        let server = in_turn(vec![
            Box::new(move || Reply { reset: first == 0, ..Reply::new(first.max(200), "") }),
            Box::new(|| Reply::ok("second")),
        ]);
        let machine = Machine::new();
        let client = Client::new(&machine.context(&server.base));
        assert_eq!(client.get(&server.base, None).expect("the second succeeds"), b"second");
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn missing_is_told_from_failing() {
    let server = Server::start(|_| Reply::not_found());
    let machine = Machine::new();
    let client = Client::new(&machine.context(&server.base));
    let missing = client.get(&server.base, None);
    assert!(matches!(missing, Err(HttpError::NotFound { .. })), "{missing:?}");
    assert_eq!(server.requests().len(), 1, "a 404 is not tried again");
}

#[test]
fn offline_uses_only_what_was_fetched() {
    let server = Server::start(|_| Reply::ok("kept").with("cache-control", "max-age=0"));
    let machine = Machine::new();
    let mut ctx = machine.context(&server.base);
    Client::new(&ctx).get(&server.base, None).expect("it is served");
    ctx.offline = true;
    ctx.now = NOW + 1_000_000;
    let client = Client::new(&ctx);
    assert_eq!(client.get(&server.base, None).expect("it is kept"), b"kept");
    let url = format!("{}/other", server.base);
    let digest = Digest::sha256(b"x");
    assert!(matches!(client.get(&url, None), Err(HttpError::Offline { .. })));
    assert!(matches!(client.download(&url, &digest, "x"), Err(HttpError::Offline { .. })));
    assert!(matches!(client.check(&url), Err(HttpError::Offline { .. })));
    assert_eq!(server.requests().len(), 1);
    assert!(machine.events.warnings().is_empty(), "asked for, so not warned about");
}

#[test]
fn metadata_has_a_bound() {
    let server = Server::start(|_| Reply::ok(vec![b'x'; (1 << 20) + 1]));
    let machine = Machine::new();
    let client = impatient(&machine.context(&server.base));
    let large = client.get(&server.base, None);
    assert!(matches!(large, Err(HttpError::TooLarge { limit: 1_048_576, .. })), "{large:?}");
}

#[test]
fn a_server_that_hangs_is_given_up_and_passed_over() {
    let server = Server::start(|_| Reply { hang: Some(0), ..Reply::ok("never") });
    let machine = Machine::new();
    let client = impatient(&machine.context(&server.base));
    let begun = Instant::now();
    let hung = client.get(&server.base, None);
    assert!(matches!(hung, Err(HttpError::Truncated { .. })), "{hung:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));

    // Nobody listens on a port that was just given back.
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}", listener.local_addr().expect("it is bound"))
    };
    let refused = client.get(&closed, None);
    assert!(matches!(refused, Err(HttpError::Unreachable { .. })), "{refused:?}");
    let again = client.get(&closed, None);
    assert!(matches!(again, Err(HttpError::PassedOver { .. })), "{again:?}");
    assert!(client.check(&server.base).is_ok());
}

#[test]
fn a_download_is_verified_and_then_needs_no_network() {
    let server = Server::start(|request| Reply::ranged(request, &file()));
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let client = Client::new(&ctx);
    let digest = Digest::sha256(&file());
    assert_eq!(client.cached(&digest), None);
    let path = client.download(&server.base, &digest, "it").expect("it is served");
    assert_eq!(fs::read(&path).expect("it is there"), file());
    assert!(fs::metadata(&path).expect("it is there").permissions().readonly());
    assert_eq!(client.download(&server.base, &digest, "it").expect("it is kept"), path);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(files(&ctx), [path]);
    assert_eq!(client.received(), file().len() as u64);
}

#[test]
fn a_wrong_digest_is_an_error_and_leaves_nothing() {
    let server = Server::start(|request| Reply::ranged(request, b"something else"));
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let digest = Digest::sha256(&file());
    match Client::new(&ctx).download(&server.base, &digest, "it") {
        Err(HttpError::Mismatch { expected, found, .. }) => {
            assert_eq!(*expected, digest);
            assert_eq!(*found, Digest::sha256(b"something else"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(files(&ctx), [] as [PathBuf; 0]);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let server = Server::start(move |request| {
        let break_off = (count.fetch_add(1, Ordering::SeqCst) == 0).then_some(150_000);
        Reply { break_off, ..Reply::ranged(request, &file()) }
    });
    let machine = Machine::new();
    let client = Client::new(&machine.context(&server.base));
    let path = client.download(&server.base, &Digest::sha256(&file()), "it").expect("it resumes");
    assert_eq!(fs::read(path).expect("it is there"), file());
    assert_eq!(server.requests()[1].header("range"), Some("bytes=150000-"));
    assert_eq!(client.received(), file().len() as u64, "no byte came twice");
}

#[test]
fn one_that_keeps_breaking_off_is_resumed_by_the_next_process() {
    let broken = Server::start(|request| {
        let reply = Reply::ranged(request, &file());
        Reply { break_off: Some(reply.body.len().min(1000)), ..reply }
    });
    let machine = Machine::new();
    let ctx = machine.context(&broken.base);
    let digest = Digest::sha256(&file());
    let failed = Client::new(&ctx).download(&broken.base, &digest, "it");
    assert!(matches!(failed, Err(HttpError::Truncated { got: 3000, .. })), "{failed:?}");
    assert_eq!(Client::new(&ctx).cached(&digest), None);

    let whole = Server::start(|request| Reply::ranged(request, &file()));
    let path = Client::new(&ctx).download(&whole.base, &digest, "it").expect("it resumes");
    assert_eq!(fs::read(path).expect("it is there"), file());
    assert_eq!(whole.requests()[0].header("range"), Some("bytes=3000-"));
}

/// A download from a server that breaks off, given up.
fn broken_off(server: &Server, ctx: &Context) -> Digest {
    let digest = Digest::sha256(&file());
    let failed = Client::new(ctx).download(&server.base, &digest, "it");
    assert!(matches!(failed, Err(HttpError::Truncated { .. })), "{failed:?}");
    digest
}

#[test]
fn a_version_that_is_gone_is_not_gone_on_with() {
    // One server does as the tag says, and one knows ranges only.
    for minds_tags in [true, false] {
        let calls = AtomicUsize::new(0);
        let server = Server::start(move |request| {
            if calls.fetch_add(1, Ordering::SeqCst) < 3 {
                let old = Reply::ranged(request, &[7; 5000]).with("etag", "\"old\"");
                return Reply { break_off: Some(1000), ..old };
            }
            let reply = match request.header("if-range") {
                Some(tag) if minds_tags && tag != "\"new\"" => Reply::ok(file()),
                _ => Reply::ranged(request, &file()),
            };
            reply.with("etag", "\"new\"")
        });
        let machine = Machine::new();
        let ctx = machine.context(&server.base);
        let digest = broken_off(&server, &ctx);
        let client = Client::new(&ctx);
        let path = client.download(&server.base, &digest, "it").expect("it is served");
        assert_eq!(fs::read(&path).expect("it is there"), file());
        assert_eq!(files(&ctx), [path], "neither a part nor a tag is left");
        let requests = server.requests();
        assert_eq!(requests[3].header("range"), Some("bytes=3000-"));
        assert_eq!(requests[3].header("if-range"), Some("\"old\""));
        // Without reading the rest of the other version first.
        assert!(client.received() < file().len() as u64 + 100_000, "{}", client.received());
    }
}

#[test]
fn a_tag_is_for_the_address_that_it_came_from() {
    let broken = Server::start(|request| {
        let reply = Reply::ranged(request, &file()).with("etag", "\"one\"");
        Reply { break_off: Some(reply.body.len().min(1000)), ..reply }
    });
    let machine = Machine::new();
    let ctx = machine.context(&broken.base);
    let digest = broken_off(&broken, &ctx);
    assert_eq!(broken.requests()[2].header("if-range"), Some("\"one\""));
    let mirror = Server::start(|request| Reply::ranged(request, &file()).with("etag", "\"two\""));
    let client = Client::new(&ctx);
    client.download(&mirror.base, &digest, "it").expect("it goes on there");
    assert_eq!(mirror.requests()[0].header("range"), Some("bytes=3000-"));
    assert_eq!(mirror.requests()[0].header("if-range"), None);
    assert_eq!(client.received(), file().len() as u64 - 3000);
}

#[test]
fn parts_that_nobody_came_back_for_go() {
    let server = Server::start(|request| Reply::ranged(request, &file()));
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let directory = ctx.home.cache("files");
    fs::create_dir_all(&directory).expect("the home is ours");
    let part = |name: &str, days: u64| {
        let path = directory.join(name);
        let file = fs::File::create(&path).expect("the home is ours");
        let now = u64::try_from(NOW).expect("it is after the epoch");
        let time = std::time::UNIX_EPOCH + Duration::from_secs(now - days * 86_400);
        file.set_modified(time).expect("it is ours");
        path
    };
    let gone = part("sha256-aa.part", 8);
    let tag = part("sha256-aa.etag", 8);
    let recent = part("sha256-bb.part", 6);
    let in_use = part("sha256-cc.part", 8);
    let finished = part("sha256-dd", 80);
    let holder = fs::File::open(&in_use).expect("it is there");
    holder.lock().expect("nobody else has it");
    let digest = Digest::sha256(&file());
    Client::new(&ctx).download(&server.base, &digest, "it").expect("it is served");
    assert!(!gone.exists() && !tag.exists());
    assert!(recent.exists() && in_use.exists() && finished.exists());
}

#[test]
fn a_partial_of_something_else_is_fetched_anew() {
    // With and without a server that understands ranges, and one that is longer than the file.
    for (ranges, length) in [(true, 10), (false, 10), (true, 500_000)] {
        let server = Server::start(move |request| match ranges {
            true => Reply::ranged(request, &file()),
            false => Reply::ok(file()),
        });
        let machine = Machine::new();
        let ctx = machine.context(&server.base);
        let digest = Digest::sha256(&file());
        fs::create_dir_all(ctx.home.cache("files")).expect("the home is ours");
        let part = format!("sha256-{}.part", digest.hex());
        fs::write(ctx.home.cache("files").join(part), vec![7; length]).expect("the home is ours");
        let path = Client::new(&ctx).download(&server.base, &digest, "it").expect("it is served");
        assert_eq!(fs::read(&path).expect("it is there"), file());
        assert_eq!(files(&ctx), [path]);
    }
}

#[test]
fn a_whole_partial_needs_only_its_name() {
    let server = Server::start(|_| Reply::not_found());
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let digest = Digest::sha256(&file());
    fs::create_dir_all(ctx.home.cache("files")).expect("the home is ours");
    let part = format!("sha256-{}.part", digest.hex());
    fs::write(ctx.home.cache("files").join(part), file()).expect("the home is ours");
    Client::new(&ctx).download(&server.base, &digest, "it").expect("it is whole");
    assert!(server.requests().is_empty());
}

#[test]
fn a_full_disk_is_a_clear_error_and_leaves_nothing() {
    let server = Server::start(|request| Reply::ranged(request, &file()));
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let digest = Digest::sha256(&file());
    fs::create_dir_all(ctx.home.cache("files")).expect("the home is ours");
    let part = ctx.home.cache("files").join(format!("sha256-{}.part", digest.hex()));
    std::os::unix::fs::symlink("/dev/full", part).expect("the home is ours");
    match Client::new(&ctx).download(&server.base, &digest, "it") {
        Err(HttpError::Cache { source, .. }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(files(&ctx), [] as [PathBuf; 0]);
}

#[test]
fn many_at_once_fetch_one_file_once() {
    let server = Server::start(|request| {
        std::thread::sleep(Duration::from_millis(50));
        Reply::ranged(request, &file())
    });
    let machine = Machine::new();
    let ctx = machine.context(&server.base);
    let digest = Digest::sha256(&file());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            // A client each, as processes would have.
            scope.spawn(|| {
                let path =
                    Client::new(&ctx).download(&server.base, &digest, "it").expect("it is served");
                assert_eq!(fs::read(path).expect("it is there"), file());
            });
        }
    });
    assert_eq!(server.requests().len(), 1);
    assert_eq!(files(&ctx).len(), 1);
}
