//! The monitor: its page, live figures, and the Prometheus format.

use std::{
    thread,
    time::{Duration, Instant},
};

use entwined_http::{self as http, Router};
use serde_json::Value;

use crate::server::support::{LIMIT, Peer, Site};

/// A site with a monitor, and a handler that holds the thread.
fn monitored() -> Site {
    Site::start(|handle| {
        Router::new()
            .get("/held", || thread::sleep(Duration::from_millis(300)))
            .get("/hello", || "hello")
            .nest("/monitor", http::monitor(handle))
    })
}

#[test]
fn the_page_and_what_belongs_to_it_are_found_with_and_without_the_last_slash() {
    let site = monitored();
    let bare = site.get("/monitor");
    assert_eq!(
        (bare.status, bare.header("location")),
        (308, Some("./monitor/"))
    );
    let page = site.get("/monitor/");
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    for (file, kind) in [
        ("style.css", "text/css; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("page.js", "text/javascript; charset=utf-8"),
    ] {
        assert!(
            page.text().contains(&format!("\"{file}\"")),
            "the page needs {file}"
        );
        let file = site.get(&format!("/monitor/{file}"));
        assert_eq!(
            (file.status, file.header("content-type")),
            (200, Some(kind))
        );
    }
    // The page contains the elements that the script looks for.
    let script = site.get("/monitor/page.js");
    for id in script
        .text()
        .split("$(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(page.text().contains(&format!("id=\"{id}\"")), "{id}");
    }
}

/// The samples that an open page receives.
struct Samples(Peer);

impl Samples {
    fn of(site: &Site) -> Self {
        let mut peer = site.peer();
        peer.send("GET /monitor/live HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_eq!(
            peer.head().header("content-type"),
            Some("text/event-stream")
        );
        Samples(peer)
    }

    fn next(&mut self) -> Value {
        let chunk = String::from_utf8(self.0.chunk().expect("a sample")).expect("a text");
        let data = chunk
            .lines()
            .find_map(|line| line.strip_prefix("data: "))
            .expect("data");
        serde_json::from_str(data).expect("JSON")
    }
}

#[test]
fn a_handler_that_holds_the_thread_is_on_the_page_within_a_second() {
    let site = monitored();
    let mut samples = Samples::of(&site);
    let first = samples.next();
    assert!(first["stalls"]["count"].is_u64());
    let census = &first["census"];
    assert_eq!(census["connections"].as_array().expect("a list").len(), 1);
    assert!(!census["tasks"].as_array().expect("a list").is_empty());
    assert_eq!(site.get("/held").status, 204);
    let start = Instant::now();
    loop {
        let sample = samples.next();
        let places = sample["stalls"]["places"].as_array().expect("a list");
        if let Some(place) = places.iter().find(|place| place[0][0] == "HTTP handler") {
            let at = place[0][1].as_str().expect("a place");
            assert!(at.starts_with(concat!(file!(), ":")), "{at}");
            assert!(place[2].as_f64().expect("a duration") >= 250.0, "{place}");
            assert_eq!(sample["stalls"]["recent"][0][0][0], "HTTP handler");
            break;
        }
        assert!(start.elapsed() < LIMIT, "{sample}");
    }
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "it took {:?}",
        start.elapsed()
    );
}

#[test]
fn what_passed_between_two_samples_is_told() {
    let site = monitored();
    let mut samples = Samples::of(&site);
    samples.next();
    for _ in 0..20 {
        site.get("/hello");
    }
    let start = Instant::now();
    let mut opened = 0.0;
    // Rates are rounded.
    while opened < 19.5 {
        let sample = samples.next();
        opened +=
            sample["opened"].as_f64().expect("a rate") * sample["passed"].as_f64().expect("a time");
        let busy = sample["busy"].as_array().expect("a list");
        let http = busy.iter().find(|kind| kind[0] == "HTTP connection");
        let share = http.expect("a kind that the server has")[1].as_f64();
        assert!(share.expect("a share") <= 100.0, "{sample}");
        assert!(start.elapsed() < LIMIT, "{opened} connections of 20");
    }
    assert!(opened < 20.5, "{opened}");
}

#[test]
fn prometheus_is_given_what_its_format_asks_for() {
    let site = monitored();
    site.get("/held");
    let answer = site.get("/monitor/metrics");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = answer.text();
    let mut family = "";
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            family = comment.split(' ').nth(1).expect("a name");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        let name = name.split('{').next().expect("one");
        assert!(
            name.starts_with(family) && family.starts_with("entwined_"),
            "{line}"
        );
        value.parse::<f64>().expect(line);
    }
    assert!(text.contains("# TYPE entwined_turn_seconds histogram\n"));
    let stalls = text
        .lines()
        .find(|line| line.starts_with("entwined_stalls_total{kind=\"HTTP handler\",place=\""));
    assert!(
        stalls.is_some_and(|line| line.contains(file!()) && line.ends_with(" 1")),
        "{text}"
    );
    // Each bucket of a histogram includes those below it.
    let buckets = text
        .lines()
        .filter(|line| line.starts_with("entwined_turn_seconds_bucket"));
    let counts: Vec<u64> = buckets
        .map(|line| {
            line.rsplit_once(' ')
                .expect("two")
                .1
                .parse()
                .expect("a count")
        })
        .collect();
    assert!(counts.is_sorted() && counts.len() == 21, "{counts:?}");
}
