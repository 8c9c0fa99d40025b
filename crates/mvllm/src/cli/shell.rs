//! `mvllm completions` and `mvllm man`: generated from the command line itself, so never stale.

use std::io;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, complain};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell to complete for.
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs) -> ExitCode {
    clap_complete::generate(args.shell, &mut Cli::command(), "mvllm", &mut io::stdout());
    ExitCode::SUCCESS
}

/// One page for the program, and one for each command after it, in roff.
pub(super) fn man() -> ExitCode {
    let mut command = Cli::command();
    command.build();
    let mut outcome = clap_mangen::Man::new(command.clone()).render(&mut io::stdout());
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        outcome =
            outcome.and_then(|()| clap_mangen::Man::new(sub.clone()).render(&mut io::stdout()));
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads only the beginning has what he wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
