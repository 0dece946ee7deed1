use entwined_http::{Error, Method, Request, Router};

use crate::server::support::Site;

fn site() -> Site {
    Site::start(|_| {
        Router::new()
            .get("/users/{id}", |request: Request| async move {
                request.param("id").unwrap_or("none").to_owned()
            })
            .get("/users/me", || async { "myself" })
            .get("/files/{*path}", |request: Request| async move {
                request.param("path").unwrap_or("none").to_owned()
            })
            .get("/square/{number}", |request: Request| async move {
                let number: u32 = request.parse_param("number")?;
                Ok::<_, Error>((number * number).to_string())
            })
            .get("/things", || async { "all things" })
            .post("/things", || async { "one more" })
            .route(Method::OPTIONS, "/things", || async {})
            .delete("/things/{id}", || async {})
    })
}

#[test]
fn a_path_finds_its_handler_with_its_parameters_decoded() {
    let site = site();
    let mut peer = site.peer();
    let paths = [
        ("/users/7", "7"),
        ("/users/me", "myself"),
        ("/users/a%20b%3Fc%C3%A9", "a b?cé"),
        ("/files/a/b%20c/d", "a/b c/d"),
        ("/users/7?me=1", "7"),
        ("/square/12", "144"),
    ];
    for (path, expected) in paths {
        let answer = peer.get(path);
        assert_eq!((answer.status, answer.text()), (200, expected), "{path}");
    }
}

#[test]
fn what_is_not_there_is_404_and_a_bad_parameter_400() {
    let site = site();
    let mut peer = site.peer();
    for path in [
        "/",
        "/users",
        "/users/",
        "/users/1/2",
        "/Users/1",
        "/things/",
    ] {
        assert_eq!(peer.get(path).status, 404, "{path}");
    }
    for (path, said) in [
        ("/users/%ff", "not valid percent-encoded UTF-8"),
        ("/users/%4", "not valid percent-encoded"),
        ("/users/a%2Fb", "has a slash"),
        ("/square/x", "\"x\" is not a valid number"),
        ("/square/-1", "not a valid number"),
    ] {
        let answer = peer.get(path);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains(said), "{path}: {}", answer.text());
    }
}

#[test]
fn a_wrong_method_is_405_with_those_that_are_allowed() {
    let site = site();
    let mut peer = site.peer();
    let answer = peer.ask("PUT", "/things", &[], b"");
    assert_eq!(answer.status, 405);
    let mut allowed: Vec<_> = answer.header("allow").expect("Allow").split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "OPTIONS", "POST"]);
    assert!(
        answer.text().contains("PUT is not allowed here"),
        "{}",
        answer.text()
    );

    let answer = peer.get("/things/1");
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("DELETE"))
    );
    // A method is valid even if only this server and its peers know it.
    assert_eq!(peer.ask("BREW", "/things", &[], b"").status, 405);
    assert_eq!(peer.ask("OPTIONS", "/things", &[], b"").status, 204);
}

#[test]
fn head_is_get_without_its_body() {
    let site = site();
    let mut peer = site.peer();
    let get = peer.get("/things");
    let head = peer.ask("HEAD", "/things", &[], b"");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, get.header("content-length"))
    );
    assert_eq!(head.header("content-type"), get.header("content-type"));
    assert_eq!(peer.ask("HEAD", "/nothing", &[], b"").status, 404);
    // A body sent anyway would be taken for the next response.
    assert_eq!(peer.get("/users/1").text(), "1");
}

#[test]
fn a_fallback_answers_what_no_route_matches_with_any_method() {
    let site = Site::start(|_| {
        Router::new()
            .get("/there", || async { "there" })
            .fallback(|request: Request| async move {
                format!("{} {}", request.method(), request.path())
            })
    });
    let mut peer = site.peer();
    assert_eq!(peer.get("/there").text(), "there");
    assert_eq!(
        peer.ask("PATCH", "/elsewhere", &[], b"").text(),
        "PATCH /elsewhere"
    );
    assert_eq!(peer.ask("OPTIONS", "*", &[], b"").text(), "OPTIONS *");
    assert_eq!(peer.ask("POST", "/there", &[], b"").status, 405);
}
