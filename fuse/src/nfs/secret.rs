//! What only whoever was told the path can name: tokens and handles.

use std::fs::File;
use std::io::{self, Read};

/// Length of a handle: the inode's number, and what proves that we gave it out.
const HANDLE: usize = 8 + blake3::OUT_LEN;

/// The secret of one mount. Path and handles follow from it, so that they outlive the process
/// that gave them out. It is not shown by `{:?}`.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Length in bytes.
    pub const LENGTH: usize = 32;

    /// One that nobody can guess.
    pub fn new() -> io::Result<Secret> {
        let mut bytes = [0; Secret::LENGTH];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Secret(bytes))
    }

    /// One that was kept.
    pub fn from_bytes(bytes: [u8; Secret::LENGTH]) -> Secret {
        Secret(bytes)
    }

    /// To be kept where only its owner may look.
    pub fn as_bytes(&self) -> &[u8; Secret::LENGTH] {
        &self.0
    }

    /// The path to be mounted, without the `/` before it: 32 hexadecimal digits.
    pub fn token(&self) -> String {
        self.derive(b"path of the export").to_hex()[..32].to_owned()
    }

    /// Whether `token` is the right one. The time it takes says nothing about which is.
    pub(super) fn is_token(&self, token: &[u8]) -> bool {
        blake3::hash(token) == blake3::hash(self.token().as_bytes())
    }

    /// The handle of the inode `ino`.
    pub(super) fn handle(&self, ino: u64) -> Vec<u8> {
        let ino = ino.to_le_bytes();
        let mut handle = Vec::with_capacity(HANDLE);
        handle.extend(ino);
        handle.extend(self.derive(&ino).as_bytes());
        handle
    }

    /// The inode that `handle` was made for; `None` if we did not make it.
    pub(super) fn inode(&self, handle: &[u8]) -> Option<u64> {
        let (ino, proof) = handle.split_first_chunk::<8>()?;
        let proof = blake3::Hash::from_bytes(proof.try_into().ok()?);
        (self.derive(ino) == proof).then_some(u64::from_le_bytes(*ino))
    }

    /// What tells this file system from others.
    pub(super) fn fsid(&self) -> u64 {
        u64::from_le_bytes(self.short(b"the file system"))
    }

    /// What tells a client that nothing was lost since. Nothing ever is: it stays the same.
    pub(super) fn verifier(&self) -> [u8; 8] {
        self.short(b"write verifier")
    }

    fn short(&self, what: &[u8]) -> [u8; 8] {
        let mut short = [0; 8];
        short.copy_from_slice(&self.derive(what).as_bytes()[..8]);
        short
    }

    fn derive(&self, what: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_and_tokens_are_known_again_and_cannot_be_made_by_others() {
        let (ours, theirs) = (Secret::new().expect("random"), Secret::new().expect("random"));
        let again = Secret::from_bytes(*ours.as_bytes());
        for ino in [1, 16, u64::MAX] {
            let handle = ours.handle(ino);
            assert_eq!(again.inode(&handle), Some(ino));
            assert_eq!(theirs.inode(&handle), None);
            let mut changed = handle.clone();
            changed[0] ^= 1;
            assert_eq!(ours.inode(&changed), None);
            assert_eq!(ours.inode(&handle[..39]), None);
            assert_eq!(ours.inode(&[]), None);
        }
        assert!(again.is_token(ours.token().as_bytes()));
        assert!(!theirs.is_token(ours.token().as_bytes()) && !ours.is_token(b""));
        assert_eq!(ours.token().len(), 32);
        assert_eq!(ours.verifier(), again.verifier());
        assert_ne!(ours.fsid(), theirs.fsid());
    }
}
