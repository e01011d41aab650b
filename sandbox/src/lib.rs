//! The launcher: executes a plain plan with namespaces, mounts and capabilities.
