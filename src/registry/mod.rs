//! One HTTP client; npm, PyPI, Debian and crates as protocols; archives.
