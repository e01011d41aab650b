//! The one HTTP client: blocking, over the user's proxies and certificates.
//!
//! Two kinds of thing are fetched. *Metadata* ([`Client::get`]) changes: it is kept by
//! address, is fresh for as long as the server says, and is revalidated by ETag after that
//! (RFC 9111, 9110). *Files* ([`Client::download`]) never change: they are named by their
//! digest, verified before they get that name, kept for ever, and resumed where a download
//! broke off. Several processes may use one cache at once.
//!
//! ```text
//! cache/http/<key>                    one answer, see `entry`
//! cache/files/<algorithm>-<hex>       a verified file, read-only
//! cache/files/<algorithm>-<hex>.part  what there is of it, see `partial`
//! ```

mod agent;
mod download;
mod entry;
mod error;
mod partial;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{Response, header};
use ureq::{Agent, Body, ResponseExt as _};

pub use self::agent::Limits;
use self::entry::{Entry, freshness};
pub use self::error::HttpError;
use self::error::shown;
pub use super::digest::{Digest, DigestError};
use crate::context::Context;
use crate::event::Event;

/// For how long a host that did not answer is not asked again.
const PASSED_OVER: Duration = Duration::from_secs(30);

/// Before a request is tried for the second and last time.
const BEFORE_RETRY: Duration = Duration::from_millis(250);

/// How often a host that answered before is tried again.
const BAD_MOMENTS: u32 = 3;

/// Fetches metadata and files. Cheap to clone; may be used from several threads.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    ctx: Context,
    limits: Limits,
    /// Made at the first request: reading the platform's certificates takes a while.
    agent: OnceLock<Agent>,
    unreachable: Mutex<HashMap<String, Instant>>,
    /// Hosts that answered: one that then does not is only having a bad moment.
    answered: Mutex<HashSet<String>>,
    received: AtomicU64,
    /// Parts that nobody comes back for were looked for.
    swept: OnceLock<()>,
}

enum Answer {
    Unchanged,
    New { body: Vec<u8>, entry: Option<Entry> },
}

impl Client {
    /// A client that keeps what it fetches in `ctx.home`.
    pub fn new(ctx: &Context) -> Client {
        Client::with_limits(ctx, Limits::default())
    }

    /// A client with another patience than the usual one.
    pub fn with_limits(ctx: &Context, limits: Limits) -> Client {
        Client(Arc::new(Inner {
            ctx: ctx.clone(),
            limits,
            agent: OnceLock::new(),
            unreachable: Mutex::default(),
            answered: Mutex::default(),
            received: AtomicU64::new(0),
            swept: OnceLock::new(),
        }))
    }

    /// How many bytes of bodies came over the network so far.
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Metadata at `url`: from the cache while it is fresh or where the network may not be
    /// used, else from the server. If the server cannot be reached, what it said last is
    /// returned, with a warning. `accept` is the media type to ask for.
    pub fn get(&self, url: &str, accept: Option<&str>) -> Result<Vec<u8>, HttpError> {
        let path = self.answer(url, accept);
        let mut kept = self.kept(&path, url)?;
        let usable = |kept: &mut Kept| kept.is_fresh(self.ctx().now) || self.ctx().offline;
        if let Some(kept) = kept.take_if(usable) {
            return Ok(kept.body);
        }
        match self.ask(url, accept, kept.as_ref().map(|kept| &kept.entry)) {
            Ok(Answer::Unchanged) => {
                let kept = kept.expect("the server says so only of what was kept");
                self.stamp(&kept.file).map_err(cache(&path))?;
                Ok(kept.body)
            }
            Ok(Answer::New { body, entry }) => {
                if let Some(entry) = entry {
                    self.keep(&path, &entry.encode(&body))?;
                }
                Ok(body)
            }
            Err(error) => match kept {
                Some(kept) if error.is_unreachable() => {
                    self.ctx()
                        .events
                        .emit(Event::Warning(format!("{error}; using what was fetched before")));
                    Ok(kept.body)
                }
                _ => Err(error),
            },
        }
    }

    /// Whether `url` was answered before, however long ago.
    pub fn has_answer(&self, url: &str, accept: Option<&str>) -> bool {
        self.answer(url, accept).is_file()
    }

