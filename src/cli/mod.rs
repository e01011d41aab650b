//! The command line: one file a command. The only room that prints or reads argv.

/// Runs the program; the exit code is its answer.
pub fn main() -> std::process::ExitCode {
    // Before anything is opened: this process may be the sandbox helper.
    zagi_sandbox::main_if_asked();
    std::process::ExitCode::SUCCESS
}
