//! What reading a prompt out of a request body costs: `cargo bench -p mvllm-core --bench prompt`.
//!
//! Each line: the body, the best time of many (what else runs on the machine only adds), and what
//! the outline alone costs, without the prompt.

#![allow(clippy::print_stdout, reason = "it is a report")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use mvllm_core::dialect::Dialect;
use mvllm_core::json_fields::scan;
use mvllm_core::prompt::Prompt;

/// Enough for the best of them to be undisturbed.
const ROUNDS: u32 = 2000;

const SENTENCE: &str = "Nobody has said yet which of the servers is to answer this request. ";
const CODE: &str = "    if (a[i] == \\\"x\\\") {\\n        return b;\\n    }\\n";

fn main() {
    println!("{:28} {:>8} {:>10} {:>10} {:>7}", "body", "bytes", "outline", "prompt", "blocks");
    measure("one message of prose", &chat(&[&text(SENTENCE, 64 * 1024)]));
    measure("one message of code", &chat(&[&text(CODE, 64 * 1024)]));
    measure("one message, all \\u escapes", &chat(&[&text("\\u4f60\\u597d", 64 * 1024)]));
    let turn = text(SENTENCE, 640);
    measure("100 messages of prose", &chat(&vec![turn.as_str(); 100]));
    let turn = text(CODE, 64);
    measure("1000 messages of a line", &chat(&vec![turn.as_str(); 700]));
    measure("token ids", &token_ids(64 * 1024));
    measure("a short question", &chat(&["What is the capital of France?"]));
    measure("an image of 1 MB", &image(1024 * 1024));
    measure("a megabyte of prose", &chat(&[&text(SENTENCE, 1024 * 1024)]));
}

fn measure(name: &str, body: &str) {
    let body = body.as_bytes();
    let outline = best(|| {
        black_box(scan(black_box(body)));
    });
    let prompt = best(|| {
        black_box(Prompt::of(&scan(black_box(body)), Dialect::OpenAi));
    });
    let blocks = Prompt::of(&scan(body), Dialect::OpenAi).map_or(0, |prompt| prompt.blocks.len());
    println!("{name:28} {:>8} {outline:>10.1?} {prompt:>10.1?} {blocks:>7}", body.len());
}

fn best(mut work: impl FnMut()) -> Duration {
    let one = |_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    (0..ROUNDS).map(one).min().unwrap_or_default()
}

fn text(piece: &str, bytes: usize) -> String {
    piece.repeat(bytes.div_ceil(piece.len()))
}

fn chat(turns: &[&str]) -> String {
    let mut body = String::from(r#"{"model":"meta-llama/Llama-3-8B","messages":["#);
    for (at, turn) in turns.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(body, r#"{comma}{{"role":"user","content":"{turn}"}}"#);
    }
    body + r#"],"temperature":0.7,"max_tokens":512,"stream":true}"#
}

fn token_ids(bytes: usize) -> String {
    let mut ids = String::new();
    let mut id = 1u32;
    while ids.len() < bytes {
        id = id.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let _ = write!(ids, "{}, ", id % 128_000);
    }
    format!(r#"{{"model":"m","prompt":[{}1],"max_tokens":16}}"#, ids)
}

fn image(bytes: usize) -> String {
    let data = text("iVBORw0KGgoAAAANSUhEUgAA", bytes);
    let url = format!(r#"{{"url":"data:image/png;base64,{data}"}}"#);
    let parts = format!(r#"[{{"type":"image_url","image_url":{url}}}]"#);
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":{parts}}}]}}"#)
}
