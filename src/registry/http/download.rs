//! Files named by their digest.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use ureq::Body;
use ureq::http::{Response, header};

use super::error::shown;
use super::partial::{Claim, Partial, claim, sweep};
use super::{Client, HttpError, cache, success};
use crate::event::Event;
use crate::registry::digest::Digest;

/// The most bytes a download may have; a server that never stops would fill the disk.
const LARGEST: u64 = 32 << 30;

/// Bytes between two reports of progress.
const REPORT: u64 = 256 << 10;

/// How often a download is taken up again within one call.
const ATTEMPTS: u32 = 3;

impl Client {
    /// The verified file with this digest, if it was fetched before.
    pub fn cached(&self, expected: &Digest) -> Option<PathBuf> {
        let path = self.file(expected);
        path.is_file().then_some(path)
    }

    /// As [`Client::download`], for what is small: its bytes.
    pub fn get_pinned(&self, url: &str, expected: &Digest) -> Result<Vec<u8>, HttpError> {
        let path = self.download(url, expected, url.rsplit('/').next().unwrap_or(url))?;
        fs::read(&path).map_err(cache(&path))
    }

    /// Fetches `url` and returns where it is kept, read-only. It has this digest, or it is
    /// an error. A download that broke off is resumed, if need be by another process.
    /// `what` names it in progress events.
    pub fn download(&self, url: &str, expected: &Digest, what: &str) -> Result<PathBuf, HttpError> {
        if let Some(path) = self.cached(expected) {
            return Ok(path);
        }
        if self.0.ctx.offline {
            return Err(HttpError::Offline { url: shown(url) });
        }
        let path = self.file(expected);
        let directory = path.parent().expect("the path was made by joining");
        fs::create_dir_all(directory).map_err(cache(directory))?;
        self.0.swept.get_or_init(|| sweep(directory, self.0.ctx.now));
        let mut partial = match claim(&path, expected)? {
            Claim::Done => return Ok(path),
            Claim::Ours(partial) => partial,
        };
        let filled = self.fill(&mut partial, url, expected, what).and_then(|()| {
            // On the disk before it has the name: a crash must not leave an empty file
            // that says it is verified.
            partial.file.sync_all().map_err(cache(&path))?;
            let read_only = fs::Permissions::from_mode(0o444);
            partial.file.set_permissions(read_only).map_err(cache(&path))?;
            fs::rename(&partial.path, &path).map_err(cache(&path))
        });
        match filled {
            Ok(()) => {
                partial.forget_tag();
                Ok(path)
            }
            Err(error) => {
                // What is wrong is of no use, and on a full disk its space is. What only
                // broke off stays for the next attempt.
                if matches!(error, HttpError::Mismatch { .. } | HttpError::Cache { .. }) {
                    partial.remove();
                }
                Err(error)
            }
        }
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        self.0.ctx.home.cache("files").join(name)
    }

    /// Brings the rest of `partial`, until it has the digest.
    fn fill(
        &self,
        partial: &mut Partial,
        url: &str,
        expected: &Digest,
        what: &str,
    ) -> Result<(), HttpError> {
        if partial.length > 0 && partial.hasher.clone().finish() == *expected {
            return Ok(());
        }
        let mut attempt = 0;
        loop {
            attempt += 1;
            let resumed = partial.length > 0;
            let broke_off = self.transfer(partial, url, expected, what)?;
            let found = partial.hasher.clone().finish();
            match broke_off {
                _ if found == *expected => return Ok(()),
                Some(source) if attempt >= ATTEMPTS => {
                    let got = partial.length;
                    return Err(HttpError::Truncated { url: shown(url), got, source });
                }
                Some(_) => {}
                // What was there before may have been of another file: once more, whole.
                None if resumed => partial.restart(expected, url, None)?,
                None => {
                    let (expected, found) = (Box::new(*expected), Box::new(found));
                    return Err(HttpError::Mismatch { url: shown(url), expected, found });
                }
            }
        }
    }

    /// One request. `Some` is how the body broke off.
    fn transfer(
        &self,
        partial: &mut Partial,
        url: &str,
        expected: &Digest,
        what: &str,
    ) -> Result<Option<io::Error>, HttpError> {
        let range = format!("bytes={}-", partial.length);
        // Ranges and the digest are of the file itself, not of some encoding of it.
        let whole = [(header::ACCEPT_ENCODING, "identity")];
        let mut headers = whole.to_vec();
        if partial.length > 0 {
            headers.push((header::RANGE, &range));
            // Another version than what there is comes whole.
            headers.extend(partial.tag_at(url).map(|tag| (header::IF_RANGE, tag)));
        }
        let mut response = self.send(url, &headers)?;
        let goes_on = match response.status().as_u16() {
            206 => begins_at(&response, partial.length) && is_of(&response, partial.tag_at(url)),
            416 => false,
            _ => {
                response = success(url, response)?;
                partial.restart(expected, url, tag(&response))?;
                true
            }
        };
        if !goes_on {
            response = success(url, self.send(url, &whole)?)?;
            partial.restart(expected, url, tag(&response))?;
        }
        self.copy(partial, url, response, what)
    }

    fn copy(
        &self,
        partial: &mut Partial,
        url: &str,
        mut response: Response<Body>,
        what: &str,
    ) -> Result<Option<io::Error>, HttpError> {
        let total = response.body().content_length().map(|rest| partial.length + rest);
        let mut reader = response.body_mut().as_reader();
        let mut buffer = vec![0; 64 << 10];
        let mut report_at = 0;
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Ok(Some(e)),
            };
            self.0.received.fetch_add(n as u64, Ordering::Relaxed);
            partial.append(&buffer[..n])?;
            if partial.length > LARGEST {
                return Err(HttpError::TooLarge { url: shown(url), limit: LARGEST });
            }
            if partial.length >= report_at || Some(partial.length) == total {
                report_at = partial.length + REPORT;
                let (what, done) = (what.to_owned(), partial.length);
                self.0.ctx.events.emit(Event::Progress { what, done, total });
            }
        }
    }
}

/// Whether a 206 carries what was asked for: `Content-Range: bytes <at>-…`.
fn begins_at(response: &Response<Body>, at: u64) -> bool {
    response
        .headers()
        .get(header::CONTENT_RANGE)
        .and_then(|value| value.to_str().ok()?.strip_prefix("bytes ")?.split_once('-'))
        .is_some_and(|(begin, _)| begin.trim().parse() == Ok(at))
}

/// Whether a 206 is of the version that there is the beginning of, as far as is known.
fn is_of(response: &Response<Body>, known: Option<&str>) -> bool {
    known.zip(tag(response)).is_none_or(|(known, tag)| known == tag)
}

/// What the server calls this version (RFC 9110, 8.8.3).
fn tag(response: &Response<Body>) -> Option<&str> {
    response.headers().get(header::ETAG)?.to_str().ok()
}
