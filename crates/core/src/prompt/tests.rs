use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::json::spelling::Dice;
use crate::json_fields::scan;

/// Values that come into a prompt as they stand, with their members in order.
const ORDERED: [&str; 4] = ["parameters", "input_schema", "input", "chat_template_kwargs"];

fn read(body: &str) -> Prompt {
    Prompt::of(&scan(body.as_bytes()), Dialect::OpenAi).unwrap_or_default()
}

fn prompt(body: &Json) -> Prompt {
    read(&body.to_string())
}

fn long(seed: &str) -> String {
    format!("{seed} {}", "and so on, ".repeat(30))
}

fn chat(messages: &Json) -> Json {
    json!({"model": "m", "messages": messages})
}

fn check_same(a: &Json, b: &Json) {
    assert!(!prompt(a).blocks.is_empty(), "{a}");
    assert_eq!(prompt(a).blocks, prompt(b).blocks, "{a}\n{b}");
}

/// How many blocks from the beginning are the same.
fn shared(a: &Prompt, b: &Prompt) -> usize {
    a.blocks.iter().zip(&b.blocks).take_while(|(a, b)| a == b).count()
}

#[test]
fn content_of_one_text_is_that_text() {
    let text = long("hello");
    check_same(
        &chat(&json!([{"role": "user", "content": text}])),
        &chat(&json!([{"role": "user", "content": [{"type": "text", "text": text}]}])),
    );
}

#[test]
fn what_does_not_reach_the_model_does_not_count() {
    let text = long("hello");
    check_same(
        &chat(&json!([{"role": "user", "content": [{"type": "text", "text": text}]}])),
        &json!({"model": "m", "temperature": 0.3, "seed": 7, "max_tokens": 5, "user": "u",
            "messages": [{"role": "user", "id": "msg_1", "name": null, "content": [
                {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]}]}),
    );
}

#[test]
fn a_system_prompt_is_the_same_wherever_an_api_has_it() {
    let (system, text) = (long("be kind"), long("hello"));
    let user = json!({"role": "user", "content": text});
    let in_chat = chat(&json!([{"role": "system", "content": system}, user]));
    check_same(&in_chat, &json!({"model": "m", "messages": [user], "system": system}));
    check_same(
        &in_chat,
        &json!({"model": "m", "messages": [user], "system": [{"type": "text", "text": system}]}),
    );
    check_same(&in_chat, &json!({"model": "m", "input": [user], "instructions": system}));
}

#[test]
fn the_text_by_which_a_client_names_itself_does_not_count() {
    let system = |version: &str| {
        let header = format!("x-anthropic-billing-header: cch={version}");
        json!({"model": "m", "messages": [], "system": [
            {"type": "text", "text": header}, {"type": "text", "text": long("be kind")}]})
    };
    check_same(&system("1"), &system("2"));
    check_same(&system("1"), &json!({"model": "m", "system": long("be kind")}));
}

#[test]
fn what_responses_are_asked_may_be_a_text_or_a_message() {
    let text = long("hello");
    let read = |input: Json| {
        let body = json!({"model": "m", "input": input}).to_string();
        Prompt::of(&scan(body.as_bytes()), Dialect::Responses)
    };
    let as_message = read(json!([{"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": text}]}]));
    assert!(as_message.as_ref().is_some_and(|prompt| !prompt.blocks.is_empty()));
    assert_eq!(read(json!(text)), as_message);
}

#[test]
fn tools_come_first_and_a_call_counts_without_its_id() {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "description": long("it looks"),
            "parameters": {"type": "object", "properties": {"z": {}, "a": {}}}}})
    };
    let asks = |tools: Json, id: &str, arguments: &str| {
        json!({"model": "m", "tools": tools, "messages": [
            {"role": "user", "content": long("hello")},
            {"role": "assistant", "content": null, "tool_calls": [{"id": id, "type": "function",
                "function": {"name": "look", "arguments": arguments}}]},
            {"role": "tool", "tool_call_id": id, "content": long("seen")}]})
    };
    let plain = asks(json!([tool("look")]), "call_1", "{\"a\": 1}");
    check_same(&plain, &asks(json!([tool("look")]), "call_2", "{\"a\": 1}"));
    let other_call = prompt(&asks(json!([tool("look")]), "call_1", "{\"a\": 2}"));
    assert!(shared(&prompt(&plain), &other_call) > 10, "only what follows the call is another");
    assert_ne!(prompt(&plain).blocks, other_call.blocks);
    assert_eq!(shared(&prompt(&plain), &prompt(&asks(json!([tool("leap")]), "call_1", "{}"))), 0);
}

