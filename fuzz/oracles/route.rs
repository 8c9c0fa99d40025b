//! Paths: whatever somebody behind us makes of a path that passes, it must be a path that passes.

use mvllm_core::route::Route;

/// As a path of its own, and behind a prefix that is open.
pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    closed_stays_closed(&text);
    closed_stays_closed(&format!("/v1/{text}"));
    closed_stays_closed(&format!("/{text}/sleep"));
}

fn closed_stays_closed(path: &str) {
    let route = Route::of(path, |_| false);
    let opened = Route::of(path, |_| true);
    assert_eq!(route == Route::Ambiguous, opened == Route::Ambiguous, "nobody opens a riddle");
    for reading in readings(path.as_bytes()) {
        let reading = String::from_utf8_lossy(&reading).into_owned();
        let read = Route::of(&reading, |_| false);
        match route {
            Route::Closed | Route::Ambiguous => {}
            Route::Other => assert_ne!(read, Route::Closed, "{path} may be read as {reading}"),
            // More than passing: it may be sent twice. (Ambiguous is what was encoded twice; who
            // decodes once takes it by the letter.)
            Route::Inference(_) => assert!(
                matches!(read, Route::Inference(_) | Route::Ambiguous),
                "{path} may be read as {reading}"
            ),
        }
    }
}

/// What a server, or a proxy in front of it, may take the path for: decoded once, and tidied
/// before, after or not at all.
fn readings(path: &[u8]) -> Vec<Vec<u8>> {
    let decoded = decoded(path);
    vec![tidied(path), tidied(&decoded), tidied(&self::decoded(&tidied(path)))]
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let hex = |byte: Option<&u8>| byte.and_then(|&b| char::from(b).to_digit(16));
        match (path[at], hex(path.get(at + 1)), hex(path.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    bytes
}

/// Backslashes are slashes, empty segments and `.` are nothing, `..` takes back the one before.
fn tidied(path: &[u8]) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_open = false;
    for segment in path.split(|byte| b"/\\".contains(byte)) {
        ends_open = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut tidy = Vec::new();
    for segment in &segments {
        tidy.push(b'/');
        tidy.extend_from_slice(segment);
    }
    if ends_open || segments.is_empty() {
        tidy.push(b'/');
    }
    tidy
}
