//! The `mvllm` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    mvllm::cli::main()
}
