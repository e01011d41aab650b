//! Files named by their digest.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use ureq::Body;
use ureq::http::{Response, header};

use super::error::shown;
use super::{Client, HttpError, cache, success};
use crate::event::Event;
use crate::registry::digest::{Digest, Hasher};

/// The most bytes a download may have; a server that never stops would fill the disk.
const LARGEST: u64 = 32 << 30;

/// Bytes between two reports of progress.
const REPORT: u64 = 256 << 10;

/// How often a download is taken up again within one call.
const ATTEMPTS: u32 = 3;

/// A partial file, locked by us, with the hash of what it holds.
struct Partial {
    file: File,
    path: PathBuf,
    hasher: Hasher,
    length: u64,
}

enum Claim {
    /// Somebody finished it while we waited.
    Done,
    Ours(Box<Partial>),
}

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
            Ok(()) => Ok(path),
            Err(error) => {
                // What is wrong is of no use, and on a full disk its space is. What only
                // broke off stays for the next attempt.
                if matches!(error, HttpError::Mismatch { .. } | HttpError::Cache { .. }) {
                    let _ = fs::remove_file(&partial.path);
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
                None if resumed => partial.restart(expected)?,
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
        let mut headers = vec![(header::ACCEPT_ENCODING, "identity")];
        if partial.length > 0 {
            headers.push((header::RANGE, &range));
        }
        let response = self.send(url, &headers)?;
        let response = match response.status().as_u16() {
            416 if partial.length > 0 => {
                partial.restart(expected)?;
                let whole = [(header::ACCEPT_ENCODING, "identity")];
                success(url, self.send(url, &whole)?)?
            }
            206 if begins_at(&response, partial.length) => response,
            _ => {
                let response = success(url, response)?;
                partial.restart(expected)?;
                response
            }
        };
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

impl Partial {
    fn append(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        self.file.write_all(bytes).map_err(cache(&self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self, expected: &Digest) -> Result<(), HttpError> {
        if self.length > 0 {
            self.file.set_len(0).map_err(cache(&self.path))?;
            self.file.seek(SeekFrom::Start(0)).map_err(cache(&self.path))?;
        }
        self.hasher = expected.hasher();
        self.length = 0;
        Ok(())
    }
}

/// Opens and locks the partial file of `path`, waiting while another process adds to it.
fn claim(path: &Path, expected: &Digest) -> Result<Claim, HttpError> {
    let part = path.with_extension("part");
    let io = || cache(&part);
    loop {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&part).map_err(io())?;
        file.lock().map_err(io())?;
        if path.is_file() {
            // Ours is either that very file, or one made just after it got its name.
            if !same_file(&file, path).map_err(io())? {
                let _ = fs::remove_file(&part);
            }
            return Ok(Claim::Done);
        }
        // Whoever held the lock may have removed or renamed what we opened.
        if !same_file(&file, &part).map_err(io())? {
            continue;
        }
        let mut hasher = expected.hasher();
        let length = hash(&mut file, &mut hasher).map_err(io())?;
        let partial = Partial { file, path: part, hasher, length };
        return Ok(Claim::Ours(Box::new(partial)));
    }
}

fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(theirs) => Ok(ours.dev() == theirs.dev() && ours.ino() == theirs.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn hash(file: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut length = 0;
    // A device has no length, and reading it may never end.
    if file.metadata()?.len() == 0 {
        return Ok(0);
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            n => {
                hasher.update(&buffer[..n]);
                length += n as u64;
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
