//! Against a router that is not there: a socket that answers what the test says.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Source, Verb};
use super::*;
use crate::monitor::samples;

/// Answers each request on each connection with the next of `answers`; returns the heads.
async fn serve(listener: TcpListener, answers: Vec<String>) -> Vec<String> {
    let mut heads = Vec::new();
    let mut answers = answers.into_iter().peekable();
    while answers.peek().is_some() {
        let (mut stream, _) = listener.accept().await.unwrap();
        while answers.peek().is_some() {
            let Some(head) = read_head(&mut stream).await else { break };
            heads.push(head);
            stream.write_all(answers.next().unwrap().as_bytes()).await.unwrap();
        }
    }
    heads
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn listen() -> (TcpListener, ServerUrl) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    (listener, url)
}

#[tokio::test]
async fn reports_come_over_one_kept_connection() {
    let (listener, url) = listen().await;
    let report = samples::report(samples::fleet());
    let body = serde_json::to_string(&report).unwrap();
    let served = tokio::spawn(serve(listener, vec![answer("200 OK", &body); 2]));
    let router = RemoteRouter::new(&url, Some("secret")).unwrap();
    let mut kept = None;
    for _ in 0..2 {
        assert_eq!(fetch(&router, &mut kept).await.unwrap(), report);
    }
    let heads = served.await.unwrap();
    assert!(heads[1].starts_with("GET /status HTTP/1.1\r\n"), "{}", heads[1]);
    assert!(heads[1].contains("authorization: Bearer secret\r\n"), "{}", heads[1]);
}

#[tokio::test]
async fn a_command_names_its_server_in_the_query() {
    let (listener, url) = listen().await;
    let served = tokio::spawn(serve(listener, vec![answer("200 OK", "{}")]));
    let command = AdminCommand { verb: Verb::Drain, url: "http://gpu-1:8000/a b".to_owned() };
    order(&RemoteRouter::new(&url, None).unwrap(), &command).await.unwrap();
    let head = served.await.unwrap().remove(0);
    let expect = "POST /admin/servers/drain?url=http%3A%2F%2Fgpu-1%3A8000%2Fa+b HTTP/1.1\r\n";
    assert!(head.starts_with(expect), "{head}");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_routers_words() {
    let check = async |status, body, expect: &str| {
        let (listener, url) = listen().await;
        let served = tokio::spawn(serve(listener, vec![answer(status, body)]));
        let router = RemoteRouter::new(&url, None).unwrap();
        let command = AdminCommand { verb: Verb::Cordon, url: "http://gpu-1".to_owned() };
        let error = order(&router, &command).await.unwrap_err();
        assert_eq!(error.to_string(), expect);
        served.await.unwrap();
    };
    let body = r#"{"error": {"message": "no such server"}}"#;
    check("404 Not Found", body, "it answered 404 Not Found: no such server").await;
    check("500 Internal Server Error", "oops", "it answered 500 Internal Server Error").await;
    let unauthorized = "it wants an admin key (--admin-key), or another one";
    check("401 Unauthorized", "", unauthorized).await;
}

#[tokio::test]
async fn what_is_no_report_is_said_to_be_none() {
    let check = async |status, body, expect: &str| {
        let (listener, url) = listen().await;
        let served = tokio::spawn(serve(listener, vec![answer(status, body)]));
        let router = RemoteRouter::new(&url, None).unwrap();
        let error = fetch(&router, &mut None).await.unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error}");
        served.await.unwrap();
    };
    check("404 Not Found", "", "it knows no /status: is it mvllm 0.2 or later?").await;
    check("200 OK", "<html>", "its answer is no status report: ").await;
}

#[tokio::test]
async fn a_router_that_comes_later_is_found() {
    let (listener, url) = listen().await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut feed = Source::remote(&url, None).unwrap().open();
    assert!(matches!(feed.next().await, News::Lost { .. }));
    let listener = TcpListener::bind(address).await.unwrap();
    let body = serde_json::to_string(&samples::report(samples::fleet())).unwrap();
    let served = tokio::spawn(serve(listener, vec![answer("200 OK", &body)]));
    while !matches!(feed.next().await, News::Report(_)) {}
    served.await.unwrap();
}

#[test]
fn a_key_that_no_header_can_carry_is_refused() {
    let url = "http://router:8888".parse().unwrap();
    assert!(Source::remote(&url, Some("se\ncret")).is_err());
}
