use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A greedy model of vLLM's habits: token `n` of an answer has the id `100 + n` and its text, which
/// may be empty where a character is not complete.
struct Model {
    texts: Vec<&'static str>,
    api: Api,
    tells_ids: bool,
    usage: bool,
}

const PROMPT: [u32; 3] = [7, 8, 9];
const WORDS: [&str; 8] = ["Hello", " \"wörld\"", "", "\u{1f980}", "\n", " back\\slash", "", "."];

impl Model {
    fn new(api: Api) -> Self {
        Self { texts: WORDS.to_vec(), api, tells_ids: true, usage: true }
    }

    fn body(&self) -> Vec<u8> {
        let mut body = json!({"model": "m", "stream": true, "max_tokens": self.texts.len()});
        match self.api {
            Api::Chat => body["messages"] = json!([{"role": "user", "content": "Hi"}]),
            Api::Completions => body["prompt"] = json!("Hi"),
        }
        if self.usage {
            body["stream_options"] = json!({"include_usage": true});
        }
        body.to_string().into_bytes()
    }

    /// The blocks of an answer that begins at token `from`, as the API of `api` has them.
    fn blocks(&self, api: Api, from: usize, asks_ids: bool, id: &str) -> Vec<String> {
        let ids = asks_ids && self.tells_ids;
        let envelope = match api {
            Api::Chat => format!(
                r#"{{"id":"{id}","object":"chat.completion.chunk","created":1,"model":"m","#
            ),
            Api::Completions => {
                format!(r#"{{"id":"{id}","object":"text_completion","created":1,"model":"m","#)
            }
        };
        let list = |ids: &[u32]| format!("{ids:?}").replace(' ', "");
        let prompt: Vec<u32> =
            PROMPT.into_iter().chain((0..from).map(|nth| 100 + nth as u32)).collect();
        let prompt_ids = if ids { list(&prompt) } else { "null".into() };
        let mut blocks = Vec::new();
        if api == Api::Chat {
            blocks.push(format!(
                r#"{envelope}"choices":[{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}],"prompt_token_ids":{prompt_ids},"prompt_text":null}}"#
            ));
        }
        for nth in from..self.texts.len() {
            let text = Value::from(self.texts[nth]);
            let (finish, stop) = match nth + 1 == self.texts.len() {
                true => ("\"length\"", ",\"stop_reason\":null"),
                false => ("null", ""),
            };
            let token = if ids { format!("[{}]", 100 + nth) } else { "null".into() };
            let choice = match api {
                Api::Chat => format!(
                    r#"{{"index":0,"delta":{{"content":{text}}},"logprobs":null,"finish_reason":{finish}{stop},"token_ids":{token}}}"#
                ),
                Api::Completions => {
                    let prompt_ids = if nth == from { &prompt_ids } else { "null" };
                    format!(
                        r#"{{"index":0,"text":{text},"logprobs":null,"finish_reason":{finish},"stop_reason":null,"prompt_token_ids":{prompt_ids},"token_ids":{token}}}"#
                    )
                }
            };
            let last = nth + 1 == self.texts.len() && !self.usage;
            let fingerprint = if last { ",\"system_fingerprint\":\"f\"" } else { "" };
            blocks.push(format!(r#"{envelope}"choices":[{choice}]{fingerprint}}}"#));
        }
        if self.usage {
            let (prompt, completion) = (prompt.len(), self.texts.len() - from);
            let total = prompt + completion;
            blocks.push(format!(
                r#"{envelope}"choices":[],"usage":{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}}},"system_fingerprint":"f"}}"#
            ));
        }
        blocks.push("[DONE]".into());
        blocks.iter().map(|data| format!("data: {data}\n\n")).collect()
    }

    fn undisturbed(&self) -> String {
        self.blocks(self.api, 0, false, "first").concat()
    }

    fn scribe(&self, mode: Mode) -> (Scribe, Vec<u8>) {
        let path = resume::path_of(self.api);
        let terms = Terms::of(path, &self.body(), mode).expect("it can be carried on");
        let body = match terms.wants_ids() {
            true => with_ids_asked_for(&self.body()).unwrap(),
            false => self.body(),
        };
        (Scribe::new(terms), body)
    }

    fn answer_to(&self, question: &[u8]) -> String {
        let question: Value = serde_json::from_slice(question).unwrap();
        let tokens = question["tokens"].as_array().unwrap();
        tokens.iter().map(|id| self.texts[id.as_u64().unwrap() as usize - 100]).collect()
    }

    /// The next server's blocks, for what the scribe asks of it.
    fn carried_on(&self, scribe: &mut Scribe, body: &[u8], id: &str) -> Option<Vec<String>> {
        let continued = match scribe.resumption(body)? {
            Resumption::End(end) => return Some([String::from_utf8(end).unwrap()].into()),
            Resumption::Again => scribe.again(),
            Resumption::Text { .. } => {
                let said = unescape(&scribe.transcript.text);
                let count = (0..=self.texts.len())
                    .find(|&count| self.texts[..count].concat() == said)
                    .expect("only what the model says") as u64;
                scribe.by_text(body, &Tokenized { count, max_model_len: 99 })?
            }
            Resumption::Ids(mut alignment) => {
                let mut step = alignment.first();
                let cut = loop {
                    step = match step {
                        Step::Found(cut) => break cut,
                        Step::Ask(question) => alignment.next(&self.answer_to(&question)),
                        Step::Lost => return None,
                    };
                };
                scribe.by_ids(body, cut, None)?
            }
        };
        let (from, asks_ids) = match &continued.body {
            None => (0, scribe.terms.wants_ids()),
            Some(body) => {
                let body: Value = serde_json::from_slice(body).expect("the new body is JSON");
                let left = body["max_tokens"].as_u64().unwrap() as usize;
                let asks_ids = body["return_token_ids"] == true;
                if asks_ids {
                    let prompt = body["prompt"].as_array().unwrap().len();
                    assert_eq!(prompt + left, PROMPT.len() + self.texts.len());
                }
                (self.texts.len() - left, asks_ids)
            }
        };
        let api = continued.seam.api;
        scribe.resume(continued.seam);
        Some(self.blocks(api, from, asks_ids, id))
    }
}

fn unescape(raw: &[u8]) -> String {
    crate::json_members::unescaped(raw).unwrap().into_owned()
}

/// What the client gets of some blocks.
fn pass(scribe: &mut Scribe, blocks: &[String]) -> String {
    let mut told = String::new();
    for block in blocks {
        match scribe.pass(block.as_bytes()) {
            Passed::Same => told += block,
            Passed::Pieces(pieces) => {
                pieces.iter().for_each(|piece| told += core::str::from_utf8(piece).unwrap());
            }
            Passed::New(block) => told += core::str::from_utf8(&block).unwrap(),
            Passed::Nothing => {}
        }
    }
    told
}

/// All that the client gets when servers die after so many blocks of theirs.
fn through_deaths(model: &Model, mode: Mode, deaths: &[usize]) -> String {
    let (mut scribe, body) = model.scribe(mode);
    let mut blocks = model.blocks(model.api, 0, scribe.terms.wants_ids(), "first");
    let mut told = String::new();
    for (nth, &after) in deaths.iter().enumerate() {
        // Before the first event of the first server no answer has begun.
        let after = after.min(blocks.len() - 1).max(usize::from(nth == 0));
        told += &pass(&mut scribe, &blocks[..after]);
        let id = format!("server-{nth}");
        let Some(next) = model.carried_on(&mut scribe, &body, &id) else {
            panic!("not carried on after {told}");
        };
        blocks = next;
        if !blocks[0].contains("server-") {
            break;
        }
    }
    if blocks[0].contains("server-") || deaths.is_empty() {
        told += &pass(&mut scribe, &blocks);
    } else {
        told += &blocks.concat();
    }
    assert!(!scribe.has_diverged());
    told
}

fn models() -> [Model; 4] {
    let [mut chat, mut completions] = [Api::Chat, Api::Completions].map(Model::new);
    (chat.usage, completions.usage) = (false, false);
    [chat, completions, Model::new(Api::Chat), Model::new(Api::Completions)]
}

/// vLLM tells its fingerprint in the last event, which is the one that may be ours.
fn but_for_the_fingerprint(told: &str) -> String {
    told.replace(",\"system_fingerprint\":\"f\"", "")
}

#[test]
fn an_undisturbed_stream_does_not_show_that_ids_were_asked_for() {
    for model in models() {
        assert_eq!(through_deaths(&model, Mode::Exact, &[]), model.undisturbed());
        assert_eq!(through_deaths(&model, Mode::Text, &[]), model.undisturbed());
    }
}

#[test]
fn an_answer_cut_after_any_event_goes_on_as_if_nothing_had_happened() {
    for model in models() {
        for after in 1..WORDS.len() + 3 {
            let told = through_deaths(&model, Mode::Exact, &[after]);
            let (told, right) =
                (but_for_the_fingerprint(&told), but_for_the_fingerprint(&model.undisturbed()));
            assert_eq!(told, right, "{:?} after {after}", model.api);
        }
    }
}

#[test]
fn where_no_ids_are_told_the_text_is_carried_on() {
    for mut model in models() {
        (model.tells_ids, model.usage) = (false, false);
        for after in 1..WORDS.len() + 2 {
            let told = through_deaths(&model, Mode::Exact, &[after]);
            assert_eq!(told, model.undisturbed(), "{:?} after {after}", model.api);
        }
    }
}

proptest! {
    #[test]
    fn several_deaths_lose_nothing_and_repeat_nothing(
        deaths in proptest::collection::vec(0_usize..12, 1..5),
        which in 0_usize..4,
        by_text in any::<bool>(),
    ) {
        let mut model = models().into_iter().nth(which).unwrap();
        let mode = if by_text { Mode::Text } else { Mode::Exact };
        // Whoever knows no tokens cannot count them once all is said.
        model.usage &= !by_text;
        let told = but_for_the_fingerprint(&through_deaths(&model, mode, &deaths));
        prop_assert_eq!(told, but_for_the_fingerprint(&model.undisturbed()));
    }
}

fn terms(path: &str, change: &Value) -> Option<Terms> {
    let mut body = json!({"model": "m", "stream": true});
    match path {
        "/v1/completions" => body["prompt"] = json!("Hi"),
        _ => body["messages"] = json!([{"role": "user", "content": "Hi"}]),
    }
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    Terms::of(path, body.to_string().as_bytes(), Mode::Exact)
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn what_cannot_be_carried_on_rightly_is_not() {
    let tool = json!([{"type": "function", "function": {"name": "f"}}]);
    for change in [
        json!({"stream": false}),
        json!({"n": 2}),
        json!({"logprobs": true, "top_logprobs": 2}),
        json!({"prompt_logprobs": 1}),
        json!({"echo": true}),
        json!({"tools": tool}),
        json!({"tools": tool, "tool_choice": "auto"}),
        json!({"functions": []}),
        json!({"response_format": {"type": "json_object"}}),
        json!({"structured_outputs": {"regex": "a"}}),
        json!({"guided_json": {}}),
        json!({"kv_transfer_params": {}}),
        json!({"truncate_prompt_tokens": 5}),
        json!({"bad_words": ["a"]}),
        json!({"include_reasoning": false}),
        json!({"thinking_token_budget": 5}),
        json!({"return_token_ids": true}),
        json!({"stop": "x", "include_stop_str_in_output": true}),
        json!({"max_tokens": "5"}),
        json!({"a_field_of_the_future": 1}),
    ] {
        assert_eq!(terms(CHAT, &change), None, "{change}");
    }
    let path = "/v1/completions";
    for change in [
        json!({"logprobs": 0}),
        json!({"suffix": "x"}),
        json!({"best_of": 2}),
        json!({"prompt_embeds": "x"}),
        json!({"prompt": ["a", "b"]}),
        json!({"prompt": [[1], [2]]}),
    ] {
        assert_eq!(terms(path, &change), None, "{change}");
    }
    for path in ["/v1/messages", "/v1/responses", "/v1/embeddings"] {
        assert_eq!(terms(path, &json!({})), None, "{path}");
    }
}

#[test]
fn what_changes_nothing_stands_in_nobodys_way() {
    let tool = json!([{"type": "function", "function": {"name": "f"}}]);
    for change in [
        json!({"n": 1, "logprobs": false, "top_logprobs": 0, "tools": null, "echo": false}),
        json!({"tools": tool, "tool_choice": "none"}),
        json!({"response_format": {"type": "text"}, "user": "u", "metadata": {}}),
        json!({"temperature": 0.7, "seed": 1, "stop": ["a"], "logit_bias": {"1": 2}}),
    ] {
        assert!(terms(CHAT, &change).is_some_and(|terms| terms.by_ids), "{change}");
    }
    assert!(terms("/v1/completions", &json!({"prompt": [1, 2]})).unwrap().by_ids);
}

#[test]
fn images_have_no_token_ids_and_are_carried_on_by_text() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:"}});
    let messages = json!([{"role": "user", "content": [{"type": "text", "text": "?"}, image]}]);
    let terms = terms(CHAT, &json!({"messages": messages})).unwrap();
    assert!(!terms.by_ids && terms.by_text.is_some());
}

#[test]
fn of_two_members_of_one_name_nobody_knows_which_counts() {
    let body = br#"{"stream":true,"messages":[{"role":"user","content":"a"}],"n":1,"n":2}"#;
    assert_eq!(Terms::of(CHAT, body, Mode::Exact), None);
}

#[test]
fn reasoning_and_tool_calls_end_the_transcript_but_not_the_stream() {
    let model = Model::new(Api::Chat);
    for delta in [r#"{"reasoning":"hm"}"#, r#"{"content":"a","tool_calls":[{"index":0}]}"#, "{}"] {
        let (mut scribe, body) = model.scribe(Mode::Exact);
        let blocks = model.blocks(Api::Chat, 0, true, "first");
        pass(&mut scribe, &blocks[..3]);
        let odd = blocks[2].replace(r#"{"content":" \"wörld\""}"#, delta);
        assert_ne!(odd, blocks[2]);
        let told = pass(&mut scribe, &[odd.clone(), blocks[3].clone()]);
        assert!(!told.contains("token_ids\":["), "{told}");
        assert_eq!(told.contains("reasoning"), delta.contains("reasoning"), "{told}");
        assert_eq!(scribe.resumption(&body), None, "{delta}");
    }
}

#[test]
fn an_error_event_is_withheld_until_it_is_clear_that_nobody_goes_on() {
    let model = Model::new(Api::Chat);
    let (mut scribe, body) = model.scribe(Mode::Exact);
    let blocks = model.blocks(Api::Chat, 0, true, "first");
    pass(&mut scribe, &blocks[..4]);
    let error = "data: {\"error\": {\"message\": \"x\", \"code\": 500}}\n\n".to_string();
    let done = "data: [DONE]\n\n".to_string();
    assert_eq!(pass(&mut scribe, &[error.clone(), done.clone()]), "");
    assert!(matches!(scribe.resumption(&body), Some(Resumption::Ids(_))));
    assert_eq!(scribe.give_up(), (error + &done).as_bytes());
    assert_eq!(scribe.resumption(&body), None);
}

#[test]
fn several_tokens_with_one_text_are_looked_at_one_by_one() {
    let model = Model::new(Api::Completions);
    let (mut scribe, body) = model.scribe(Mode::Exact);
    let blocks = model.blocks(Api::Completions, 0, true, "first");
    // The text of two tokens, and a third whose character is not complete.
    let block = blocks[0].replace("Hello", "Hello \\\"wörld\\\"").replace("[100]", "[100,101,102]");
    pass(&mut scribe, &[block]);
    let Some(Resumption::Ids(mut alignment)) = scribe.resumption(&body) else { panic!() };
    let asked = |step: Step| {
        let Step::Ask(question) = step else { panic!("{step:?}") };
        serde_json::from_slice::<Value>(&question).unwrap()
    };
    assert_eq!(asked(alignment.first()), json!({"model": "m", "tokens": [100, 101, 102]}));
    assert_eq!(asked(alignment.next("Hello \"wörld\"\u{fffd}"))["tokens"], json!([100, 101]));
    let cut = Cut { ids: 2, overlap: String::new() };
    assert_eq!(alignment.next("Hello \"wörld\""), Step::Found(cut));
    assert_eq!(alignment.next("Hello "), Step::Ask(br#"{"model":"m","tokens":[100]}"#.into()));
    assert!(matches!(alignment.next("Hell"), Step::Ask(_)));
    assert_eq!(alignment.next(""), Step::Lost);
}

#[test]
fn text_that_was_held_back_for_a_stop_string_is_said_once() {
    let mut body: Value = serde_json::from_slice(&Model::new(Api::Completions).body()).unwrap();
    body["stop"] = json!(["stop"]);
    let body = body.to_string().into_bytes();
    let terms = Terms::of("/v1/completions", &body, Mode::Exact).unwrap();
    let mut scribe = Scribe::new(terms);
    let event = |text: &str, ids: &str| {
        format!(
            "data: {{\"id\":\"i\",\"choices\":[{{\"index\":0,\"text\":\"{text}\",\
             \"finish_reason\":null,\"prompt_token_ids\":[7],\"token_ids\":{ids}}}]}}\n\n"
        )
    };
    // Three characters lag behind.
    pass(&mut scribe, &[event("", "[1]"), event("one t", "[2]")]);
    let Some(Resumption::Ids(mut alignment)) = scribe.resumption(&body) else { panic!() };
    assert!(matches!(alignment.first(), Step::Ask(_)));
    assert!(matches!(alignment.next("one two"), Step::Ask(_)));
    let cut = Cut { ids: 1, overlap: " t".into() };
    assert_eq!(alignment.next("one"), Step::Found(cut.clone()));
    let continued = scribe.by_ids(&body, cut, None).unwrap();
    scribe.resume(continued.seam.clone());
    let told = pass(&mut scribe, &[event(" ", "[2]"), event("two", "[3]"), event("!", "[4]")]);
    assert!(
        !told.contains("\"text\":\" ") && told.contains("\"wo\"") && told.contains("\"!\""),
        "{told}"
    );
    scribe.resume(continued.seam);
    assert_eq!(pass(&mut scribe, &[event("else", "[5]")]), "");
    assert!(scribe.has_diverged());
}

#[test]
fn usage_in_every_event_counts_from_the_beginning() {
    let model = Model::new(Api::Completions);
    let (mut scribe, body) = model.scribe(Mode::Exact);
    let blocks = model.blocks(Api::Completions, 0, true, "first");
    pass(&mut scribe, &blocks[..2]);
    let cut = Cut { ids: 2, overlap: String::new() };
    let seam = scribe.by_ids(&body, cut, None).unwrap().seam;
    scribe.resume(seam);
    let usage = r#""usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":5}}"#;
    let block = blocks[3].replace("]}\n\n", &format!("],{usage}}}\n\n"));
    let told = pass(&mut scribe, &[block]);
    let event: Value = serde_json::from_str(told.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(
        event["usage"],
        json!({"prompt_tokens": 3, "total_tokens": 6, "completion_tokens": 3,
               "prompt_tokens_details": {"cached_tokens": 3}})
    );
    assert_eq!(event["id"], "first");
}

#[test]
fn a_client_that_continues_a_message_has_its_text_joined_to_it() {
    let messages =
        json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "So \"it"}]);
    let body = json!({
        "messages": messages, "stream": true, "continue_final_message": true,
        "add_generation_prompt": false, "max_completion_tokens": 9, "min_tokens": 4,
        "stream_options": {"include_usage": true}, "temperature": 0.5,
    });
    let body = body.to_string().into_bytes();
    let mut scribe = Scribe::new(Terms::of(CHAT, &body, Mode::Text).unwrap());
    let blocks = Model::new(Api::Chat).blocks(Api::Chat, 0, false, "first");
    pass(&mut scribe, &blocks[..3]);
    let continued = scribe.by_text(&body, &Tokenized { count: 2, max_model_len: 99 }).unwrap();
    let new: Value = serde_json::from_slice(&continued.body.unwrap()).unwrap();
    assert_eq!(new["messages"][1]["content"], "So \"itHello \"wörld\"");
    assert_eq!((&new["max_tokens"], &new["min_tokens"]), (&json!(7), &json!(2)));
    assert_eq!(new["continue_final_message"], true);
    assert_eq!(new["stream_options"]["include_usage"], true);
    assert_eq!(new.get("max_completion_tokens"), None);
}
