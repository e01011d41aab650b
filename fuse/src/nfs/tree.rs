//! The overlay as the crate `nfsserve` wants it.

use std::sync::Arc;

use async_trait::async_trait;
use nfsserve::nfs::{
    FSF_CANSETTIME, FSF_HOMOGENEOUS, FSF_LINK, FSF_SYMLINK, cookieverf3, fattr3, fileid3,
    filename3, fsinfo3, nfs_fh3, nfspath3, nfsstat3, nfstime3, post_op_attr, sattr3,
};
use nfsserve::vfs::{NFSFileSystem, ReadDirResult, VFSCapabilities};
use nix::errno::Errno;

use super::convert::{attributes, changes, status};
use super::secret::Secret;
use crate::delta::{FileKind, ROOT};
use crate::overlay::{Attr, Caller, Overlay, RenameMode, SetAttr};

/// The longest read and the longest write.
pub(super) const MAX_TRANSFER: u32 = 1 << 20;

/// An overlay with what it takes to name its files to strangers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tree(Arc<Shared>);

/// What the clones share.
pub(super) struct Shared {
    /// The files.
    pub overlay: Arc<Overlay>,
    /// What handles are made with.
    pub secret: Secret,
    /// Whose the mount is. The crate does not say who calls; nobody else but root gets here.
    pub owner: Caller,
}

impl std::ops::Deref for Tree {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// Attributes as NFS has them.
    pub fn show(&self, attr: &Attr) -> fattr3 {
        attributes(attr, self.secret.fsid())
    }

    /// What new content is written as: by somebody who may not keep set-id bits, unless by root.
    fn unprivileged(&self) -> Option<Caller> {
        (self.owner.uid != 0).then_some(self.owner)
    }

    /// `.` and `..` are nothing to the overlay; a client may walk by them.
    fn lookup(&self, dir: u64, name: &[u8]) -> Result<u64, Errno> {
        match name {
            b"." => Ok(self.overlay.getattr(dir)?.ino),
            b".." => {
                let mut parent = ROOT;
                // The position 1 is that of `..`.
                self.overlay.readdir(dir, 1, false, &mut |entry| {
                    parent = entry.ino;
                    true
                })?;
                Ok(parent)
            }
            name => Ok(self.overlay.lookup(dir, name)?.ino),
        }
    }

    /// Lets go of `ino`, whose name is gone or which another has taken the place of. Handles of
    /// what has no name left are stale from now on: a client keeps what it has open under a name
    /// of its own making.
    fn let_go(&self, ino: u64) {
        let gone = self.overlay.getattr(ino).is_ok_and(|attr| attr.links == 0);
        self.overlay.forget(ino, if gone { u64::MAX } else { 1 });
    }

    fn write(&self, ino: u64, offset: u64, data: &[u8]) -> Result<Attr, Errno> {
        let written = self.overlay.write(ino, offset, data, self.unprivileged())?;
        if written < data.len() {
            // The crate answers that all of it was written.
            return Err(Errno::ENOSPC);
        }
        self.overlay.fsync(ino, true)?;
        self.overlay.getattr(ino)
    }

    fn setattr(&self, ino: u64, set: &SetAttr) -> Result<Attr, Errno> {
        if self.owner.uid != 0 && (set.uid.is_some() || set.gid.is_some()) {
            // No kernel on this side looks after that.
            let attr = self.overlay.getattr(ino)?;
            if set.uid.is_some_and(|uid| uid != attr.uid)
                || set.gid.is_some_and(|gid| gid != attr.gid && gid != self.owner.gid)
            {
                return Err(Errno::EPERM);
            }
        }
        self.overlay.setattr(self.owner, ino, set)
    }

    /// Makes a file, or takes the one that is there. (That there is to be none, the crate sees to.)
    fn create(&self, dir: u64, name: &[u8], set: &SetAttr) -> Result<Attr, Errno> {
        match self.overlay.create(self.owner, dir, name, set.mode.unwrap_or(0o644)) {
            Ok(attr) => Ok(attr),
            Err(Errno::EEXIST) => {
                let attr = self.overlay.lookup(dir, name)?;
                if attr.kind != FileKind::File {
                    return Err(Errno::EEXIST);
                }
                self.setattr(attr.ino, &SetAttr { size: set.size, ..SetAttr::default() })
            }
            Err(errno) => Err(errno),
        }
    }

    fn remove(&self, dir: u64, name: &[u8]) -> Result<(), Errno> {
        let attr = self.overlay.lookup(dir, name)?;
        let removed = match attr.kind {
            FileKind::Directory => self.overlay.rmdir(dir, name),
            _ => self.overlay.unlink(dir, name),
        };
        self.let_go(attr.ino);
        removed
    }

    fn rename(&self, from: u64, name: &[u8], to: u64, new_name: &[u8]) -> Result<(), Errno> {
        let there = self.overlay.lookup(to, new_name).ok();
        let renamed = self.overlay.rename(from, name, to, new_name, RenameMode::Replace);
        if let Some(there) = there {
            self.let_go(there.ino);
        }
        renamed?;
        // With this, content written before takes a name: that is what a rename is for.
        self.overlay.sync()
    }
}

impl Tree {
    pub fn new(overlay: Arc<Overlay>, secret: Secret, owner: Caller) -> Tree {
        Tree(Arc::new(Shared { overlay, secret, owner }))
    }

    /// Asks the overlay on a thread that may wait for a disk.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Shared) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, nfsstat3> {
        let tree = self.clone();
        match tokio::task::spawn_blocking(move || ask(&tree)).await {
            Ok(answer) => answer.map_err(status),
            Err(_) => Err(nfsstat3::NFS3ERR_SERVERFAULT),
        }
    }
}

