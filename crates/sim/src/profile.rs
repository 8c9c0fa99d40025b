//! How fast a server is.

use std::time::Duration;

/// The speed of one engine, after the roofline: a step takes what the slower of reading the weights
/// and computing the tokens takes, plus reading the KV cache of every request in the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Scheduling, sampling and launch overhead of every step.
    pub base: Duration,
    /// Reading all weights once.
    pub weights: Duration,
    /// Computing one token.
    pub compute_per_token: Duration,
    /// Reading the KV cache of a thousand tokens.
    pub kv_read_per_1k_tokens: Duration,
    /// vLLM's `--max-num-batched-tokens`.
    pub max_num_batched_tokens: usize,
}

impl Profile {
    /// Llama-3-8B in bf16 on an H100: 16.06 GB of weights and 128 KiB of KV cache a token at
    /// 2.6 TB/s (77% of the data sheet), 16.06 GFLOP a token at 544 TFLOP/s (55%).
    pub fn h100() -> Self {
        Self {
            base: Duration::from_micros(1500),
            weights: Duration::from_micros(6177),
            compute_per_token: Duration::from_nanos(29_522),
            kv_read_per_1k_tokens: Duration::from_nanos(50_412),
            max_num_batched_tokens: 8192,
        }
    }

    /// The same model on an A100-80: 1.57 TB/s, 175 TFLOP/s.
    pub fn a100() -> Self {
        Self {
            base: Duration::from_micros(1500),
            weights: Duration::from_micros(10_229),
            compute_per_token: Duration::from_nanos(91_771),
            kv_read_per_1k_tokens: Duration::from_nanos(83_485),
            max_num_batched_tokens: 2048,
        }
    }

    /// Slow enough to watch on a screen: prefill is felt, text arrives at reading speed.
    pub fn demo() -> Self {
        Self {
            base: Duration::from_millis(4),
            weights: Duration::from_millis(26),
            compute_per_token: Duration::from_micros(250),
            kv_read_per_1k_tokens: Duration::from_micros(200),
            max_num_batched_tokens: 2048,
        }
    }

    /// For tests: a token a millisecond, prefill next to free.
    pub fn fast() -> Self {
        Self {
            base: Duration::from_millis(1),
            weights: Duration::ZERO,
            compute_per_token: Duration::from_nanos(100),
            kv_read_per_1k_tokens: Duration::ZERO,
            max_num_batched_tokens: 8192,
        }
    }

    /// The time of a step that computes `tokens` and attends to `kv_tokens` cached ones.
    pub fn step_time(&self, tokens: usize, kv_tokens: usize) -> Duration {
        let compute = self.compute_per_token.mul_f64(tokens as f64);
        let kv_read = self.kv_read_per_1k_tokens.mul_f64(kv_tokens as f64 / 1000.0);
        self.base + self.weights.max(compute) + kv_read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_decode_is_bound_by_the_weights_and_a_long_prefill_by_compute() {
        let h100 = Profile::h100();
        assert_eq!(h100.step_time(1, 0), h100.base + h100.weights);
        let prefill = h100.step_time(8192, 0);
        assert!(prefill > Duration::from_millis(240) && prefill < Duration::from_millis(250));
    }
}
