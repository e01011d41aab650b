//! The overlay (layers and a delta make one tree) and the kernel adapter that presents it.
pub mod layer;
