use std::format;
use std::string::{String, ToString};

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::json::spelling::Dice;

fn model(body: &str) -> Option<String> {
    scan(body.as_bytes()).model.map(Cow::into_owned)
}

fn check(body: &str, expect: Option<&str>) {
    assert_eq!(model(body).as_deref(), expect, "{body}");
}

#[test]
fn members_are_found_wherever_they_stand() {
    let body = br#"{"messages":[{"role":"user","content":"hi"}],"stream":true,"model":"m",
        "session_id":"s","temperature":0.5,"previous_response_id":"resp_1"}"#;
    let expect = Fields {
        model: Some("m".into()),
        stream: Some(true),
        previous_response_id: Some("resp_1".into()),
        session_id: Some("s".into()),
        material: scan(body).material,
        ..Fields::default()
    };
    assert_eq!(scan(body), expect);
}

#[test]
fn a_plain_value_is_borrowed() {
    assert!(matches!(scan(br#"{"model":"m"}"#).model, Some(Cow::Borrowed("m"))));
}

#[test]
fn only_the_top_level_counts() {
    check(r#"{"a":{"model":"x"},"b":[{"model":"y"}],"c":"\"model\":\"z\""}"#, None);
    check(r#"[{"model":"x"}]"#, None);
    check(r#""model""#, None);
}

#[test]
fn the_last_of_several_counts() {
    check(r#"{"model":"a","model":"b"}"#, Some("b"));
    check(r#"{"model":"a","model":null}"#, None);
    check(r#"{"model":"a","mod\u0065l":"b"}"#, Some("b"));
}

#[test]
fn another_type_is_as_good_as_absent() {
    for value in ["1", "null", "true", "[\"m\"]", "{\"model\":\"m\"}", "-0.5e+10"] {
        check(&format!("{{\"model\":{value}}}"), None);
    }
    for value in ["\"true\"", "1", "null", "True"] {
        assert_eq!(scan(format!("{{\"stream\":{value}}}").as_bytes()).stream, None);
    }
    assert_eq!(scan(br#"{"stream": false }"#).stream, Some(false));
}

#[test]
fn escapes_are_decoded() {
    check(r#"{"model":"a\/b\"\\\b\f\n\r\t\u00e9\ud83e\udd80c"}"#, {
        Some("a/b\"\\\u{8}\u{c}\n\r\t\u{e9}\u{1f980}c")
    });
    check(r#"{"model":"\u005C\u0022"}"#, Some("\\\""));
}

#[test]
fn the_limit_of_an_answer_has_three_names() {
    let limit = |body: &str| scan(body.as_bytes()).answer_tokens();
    assert_eq!(limit(r#"{"max_tokens":7}"#), Some(7));
    assert_eq!(limit(r#"{"max_tokens":7,"max_completion_tokens":5}"#), Some(5));
    assert_eq!(limit(r#"{"max_output_tokens":3}"#), Some(3));
    for value in ["-1", "1.0", "\"7\"", "4294967296", "[7]", "null"] {
        assert_eq!(limit(&format!("{{\"max_tokens\":{value}}}")), None, "{value}");
    }
}

#[test]
fn a_lone_surrogate_is_replaced() {
    check(r#"{"model":"a\ud800b"}"#, Some("a\u{fffd}b"));
    check(r#"{"model":"\ud800\u0041"}"#, Some("\u{fffd}A"));
    check(r#"{"model":"\udc00\udc00"}"#, Some("\u{fffd}\u{fffd}"));
    check(r#"{"model":"\ud800\ud83e\udd80"}"#, Some("\u{fffd}\u{1f980}"));
}

#[test]
fn what_is_no_escape_gives_no_value() {
    for value in [r"\x", r"\u12", r"\u+123", r"\u12é", r"\", r"\u00e"] {
        check(&format!("{{\"model\":\"{value}\"}}"), None);
    }
    assert_eq!(scan(b"{\"model\":\"\xff\"}").model, None);
}

#[test]
fn space_and_a_byte_order_mark_do_not_matter() {
    check("\u{feff} \r\n\t{ \"model\" \t:\n \"m\" \r} \n", Some("m"));
}

#[test]
fn what_is_not_json_has_no_members() {
    let whole = r#"{"model":"m","a":[1,{"b":"c\\"}],"d":-1.5e3,"e":""}"#;
    check(whole, Some("m"));
    for cut in 0..whole.len() {
        check(&whole[..cut], None);
    }
    for body in [
        r#"{"model":"m"}}"#,
        r#"{"model":"m"} x"#,
        r#"{"model":"m",}"#,
        r#"{"model":"m";"a":1}"#,
        r#"{"model" "m"}"#,
        r#"{"model":}"#,
        r#"{,"model":"m"}"#,
        r#"{"model":"m"]"#,
        r#"{model:1}"#,
    ] {
        check(body, None);
    }
}

#[test]
fn a_million_brackets_are_no_deeper_than_one() {
    let nested = |open: &str, close: &str| {
        format!("{{\"a\":{}{},\"model\":\"m\"}}", open.repeat(1_000_000), close.repeat(1_000_000))
    };
    check(&nested("[", "]"), Some("m"));
    check(&nested("{\"a\":[", "]}"), Some("m"));
    check(&"{\"a\":[".repeat(1_000_000), None);
}

/// Any JSON, with names that collide.
fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u16>().prop_map(Json::from),
        text().prop_map(Json::from),
        prop::collection::vec(any::<u32>(), 0..40).prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::vec((name(), inner), 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[a-z\"\\\\/{}\\[\\],: \n\u{e9}\u{1f980}]{0,40}"]
}

fn name() -> impl Strategy<Value = String> {
    const NAMES: [&str; 8] = [
        "model",
        "stream",
        "previous_response_id",
        "session_id",
        "max_tokens",
        "n",
        "mode",
        "models",
    ];
    prop_oneof![3 => prop::sample::select(&NAMES).prop_map(String::from), 1 => text()]
}

/// A document of these members, some of them twice, in a spelling that `seed` decides on.
fn document(members: &[(String, Json)], seed: u64) -> String {
    let mut dice = Dice(seed | 1);
    let mut body = String::from(["", "\u{feff}"][dice.below(2)]);
    body += dice.space();
    body.push('{');
    for (at, (name, value)) in members.iter().enumerate() {
        body += if at == 0 { "" } else { "," };
        body += dice.space();
        dice.string(name, &mut body);
        body += dice.space();
        body.push(':');
        body += dice.space();
        match value {
            Json::String(text) => dice.string(text, &mut body),
            Json::Number(_) if dice.below(4) == 0 => body += &"9".repeat(1 + dice.below(300)),
            _ if dice.below(2) == 0 => body += &serde_json::to_string_pretty(value).unwrap(),
            _ => body += &value.to_string(),
        }
        body += dice.space();
    }
    body.push('}');
    body += dice.space();
    body
}

/// What a real parser says: serde_json keeps the last of several members, as Python does.
fn reference(body: &[u8]) -> Option<[Json; 6]> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let Json::Object(members) = serde_json::from_slice(body).ok()? else { return None };
    let text = |name: &str| members.get(name).filter(|value| value.is_string()).cloned();
    let stream = members.get("stream").filter(|value| value.is_boolean()).cloned();
    let count = |name: &str| {
        let count = u32::try_from(members.get(name)?.as_u64()?).ok()?;
        Some(Json::from(count))
    };
    let texts = [text("model"), stream, text("previous_response_id"), text("session_id")];
    let [model, stream, response, session] = texts;
    let all = [model, stream, response, session, count("max_tokens"), count("n")];
    Some(all.map(|value| value.unwrap_or(Json::Null)))
}

fn ours(body: &[u8]) -> [Json; 6] {
    let Fields { model, stream, previous_response_id, session_id, max_tokens, n, .. } = scan(body);
    let texts = [model, previous_response_id, session_id].map(Json::from);
    let [model, response, session] = texts;
    [model, stream.into(), response, session, max_tokens.into(), n.into()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn a_real_parser_sees_the_same(
        members in prop::collection::vec((name(), json()), 0..10),
        seed in any::<u64>(),
    ) {
        let body = document(&members, seed);
        // Numbers of 300 digits are beyond an f64, and to serde_json an error.
        if let Some(expect) = reference(body.as_bytes()) {
            prop_assert_eq!(ours(body.as_bytes()), expect, "{}", body);
        }
    }

    #[test]
    fn a_changed_document_is_survived_and_read_like_a_real_parser_would(
        members in prop::collection::vec((name(), json()), 1..6),
        seed in any::<u64>(),
        at in any::<prop::sample::Index>(),
        byte in prop_oneof![prop::sample::select(&b"\"\\{}[],: u"[..]), any::<u8>()],
    ) {
        let mut body = document(&members, seed).into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        if let Some(expect) = reference(&body) {
            prop_assert_eq!(ours(&body), expect);
        }
        scan(&body[..at]);
    }

    #[test]
    fn any_bytes_are_survived(garbage in prop::collection::vec(any::<u8>(), 0..300)) {
        scan(&garbage);
        scan(&[b"{\"model\":", &garbage[..]].concat());
    }
}
