//! Server-sent events of a channel, for clients that reconnect.

use entwined::broadcast::{Broadcast, Received};
use entwined_http::{Error, Request, Router, sse};

use crate::server::support::{Peer, Site};

/// A site where `/news` follows a channel that keeps three messages, and `/say/{text}` sends one.
fn news() -> Site {
    Site::start(|_| {
        let news = Broadcast::<String>::new(3);
        let said = news.clone();
        Router::new()
            .get("/news", move |request: Request| {
                sse::follow(&request, &news, |received| match received {
                    Received::Message { message, .. } => Some(sse::Event::data(&message)),
                    Received::Missed(count) => {
                        Some(sse::Event::data(&count.to_string()).name("missed"))
                    }
                })
            })
            .post("/say", move |mut request: Request| {
                let said = said.clone();
                async move { Ok::<_, Error>(said.send(request.text().await?).to_string()) }
            })
    })
}

fn events(peer: &mut Peer, last: Option<&str>) {
    let last = last.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
    peer.send(format!("GET /news HTTP/1.1\r\nhost: test\r\n{last}\r\n"));
    assert_eq!(
        peer.head().header("content-type"),
        Some("text/event-stream")
    );
}

/// Returns the next event: its name, its id and its data.
fn event(peer: &mut Peer) -> (String, String, String) {
    let chunk = String::from_utf8(peer.chunk().expect("an event")).expect("a text");
    let field = |name: &str| {
        let line = chunk
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or("").to_owned()
    };
    (field("event"), field("id"), field("data"))
}

#[test]
fn who_connects_again_gets_what_was_missed_as_far_as_it_is_kept() {
    let site = news();
    let say = |text: &str| {
        site.peer()
            .post("/say", "text/plain", text)
            .text()
            .to_owned()
    };
    let mut peer = site.peer();
    events(&mut peer, None);
    assert_eq!(say("one"), "1");
    let (_, first, data) = event(&mut peer);
    assert_eq!(data, "one");
    drop(peer);
    say("two");
    let mut peer = site.peer();
    events(&mut peer, Some(&first));
    assert_eq!(event(&mut peer).2, "two");
    say("three");
    assert_eq!(event(&mut peer).2, "three");
    drop(peer);
    for text in ["four", "five"] {
        say(text);
    }
    // Three of the five are kept.
    let mut peer = site.peer();
    events(&mut peer, Some(&first));
    let (name, id, data) = event(&mut peer);
    assert_eq!(
        (name.as_str(), id.as_str(), data.as_str()),
        ("missed", "", "1")
    );
    for expected in ["three", "four", "five"] {
        assert_eq!(event(&mut peer).2, expected);
    }
    // An id from another run counts as no id.
    for id in ["1-5", "nonsense", "-", "5", "1-99999999999999999999"] {
        let mut peer = site.peer();
        events(&mut peer, Some(id));
        assert_eq!(event(&mut peer).2, "three", "{id}");
    }
    // The newest id, or one that does not exist yet.
    let (epoch, _) = first.split_once('-').expect("an epoch");
    let mut peer = site.peer();
    events(&mut peer, Some(&format!("{epoch}-5")));
    let mut other = site.peer();
    events(&mut other, Some(&format!("{epoch}-99")));
    say("six");
    assert_eq!(
        (event(&mut peer).2, event(&mut other).2),
        ("six".to_owned(), "six".to_owned())
    );
}
