//! What the generating endpoints have in common: model, limits, submission to the engines.

use hyper::HeaderMap;
use serde_json::Value;

use super::answer::{Answer, Usage};
use super::error::ApiError;
use super::fields::Fields;
use crate::engine::{Model, Submission};
use crate::kv_cache::mix;
use crate::server::Server;
use crate::tokenizer::{Token, encode};
use crate::writer::Ending;

/// A model that is served here.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// The name in answers.
    pub(crate) name: String,
    /// 0 for the base model, then one for each LoRA adapter.
    adapter: u64,
}

/// A checked request for text.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) served: Served,
    pub(crate) prompts: Vec<Vec<Token>>,
    /// Choices for each prompt.
    pub(crate) n: usize,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stops: Vec<String>,
    pub(crate) ending: Ending,
    pub(crate) rank: Option<usize>,
    pub(crate) cache_salt: Option<String>,
}

impl Served {
    /// The model that a body names; without a name, the first.
    pub(crate) fn find(server: &Server, fields: &Fields) -> Result<Self, ApiError> {
        let config = &server.config;
        let first = || config.models.first().cloned().unwrap_or_default();
        let Some(asked) = fields.string("model")? else {
            return Ok(Self { name: first(), adapter: 0 });
        };
        if config.models.iter().any(|model| model == asked) {
            return Ok(Self { name: first(), adapter: 0 });
        }
        match config.loras.iter().position(|lora| lora == asked) {
            Some(index) => Ok(Self { name: asked.to_owned(), adapter: index as u64 + 1 }),
            None => Err(ApiError::unknown_model(asked, &config.models.join(", "))),
        }
    }
}

impl Ask {
    /// A request for the continuation of `prompts`, with everything else at its default.
    pub(crate) fn new(served: Served, prompts: Vec<Vec<Token>>) -> Self {
        Self {
            served,
            prompts,
            n: 1,
            max_tokens: None,
            stops: Vec::new(),
            ending: Ending::Natural,
            rank: None,
            cache_salt: None,
        }
    }

