use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

/// Recorded from vLLM 0.32, shortened.
const CHAT: &str = concat!(
    ": keep-alive\n\n",
    "data: {\"id\":\"chatcmpl-a1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
     \"model\":\"tiny\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\
     \"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}],\"prompt_token_ids\":null}\n\n",
    "data: {\"id\":\"chatcmpl-a1\",\"object\":\"chat.completion.chunk\",\"created\":1,\
     \"model\":\"tiny\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" specify\"},\
     \"logprobs\":null,\"finish_reason\":\"length\"}]}\n\n",
    "data: [DONE]\n\n",
);
const MESSAGES: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"chatcmpl-b\",\
     \"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"tiny\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":\
     {\"type\":\"text_delta\",\"text\":\"thon\"},\"index\":0}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);
const RESPONSES: &str = concat!(
    "event: response.created\ndata: {\"response\":{\"id\":\"resp_9\",\"model\":\"tiny\"},\
     \"sequence_number\":0,\"type\":\"response.created\"}\n\n",
    "event: response.in_progress\ndata: {\"response\":{\"id\":\"resp_9\",\"model\":\"tiny\"},\
     \"sequence_number\":1,\"type\":\"response.in_progress\"}\n\n",
    "event: response.output_text.delta\ndata: {\"content_index\":0,\"delta\":\"ams\",\
     \"sequence_number\":2,\"type\":\"response.output_text.delta\"}\n\n",
    "event: response.completed\ndata: {\"response\":{\"id\":\"resp_9\",\"model\":\"tiny\"},\
     \"sequence_number\":3,\"type\":\"response.completed\"}\n\n",
);
const DONE: &str = "data: [DONE]\n\n";

/// An error as vLLM 0.32 writes it (`json.dumps` of its ErrorResponse).
fn vllm_error(message: &str, kind: &str, code: u16) -> String {
    let message = json_string(message);
    std::format!(
        "data: {{\"error\": {{\"message\": {message}, \"type\": \"{kind}\", \"param\": null, \
         \"code\": {code}}}}}\n\n"
    )
}

fn watch(dialect: Dialect, stream: &str) -> StreamWatch {
    let mut watch = StreamWatch::new(dialect);
    watch.feed(stream.as_bytes());
    watch
}

fn progress(dialect: Dialect, stream: &str) -> Progress {
    watch(dialect, stream).progress()
}

fn failed(status: Option<u16>, after_output: bool, ended: bool) -> Progress {
    Progress::Failed(Failure { status, after_output, ended, engine_dead: false })
}

/// Progress after each block of the stream.
fn steps(dialect: Dialect, stream: &str) -> Vec<Progress> {
    let mut watch = StreamWatch::new(dialect);
    let blocks = stream.split_inclusive("\n\n");
    let step = |block: &str| {
        assert_eq!(watch.feed(block.as_bytes()).complete, block.len());
        watch.progress()
    };
    blocks.map(step).collect()
}

#[test]
fn a_dead_engine_is_known_by_its_words_in_each_dialect_that_has_them() {
    const WORDS: &str =
        "EngineCore encountered an issue. See stack trace (above) for the root cause.";
    let says_dead = |dialect, data: &str| {
        let stream = alloc::format!("event: error\ndata: {data}\n\n");
        match progress(dialect, &stream) {
            Progress::Failed(failure) => failure.engine_dead,
            other => panic!("no failure: {other:?}"),
        }
    };
    for words in [WORDS, "Internal server error"] {
        let chat = alloc::format!(
            r#"{{"error": {{"message": "{words}", "type": "InternalServerError", "param": null, "code": 500}}}}"#
        );
        let messages = alloc::format!(
            r#"{{"type":"error","error":{{"type":"internal_error","message":"{words}"}}}}"#
        );
        assert_eq!(says_dead(Dialect::OpenAi, &chat), words == WORDS);
        assert_eq!(says_dead(Dialect::Messages, &messages), words == WORDS);
    }
}

