//! `mvllm sim`: simulated vLLM servers, each on a port of its own.

use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use mvllm_sim::profile::Profile;
use mvllm_sim::{MetricNames, SimConfig, serve};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::run::told_to_end;
use super::{complain, say};
use crate::listen::{ListenError, listen};

#[derive(Debug, Args)]
pub(super) struct SimArgs {
    /// Port of the first server; the others take the next ones. 0: any that are free.
    #[arg(long, short, default_value_t = 8001)]
    port: u16,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// How many servers.
    #[arg(long, short = 'n', default_value = "1")]
    servers: NonZeroUsize,
    /// A model to serve; may be given several times.
    #[arg(long = "model", short, default_value = "sim")]
    models: Vec<String>,
    /// A LoRA adapter to list; may be given several times.
    #[arg(long = "lora")]
    loras: Vec<String>,
    /// How fast the servers are.
    #[arg(long, value_enum, default_value = "demo")]
    profile: ProfileName,
    /// The longest prompt and answer together, in tokens.
    #[arg(long)]
    max_model_len: Option<usize>,
    /// Requests that a server works on at once; the others wait.
    #[arg(long)]
    max_num_seqs: Option<usize>,
    /// Requests that a server accepts at all; beyond them it answers 503, as vLLM does.
    #[arg(long)]
    max_num_queued_reqs: Option<usize>,
    /// Data-parallel engines in each server.
    #[arg(long)]
    data_parallel_size: Option<NonZeroUsize>,
    /// Metric names of vLLM before 0.9.
    #[arg(long)]
    v0_metrics: bool,
    /// End when standard input is closed, that is, with the process that started this one.
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileName {
    /// For watching: prefill is felt, text arrives at reading speed.
    Demo,
    /// For tests: a token a millisecond.
    Fast,
    /// Llama-3-8B on an A100.
    A100,
    /// Llama-3-8B on an H100.
    H100,
}

impl SimArgs {
    fn ports(&self) -> impl Iterator<Item = u16> {
        let first = self.port;
        (0..)
            .map(move |nth| if first == 0 { 0 } else { first.saturating_add(nth) })
            .take(self.servers.get())
    }

    fn config(&self) -> SimConfig {
        let mut config = match self.profile {
            ProfileName::Demo => SimConfig::default(),
            ProfileName::Fast => SimConfig::fast(),
            ProfileName::A100 => with_profile(Profile::a100()),
            ProfileName::H100 => with_profile(Profile::h100()),
        };
        config.models.clone_from(&self.models);
        config.loras.clone_from(&self.loras);
        config.max_num_queued_reqs = self.max_num_queued_reqs;
        if let Some(len) = self.max_model_len {
            config.max_model_len = len;
        }
        if let Some(seqs) = self.max_num_seqs {
            config.engine.max_num_seqs = seqs;
        }
        if let Some(size) = self.data_parallel_size {
            config.data_parallel_size = size;
        }
        if self.v0_metrics {
            config.metric_names = MetricNames::V0;
        }
        config
    }
}

fn with_profile(profile: Profile) -> SimConfig {
    let mut config = SimConfig::default();
    config.engine.profile = profile;
    config
}

/// How a server says where it is; `mvllm demo` reads it.
pub(super) const ANNOUNCEMENT: &str = "simulated vLLM server on http://";

pub(super) fn sim(args: &SimArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SimError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn run(args: &SimArgs) -> Result<(), SimError> {
    let listeners = args.ports().map(|port| listen(&args.host, port));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut servers = JoinSet::new();
        for listener in listeners {
            say(&format!("{ANNOUNCEMENT}{}", listener.local_addr()?));
            servers.spawn(serve(args.config(), listener, std::future::pending()));
        }
        tokio::select! {
            ended = told_to_end() => ended,
            () = stdin_closed(), if args.until_stdin_closes => Ok(()),
        }
    })?;
    // A read of standard input cannot be called back.
    runtime.shutdown_background();
    Ok(())
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut unread = [0; 64];
    while stdin.read(&mut unread).await.is_ok_and(|read| read > 0) {}
}