    /// Reads what OpenAI's and Anthropic's endpoints call alike.
    pub(crate) fn sampling(
        mut self,
        fields: &Fields,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        let temperature = temperature(fields)?;
        self.n = choices(fields, temperature)?;
        self.stops = match fields.get("stop").or_else(|| fields.get("stop_sequences")) {
            Some(Value::String(stop)) => vec![stop.clone()],
            Some(Value::Array(stops)) => {
                stops.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        self.stops.retain(|stop| !stop.is_empty());
        if fields.flag("ignore_eos")? {
            self.ending = Ending::Never;
        }
        self.cache_salt = fields.string("cache_salt")?.map(str::to_owned);
        // A rank that is not a number is ignored (generate/base/serving.py).
        let rank = headers.get("x-data-parallel-rank").and_then(|rank| rank.to_str().ok());
        self.rank = rank.and_then(|rank| rank.trim().parse().ok());
        Ok(self)
    }

    /// Reads the answer's greatest length from the first field that is there. A field comes with
    /// the name under which vLLM complains about it.
    pub(crate) fn limit(
        mut self,
        server: &Server,
        fields: &Fields,
        names: &[(&str, &str)],
    ) -> Result<Self, ApiError> {
        let greatest = server.config.max_model_len as i64;
        for (field, name) in names {
            let Some(asked) = fields.integer(field)? else { continue };
            let shown = Some(asked.to_string());
            if asked < 1 {
                let message = format!("{name} must be at least 1, got {asked}.");
                return Err(ApiError::parameter(name, shown, &message));
            }
            if asked > greatest {
                let message = format!(
                    "{name}={asked} cannot be greater than max_model_len={greatest}. Please \
                     request fewer output tokens."
                );
                return Err(ApiError::parameter(name, shown, &message));
            }
            self.max_tokens = Some(asked as usize);
            break;
        }
        Ok(self)
    }

    /// Hands the request to an engine.
    pub(crate) fn submit(self, server: &Server) -> Result<Answer, ApiError> {
        let engine = &server.config.engine;
        let ranks = server.config.data_parallel_size.get();
        if let Some(rank) = self.rank.filter(|rank| *rank >= ranks) {
            let message = format!("data_parallel_rank {rank} is out of range [0, {ranks}).");
            return Err(ApiError::bad_request(message));
        }
        let mut usage = Usage::default();
        let mut submissions = Vec::with_capacity(self.prompts.len() * self.n);
        let model = self.model(server.config.seed);
        for prompt in &self.prompts {
            let room = room_for_answer(server, prompt)?;
            usage.prompt += prompt.len();
            usage.newly_cached = prompt.len() / engine.block_size * engine.block_size;
            let max_tokens = self.max_tokens.map_or(room, |asked| asked.min(room));
            submissions.extend((0..self.n).map(|choice| {
                // Further choices say something else, as sampled ones do.
                let model = Model { seed: model.seed.wrapping_add(choice as u64), ..model };
                Submission::text(prompt, max_tokens, engine.block_size, model)
            }));
        }
        server.admit(submissions.len())?;
        let choices = submissions.len();
        let generation = server
            .engines
            .submit(self.rank, submissions)
            .map_err(|refused| ApiError::bad_request(refused.to_string()))?;
        Ok(Answer::new(generation, choices, self.stops, usage))
    }

    fn model(&self, seed: u64) -> Model {
        let salt = self.cache_salt.as_deref().unwrap_or_default();
        let fold = |hash: u64, token: Token| hash.rotate_left(7) ^ u64::from(token.0);
        let cache_salt = encode(salt).into_iter().fold(self.served.adapter, fold);
        Model { seed: mix(seed, self.served.adapter), cache_salt, ending: self.ending }
    }
}

/// The tokens that are left for an answer.
fn room_for_answer(server: &Server, prompt: &[Token]) -> Result<usize, ApiError> {
    let greatest = server.config.max_model_len;
    match greatest.checked_sub(prompt.len()) {
        Some(room) if room > 0 => Ok(room),
        _ => {
            let length = prompt.len();
            let message = format!(
                "This model's maximum context length is {greatest} tokens. However, your prompt \
                 contains {length} input tokens, which exceeds this limit even without any output \
                 tokens. Please reduce the length of the input prompt."
            );
            Err(ApiError::parameter("input_tokens", Some(length.to_string()), &message))
        }
    }
}

fn temperature(fields: &Fields) -> Result<f64, ApiError> {
    match fields.number("temperature")? {
        Some(value) if value < 0.0 => {
            let message = format!("temperature must be non-negative, got {value:?}.");
            Err(ApiError::parameter("temperature", Some(format!("{value:?}")), &message))
        }
        asked => Ok(asked.unwrap_or(1.0)),
    }
}

/// Below this temperature vLLM takes the likeliest token (`sampling_params.py`).
const GREEDY: f64 = 1e-5;

fn choices(fields: &Fields, temperature: f64) -> Result<usize, ApiError> {
    let n = fields.integer("n")?.unwrap_or(1);
    match usize::try_from(n) {
        Ok(n) if n > 1 && temperature < GREEDY => {
            let message = format!("n must be 1 when using greedy sampling, got {n}.");
            Err(ApiError::bad_request(message))
        }
        Ok(n) if n > 0 => Ok(n),
        _ => Err(ApiError::bad_request(format!("n must be at least 1, got {n}."))),
    }
}

/// `stream` and `stream_options`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streaming {
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) continuous_usage: bool,
}

impl Streaming {
    pub(crate) fn read(fields: &Fields) -> Result<Self, ApiError> {
        let stream = fields.flag("stream")?;
        let options = fields.get("stream_options");
        if options.is_some() && !stream {
            let message = "Stream options can only be defined when `stream=True`.";
            return Err(ApiError::parameter("stream_options", None, message));
        }
        let option = |name| options.and_then(|options| options.get(name)?.as_bool());
        let include_usage = option("include_usage").unwrap_or(false);
        let continuous_usage = include_usage && option("continuous_usage_stats").unwrap_or(false);
        Ok(Self { stream, include_usage, continuous_usage })
    }
}

/// Token ids as JSON, or null unless they were asked for.
pub(crate) fn token_ids(tokens: &[Token], wanted: bool) -> Value {
    match wanted {
        true => tokens.iter().map(|token| token.0).collect(),
        false => Value::Null,
    }
}