#[test]
fn the_path_decides_on_the_dialect() {
    let check = |path, dialect| assert_eq!(Dialect::of_path(path), dialect, "{path}");
    check("/v1/chat/completions", Dialect::OpenAi);
    check("/v1/completions?a=b", Dialect::OpenAi);
    check("/v1/audio/transcriptions", Dialect::OpenAi);
    check("/v1/messages", Dialect::Messages);
    check("/v1/messages/count_tokens", Dialect::Opaque);
    check("/v1/responses", Dialect::Responses);
    check("/v1/responses/resp_1?stream=true", Dialect::Responses);
    check("/v1/responsesx", Dialect::Opaque);
    check("/v1/embeddings", Dialect::Opaque);
}

#[test]
fn each_dialect_starts_with_output_and_finishes_with_its_end() {
    use Progress::*;
    assert_eq!(steps(Dialect::OpenAi, CHAT), [Silent, Started, Started, Finished]);
    assert_eq!(steps(Dialect::Messages, MESSAGES), [Started, Started, Finished]);
    assert_eq!(steps(Dialect::Responses, RESPONSES), [Announced, Announced, Started, Finished]);
}

#[test]
fn an_announcement_after_output_takes_nothing_back() {
    let late =
        RESPONSES.split_inclusive("\n\n").take(3).chain(RESPONSES.split_inclusive("\n\n").take(1));
    assert_eq!(progress(Dialect::Responses, &late.collect::<String>()), Progress::Started);
}

#[test]
fn a_cut_stream_is_not_finished() {
    let streams =
        [(Dialect::OpenAi, CHAT), (Dialect::Messages, MESSAGES), (Dialect::Responses, RESPONSES)];
    for (dialect, stream) in streams {
        for cut in 0..stream.len() {
            assert_eq!(watch(dialect, &stream[..cut]).ending(), Ending::Cut, "{dialect:?} {cut}");
        }
        assert_eq!(watch(dialect, stream).ending(), Ending::Complete);
    }
}

#[test]
fn a_keep_alive_is_not_a_start() {
    assert_eq!(progress(Dialect::OpenAi, ": keep-alive\n\n: keep-alive\n\n"), Progress::Silent);
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    assert_eq!(progress(Dialect::Messages, ping), Progress::Silent);
}

#[test]
fn an_event_without_a_name_goes_by_its_type() {
    assert_eq!(
        progress(Dialect::Messages, "data: {\"type\":\"message_stop\"}\n\n"),
        Progress::Finished
    );
    let incomplete = "data: { \"type\" : \"response.incomplete\", \"response\":{}}\n\n";
    assert_eq!(progress(Dialect::Responses, incomplete), Progress::Finished);
}

#[test]
fn an_error_is_no_success_though_the_end_follows() {
    let long = "x".repeat(500);
    for message in ["Internal server error", "\"code\": 400, \\", long.as_str()] {
        let error = vllm_error(message, "InternalServerError", 500);
        assert_eq!(progress(Dialect::OpenAi, &error), failed(Some(500), false, false));
        let ended = [&error, DONE].concat();
        assert_eq!(progress(Dialect::OpenAi, &ended), failed(Some(500), false, true));
        let late = [&CHAT[..CHAT.len() - DONE.len()], &ended].concat();
        assert_eq!(progress(Dialect::OpenAi, &late), failed(Some(500), true, true));
    }
}

#[test]
fn the_first_of_several_errors_counts() {
    let first = vllm_error("no", "BadRequestError", 400);
    let stream = [&first, CHAT, &vllm_error("", "InternalServerError", 500)].concat();
    assert_eq!(progress(Dialect::OpenAi, &stream), failed(Some(400), false, true));
}

