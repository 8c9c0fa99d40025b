use super::*;

fn value(text: &str) -> Spanned<DeValue<'_>> {
    DeValue::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn read<K: Kind>(kind: &K, text: &str) -> Option<K::Value> {
    kind.read(&value(text)).ok()
}

const SMALL: Count = Count { default: 3, max: 1000 };

// The accepted and refused values of the next three tests are what pydantic 2.14 answered when
// asked for the same ones, negative numbers aside (every bound of ours excludes them).

#[test]
fn a_whole_number_may_be_a_text_or_a_float_without_fraction() {
    for text in ["7", "'7'", "' 7 '", "'7.0'", "'+7'", "7.0", "'07'", "'007.000'", "0x7", "0b111"] {
        assert_eq!(read(&SMALL, text), Some(7), "{text}");
    }
    assert_eq!(read(&SMALL, "'1_000'"), Some(1000));
    assert_eq!(read(&SMALL, "1_000"), Some(1000));
    assert_eq!(read(&SMALL, "true"), Some(1));
    for text in ["7.5", "'7.5'", "'1e3'", "'0x10'", "''", "inf", "nan", "'7.'", "'_1'", "'1__0'"] {
        assert_eq!(read(&SMALL, text), None, "{text}");
    }
    for text in ["'seven'", "'１'", "[7]", "{}", "1979-05-27", "-3", "'-3'", "1001", "1e30"] {
        assert_eq!(read(&SMALL, text), None, "{text}");
    }
}

#[test]
fn a_number_may_be_a_text_or_an_integer() {
    let kind = Seconds { default: 1.0, min: 0.1 };
    let seconds = |text| read(&kind, text).map(|value| value.as_secs_f64());
    for (text, expected) in
        [("7", 7.0), ("'7'", 7.0), ("' 7.5 '", 7.5), ("'1_000.5'", 1000.5), ("'1e3'", 1000.0)]
    {
        assert_eq!(seconds(text), Some(expected), "{text}");
    }
    for (text, expected) in [("'.5'", 0.5), ("'5.'", 5.0), ("true", 1.0), ("0.1", 0.1)] {
        assert_eq!(seconds(text), Some(expected), "{text}");
    }
    for text in ["''", "'x'", "nan", "'nan'", "0.09", "-1", "[]"] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn a_switch_knows_the_words_for_yes_and_no() {
    let kind = Switch { default: true };
    for text in ["true", "'true'", "'TRUE'", "'yes'", "'on'", "'1'", "'t'", "'y'", "1", "1.0"] {
        assert_eq!(read(&kind, text), Some(true), "{text}");
    }
    for text in ["false", "'0'", "'off'", "'no'", "'n'", "'f'", "'false'", "0", "0.0"] {
        assert_eq!(read(&kind, text), Some(false), "{text}");
    }
    for text in ["' true '", "2", "0.5", "'2'", "''", "'1.0'", "[]"] {
        assert_eq!(read(&kind, text), None, "{text}");
    }
}

#[test]
fn a_span_of_time_has_an_end() {
    let kind = WholeSeconds { default: 30, min: 1 };
    assert_eq!(read(&kind, "1_000_000_000"), Some(Duration::from_secs(SECONDS_MAX)));
    for text in ["0", "1_000_000_001", "9223372036854775807", "99999999999999999999999", "inf"] {
        assert_eq!(read(&kind, text), None, "{text}");
    }
    assert_eq!(read(&Seconds { default: 1.0, min: 0.0 }, "inf"), None);
}

#[test]
fn a_ratio_lies_between_nought_and_one() {
    let kind = Ratio { default: 0.8 };
    assert_eq!(read(&kind, "0"), Some(0.0));
    assert_eq!(read(&kind, "'1.0'"), Some(1.0));
    for text in ["1.01", "-0.1", "nan", "80"] {
        assert_eq!(read(&kind, text), None, "{text}");
    }
}

#[test]
fn every_entry_of_a_list_that_does_not_fit_is_named() {
    let kind = List::<ServerUrl> { of: "urls", default: Vec::new, example: "[]" };
    let misfits = kind.read(&value("['http://a', 'b', 3, 'http://c']")).unwrap_err();
    let suffixes: Vec<_> = misfits.iter().map(|misfit| misfit.suffix.as_str()).collect();
    assert_eq!(suffixes, ["[1]", "[2]"]);
}

#[test]
fn a_shown_list_reads_back() {
    let kind = List::<String> { of: "names", default: Vec::new, example: "[]" };
    let names = vec!["a\"b".to_owned(), "c\\d\u{1b}\n".to_owned()];
    assert_eq!(read(&kind, &kind.show(&names)), Some(names));
}
