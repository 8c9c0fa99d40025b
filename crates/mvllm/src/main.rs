//! The `mvllm` command.

use std::process::ExitCode;

/// Gives memory back to the system when a load has gone; the C library's own keeps nearly all of it.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    mvllm::cli::main()
}