#[async_trait]
impl NFSFileSystem for Tree {
    fn capabilities(&self) -> VFSCapabilities {
        VFSCapabilities::ReadWrite
    }

    fn root_dir(&self) -> fileid3 {
        ROOT
    }

    async fn lookup(&self, dir: fileid3, name: &filename3) -> Result<fileid3, nfsstat3> {
        let name = name.clone();
        self.ask(move |tree| tree.lookup(dir, &name)).await
    }

    async fn getattr(&self, ino: fileid3) -> Result<fattr3, nfsstat3> {
        self.ask(move |tree| Ok(tree.show(&tree.overlay.getattr(ino)?))).await
    }

    async fn setattr(&self, ino: fileid3, set: sattr3) -> Result<fattr3, nfsstat3> {
        self.ask(move |tree| Ok(tree.show(&tree.setattr(ino, &changes(&set))?))).await
    }

    async fn read(
        &self,
        ino: fileid3,
        offset: u64,
        count: u32,
    ) -> Result<(Vec<u8>, bool), nfsstat3> {
        self.ask(move |tree| {
            let mut data = vec![0; count.min(MAX_TRANSFER) as usize];
            let got = tree.overlay.read(ino, offset, &mut data)?;
            let end = got < data.len() || offset + got as u64 >= tree.overlay.getattr(ino)?.size;
            data.truncate(got);
            Ok((data, end))
        })
        .await
    }

    async fn write(&self, ino: fileid3, offset: u64, data: &[u8]) -> Result<fattr3, nfsstat3> {
        let data = data.to_vec();
        self.ask(move |tree| Ok(tree.show(&tree.write(ino, offset, &data)?))).await
    }

    async fn create(
        &self,
        dir: fileid3,
        name: &filename3,
        set: sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        let name = name.clone();
        self.ask(move |tree| {
            let attr = tree.create(dir, &name, &changes(&set))?;
            Ok((attr.ino, tree.show(&attr)))
        })
        .await
    }

    async fn create_exclusive(&self, dir: fileid3, name: &filename3) -> Result<fileid3, nfsstat3> {
        let name = name.clone();
        // The client sets the mode as soon as it has the file.
        self.ask(move |tree| Ok(tree.overlay.create(tree.owner, dir, &name, 0o600)?.ino)).await
    }

    /// Never asked: [`super::answers`] does, as it knows the mode.
    async fn mkdir(&self, _: fileid3, _: &filename3) -> Result<(fileid3, fattr3), nfsstat3> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }

    async fn remove(&self, dir: fileid3, name: &filename3) -> Result<(), nfsstat3> {
        let name = name.clone();
        self.ask(move |tree| tree.remove(dir, &name)).await
    }

    async fn rename(
        &self,
        from: fileid3,
        name: &filename3,
        to: fileid3,
        new_name: &filename3,
    ) -> Result<(), nfsstat3> {
        let (name, new_name) = (name.clone(), new_name.clone());
        self.ask(move |tree| tree.rename(from, &name, to, &new_name)).await
    }

    /// Never asked: [`super::answers`] does, as it knows the position.
    async fn readdir(&self, _: fileid3, _: fileid3, _: usize) -> Result<ReadDirResult, nfsstat3> {
        Err(nfsstat3::NFS3ERR_NOTSUPP)
    }

    async fn symlink(
        &self,
        dir: fileid3,
        name: &filename3,
        target: &nfspath3,
        _: &sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        let (name, target) = (name.clone(), target.clone());
        self.ask(move |tree| {
            let attr = tree.overlay.symlink(tree.owner, dir, &name, &target)?;
            Ok((attr.ino, tree.show(&attr)))
        })
        .await
    }

    async fn readlink(&self, ino: fileid3) -> Result<nfspath3, nfsstat3> {
        self.ask(move |tree| Ok(tree.overlay.readlink(ino)?.into())).await
    }

    async fn fsinfo(&self, root: fileid3) -> Result<fsinfo3, nfsstat3> {
        Ok(fsinfo3 {
            obj_attributes: post_op_attr::attributes(self.getattr(root).await?),
            rtmax: MAX_TRANSFER,
            rtpref: MAX_TRANSFER,
            rtmult: 4096,
            wtmax: MAX_TRANSFER,
            wtpref: MAX_TRANSFER,
            wtmult: 4096,
            dtpref: 64 << 10,
            maxfilesize: i64::MAX as u64,
            time_delta: nfstime3 { seconds: 0, nseconds: 1 },
            properties: FSF_LINK | FSF_SYMLINK | FSF_HOMOGENEOUS | FSF_CANSETTIME,
        })
    }

    fn id_to_fh(&self, ino: fileid3) -> nfs_fh3 {
        nfs_fh3 { data: self.secret.handle(ino) }
    }

    fn fh_to_id(&self, handle: &nfs_fh3) -> Result<fileid3, nfsstat3> {
        self.secret.inode(&handle.data).ok_or(nfsstat3::NFS3ERR_BADHANDLE)
    }

    /// A path that is asked to be mounted: the first component is the token.
    async fn path_to_id(&self, path: &[u8]) -> Result<fileid3, nfsstat3> {
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        if !names.next().is_some_and(|token| self.secret.is_token(token)) {
            return Err(nfsstat3::NFS3ERR_ACCES);
        }
        let mut ino = ROOT;
        for name in names {
            ino = self.lookup(ino, &name.into()).await?;
        }
        Ok(ino)
    }

    fn serverid(&self) -> cookieverf3 {
        self.secret.verifier()
    }
}
