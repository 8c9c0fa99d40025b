use std::time::Duration;

use super::super::sighting::FILE_MAX;
use super::*;

fn read(text: &str) -> Result<Loaded, Report> {
    parse(&Path::new("servers.toml").into(), &text.as_bytes().into())
}

fn loaded(text: &str) -> Loaded {
    read(text).unwrap_or_else(|report| panic!("{report}"))
}

fn report(text: &str) -> Report {
    match read(text) {
        Ok(loaded) => loaded.warnings,
        Err(report) => report,
    }
}

fn urls(text: &str) -> Vec<String> {
    loaded(text).settings.servers.iter().map(|server| server.url.to_string()).collect()
}

#[test]
fn the_list_may_be_inline_or_in_blocks() {
    let inline = "[servers]\nservers = [ { url = 'http://a' }, { url = 'http://b/' } ]";
    let blocks = "[[servers.servers]]\nurl = 'http://a'\n[[servers.servers]]\nurl = 'http://b'";
    assert_eq!(urls(inline), ["http://a", "http://b"]);
    assert_eq!(loaded(inline).settings, loaded(blocks).settings);
}

#[test]
fn a_file_for_the_first_version_keeps_its_meaning() {
    let settings = loaded(
        "[servers]\nservers = [{ url = 'http://a:8000', max_concurrent_requests = '7' }]\n\
         [config]\nhealth_check_interval = 10.0\nenable_active_health_check = 'no'\n\
         health_check_min_success_rate = 1\nhealth_check_max_response_time = '2.5'",
    )
    .settings;
    assert_eq!(settings.servers[0].max_concurrent_requests.get(), 7);
    assert_eq!(settings.tuning.health_check_interval, Duration::from_secs(10));
    assert!(!settings.tuning.enable_active_health_check);
    assert!((settings.tuning.health_check_min_success_rate - 1.0).abs() < f64::EPSILON);
    assert_eq!(settings.tuning.health_check_max_response_time, Duration::from_millis(2500));
}

