//! The search over HTTP, with all its entries.

use std::io::{Read, Write};

use crate::app::App;

fn answer(app: &App, target: &str) -> String {
    let mut stream = app.connect().stream;
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .expect("a request");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer with an end");
    answer
}

#[test]
fn a_search_tells_how_far_it_is_and_what_it_found() {
    let app = App::start();
    let answer = answer(&app, "/search?q=herring");
    assert!(answer.contains("text/event-stream"), "{answer}");
    let events: Vec<_> = answer
        .lines()
        .filter(|line| line.starts_with("data: "))
        .collect();
    assert!(events.len() > 1, "{answer}");
    let last = events.last().expect("several");
    assert!(
        last.contains(r#""phase":"done","fraction":1.0,"hits":16778,"#),
        "{last}"
    );
}

#[test]
fn one_that_nobody_waits_for_gives_its_thread_to_others() {
    let app = App::start();
    for _ in 0..20 {
        let mut stream = app.connect().stream;
        write!(
            stream,
            "GET /search?q=lontern%20kept~3 HTTP/1.1\r\nhost: localhost\r\n\r\n"
        )
        .expect("a request");
        stream
            .read_exact(&mut [0; 9])
            .expect("the beginning of an answer");
    }
    assert!(answer(&app, "/search?q=herring").contains(r#""phase":"done""#));
}

#[test]
fn a_pattern_that_is_none_is_refused_with_what_is_wrong() {
    let app = App::start();
    for (query, said) in [
        ("", "Type something"),
        ("?q=", "Type something"),
        ("?q=lantern~9", "not ‘9’"),
    ] {
        let answer = answer(&app, &format!("/search{query}"));
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains(said),
            "{answer}"
        );
    }
}