    /// Where the answer of `url` is kept.
    fn answer(&self, url: &str, accept: Option<&str>) -> PathBuf {
        let key = blake3::hash(format!("{url}\n{}", accept.unwrap_or_default()).as_bytes());
        self.ctx().home.cache("http").join(key.to_hex().as_str())
    }

    /// Whether the server of `url` is reached, and how fast: any answer will do.
    pub fn check(&self, url: &str) -> Result<Duration, HttpError> {
        if self.ctx().offline {
            return Err(HttpError::Offline { url: shown(url) });
        }
        let begun = Instant::now();
        self.agent()?
            .head(url)
            .config()
            .proxy(agent::proxy(self.ctx(), url)?)
            .timeout_global(Some(self.0.limits.connect))
            .build()
            .call()
            .map_err(|e| HttpError::Unreachable { url: shown(url), source: Box::new(e) })?;
        Ok(begun.elapsed())
    }

    /// Where `url` leads to at this moment, all redirections followed.
    pub fn location(&self, url: &str) -> Result<String, HttpError> {
        // The body is not read: the connection is dropped with it.
        let response = success(url, self.send(url, &[])?)?;
        Ok(response.get_uri().to_string())
    }

    fn ctx(&self) -> &Context {
        &self.0.ctx
    }

    fn agent(&self) -> Result<&Agent, HttpError> {
        match self.0.agent.get() {
            Some(agent) => Ok(agent),
            None => {
                let made = agent::agent(self.ctx(), &self.0.limits)?;
                Ok(self.0.agent.get_or_init(|| made))
            }
        }
    }

    /// What the cache has for `url`; anything that cannot be read as that is a miss.
    fn kept(&self, path: &Path, url: &str) -> Result<Option<Kept>, HttpError> {
        let mut file = match fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(cache(path)(e)),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(cache(path))?;
        let stored = file.metadata().and_then(|m| m.modified()).map_err(cache(path))?;
        let stored = stored.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Ok(Entry::decode(bytes, url).map(|(entry, body)| Kept {
            entry,
            body,
            stored: i64::try_from(stored).unwrap_or(0),
            file,
        }))
    }