#[test]
fn models_adapters_and_tenants_share_nothing() {
    let of = |model: &str, salt: Json| {
        prompt(&json!({"model": model, "prompt": long("hello"), "cache_salt": salt}))
    };
    let all =
        [of("a", json!(null)), of("b", json!(null)), of("a", json!("x")), of("a", json!("y"))];
    for (at, one) in all.iter().enumerate() {
        for other in &all[..at] {
            assert_eq!(shared(one, other), 0);
        }
    }
}

#[test]
fn a_block_is_16_token_ids_however_they_are_spaced() {
    let ids: Vec<u32> = (0..33).map(|id| id * 4_001).collect();
    let spaced = format!("{{\"prompt\":{ids:?}}}");
    let tight = spaced.replace(' ', "");
    assert_eq!(read(&spaced), read(&tight));
    let prompt = read(&tight);
    assert_eq!((prompt.blocks.len(), prompt.tokens, prompt.least_tokens), (2, 33, 33));
    let shorter = read(&format!("{{\"prompt\":{:?}}}", &ids[..17]));
    assert_eq!(*shorter.blocks, prompt.blocks[..1]);
}

#[test]
fn an_image_is_the_same_by_its_url_or_its_bytes_and_is_worth_many_tokens() {
    let with = |part: Json| {
        let text = json!({"type": "text", "text": long("what is this?")});
        prompt(&chat(&json!([{"role": "user", "content": [part, text]}])))
    };
    let url = |url: &str| with(json!({"type": "image_url", "image_url": {"url": url}}));
    assert_eq!(url("http://a/1.png"), url("http://a/1.png"));
    assert!(shared(&url("http://a/1.png"), &url("http://a/2.png")) < 2);
    let as_text = with(json!({"type": "input_image", "image_url": "http://a/1.png"}));
    assert_eq!(as_text, url("http://a/1.png"));
    assert!(url("http://a/1.png").tokens > 576);
    assert!(url("http://a/1.png").least_tokens < 100, "nobody knows how many");
}

#[test]
fn what_a_prompt_has_at_least_is_known_of_a_single_one_only() {
    let least = |body: Json| prompt(&body).least_tokens;
    assert_eq!(least(json!({"prompt": "a".repeat(800)})), 100);
    assert_eq!(least(json!({"prompt": ["a".repeat(800)]})), 100);
    assert_eq!(least(json!({"prompt": ["a".repeat(800), "b"]})), 0);
    assert_eq!(least(json!({"input": [[1, 2], [3, 4]]})), 0);
    assert_eq!(least(json!({"query": "a".repeat(800), "documents": ["a", "b"]})), 0);
    assert_eq!(least(json!({"prompt": "a".repeat(800), "truncate_prompt_tokens": 5})), 0);
    assert!(least(chat(&json!([{"role": "user", "content": "a".repeat(800)}]))) >= 100);
}

#[test]
fn a_prompt_fits_where_neither_it_nor_its_answer_is_too_long() {
    let of = |max_tokens| prompt(&json!({"prompt": [1, 2, 3], "max_tokens": max_tokens}));
    assert!(of(json!(null)).may_fit(3) && !of(json!(null)).may_fit(2));
    assert!(of(json!(8)).may_fit(8) && !of(json!(8)).may_fit(7));
}

#[test]
fn a_batch_begins_with_its_first_prompt() {
    let first = long("one");
    let batch = prompt(&json!({"model": "m", "prompt": [first, long("two")]}));
    let single = prompt(&json!({"model": "m", "prompt": first}));
    assert_eq!(shared(&single, &batch), single.blocks.len());
    assert!(batch.blocks.len() > single.blocks.len());
}

#[test]
fn a_body_without_a_prompt_has_none() {
    for body in ["", "{}", r#"{"model":"m"}"#, r#"{"messages":null}"#, "[1,2]", "\u{0}"] {
        assert_eq!(Prompt::of(&scan(body.as_bytes()), Dialect::OpenAi), None, "{body}");
    }
}

#[test]
fn no_nesting_costs_stack() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for name in ["messages", "input", "tools", "system", "documents", "reasoning"] {
        read(&format!("{{\"{name}\":{deep}}}"));
        read(&format!("{{\"{name}\":[{{\"content\":{deep},\"tool_calls\":{deep}}}]}}"));
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~\n\t\u{e9}\u{1f980}\"\\\\/]{0,200}", any::<String>(), Just(long("hello"))]
}

