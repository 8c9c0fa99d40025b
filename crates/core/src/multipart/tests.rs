use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const TYPE: &str = "multipart/form-data; boundary=xYz";

/// A body of parts (headers, content), as a client would write it.
fn form(parts: &[(&str, &str)]) -> String {
    let part =
        |(headers, content): &(&str, &str)| format!("--xYz\r\n{headers}\r\n\r\n{content}\r\n");
    parts.iter().map(part).collect::<String>() + "--xYz--\r\n"
}

const MODEL: &str = "Content-Disposition: form-data; name=\"model\"";
const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a;b=\\\"c.wav\"\r\n\
                    Content-Type: audio/wav";

fn model(parts: &str) -> Option<&str> {
    field(TYPE, parts.as_bytes(), "model")
}

#[test]
fn a_field_is_found_before_and_behind_a_file() {
    assert_eq!(model(&form(&[(MODEL, "whisper"), (FILE, "RIFF\r\n--xY")])), Some("whisper"));
    assert_eq!(model(&form(&[(FILE, "RIFF\r\n\r\n--xY"), (MODEL, "whisper")])), Some("whisper"));
    assert_eq!(model(&form(&[(FILE, "RIFF")])), None);
}

#[test]
fn a_file_of_many_megabytes_is_passed_over() {
    let audio = "\r\n-".repeat(5_000_000);
    assert_eq!(model(&form(&[(FILE, &audio), (MODEL, "whisper")])), Some("whisper"));
}

#[test]
fn headers_are_read_in_all_their_spellings() {
    for headers in [
        "content-disposition:form-data;name=model",
        "CONTENT-DISPOSITION: Form-Data ; NAME = model ",
        "Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; a=\"; name=b\"; name=\"model\"\r\nX: y",
        "Content-Disposition: form-data; flag; name=\"mo\\del\"",
    ] {
        assert_eq!(model(&form(&[(headers, "m")])), Some("m"), "{headers}");
    }
}

#[test]
fn another_part_is_not_taken_for_the_field() {
    for headers in [
        "Content-Disposition: form-data; name=\"models\"",
        "Content-Disposition: form-data; name=\"Model\"",
        "Content-Disposition: form-data; name=\"model\"; filename=\"a\"",
        "Content-Disposition: form-data; name=\"model\"; filename*=UTF-8''a",
        "Content-Disposition: attachment; name=\"model\"",
        "Content-Disposition: form-data; name=\"model",
        "Content-Disposition: form-data; filename=\"name=model\"",
        "Content-Disposition: form-data; a=\"\\\"; name=model; b=\"",
        "Content-Disposition: form-data",
        "X: form-data; name=\"model\"",
        "X: y",
    ] {
        assert_eq!(model(&form(&[(headers, "m")])), None, "{headers}");
    }
    assert_eq!(model("--xYz\r\n\r\nno headers\r\n--xYz--"), None);
}

#[test]
fn the_last_of_several_counts() {
    assert_eq!(model(&form(&[(MODEL, "a"), (MODEL, "b")])), Some("b"));
}

#[test]
fn the_content_type_names_the_boundary() {
    let body = form(&[(MODEL, "m")]);
    let check = |content_type, expect| {
        assert_eq!(field(content_type, body.as_bytes(), "model"), expect, "{content_type}");
    };
    check("multipart/form-data; boundary=xYz", Some("m"));
    check("Multipart/Form-Data;charset=utf-8; BOUNDARY=\"xYz\" ; a=b", Some("m"));
    check("multipart/form-data; boundary=\"x\\Yz\"", Some("m"));
    check("multipart/form-data; boundary=xyz", None);
    check("multipart/form-data; boundary=", None);
    check("multipart/form-data; boundary=\"xYz", None);
    check("multipart/form-data", None);
    check("multipart/mixed; boundary=xYz", None);
    check(&format!("multipart/form-data; boundary={}", "x".repeat(BOUNDARY_MAX + 1)), None);
}

#[test]
fn what_stands_around_the_parts_does_not_matter() {
    let body = form(&[(MODEL, "m")]);
    assert_eq!(
        model(&["preamble\r\n", &body, "epilogue\r\n", &form(&[(MODEL, "no")])].concat()),
        { Some("m") }
    );
    assert_eq!(model(&body.replace("--xYz\r\n", "--xYz \t\r\n")), Some("m"));
}

#[test]
fn a_body_that_is_cut_has_no_field() {
    let body = form(&[(FILE, "RIFF"), (MODEL, "m")]);
    let end = body.len() - "--\r\n".len();
    assert_eq!(model(&body[..end]), Some("m"));
    for cut in 0..end {
        assert_eq!(model(&body[..cut]), None, "{cut}");
    }
}

#[test]
fn a_value_has_its_limits() {
    let long = "m".repeat(VALUE_MAX);
    assert_eq!(model(&form(&[(MODEL, &long)])), Some(long.as_str()));
    assert_eq!(model(&form(&[(MODEL, &(long + "m"))])), None);
    assert_eq!(model(&form(&[(MODEL, "")])), Some(""));
    let body = form(&[(MODEL, "?")]).replace('?', "\u{80}").into_bytes();
    let broken: Vec<u8> = body.into_iter().filter(|&byte| byte != 0x80).collect();
    assert_eq!(field(TYPE, &broken, "model"), None);
}

#[test]
fn only_so_many_parts_are_looked_at() {
    let mut parts = Vec::from([(FILE, "x"); PARTS_MAX - 1]);
    parts.push((MODEL, "m"));
    assert_eq!(model(&form(&parts)), Some("m"));
    parts.insert(0, (FILE, "x"));
    assert_eq!(model(&form(&parts)), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn whatever_the_parts_hold_the_last_field_is_found(
        parts in prop::collection::vec((any::<bool>(), "[\r\n\\-xYz a-z:;=\"]{0,60}"), 0..20),
    ) {
        let parts: Vec<_> = parts.iter()
            .filter(|(_, content)| !["\r\n", content, "\r\n"].concat().contains("\r\n--xYz"))
            .map(|(is_model, content)| (if *is_model { MODEL } else { FILE }, content.as_str()))
            .collect();
        let expect = parts.iter().rev().find(|part| part.0 == MODEL).map(|part| part.1);
        let body = form(&parts);
        prop_assert_eq!(model(&body), expect);
    }

    #[test]
    fn any_bytes_are_survived(
        content_type in any::<String>(),
        garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        field(&content_type, &garbage, "model");
        field(&["multipart/form-data;", &content_type].concat(), &garbage, "model");
        let body = [b"--xYz\r\nContent-Disposition: form-data;", &garbage[..], b"\r\n--xYz"].concat();
        field(TYPE, &body, "model");
    }
}
