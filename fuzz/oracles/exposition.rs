//! `/metrics`, against a reader that takes its time: it follows the grammar word by word, collects
//! all samples first and adds up afterwards.

use mvllm_core::exposition::{CacheConfig, ENGINES_MAX, EngineLoad, Scrape, parse};

/// Whatever comes in gives a sound answer; and of the lines that keep to the format, the reference's.
pub fn check(input: &[u8]) {
    is_sound(&parse(input));
    let mut kept = Vec::new();
    let mut samples = Vec::new();
    for line in input.split(|&byte| byte == b'\n') {
        let Some(sample) = str::from_utf8(line).ok().and_then(Sample::read) else { continue };
        kept.extend_from_slice(line);
        kept.push(b'\n');
        samples.push(sample);
    }
    assert_eq!(parse(&kept), reference(&samples), "{}", String::from_utf8_lossy(&kept));
    // Comments, blank lines and a last line without its end change nothing.
    let mut dressed = b"\n# HELP vllm:num_requests_running 7\r\n".to_vec();
    dressed.extend_from_slice(kept.strip_suffix(b"\n").unwrap_or(&kept));
    assert_eq!(parse(&dressed), reference(&samples));
}

fn is_sound(scrape: &Scrape) {
    assert!(scrape.engines.len() <= ENGINES_MAX);
    assert!(scrape.kv_cache_usage.is_none_or(|usage| (0.0..=1.0).contains(&usage)));
    assert!(
        scrape.process_start_time_seconds.is_none_or(|start| start.is_finite() && start >= 0.0)
    );
    let mut ranks: Vec<_> = scrape.engines.iter().map(|engine| engine.engine).collect();
    ranks.sort_unstable();
    ranks.dedup();
    assert_eq!(ranks.len(), scrape.engines.len(), "a rank appears once");
}

/// One line: `name{label="value",…} value [timestamp] [# exemplar]`.
struct Sample<'a> {
    name: &'a str,
    /// Values as written.
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
}

const BLANKS: [char; 2] = [' ', '\t'];

impl<'a> Sample<'a> {
    /// `None` if the line does not keep to the format, or to the letter of it.
    fn read(line: &'a str) -> Option<Self> {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_matches(BLANKS);
        let (name, rest) = word(line, |c| c == ':')?;
        if !rest.starts_with(['{', ' ', '\t']) {
            return None;
        }
        let rest = rest.trim_start_matches(BLANKS);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (Vec::new(), rest),
        };
        let mut words = rest.split(BLANKS).filter(|word| !word.is_empty()).peekable();
        let value = decimal(words.next()?)?;
        words.next_if(|word| word.parse::<i64>().is_ok());
        let ends = words.next().is_none_or(|word| word == "#");
        ends.then_some(Self { name, labels, value })
    }

    /// Nothing of ours is negative, infinite or no number.
    fn counts(&self) -> bool {
        self.value.is_finite() && self.value >= 0.0
    }

    fn label(&self, name: &str) -> Option<&'a str> {
        self.labels.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// What is too large for a sample to hold exactly is no count.
    fn whole(&self) -> Option<u64> {
        (self.value <= (1u64 << 53) as f64).then_some(self.value as u64)
    }
}

/// A name in front: letters, digits, `_` and what else `may`, no digit first.
fn word(text: &str, may: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || may(c);
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let starts_well = name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    starts_well.then_some((name, rest))
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// From behind the opening brace to behind the closing one.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels: Labels<'_> = Vec::new();
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((labels, behind));
        }
        let (name, behind) = word(rest, |_| false)?;
        let behind = behind.trim_start_matches(BLANKS).strip_prefix('=')?;
        let behind = behind.trim_start_matches(BLANKS).strip_prefix('"')?;
        let end = end_of_string(behind)?;
        if labels.iter().any(|(known, _)| *known == name) {
            return None;
        }
        labels.push((name, &behind[..end]));
        rest = behind[end + 1..].trim_start_matches(BLANKS);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// Where the closing quote stands; the escapes are `\\`, `\"` and `\n`.
fn end_of_string(text: &str) -> Option<usize> {
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (at, '"') => return Some(at),
            (_, '\\') if !matches!(characters.next()?.1, '\\' | '"' | 'n') => return None,
            _ => {}
        }
    }
}