fn part() -> impl Strategy<Value = Json> {
    prop_oneof![
        3 => text().prop_map(|text| json!({"type": "text", "text": text})),
        1 => text().prop_map(|url| json!({"type": "image_url", "image_url": {"url": url}})),
        1 => text().prop_map(|data| json!({"type": "image", "source": {"data": data}})),
        1 => text().prop_map(|text| json!({"type": "tool_result", "content": [{"text": text}]})),
        1 => text().prop_map(|q| json!({"type": "tool_use", "name": "f", "input": {"q": q, "a": 1}})),
    ]
}

fn message() -> impl Strategy<Value = Json> {
    let content = prop_oneof![
        text().prop_map(Json::from),
        prop::collection::vec(part(), 0..4).prop_map(Json::from),
    ];
    let role = prop::sample::select(&["system", "user", "assistant", "tool"][..]);
    (role, content, text()).prop_map(|(role, content, arguments)| match role {
        "assistant" => json!({"role": role, "content": content, "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}]}),
        _ => json!({"role": role, "content": content}),
    })
}

fn conversation() -> impl Strategy<Value = Vec<Json>> {
    prop::collection::vec(message(), 1..8)
}

fn spelled(body: &Json, seed: u64) -> String {
    let mut spelling = String::new();
    Dice(seed | 1).spell(body, &ORDERED, &mut spelling);
    spelling
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn the_same_in_another_spelling_is_the_same(
        messages in conversation(), tool in text(), seed in any::<u64>(),
    ) {
        let tools = json!([{"type": "function", "function": {"name": "f", "description": tool,
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}}]);
        let body = json!({"model": "m", "tools": tools, "messages": messages, "top_p": 0.5});
        let expect = prompt(&body);
        prop_assert_eq!(read(&spelled(&body, seed)), expect);
    }

    #[test]
    fn what_goes_on_begins_with_all_whole_blocks_of_before(messages in conversation()) {
        let whole = prompt(&chat(&json!(messages)));
        for turns in 0..messages.len() {
            let before = prompt(&chat(&json!(messages[..turns])));
            prop_assert_eq!(shared(&before, &whole), before.blocks.len());
        }
    }

    #[test]
    fn a_changed_character_changes_its_block_and_all_behind_it(
        text in "[ -~]{1,2000}", at in any::<prop::sample::Index>(), seed in any::<u64>(),
    ) {
        let at = at.index(text.len());
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
        let changed = String::from_utf8(changed).unwrap();
        let before = read(&spelled(&json!({"prompt": text}), seed));
        let after = read(&spelled(&json!({"prompt": changed}), seed.rotate_left(9)));
        prop_assert_eq!(before.blocks.len(), text.len() / BLOCK_BYTES);
        let is_same = |nth: usize| before.blocks[nth] == after.blocks[nth];
        for nth in 0..before.blocks.len() {
            prop_assert_eq!(is_same(nth), nth < at / BLOCK_BYTES, "block {}", nth);
        }
    }

    #[test]
    fn a_changed_message_changes_nothing_before_it_and_all_whole_blocks_behind(
        messages in conversation(), at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(messages.len());
        let mut changed = messages.clone();
        changed[at] = json!({"role": "user", "content": "something else altogether"});
        prop_assume!(changed[at] != messages[at]);
        let (whole, other) = (prompt(&chat(&json!(messages))), prompt(&chat(&json!(changed))));
        let before = prompt(&chat(&json!(messages[..at]))).blocks.len();
        let upto = prompt(&chat(&json!(messages[..=at]))).blocks.len();
        prop_assert!(shared(&whole, &other) >= before);
        prop_assert!(shared(&whole, &other) <= upto);
    }

    #[test]
    fn any_bytes_are_survived(
        messages in conversation(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![prop::sample::select(&b"\"\\{}[],:u0"[..]), any::<u8>()],
        garbage in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut body = json!({"tools": messages, "messages": messages}).to_string().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        Prompt::of(&scan(&body), Dialect::Responses);
        body.truncate(at);
        body.extend_from_slice(&garbage);
        Prompt::of(&scan(&body), Dialect::OpenAi);
        for name in ["messages", "prompt", "tools", "input"] {
            let body = [format!("{{\"{name}\":").as_bytes(), &garbage, b"}"].concat();
            Prompt::of(&scan(&body), Dialect::Responses);
        }
    }
}
