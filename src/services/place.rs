//! Where all of a service is, and what the words of its texts mean.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::error::{ServiceError, at};
use super::state::State;
use crate::environment::catalog::Service;
use crate::environment::words::Words;

/// `sun_path` of unix(7) holds 108 bytes, the last of them zero.
const LONGEST_SOCKET: usize = 107;

/// One service's place in one workspace.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) dir: PathBuf,
    pub(super) run: PathBuf,
}

/// `workspaces/<id>/services/<name>`.
pub(super) fn directory(workspace: &Path, name: &str) -> PathBuf {
    workspace.join("services").join(name)
}

/// The services that have ever been started in a workspace.
pub(super) fn names(workspace: &Path) -> Vec<String> {
    let entries = fs::read_dir(workspace.join("services")).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Where the sockets of a workspace are whose own directory has too long a path.
fn elsewhere(workspace: &Path) -> PathBuf {
    let hash = blake3::hash(workspace.as_os_str().as_bytes()).to_hex();
    PathBuf::from(format!("/tmp/zagi-{}-{}", nix::unistd::geteuid(), &hash[..16]))
}

/// Removes what stands outside of the workspace's directory.
pub(super) fn forget(workspace: &Path) {
    let dir = elsewhere(workspace);
    if is_ours(&dir) {
        // What is left is empty directories and dead sockets.
        let _ = fs::remove_dir_all(dir);
    }
}

/// Somebody else's directory below `/tmp` would be somebody else's sockets.
fn is_ours(dir: &Path) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|meta| {
        meta.is_dir()
            && meta.uid() == nix::unistd::geteuid().as_raw()
            && meta.mode().trailing_zeros() >= 6
    })
}

/// Makes a directory that only its user can enter; whose it is, is checked.
pub(super) fn private(dir: &Path) -> Result<(), ServiceError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(at(dir))?;
    match is_ours(dir) {
        true => Ok(()),
        false => Err(at(dir)(io::ErrorKind::PermissionDenied.into())),
    }
}

/// Waits until nobody else starts or stops this service.
pub(super) fn lock(dir: &Path) -> Result<Flock<File>, ServiceError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(at(&path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| at(&path)(errno.into()))
}

/// A path as text.
pub(super) fn text(path: &Path) -> Result<String, ServiceError> {
    path.to_str().map(str::to_owned).ok_or_else(|| ServiceError::NotUtf8(path.to_owned()))
}

impl Place {
    /// The place of the service `name` in the workspace whose directory under the home is
    /// `workspace`.
    pub fn new(workspace: &Path, name: &str, service: &Service) -> Place {
        let dir = directory(workspace, name);
        let run = dir.join("run");
        let mut place = Place { dir, run };
        // The longest port, so that the place does not change with the port.
        let socket = place.socket(service, Some(u16::MAX));
        if socket.as_os_str().len() > LONGEST_SOCKET {
            place.run = elsewhere(workspace).join(name);
        }
        place
    }

    /// Makes the directory of its socket. Below `/tmp` the one above must be ours too, or its
    /// owner could put another in the place of this one.
    pub(super) fn make_run(&self) -> Result<(), ServiceError> {
        private(self.run.parent().unwrap_or(&self.dir))?;
        private(&self.run)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What a command that makes the data is to read.
    pub(super) fn input(&self) -> PathBuf {
        self.dir.join("input")
    }

    /// The last run, if there was one.
    pub(super) fn state(&self) -> Result<Option<State>, ServiceError> {
        State::read(&self.dir)
    }

    /// The directory of its socket.
    pub fn sockets(&self) -> &Path {
        &self.run
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Where it listens.
    pub(super) fn socket(&self, service: &Service, port: Option<u16>) -> PathBuf {
        let port = port.unwrap_or(service.port).to_string();
        let run = self.run.display().to_string();
        let words = [("run", run), ("port", port)].map(|(name, value)| (name.into(), value));
        Words(BTreeMap::from(words)).expand(&service.socket).into()
    }

    /// What the words of its texts mean.
    pub(super) fn words(&self, service: &Service, port: Option<u16>) -> Words {
        let socket = self.socket(service, port);
        let words = [
            ("data", self.data().display().to_string()),
            ("run", self.run.display().to_string()),
            ("run-url", in_url(&self.run)),
            ("socket", socket.display().to_string()),
            ("socket-url", in_url(&socket)),
            ("port", port.unwrap_or(service.port).to_string()),
        ];
        Words(words.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

/// A path as it stands in an address (RFC 3986), its slashes as they are.
fn in_url(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' => {
                out.push(char::from(*byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::catalog::Catalog;

    #[test]
    fn a_socket_fits_where_it_is() {
        let catalog = Catalog::load(Path::new("/nonexistent")).unwrap();
        for (name, service) in &catalog.service {
            let short =
                Place::new(Path::new("/home/u/.zagi/workspaces/0123456789ab"), name, service);
            assert!(short.run.starts_with(&short.dir), "{name}");
            let workspace = PathBuf::from(format!("/{}/workspaces/0123456789ab", "x".repeat(90)));
            let long = Place::new(&workspace, name, service);
            for port in [None, Some(1), Some(u16::MAX)] {
                let socket = long.socket(service, port);
                assert!(socket.as_os_str().len() <= LONGEST_SOCKET, "{}", socket.display());
            }
            assert!(long.run.starts_with(elsewhere(&workspace)), "{name}");
        }
    }

    #[test]
    fn a_path_in_an_address() {
        assert_eq!(in_url(Path::new("/a b/é?&%/.s")), "/a%20b/%C3%A9%3F%26%25/.s");
    }

    #[test]
    fn a_directory_of_anybody_elses_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("a/b");
        private(&own).unwrap();
        private(&own).unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert!(matches!(private(&open), Err(ServiceError::Io { .. })));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&own, &link).unwrap();
        assert!(matches!(private(&link), Err(ServiceError::Io { .. })));
    }
}
