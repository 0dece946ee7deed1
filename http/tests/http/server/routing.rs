use entwined_http::{Error, Method, Path, Request, Router, layers};
use serde::Deserialize;

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

/// A nested router that gives up must not leave its part of the path to the fallback: with files as
/// the fallback, `/api/private/x` would be the file `private/x`, which a guard is in front of.
#[test]
fn a_fallback_sees_the_path_and_the_parameters_of_its_own_router() {
    async fn tell(request: Request) -> String {
        let param = |name| request.param(name).unwrap_or("none");
        format!("{} {} {}", request.path_below(), param("a"), param("b"))
    }
    let inner = || Router::new().get("/users/{id}", || async { "a user" });
    let layered = move || inner().layer(layers::request_id());
    let site = Site::start(move |_| {
        Router::new()
            .nest("/plain/{b}", inner())
            .nest("/layered/{b}", layered())
            .nest("/deep/{b}", Router::new().nest("/er", layered()))
            .nest("/own/{b}", inner().fallback(tell))
            .nest(
                "/outer/{a}",
                Router::new()
                    .nest("/plain/{b}", inner())
                    .nest("/layered/{b}", layered())
                    .fallback(tell),
            )
            .merge(
                Router::new()
                    .nest("/merged/{b}", inner())
                    .nest("/merged-layered/{b}", layered())
                    .fallback(tell)
                    .layer(layers::request_id()),
            )
    });
    let mut peer = site.peer();
    for (path, expected) in [
        ("/plain/1/private/x", "/plain/1/private/x none none"),
        ("/plain/1", "/plain/1 none none"),
        ("/layered/1/private/x", "/layered/1/private/x none none"),
        ("/deep/1/er/x", "/deep/1/er/x none none"),
        ("/own/1/private/x", "/private/x none 1"),
        ("/outer/1/plain/2/x", "/plain/2/x 1 none"),
        ("/outer/1/layered/2/x", "/layered/2/x 1 none"),
        ("/merged/1/private/x", "/merged/1/private/x none none"),
        ("/merged-layered/1/x", "/merged-layered/1/x none none"),
        ("/plain/1/users/2", "a user"),
        ("/merged-layered/1/users/2", "a user"),
    ] {
        assert_eq!(peer.get(path).text(), expected, "{path}");
    }
}

/// A router does not know what it is nested in. With the outer value, it would show another thing
/// than the one that was asked for.
#[test]
fn of_two_parameters_of_one_name_the_inner_one_counts() {
    #[derive(Deserialize)]
    struct Book {
        id: u32,
    }
    let site = Site::start(|_| {
        let books = Router::new()
            .get("/param/{id}", |request: Request| async move {
                request.param("id").unwrap_or("none").to_owned()
            })
            .get("/parsed/{id}", |request: Request| async move {
                let id: u32 = request.parse_param("id")?;
                Ok::<_, Error>(id.to_string())
            })
            .get("/struct/{id}", |Path(book): Path<Book>| book.id.to_string())
            .get("/tuple/{id}", |Path((one, two)): Path<(u32, u32)>| {
                format!("{one} {two}")
            });
        Router::new().nest("/users/{id}", books)
    });
    for (path, expected) in [
        ("/users/1/param/2", "2"),
        ("/users/1/parsed/2", "2"),
        ("/users/1/struct/2", "2"),
        ("/users/1/tuple/2", "1 2"),
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.text()), (200, expected), "{path}");
    }
}

/// RFC 9110, 9.3.7: it is for the server as a whole, which is there.
#[test]
fn options_of_the_server_as_a_whole_are_answered() {
    let layered = |_: &_| Router::new().get("/", || "x").layer(layers::request_id());
    for site in [
        Site::start(|_| Router::new().get("/", || "x")),
        Site::start(layered),
        Site::start(|_| Router::new().host("test", Router::new().get("/", || "x"))),
    ] {
        let mut peer = site.peer();
        let answer = peer.ask("OPTIONS", "*", &[], b"");
        assert_eq!(answer.status, 204, "{}", answer.head);
        assert_eq!(peer.ask("OPTIONS", "/none", &[], b"").status, 404);
        let two = "GET * HTTP/1.1\r\nhost: test\r\n\r\n";
        peer.send(two);
        assert_eq!(peer.answer().status, 400);
    }
}
