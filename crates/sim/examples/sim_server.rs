//! A simulated server on a port of choice:
//!
//!     cargo run -p mvllm-sim --example sim_server -- --port 18102 --model tiny --profile fast

use std::net::TcpListener;

use mvllm_sim::profile::Profile;
use mvllm_sim::{SimConfig, serve};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = SimConfig::default();
    let mut port = 8000;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port" => port = value.parse()?,
            "--model" => config.models = vec![value],
            "--lora" => config.loras.push(value),
            "--max-model-len" => config.max_model_len = value.parse()?,
            "--max-num-seqs" => config.engine.max_num_seqs = value.parse()?,
            "--block-size" => config.engine.block_size = value.parse()?,
            "--num-blocks" => config.engine.num_blocks = value.parse()?,
            "--data-parallel-size" => config.data_parallel_size = value.parse()?,
            "--max-num-queued-reqs" => config.max_num_queued_reqs = Some(value.parse()?),
            "--speed" => config.speed = value.parse()?,
            "--profile" => config.engine.profile = profile(&value)?,
            _ => return Err(format!("there is no option {name}").into()),
        }
    }
    let shutdown = async {
        // Without a signal handler there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    };
    Ok(serve(config, TcpListener::bind(("127.0.0.1", port))?, shutdown).await?)
}

fn profile(name: &str) -> Result<Profile, String> {
    match name {
        "fast" => Ok(Profile::fast()),
        "demo" => Ok(Profile::demo()),
        "h100" => Ok(Profile::h100()),
        "a100" => Ok(Profile::a100()),
        _ => Err(format!("there is no profile {name}; there are fast, demo, h100 and a100")),
    }
}