#[test]
fn the_status_of_an_error_says_whom_to_blame() {
    let check = |stream: &str, status, blames_server| {
        let Progress::Failed(failure) = progress(Dialect::OpenAi, stream) else {
            panic!("not an error: {stream}")
        };
        assert_eq!((failure.status, failure.blames_server()), (status, blames_server), "{stream}");
    };
    check(&vllm_error("no", "BadRequestError", 400), Some(400), false);
    check(&vllm_error("busy", "ServiceUnavailableError", 503), Some(503), true);
    check("data: {\"error\":\"scaling\"}\n\n", None, true);
    check("data: {\"error\":{\"code\":\"429\",\"message\":\"m\"}}\n\n", Some(429), false);
    check("data: {\"error\":{\"code\":\"rate_limit_exceeded\"}}\n\n", None, true);
    check("data: {\"error\":{\"code\":70000}}\n\n", None, true);
    check("data: {\"error\":{\"message\":\"\\\"code\\\": 400 \"}}\n\n", None, true);
    check("event: error\ndata: {\"message\":\"m\",\"code\":502}\n\n", Some(502), true);
    let older = "data: {\"object\": \"error\", \"message\": \"a message of some length, as they are\
                 \", \"type\": \"BadRequestError\", \"param\": null, \"code\": 400}\n\n";
    check(older, Some(400), false);
}

#[test]
fn a_status_that_the_kept_part_cuts_is_read_from_the_end() {
    for length in 0..200 {
        let message = "m".repeat(length);
        let stream = vllm_error(&message, "", 503);
        assert_eq!(progress(Dialect::OpenAi, &stream), failed(Some(503), false, false), "{length}");
        let no_status = stream.replace("503", "5000");
        assert_eq!(progress(Dialect::OpenAi, &no_status), failed(None, false, false), "{length}");
    }
}

#[test]
fn output_that_speaks_of_errors_is_output() {
    for data in [
        "{\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\": [DONE]\"}}]}",
        "{\"error\":null,\"choices\":[]}",
        "[DONE] is not the end",
        "error",
    ] {
        let stream = ["data: ", data, "\n\n"].concat();
        assert_eq!(progress(Dialect::OpenAi, &stream), Progress::Started, "{data}");
    }
}

#[test]
fn an_error_in_messages_is_known_by_its_type() {
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"internal_error\",\
                 \"message\":\"2 validation errors for ChatCompletionStreamResponse\"}}\n\n";
    assert_eq!(progress(Dialect::Messages, error), failed(Some(500), false, false));
    let client = error.replace("internal_error", "invalid_request_error");
    assert_eq!(progress(Dialect::Messages, &client), failed(Some(400), false, false));
    assert!(matches!(watch(Dialect::Messages, error).ending(), Ending::Failed(_)));
}

#[test]
fn an_error_after_an_announcement_is_still_before_any_output() {
    let announced = RESPONSES.split_inclusive("\n\n").take(2).collect::<String>();
    let error = "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\
                 \"m\",\"param\":null,\"sequence_number\":2}\n\n";
    let stream = [&announced, error].concat();
    assert_eq!(progress(Dialect::Responses, &stream), failed(None, false, false));
    let failed_response = "event: response.failed\ndata: {\"response\":{}}\n\n";
    let stream = [&announced, failed_response].concat();
    assert_eq!(progress(Dialect::Responses, &stream), failed(None, false, true));
}

#[test]
fn an_opaque_stream_passes_as_it_comes_and_ends_when_closed() {
    let mut watch = StreamWatch::new(Dialect::Opaque);
    assert_eq!(watch.feed(b": hi\n\n").complete, 6);
    assert_eq!(watch.progress(), Progress::Silent);
    assert_eq!(watch.feed(b"data: {\"error\":1}\n\nda").complete, 21);
    assert_eq!(watch.progress(), Progress::Started);
    assert_eq!((watch.pending(), watch.at_boundary()), (0, false));
    assert_eq!(watch.ending(), Ending::Complete);
    assert_eq!(watch.cut_event("m"), None);
}

