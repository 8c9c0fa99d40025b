//! `mvllm check-config --live`: what the servers themselves say.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use mvllm_core::exposition;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{complain, say};
use crate::config::{ServerSettings, ServerUrl, Settings};
use crate::upstream::{AskError, Connection, Question, Target, ask, ask_over};

/// What one server said, and what is wrong with that.
#[derive(Debug)]
struct Findings {
    url: ServerUrl,
    lines: Vec<String>,
    problems: Vec<String>,
    models: Vec<Model>,
}

#[derive(Debug, Deserialize)]
struct ModelList {
    data: Vec<Model>,
}

#[derive(Debug, Clone, Deserialize)]
struct Model {
    id: String,
    max_model_len: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Version {
    version: String,
}

/// Asks all servers at once and says what was found. Fails if anything is wrong.
pub(super) fn check(settings: &Settings) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let findings = match runtime {
        Ok(runtime) => runtime.block_on(look_at_all(settings)),
        Err(error) => {
            complain(&format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let clashes = clashes(&findings);
    say(&told(&findings, &clashes));
    let well = clashes.is_empty() && findings.iter().all(|server| server.problems.is_empty());
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn look_at_all(settings: &Settings) -> Vec<Findings> {
    let mut looks = JoinSet::new();
    for (nth, server) in settings.servers.iter().enumerate() {
        let server = server.clone();
        let limit = settings.tuning.health_check_timeout;
        let idle = settings.tuning.upstream_idle_timeout;
        looks.spawn(async move { (nth, Box::pin(look_at(&server, limit, idle)).await) });
    }
    let mut findings = looks.join_all().await;
    findings.sort_by_key(|(nth, _)| *nth);
    findings.into_iter().map(|(_, findings)| findings).collect()
}

async fn look_at(server: &ServerSettings, limit: Duration, idle: Duration) -> Findings {
    let url = server.url.clone();
    let mut found = Findings { url, lines: Vec::new(), problems: Vec::new(), models: Vec::new() };
    let target = match Target::of(server) {
        Ok(target) => target,
        Err(error) => {
            found.problems.push(format!("unusable address: {error}"));
            return found;
        }
    };
    let begun = Instant::now();
    let connection = match ask(&target, &Question::get("/health"), limit).await {
        Ok((status, _, connection)) => {
            found.note_health(status, begun.elapsed());
            connection
        }
        Err(error) => {
            found.problems.push(format!("unreachable: {error}"));
            return found;
        }
    };
    let of = |path| ask_body(&target, path, limit);
    let (version, models, metrics) = tokio::join!(of("/version"), of("/v1/models"), of("/metrics"));
    found.note_version(version);
    found.note_models(models);
    found.note_metrics(metrics);
    found.note_keep_alive(connection, &target, idle, limit).await;
    found
}

async fn ask_body(
    target: &Target,
    path: &str,
    limit: Duration,
) -> Result<(StatusCode, Bytes), AskError> {
    ask(target, &Question::get(path), limit).await.map(|(status, body, _)| (status, body))
}

type Answer = Result<(StatusCode, Bytes), AskError>;

impl Findings {
    fn note_health(&mut self, status: StatusCode, took: Duration) {
        self.lines.push(format!("health {} in {took:.1?}", status.as_u16()));
        if !status.is_success() && status != 404 && status != 405 {
            self.problems.push(format!("unhealthy: /health answers {status}"));
        }
    }

    fn note_version(&mut self, answer: Answer) {
        let version = answer.ok().filter(|(status, _)| status.is_success());
        let version = version.and_then(|(_, body)| serde_json::from_slice::<Version>(&body).ok());
        self.lines.push(match version {
            Some(Version { version }) => format!("vLLM {version}"),
            None => "says no version: not vLLM?".to_owned(),
        });
    }

    fn note_models(&mut self, answer: Answer) {
        match answer {
            Ok((status, body)) if status.is_success() => {
                match serde_json::from_slice::<ModelList>(&body) {
                    Ok(list) => self.models = list.data,
                    Err(_) => self.problems.push("/v1/models is not a list of models".to_owned()),
                }
            }
            Ok((StatusCode::UNAUTHORIZED, _)) => self.problems.push(
                "/v1/models wants a key: its models stay unknown, so it gets only requests for \
                 models that no other server lists"
                    .to_owned(),
            ),
            Ok((status, _)) => self.problems.push(format!("/v1/models answers {status}")),
            Err(error) => self.problems.push(format!("/v1/models: {error}")),
        }
        for model in &self.models {
            let length = model.max_model_len.map(|len| format!(" (max_model_len {len})"));
            self.lines.push(format!("model {}{}", model.id, length.unwrap_or_default()));
        }
    }

    fn note_metrics(&mut self, answer: Answer) {
        let scrape = match answer {
            Ok((status, text)) if status.is_success() => exposition::parse(&text),
            Ok((status, _)) => return self.problems.push(format!("/metrics answers {status}")),
            Err(error) => return self.problems.push(format!("/metrics: {error}")),
        };
        let found = [
            ("running", scrape.running.is_some()),
            ("waiting", scrape.waiting.is_some()),
            ("KV-cache use", scrape.kv_cache_usage.is_some()),
            ("prompt tokens", scrape.prompt_tokens.is_some()),
            ("generated tokens", scrape.generation_tokens.is_some()),
            ("prefix-cache hits", scrape.prefix_cache_hits.is_some()),
        ];
        let names = |there| {
            let named = found.iter().filter(|(_, is_there)| *is_there == there);
            named.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
        };
        let (there, missing) = (names(true), names(false));
        let engines = scrape.engines.len();
        self.lines.push(format!("metrics: {there} (engines: {engines})"));
        if !scrape.has_load() {
            self.problems.push(format!("no load in /metrics; missing: {missing}"));
        } else if !missing.is_empty() {
            self.lines.push(format!("metrics missing: {missing}"));
        }
    }

    /// Whether a connection lives as long as mvllm means to keep it idle.
    async fn note_keep_alive(
        &mut self,
        mut connection: Connection,
        target: &Target,
        idle: Duration,
        limit: Duration,
    ) {
        sleep(idle).await;
        let question = Question::get("/health");
        let again = timeout(limit, ask_over(&mut connection, target, &question)).await;
        if again.is_ok_and(|answer| answer.is_ok()) {
            self.lines.push(format!("keeps idle connections for {idle:?}"));
        } else {
            self.problems.push(format!(
                "closes idle connections within {idle:?}: set upstream_idle_timeout lower"
            ));
        }
    }
}

/// One name, different models? At least different context lengths: what fits one server may not
/// fit the other.
fn clashes(findings: &[Findings]) -> Vec<String> {
    let mut lengths: BTreeMap<&str, BTreeMap<u64, Vec<&ServerUrl>>> = BTreeMap::new();
    for server in findings {
        for model in &server.models {
            if let Some(len) = model.max_model_len {
                lengths.entry(&model.id).or_default().entry(len).or_default().push(&server.url);
            }
        }
    }
    let clashing = lengths.into_iter().filter(|(_, by_length)| by_length.len() > 1);
    clashing
        .map(|(model, by_length)| {
            let each = by_length.iter().map(|(len, urls)| {
                let urls: Vec<_> = urls.iter().map(ToString::to_string).collect();
                format!("{len} on {}", urls.join(", "))
            });
            format!(
                "model {model} has different max_model_len: {}",
                each.collect::<Vec<_>>().join("; ")
            )
        })
        .collect()
}

fn told(findings: &[Findings], clashes: &[String]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for server in findings {
        let sign = if server.problems.is_empty() { "✅" } else { "❌" };
        let _ = writeln!(text, "{sign} {}", server.url);
        for line in &server.lines {
            let _ = writeln!(text, "      {line}");
        }
        for problem in &server.problems {
            let _ = writeln!(text, "   ❌ {problem}");
        }
    }
    for clash in clashes {
        let _ = writeln!(text, "❌ {clash}");
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str, models: &[(&str, u64)]) -> Findings {
        let model =
            |(id, len): &(&str, u64)| Model { id: (*id).to_owned(), max_model_len: Some(*len) };
        Findings {
            url: url.parse().unwrap(),
            lines: Vec::new(),
            problems: Vec::new(),
            models: models.iter().map(model).collect(),
        }
    }

    #[test]
    fn one_name_with_two_lengths_is_a_clash() {
        let fleet =
            [server("http://a", &[("m", 8192), ("n", 1)]), server("http://b", &[("m", 4096)])];
        assert_eq!(
            clashes(&fleet),
            ["model m has different max_model_len: 4096 on http://b; 8192 on http://a"]
        );
        assert!(clashes(&fleet[..1]).is_empty());
    }
}