fn decimal(word: &str) -> Option<f64> {
    match word {
        "NaN" => Some(f64::NAN),
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => word.parse().ok().filter(|_| word.chars().all(|c| "0123456789+-.eE".contains(c))),
    }
}

fn reference(samples: &[Sample<'_>]) -> Scrape {
    let samples: Vec<&Sample<'_>> = samples.iter().filter(|sample| sample.counts()).collect();
    let of = |name: &str| -> Vec<&Sample<'_>> {
        let name = name.to_owned();
        samples.iter().copied().filter(|sample| sample.name == name).collect()
    };
    // The first spelling that has a value counts.
    let count = |spellings: &[&[&str]]| {
        spellings.iter().find_map(|names| sum(names.iter().flat_map(|name| of(name))))
    };
    let usage = ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"].map(of);
    let usage = usage.into_iter().find(|samples| !samples.is_empty());
    let mut awake = of("vllm:engine_sleep_state");
    awake.retain(|sample| sample.label("sleep_state") == Some("awake"));
    Scrape {
        running: sum(of("vllm:num_requests_running")),
        waiting: sum(of("vllm:num_requests_waiting")),
        engines: engines(&samples),
        kv_cache_usage: usage.map(|samples| {
            let capped = samples.iter().map(|sample| sample.value.min(1.0));
            capped.fold(0.0, |sum, value| sum + value) / samples.len() as f64
        }),
        awake: (!awake.is_empty()).then(|| awake.iter().all(|sample| sample.value > 0.0)),
        prompt_tokens: count(&[&["vllm:prompt_tokens_total"], &["vllm:prompt_tokens"]]),
        generation_tokens: count(&[&["vllm:generation_tokens_total"], &["vllm:generation_tokens"]]),
        prefix_cache_queries: count(&[
            &["vllm:prefix_cache_queries_total"],
            &["vllm:prefix_cache_queries"],
            &["vllm:gpu_prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries"],
        ]),
        prefix_cache_hits: count(&[
            &["vllm:prefix_cache_hits_total"],
            &["vllm:prefix_cache_hits"],
            &["vllm:gpu_prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits"],
        ]),
        preemptions: count(&[&["vllm:num_preemptions_total"], &["vllm:num_preemptions"]]),
        iterations: count(&[&["vllm:iteration_tokens_total_count"]]),
        cache: cache(&of("vllm:cache_config_info")),
        process_max_fds: of("process_max_fds").last().and_then(|sample| sample.whole()),
        process_start_time_seconds: of("process_start_time_seconds").last().map(|s| s.value),
    }
}

/// `None` if no sample holds a count.
fn sum<'s>(samples: impl IntoIterator<Item = &'s Sample<'s>>) -> Option<u64> {
    samples.into_iter().filter_map(Sample::whole).reduce(u64::saturating_add)
}

fn engines(samples: &[&Sample<'_>]) -> Vec<EngineLoad> {
    let mut engines: Vec<EngineLoad> = Vec::new();
    for sample in samples {
        let is_running = sample.name == "vllm:num_requests_running";
        if !is_running && sample.name != "vllm:num_requests_waiting" {
            continue;
        }
        let Some(rank) = sample.label("engine").and_then(|rank| rank.parse().ok()) else {
            continue;
        };
        if !engines.iter().any(|known| known.engine == rank) {
            if engines.len() == ENGINES_MAX {
                continue;
            }
            engines.push(EngineLoad { engine: rank, running: None, waiting: None });
        }
        let known = engines.iter_mut().find(|known| known.engine == rank).expect("it is there now");
        let total = if is_running { &mut known.running } else { &mut known.waiting };
        *total = match (*total, sample.whole()) {
            (Some(total), Some(more)) => Some(total.saturating_add(more)),
            (total, more) => total.or(more),
        };
    }
    engines
}

fn cache(samples: &[&Sample<'_>]) -> CacheConfig {
    let least = |label: &str| samples.iter().filter_map(|s| s.label(label)?.parse().ok()).min();
    CacheConfig {
        block_size: least("block_size"),
        num_gpu_blocks: least("num_gpu_blocks"),
        kv_cache_size_tokens: least("kv_cache_size_tokens"),
    }
}
