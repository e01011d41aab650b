//! The content-addressed store: packs, trees, refs, farm.
