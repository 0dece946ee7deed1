use std::{cell::Cell, rc::Rc, sync::mpsc, time::Duration};

use entwined::reactor::Report;
use entwined_http::{Error, Request, Router};

use crate::server::support::Site;

#[test]
fn handlers_share_state_that_is_not_send() {
    let site = Site::start(|_| {
        let count = Rc::new(Cell::new(0));
        let shown = count.clone();
        Router::new()
            .post("/count", move || {
                let count = count.clone();
                async move {
                    count.set(count.get() + 1);
                    count.get().to_string()
                }
            })
            .get("/count", move || {
                let shown = shown.clone();
                async move { shown.get().to_string() }
            })
    });
    let (mut one, mut other) = (site.peer(), site.peer());
    assert_eq!(one.ask("POST", "/count", &[], b"").text(), "1");
    assert_eq!(other.ask("POST", "/count", &[], b"").text(), "2");
    assert_eq!(one.get("/count").text(), "2");
    assert_eq!(site.ask(|server| server.requests()), 3);
}

/// A handler may wait for other things on the reactor.
#[test]
fn a_handler_that_waits_lets_the_others_go_on() {
    let site = Site::start(|_| {
        Router::new()
            .get("/slow", |request: Request| async move {
                request.handle().sleep(Duration::from_millis(200)).await;
                "slow"
            })
            .get("/fast", || async { "fast" })
    });
    let mut slow = site.peer();
    slow.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    let mut fast = site.peer();
    for _ in 0..10 {
        assert_eq!(fast.get("/fast").text(), "fast");
    }
    assert_eq!(slow.answer().text(), "slow");
}

#[test]
fn a_handler_that_panics_is_500_and_everybody_lives() {
    let (tell, reports) = mpsc::channel();
    let site = Site::start(move |handle| {
        let observer = handle.observe(move |report| {
            if let Report::Panic { origin, message } = report {
                tell.send((origin.location.line(), (*message).to_owned()))
                    .expect("the test listens");
            }
        });
        Router::new()
            .get("/at-once", move || {
                let _kept = &observer;
                panic!("at once");
                #[expect(unreachable_code, reason = "it gives the handler its type")]
                async {}
            })
            .get("/later", |request: Request| async move {
                request.handle().sleep(Duration::from_millis(1)).await;
                if request.header("host").is_some() {
                    panic!("later");
                }
                "unreached"
            })
            .get("/fine", || async { "fine" })
    });
    let mut bystander = site.peer();
    assert_eq!(bystander.get("/fine").text(), "fine");
    let mut peer = site.peer();
    for (path, said) in [("/at-once", "at once"), ("/later", "later")] {
        let answer = peer.get(path);
        assert_eq!(answer.status, 500, "{path}");
        assert!(
            !answer.text().contains(said),
            "the message of a panic must not reach peers: {}",
            answer.text()
        );
        let (line, message) = reports.recv().expect("a report");
        assert_eq!(message, said);
        assert!(line > 0);
        assert_eq!(peer.get("/fine").text(), "fine", "on the same connection");
    }
    assert_eq!(bystander.get("/fine").text(), "fine");
    assert_eq!(site.get("/fine").text(), "fine");
}

/// When the peer goes away, the connection is dropped together with what the handler holds.
#[test]
fn a_handler_whose_peer_goes_away_is_dropped() {
    struct Held(mpsc::Sender<&'static str>);
    impl Drop for Held {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let (tell, told) = mpsc::channel();
    let site = Site::start(move |_| {
        Router::new().get("/for-ever", move || {
            let held = Held(tell.clone());
            async move {
                held.0.send("called").expect("the test listens");
                std::future::pending::<()>().await;
            }
        })
    });
    let mut peer = site.peer();
    peer.send("GET /for-ever HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(
        told.recv_timeout(crate::server::support::LIMIT),
        Ok("called")
    );
    drop(peer);
    assert_eq!(
        told.recv_timeout(crate::server::support::LIMIT),
        Ok("dropped")
    );
    site.wait_until(|server| server.connections() == 0);
}

#[test]
fn an_error_of_a_handler_is_its_status_and_sentence() {
    let site = Site::start(|_| {
        Router::new()
            .get("/bad", || async {
                Err::<&str, _>(Error::bad_request("not like this"))
            })
            .get("/none", || async { None::<&str> })
            .get("/empty", || async {})
    });
    let mut peer = site.peer();
    let answer = peer.get("/bad");
    assert_eq!((answer.status, answer.text()), (400, "not like this\n"));
    assert_eq!(peer.get("/none").status, 404);
    let empty = peer.get("/empty");
    assert_eq!((empty.status, empty.header("content-length")), (204, None));
}
