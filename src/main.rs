//! The program: everything it does is in the library's `cli`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    zagi::cli::main()
}
