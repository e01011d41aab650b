//! Tools, system packages, variables: asked for in `env.toml`, pinned in `env.lock`, realised for this home.
