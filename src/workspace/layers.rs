//! The layers of a workspace, made from its description alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zagi_fuse::directory::Directory;
use zagi_fuse::layer::Layer;
use zagi_fuse::overlay::Attached;

use super::description::{self, Description, SourceRecord};
use super::git_layer::{GitLayer, GitLayerError};
use super::index_layer::IndexLayer;
use super::store_layer::StoreLayer;
use crate::context::Context;
use crate::dependencies::{self, DependenciesError};
use crate::store::{Store, TreeId};

/// Why a workspace's layers cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// The source's clone is not what it was.
    #[error(transparent)]
    Git(#[from] GitLayerError),
    /// What was captured cannot be looked up.
    #[error(transparent)]
    Dependencies(#[from] DependenciesError),
    /// A directory that the workspace stands on is not there.
    #[error("`{path}`, which the workspace stands on, cannot be opened: {source}")]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// What was captured is no longer in the store.
    #[error("the dependencies `{0}` are no longer in the store; mount the repository anew")]
    NoDependencies(String),
    /// The id in the workspace's description is not one.
    #[error("`{0}` is not the id of a tree")]
    BadId(String),
}

/// Source, git's index, dependencies and environment, the lowest first.
pub fn of(
    ctx: &Context,
    store: &Store,
    description: &Description,
) -> Result<Vec<Attached>, LayersError> {
    let SourceRecord { clone, tree, date, .. } = &description.source;
    let (clone, cache) = (ctx.home.root().join(clone), ctx.home.cache("trees"));
    let source = Arc::new(GitLayer::open(&clone, tree, *date, &cache)?);
    let index = IndexLayer::new(ctx, source.clone(), description);
    let own = description::own(&description::directory(&ctx.home, &description.id));
    let mut layers = vec![
        Attached { at: PathBuf::new(), layer: source },
        Attached { at: PathBuf::new(), layer: directory(&own)? },
        Attached { at: ".git".into(), layer: Arc::new(index) },
    ];
    for record in &description.dependencies {
        let tree: TreeId =
            record.tree.parse().map_err(|_| LayersError::BadId(record.tree.clone()))?;
        let provided = dependencies::lookup(store, &record.key)?
            .ok_or_else(|| LayersError::NoDependencies(record.key.clone()))?;
        let place = description.path.to_string_lossy();
        let layer = StoreLayer::new(store.clone(), tree, *date, provided.relocations, &place);
        layers.push(Attached { at: PathBuf::new(), layer: Arc::new(layer) });
    }
    Ok(layers)
}

fn directory(path: &Path) -> Result<Arc<dyn Layer>, LayersError> {
    let layer = Directory::open(path)
        .map_err(|source| LayersError::Missing { path: path.to_owned(), source })?;
    Ok(Arc::new(layer))
}