#[test]
fn the_start_of_an_event_is_held_back() {
    let mut watch = StreamWatch::new(Dialect::OpenAi);
    assert_eq!(watch.feed(b"data: {}").complete, 0);
    assert_eq!(watch.pending(), 8);
    assert_eq!(watch.feed(b"\n\ndata").complete, 2);
    assert_eq!((watch.pending(), watch.at_boundary()), (4, false));
}

/// The data of the only event in `bytes`.
fn data_of(bytes: &[u8]) -> Json {
    let text = std::str::from_utf8(bytes).unwrap();
    let (_, data) = text.strip_suffix("\n\n").unwrap().split_once("data: ").unwrap();
    assert!(!data.contains(['\n', '\r']), "{data}");
    serde_json::from_str(data).unwrap()
}

#[test]
fn a_stream_can_be_ended_in_each_dialect() {
    let message = "the \"server\"\\ went\r\n\n away \u{1} \u{1f980}";
    let event = watch(Dialect::OpenAi, CHAT).cut_event(message).unwrap();
    let error = json!({"message": message, "type": "BadGatewayError", "param": null, "code": 502});
    assert_eq!(data_of(&event), json!({"error": error}));

    let event = watch(Dialect::Messages, MESSAGES).cut_event(message).unwrap();
    assert!(event.starts_with(b"event: error\n"));
    let error = json!({"type": "api_error", "message": message});
    assert_eq!(data_of(&event), json!({"type": "error", "error": error}));

    let event = watch(Dialect::Responses, RESPONSES).cut_event(message).unwrap();
    assert!(event.starts_with(b"event: error\n"));
    let error = json!({"type": "error", "code": "server_error", "message": message, "param": null,
        "sequence_number": 4});
    assert_eq!(data_of(&event), error);
}

#[test]
fn our_own_error_is_understood_as_one() {
    for dialect in [Dialect::OpenAi, Dialect::Messages, Dialect::Responses] {
        let event = StreamWatch::new(dialect).cut_event("the server closed the stream").unwrap();
        let event = String::from_utf8(event).unwrap();
        let Progress::Failed(failure) = progress(dialect, &event) else { panic!("{event}") };
        assert!(failure.blames_server());
    }
}

#[test]
fn a_watch_stays_small() {
    assert!(size_of::<StreamWatch>() <= 256, "{}", size_of::<StreamWatch>());
}

fn dialects() -> impl Strategy<Value = Dialect> {
    prop::sample::select(&[Dialect::OpenAi, Dialect::Messages, Dialect::Responses, Dialect::Opaque])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn where_a_stream_is_cut_makes_no_difference(
        dialect in dialects(),
        order in prop::collection::vec(0..10usize, 0..8),
        code in 100..600u16,
        message in "[a-z \"\\\\\n]{0,90}",
    ) {
        let error = vllm_error(&message, "InternalServerError", code);
        let mut blocks: Vec<&str> = Vec::from([error.as_str()]);
        blocks.extend([CHAT, MESSAGES, RESPONSES].into_iter().flat_map(|s| s.split_inclusive("\n\n")));
        let stream: String = order.iter().map(|&block| blocks[block]).collect();
        let whole = watch(dialect, &stream);
        for cut in 0..=stream.len() {
            let mut cut_watch = watch(dialect, "");
            cut_watch.feed(&stream.as_bytes()[..cut]);
            cut_watch.feed(&stream.as_bytes()[cut..]);
            prop_assert_eq!(cut_watch.progress(), whole.progress());
            prop_assert_eq!(cut_watch.events, whole.events);
            prop_assert_eq!(cut_watch.pending(), 0);
        }
    }

    #[test]
    fn any_bytes_are_survived(
        dialect in dialects(),
        data in prop::collection::vec(any::<u8>(), 0..200),
        message in any::<String>(),
    ) {
        let mut watch = StreamWatch::new(dialect);
        watch.feed(b"data: {\"error\"");
        watch.feed(&data);
        watch.feed(b"\n\n");
        if let Some(event) = watch.cut_event(&message) {
            data_of(&event);
        }
    }
}