#[test]
fn all_problems_of_a_file_are_told_at_once() {
    let text = "\
# a comment
[servers]
servers = [
  { url = \"gpu-1:8000\", max_concurrent_requests = 0 },
  { max_concurrent_request = 4 },
  \"http://gpu-3:8000\",
  { url = \"http://user:secret@gpu-4:8000\" },
]

[config]
health_check_interval = \"ten\"
health_chek_timeout = 5
health_check_min_success_rate = 80
open_paths = [\"/sleep\", \"wake_up\", 3]
cors_origins = \"*\"
";
    insta::assert_snapshot!(report(text), @r#"
    servers.toml:4:11: error: servers.servers[0].url: found "gpu-1:8000", expected a url that begins with http:// or https://
         4 |   { url = "gpu-1:8000", max_concurrent_requests = 0 },
        write for example: url = "http://gpu-1:8000"
    servers.toml:4:51: error: servers.servers[0].max_concurrent_requests: found 0, expected a whole number from 1 to 1000000
         4 |   { url = "gpu-1:8000", max_concurrent_requests = 0 },
        write for example: max_concurrent_requests = 3
    servers.toml:5:3: error: servers.servers[1].url: is missing, expected the url of a vLLM server
         5 |   { max_concurrent_request = 4 },
        write for example: url = "http://10.0.0.1:8000"
    servers.toml:5:5: warning: servers.servers[1].max_concurrent_request: is not a known key and has no effect
         5 |   { max_concurrent_request = 4 },
        did you mean: max_concurrent_requests
    servers.toml:6:3: error: servers.servers[2]: found "http://gpu-3:8000", expected a table with the url of a server
         6 |   "http://gpu-3:8000",
        write for example: { url = "http://gpu-3:8000" }
    servers.toml:7:11: error: servers.servers[3].url: found "http://***********@gpu-4:8000", expected a url without credentials: mvllm sends a server the client's own Authorization
         7 |   { url = "http://***********@gpu-4:8000" },
        write for example: url = "http://gpu-4:8000"
    servers.toml:11:25: error: config.health_check_interval: found "ten", expected a whole number of seconds, at least 1
        11 | health_check_interval = "ten"
        write for example: health_check_interval = 30
    servers.toml:12:1: warning: config.health_chek_timeout: is not a known key and has no effect
        12 | health_chek_timeout = 5
        did you mean: health_check_timeout
    servers.toml:13:33: error: config.health_check_min_success_rate: found 80, expected a number from 0 to 1
        13 | health_check_min_success_rate = 80
        write for example: health_check_min_success_rate = 0.8
    servers.toml:14:25: error: config.open_paths[1]: found "wake_up", expected a path that begins with '/', with at most one '*', at its end
        14 | open_paths = ["/sleep", "wake_up", 3]
        write for example: open_paths = ["/reset_prefix_cache", "/lora/*"]
    servers.toml:14:36: error: config.open_paths[2]: found 3, expected a text in quotes
        14 | open_paths = ["/sleep", "wake_up", 3]
        write for example: open_paths = ["/reset_prefix_cache", "/lora/*"]
    servers.toml:15:16: error: config.cors_origins: found "*", expected a list of web origins
        15 | cors_origins = "*"
        write for example: cors_origins = ["*"]
    "#);
    assert_eq!(report(text).summary(), "10 errors, 2 warnings");
}

#[test]
fn a_list_at_the_top_shows_the_right_form_and_its_own_errors() {
    insta::assert_snapshot!(report("servers = [\n  { url = \"gpu\" },\n]\n"), @r#"
    servers.toml:1:11: error: servers: found a list, expected the table [servers] with the list `servers` in it
         1 | servers = [
        write for example:
            [servers]
            servers = [
              { url = "http://10.0.0.1:8000", max_concurrent_requests = 3 },
            ]
    servers.toml:2:11: error: servers[0].url: found "gpu", expected a url that begins with http:// or https://
         2 |   { url = "gpu" },
        write for example: url = "http://gpu"
    "#);
    insta::assert_snapshot!(report("[[servers]]\nurl = \"http://a\"\n"), @r#"
    servers.toml:1:1: error: servers: found a list, expected the table [servers] with the list `servers` in it
         1 | [[servers]]
        write for example:
            [[servers.servers]]
            url = "http://10.0.0.1:8000"
            max_concurrent_requests = 3
    "#);
}

#[test]
fn other_shapes_that_are_not_a_list_of_servers_say_what_is_expected() {
    insta::assert_snapshot!(report("servers = \"http://a\"\n"), @r#"
    servers.toml:1:11: error: servers: found "http://a", expected a table
         1 | servers = "http://a"
        write for example:
            [servers]
            servers = [
              { url = "http://10.0.0.1:8000", max_concurrent_requests = 3 },
            ]
    "#);
    insta::assert_snapshot!(report("[servers.servers]\nurl = \"http://a\"\n"), @r#"
    servers.toml:1:1: error: servers.servers: found a table, expected a list of servers
         1 | [servers.servers]
        write for example:
            [[servers.servers]]
            url = "http://10.0.0.1:8000"
            max_concurrent_requests = 3
    "#);
    insta::assert_snapshot!(report("config = 3\n[[servers.servers]]\nurl = \"http://a\"\n"), @"
    servers.toml:1:10: error: config: found 3, expected a table
         1 | config = 3
        write for example:
            [config]
            health_check_interval = 30
    ");
}

#[test]
fn keys_in_the_wrong_place_are_sent_home() {
    let text = "\
max_retries = 1
conf = 1

[[servers.servers]]
url = \"http://a\"
health_check_interval = 5

[servers]
url = \"http://b\"
server = []
";
    insta::assert_snapshot!(report(text), @r#"
    servers.toml:1:1: warning: max_retries: has no effect here: it belongs in the table [config]
         1 | max_retries = 1
    servers.toml:2:1: warning: conf: is not a known key and has no effect
         2 | conf = 1
        did you mean: config
    servers.toml:6:1: warning: servers.servers[0].health_check_interval: has no effect here: it belongs in the table [config]
         6 | health_check_interval = 5
    servers.toml:9:1: warning: servers.url: has no effect here: it belongs in an entry of servers.servers
         9 | url = "http://b"
    servers.toml:10:1: warning: servers.server: is not a known key and has no effect
        10 | server = []
        did you mean: servers
    "#);
}

#[test]
fn odd_urls_are_usable_but_told() {
    let text = "\
[servers]
servers = [
  { url = \"http://a:80\" },
  { url = \"http://b/v1/\" },
  { url = \"http://A\" },
]
";
    assert_eq!(urls(text), ["http://a:80", "http://b/v1", "http://A"]);
    insta::assert_snapshot!(report(text), @r#"
    servers.toml:4:11: warning: servers.servers[1].url: ends in /v1, so requests would go to /v1/v1/...
         4 |   { url = "http://b/v1/" },
        write for example: url = "http://b"
    servers.toml:5:11: warning: servers.servers[2].url: the same server as servers.servers[0]: it gets twice the share and twice the limit
         5 |   { url = "http://A" },
    "#);
}

#[test]
fn no_servers_is_a_warning() {
    for text in ["", "[servers]\n", "[servers]\nservers = []\n", "[config]\nmax_retries = 1\n"] {
        assert!(loaded(text).settings.servers.is_empty(), "{text}");
    }
    insta::assert_snapshot!(report(""), @r#"
    servers.toml: warning: no servers are configured: every request will be refused
        write for example:
            [servers]
            servers = [
              { url = "http://10.0.0.1:8000", max_concurrent_requests = 3 },
            ]
    "#);
}

#[test]
fn every_syntax_error_has_its_line() {
    let text = "\
[servers]
servers = [
  { url = \"http://a\", max_concurrent_requests = },
  { url = \"http://b\" max_concurrent_requests = 3 },
]
[config]
health_check_interval = ten
request_timeout = 07
enable_active_health_check = False
connect_timeout = 2 s
max_retries = 3
max_retries = 4
failure_threshold = -1
cors_origins = [\"https://chat.lan]
";
    insta::assert_snapshot!(report(text), @r#"
    servers.toml:3:49: error: not valid TOML: a value is missing after the '='
         3 |   { url = "http://a", max_concurrent_requests = },
    servers.toml:4:22: error: not valid TOML: missing comma between key-value pairs, expected `,`
         4 |   { url = "http://b" max_concurrent_requests = 3 },
    servers.toml:7:25: error: not valid TOML: ten is not a value; text needs quotes
         7 | health_check_interval = ten
        write for example: health_check_interval = 30
    servers.toml:8:19: error: not valid TOML: unexpected leading zero
         8 | request_timeout = 07
    servers.toml:9:30: error: not valid TOML: False is not a value; text needs quotes
         9 | enable_active_health_check = False
        write for example: enable_active_health_check = false
    servers.toml:10:19: error: not valid TOML: string values must be quoted, expected literal string
        10 | connect_timeout = 2 s
    servers.toml:12:1: error: not valid TOML: max_retries is set twice
        12 | max_retries = 4
        keep one of the two
    servers.toml:13:21: error: config.failure_threshold: found -1, expected a whole number from 1 to 1000000
        13 | failure_threshold = -1
        write for example: failure_threshold = 2
    servers.toml:14:35: error: not valid TOML: unclosed array, expected `]`
        14 | cors_origins = ["https://chat.lan]
    "#);
}

#[test]
fn a_guess_of_the_parser_is_not_reported_as_a_second_error() {
    // Without its bracket the header is lost, and `url` and `max_retries` seem to stand alone.
    insta::assert_snapshot!(report("[[servers.servers]\nurl = \"a\"\n[config\nmax_retries = 1\n"), @"
    servers.toml:1:19: error: not valid TOML: unclosed array table, expected `]`
         1 | [[servers.servers]
    servers.toml:3:8: error: not valid TOML: unclosed table, expected `]`
         3 | [config
    ");
}

#[test]
fn a_long_line_is_shown_around_the_error() {
    let entries: Vec<_> = (0..40).map(|i| format!("{{ url = \"http://gpu-{i}:8000\" }}")).collect();
    let text =
        format!("servers.servers = [{}]", entries.join(", ").replace("gpu-20:8000", "gpu-20:x"));
    insta::assert_snapshot!(report(&text), @r#"
    servers.toml:1:658: error: servers.servers[20].url: found "http://gpu-20:x", expected a port from 1 to 65535 after the ':'
         1 | ..."http://gpu-19:8000" }, { url = "http://gpu-20:x" }, { url = "http://gpu-21:8000" }, { url = "ht...
        write for example: url = "http://10.0.0.1:8000"
    "#);
}

#[test]
fn a_password_is_never_repeated() {
    let texts = [
        "servers.servers = [{ url = 'http://user:secret@a' }]",
        "servers.servers = [{ url = 'http://user:secret@a', x = 1 }, 'http://u:secret@b']",
        "servers.servers = [{ url = http://user:secret@a }]",
        "servers.servers = ['http://u:secret@b/', 'ftp://u:se/secret@b']",
    ];
    // Where a long line is cut, too.
    let entries: Vec<_> = (0..9).map(|i| format!("'http://user{i}:secret{i}@gpu-{i}'")).collect();
    let long = format!("servers.servers = [{}]", entries.join(","));
    for text in texts.into_iter().chain([long.as_str()]) {
        assert!(!report(text).to_string().contains("secret"), "{}", report(text));
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    for text in [
        "[config]\n\u{1b}[31m = 1\n",
        "[config]\nmax_retries = \"\\u001b[31m\"\n",
        "[config]\n\"\\u001b[31m\" = 1\n",
        "[[servers.servers]]\nurl = 'http://a'\nsupported_models = \"\\u001b[31m\"",
    ] {
        assert!(!report(text).is_empty());
        assert!(!report(text).to_string().contains('\u{1b}'), "{}", report(text));
    }
}

#[test]
fn a_byte_order_mark_is_not_text() {
    assert_eq!(report("\u{feff}servers = 1").problems[0].place.as_ref().unwrap().column, 11);
}

#[test]
fn what_is_not_text_says_where() {
    let bytes = b"# ok\nurl = \"caf\xe9\"\n";
    let report = parse(&Path::new("servers.toml").into(), &bytes[..].into()).unwrap_err();
    insta::assert_snapshot!(report, @r#"
    servers.toml:2:11: error: byte 0xe9 is not UTF-8 text
         2 | url = "caf�"
        save the file as UTF-8
    "#);
}

#[test]
fn a_missing_file_means_no_servers() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = load(&folder.path().join("servers.toml")).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    let shown = loaded.warnings.to_string().replace(&folder.path().display().to_string(), "DIR");
    insta::assert_snapshot!(shown, @"
    DIR/servers.toml: warning: there is no such file: starting without servers
        servers.example.toml shows what to write; it is read as soon as it exists
    ");
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let shown = |path: &Path| {
        let report = load(path).unwrap_err();
        report.to_string().replace(&folder.path().display().to_string(), "DIR")
    };
    insta::assert_snapshot!(shown(folder.path()), @"DIR: error: it is a directory");
    insta::assert_snapshot!(shown(Path::new("/dev/null")), @"/dev/null: error: it is not a regular file, so it cannot be read again after a change");
    let large = folder.path().join("model.safetensors");
    std::fs::File::create(&large).unwrap().set_len(FILE_MAX + 1).unwrap();
    insta::assert_snapshot!(shown(&large), @"DIR/model.safetensors: error: it is larger than 1048576 bytes");
}

/// Pointing `--config` at some other file must not take minutes or fill the screen.
#[test]
fn a_file_of_nothing_but_errors_is_told_in_part() {
    let shown = report(&"{ \"a\": 1 },\n".repeat(5_000)).to_string();
    assert!(shown.lines().count() < 400);
    assert!(shown.ends_with("... and 4900 more"), "{}", &shown[shown.len() - 100..]);
}

proptest::proptest! {
    #[test]
    fn any_text_is_settings_or_a_report(text in "(\\[\\[?(servers|config)(\\.servers)?\\]?\\]?|url|max_retries|servers|=|\"|'|http://a|[0-9.eE_-]|true|\\{|\\}|,|\\PC| |\n|\r\n){0,40}") {
        match read(&text) {
            Ok(loaded) => assert!(!loaded.warnings.has_errors()),
            Err(report) => {
                assert!(report.has_errors());
                for problem in &report.problems {
                    let lines = text.lines().count().max(1) + 1;
                    assert!(problem.place.as_ref().is_none_or(|place| place.line <= lines));
                }
            }
        }
    }
}