    /// Gives `path` these bytes, all of them or none.
    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), HttpError> {
        let directory = path.parent().expect("a cache file stands in the cache");
        fs::create_dir_all(directory).map_err(cache(directory))?;
        let tmp = self.ctx().home.tmp();
        let mut file = tempfile::NamedTempFile::new_in(&tmp).map_err(cache(&tmp))?;
        let write = |file: &mut tempfile::NamedTempFile| {
            file.write_all(bytes)?;
            self.stamp(file.as_file())
        };
        write(&mut file).map_err(cache(path))?;
        file.persist(path).map_err(|e| cache(path)(e.error))?;
        Ok(())
    }

    /// Notes that an answer is known to be true now.
    fn stamp(&self, file: &fs::File) -> io::Result<()> {
        let now = Duration::from_secs(u64::try_from(self.ctx().now).unwrap_or(0));
        file.set_modified(SystemTime::UNIX_EPOCH + now)
    }

    fn ask(
        &self,
        url: &str,
        accept: Option<&str>,
        kept: Option<&Entry>,
    ) -> Result<Answer, HttpError> {
        let mut headers = Vec::new();
        headers.extend(accept.map(|value| (header::ACCEPT, value)));
        if let Some(kept) = kept {
            headers.extend(kept.etag.as_deref().map(|v| (header::IF_NONE_MATCH, v)));
            headers.extend(kept.modified.as_deref().map(|v| (header::IF_MODIFIED_SINCE, v)));
        }
        for attempt in 0.. {
            let response = self.send(url, &headers)?;
            if response.status() == 304 && kept.is_some() {
                return Ok(Answer::Unchanged);
            }
            let response = success(url, response)?;
            let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
            let fresh =
                freshness(text(header::CACHE_CONTROL).as_deref(), text(header::AGE).as_deref());
            let (etag, modified) = (text(header::ETAG), text(header::LAST_MODIFIED));
            match self.body(url, response) {
                Ok(body) => {
                    let digest = Digest::sha256(&body);
                    let url = url.to_owned();
                    let entry = fresh.map(|fresh| Entry { url, etag, modified, fresh, digest });
                    return Ok(Answer::New { body, entry });
                }
                Err(HttpError::Truncated { .. }) if attempt == 0 => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends by returning")
    }

    fn body(&self, url: &str, mut response: Response<Body>) -> Result<Vec<u8>, HttpError> {
        let limit = self.0.limits.metadata;
        let mut body = Vec::new();
        // One more than allowed, so that too much is told from just enough.
        let read = response.body_mut().as_reader().take(limit + 1).read_to_end(&mut body);
        self.0.received.fetch_add(body.len() as u64, Ordering::Relaxed);
        match read {
            Err(source) => {
                Err(HttpError::Truncated { url: shown(url), got: body.len() as u64, source })
            }
            Ok(_) if body.len() as u64 > limit => {
                Err(HttpError::TooLarge { url: shown(url), limit })
            }
            Ok(_) => Ok(body),
        }
    }

    /// One GET. A reset connection and an overloaded server are tried once more, a host that
    /// answered before a few times; one that never did is passed over for a while.
    fn send(
        &self,
        url: &str,
        headers: &[(header::HeaderName, &str)],
    ) -> Result<Response<Body>, HttpError> {
        if self.ctx().offline {
            return Err(HttpError::Offline { url: shown(url) });
        }
        let host = agent::authority(url).to_owned();
        if self.hosts().get(&host).is_some_and(|since| since.elapsed() < PASSED_OVER) {
            return Err(HttpError::PassedOver { url: shown(url), host });
        }
        let proxy = agent::proxy(self.ctx(), url)?;
        for attempt in 0.. {
            let mut request = self.agent()?.get(url).config().proxy(proxy.clone()).build();
            for (name, value) in headers {
                request = request.header(name, *value);
            }
            match request.call() {
                Ok(response) => {
                    self.answered().insert(host.clone());
                    let code = response.status().as_u16();
                    if attempt == 0 && (code == 429 || code >= 500) {
                        std::thread::sleep(BEFORE_RETRY);
                        continue;
                    }
                    return not_downgraded(url, response);
                }
                Err(error) if attempt == 0 && is_reset(&error) => std::thread::sleep(BEFORE_RETRY),
                Err(error)
                    if attempt < BAD_MOMENTS
                        && is_down(&error)
                        && self.answered().contains(&host) =>
                {
                    std::thread::sleep(BEFORE_RETRY * 4);
                }
                Err(error) => {
                    if is_down(&error) {
                        self.hosts().insert(host, Instant::now());
                    }
                    return Err(HttpError::Unreachable {
                        url: shown(url),
                        source: Box::new(error),
                    });
                }
            }
        }
        unreachable!("the loop ends by returning")
    }

    fn answered(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hosts(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.0.unreachable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer of the cache.
struct Kept {
    entry: Entry,
    body: Vec<u8>,
    stored: i64,
    file: fs::File,
}

impl Kept {
    fn is_fresh(&self, now: i64) -> bool {
        // One that is from the future was written by another clock: ask.
        (0..self.entry.fresh).contains(&(now - self.stored))
    }
}

fn cache(path: &Path) -> impl FnOnce(io::Error) -> HttpError + use<> {
    let path: PathBuf = path.to_owned();
    move |source| HttpError::Cache { path, source }
}

fn success(url: &str, response: Response<Body>) -> Result<Response<Body>, HttpError> {
    match response.status().as_u16() {
        200..300 => Ok(response),
        404 | 410 => Err(HttpError::NotFound { url: shown(url) }),
        code => Err(HttpError::Status { url: shown(url), code }),
    }
}

/// Metadata names the digests by which all else is verified: it may not come from an
/// unencrypted address that an encrypted one led to.
fn not_downgraded(url: &str, response: Response<Body>) -> Result<Response<Body>, HttpError> {
    let target = response.get_uri();
    if url.starts_with("https://") && target.scheme_str() != Some("https") {
        let target = shown(&target.to_string());
        return Err(HttpError::Downgraded { url: shown(url), target });
    }
    Ok(response)
}

fn is_reset(error: &ureq::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error {
        ureq::Error::Io(e) => {
            matches!(e.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        }
        _ => false,
    }
}

fn is_down(error: &ureq::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    match error {
        ureq::Error::Timeout(timeout) => {
            matches!(timeout, ureq::Timeout::Connect | ureq::Timeout::Resolve)
        }
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
        ureq::Error::Io(e) => {
            matches!(e.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | TimedOut)
        }
        _ => false,
    }
}
