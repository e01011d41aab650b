//! The program: everything it does is in the library's `cli`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    // Before anything is opened: this process may be the sandbox helper.
    zagi_sandbox::main_if_asked();
    zagi::cli::main()
}
