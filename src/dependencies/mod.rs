//! What the project's own package manager installs: planned, installed once in the sandbox, captured, attached.
