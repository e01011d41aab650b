//! One binary: library and command tests, tidy.
