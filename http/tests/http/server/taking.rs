//! Extractors, and routers inside routers.

use std::collections::BTreeMap;

use entwined::{Handle, deferred::Deferred, transport::Address};
use entwined_http::{
    Error, Form, HeaderMap, Json, Method, Next, Path, Query, Request, ResponseFuture, Router, State,
};
use serde::Deserialize;

use crate::server::support::Site;

#[derive(Deserialize)]
struct Book {
    shelf: String,
    number: u8,
}

#[derive(Deserialize)]
struct Page {
    page: Option<u32>,
}

fn site() -> Site {
    Site::start(|_| {
        Router::new()
            .get("/value", || "a value")
            .get("/result/{number}", |Path(number): Path<i32>| {
                if number < 0 {
                    Err(Error::bad_request("it is negative"))
                } else {
                    Ok(Json(number))
                }
            })
            .get("/future", || async { "a future" })
            .get("/deferred", |handle: Handle| {
                let (resolver, deferred) = Deferred::<&str, Error>::new();
                handle.call_soon(move || resolver.settle(Ok("a Deferred")));
                deferred
            })
            .get(
                "/books/{shelf}/{number}",
                |Path(book): Path<Book>, Query(page): Query<Page>| {
                    format!("{} {} {:?}", book.shelf, book.number, page.page)
                },
            )
            .get("/pairs/{a}/{b}", |Path((a, b)): Path<(u64, String)>| {
                format!("{a} and {b}")
            })
            .get(
                "/map/{a}/{b}",
                |Path(all): Path<BTreeMap<String, String>>| format!("{all:?}"),
            )
            .get(
                "/who",
                |peer: Address, method: Method, headers: HeaderMap| {
                    format!("{method} {} {}", peer.tcp().is_some(), headers.len())
                },
            )
            .post("/json", |Json(numbers): Json<Vec<i64>>| {
                Json(numbers.into_iter().sum::<i64>())
            })
            .post("/form", |method: Method, Form(page): Form<Page>| {
                format!("{method} {:?}", page.page)
            })
            .get("/form", |Form(page): Form<Page>| format!("{:?}", page.page))
            .post("/text/{id}", |Path(id): Path<u8>, text: String| {
                format!("{id}: {text}")
            })
            .get("/optional", |state: Option<State<u8>>| {
                format!("{}", state.is_some())
            })
            .get("/missing", |State(_): State<u8>| "there is none")
    })
}

#[test]
fn handlers_take_what_they_name_and_give_what_they_like() {
    let site = site();
    for (path, status, text) in [
        ("/value", 200, "a value"),
        ("/result/3", 200, "3"),
        ("/result/-3", 400, "it is negative\n"),
        (
            "/result/x",
            400,
            "the path is wrong: \"x\" is not a valid number\n",
        ),
        ("/future", 200, "a future"),
        ("/deferred", 200, "a Deferred"),
        ("/books/a%20b/7?page=12", 200, "a b 7 Some(12)"),
        ("/books/a/7", 200, "a 7 None"),
        (
            "/books/a/256",
            400,
            "the path is wrong: \"256\" is not a valid number\n",
        ),
        (
            "/books/a/7?page=x",
            400,
            "the query is wrong: invalid digit found in string\n",
        ),
        ("/pairs/9/z", 200, "9 and z"),
        ("/map/1/2", 200, "{\"a\": \"1\", \"b\": \"2\"}"),
        ("/who", 200, "GET true 1"),
        ("/form?page=3", 200, "Some(3)"),
        ("/optional", 200, "false"),
        ("/missing", 500, "the server made a mistake\n"),
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.text()), (status, text), "{path}");
    }
    let mut peer = site.peer();
    let form = "application/x-www-form-urlencoded";
    for (path, kind, body, status, text) in [
        ("/json", "application/json", "[1, 2, 3]", 200, "6"),
        (
            "/json",
            "text/plain",
            "[1]",
            415,
            "the content type must be application/json\n",
        ),
        ("/form", form, "page=5", 200, "POST Some(5)"),
        (
            "/form",
            form,
            "page=five",
            422,
            "the form is wrong: invalid digit found in string\n",
        ),
        (
            "/form",
            "text/plain",
            "page=5",
            415,
            "the content type must be application/x-www-form-urlencoded\n",
        ),
        ("/text/8", "text/plain", "hällo", 200, "8: hällo"),
        (
            "/text/800",
            "text/plain",
            "hällo",
            400,
            "the path is wrong: \"800\" is not a valid id\n",
        ),
    ] {
        let answer = peer.post(path, kind, body);
        assert_eq!((answer.status, answer.text()), (status, text), "{path}");
    }
}

fn nested() -> Router {
    async fn mark(mut request: Request, next: Next) -> entwined_http::Response {
        request.insert(request.path_below().to_owned());
        let mut response = next.run(request).await;
        response
            .headers_mut()
            .append("x-through", "mark".parse().expect("a value"));
        response
    }

    let users = Router::new().get("/", || "all users").get(
        "/{id}",
        |Path(all): Path<BTreeMap<String, String>>, State(below): State<String>| {
            format!("{all:?} {below}")
        },
    );
    let api = Router::new()
        .nest("/users", users)
        .get("/panic", || -> &'static str { panic!("in a handler") })
        .layer(mark);
    Router::new()
        .get("/", || "a page")
        .nest("/{tenant}/api", api)
        .mount("/files", |request: Request| {
            format!("{} of {}", request.path_below(), request.method())
        })
        .fallback(|| "the outer fallback")
}

#[test]
fn routers_below_paths_go_by_the_rest_and_leave_what_they_do_not_have() {
    let site = Site::start(|_| nested());
    for (path, status, text, through) in [
        ("/", 200, "a page", false),
        ("/acme/api/users", 200, "all users", true),
        ("/acme/api/users/", 200, "all users", true),
        (
            "/acme/api/users/7",
            200,
            "{\"id\": \"7\", \"tenant\": \"acme\"} /users/7",
            true,
        ),
        // The layers around a router also apply to this.
        ("/acme/api/else", 200, "the outer fallback", true),
        ("/acme/api/users/7/else", 200, "the outer fallback", true),
        ("/acme/api/panic", 500, "the server made a mistake\n", true),
        ("/files", 200, "/ of GET", false),
        ("/files/", 200, "/ of GET", false),
        ("/files/a/b%20c", 200, "/a/b%20c of GET", false),
        ("/else", 200, "the outer fallback", false),
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.text()), (status, text), "{path}");
        assert_eq!(answer.header("x-through").is_some(), through, "{path}");
    }
    let answer = site.peer().post("/acme/api/users", "text/plain", "x");
    assert_eq!(
        (answer.status, answer.header("allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(
        site.peer().post("/files/x", "text/plain", "x").text(),
        "/x of POST"
    );
}

#[test]
fn hosts_have_routers_of_their_own() {
    let site = Site::start(|_| {
        Router::new()
            .get("/", || "any")
            .host("example.org", Router::new().get("/", || "example"))
            .host(
                "*.example.org",
                Router::new().get("/", |request: Request| format!("{:?}", request.host())),
            )
    });
    for (host, text) in [
        ("example.org", "example"),
        ("EXAMPLE.org:8080", "example"),
        ("a.example.org:1", "Some(\"a.example.org\")"),
        ("example.org.evil", "any"),
        ("xexample.org", "any"),
        ("[::1]:80", "any"),
        ("", "any"),
    ] {
        let mut peer = site.peer();
        peer.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(peer.answer().text(), text, "{host}");
    }
}

#[test]
fn merged_routers_are_one_with_the_layers_of_each_around_its_own_part() {
    fn marked(name: &'static str) -> impl Fn(Request, Next) -> ResponseFuture {
        move |request, next| {
            let answer = next.run(request);
            ResponseFuture::new(async move {
                let mut response = answer.await;
                response
                    .headers_mut()
                    .append("x-through", name.parse().expect("a value"));
                response
            })
        }
    }

    let site = Site::start(|_| {
        let below = Router::new().get("/", || "below").layer(marked("inner"));
        let second = Router::new()
            .post("/both", || "posted")
            .any("/any", || "any")
            .get("/{id}/of", |Path(id): Path<u32>| id.to_string())
            .nest("/below", below)
            .host("example.org", Router::new().get("/", || "example"))
            .fallback(|request: Request| format!("fallback for {}", request.path_below()))
            .layer(marked("second"))
            .layer(marked("outer"));
        let third = Router::new().get("/third", || "third");
        Router::new()
            .get("/both", || "got")
            .merge(second)
            .merge(third)
            .layer(marked("all"))
    });
    for (path, text, through) in [
        ("/both", "got", ["all"].as_slice()),
        ("/any", "any", &["second", "outer", "all"]),
        ("/7/of", "7", &["second", "outer", "all"]),
        ("/below", "below", &["inner", "second", "outer", "all"]),
        ("/third", "third", &["all"]),
        ("/else", "fallback for /else", &["second", "outer", "all"]),
        (
            "/below/else",
            "fallback for /below/else",
            &["inner", "second", "outer", "all"],
        ),
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.text()), (200, text), "{path}");
        let names: Vec<_> = answer.headers("x-through").collect();
        assert_eq!(names, through, "{path}");
    }
    let mut peer = site.peer();
    let answer = peer.post("/both", "text/plain", "x");
    assert_eq!(
        (answer.text(), answer.headers("x-through").count()),
        ("posted", 3)
    );
    peer.send("GET / HTTP/1.1\r\nhost: example.org\r\n\r\n");
    assert_eq!(peer.answer().text(), "example");
}

#[test]
#[should_panic(expected = "is not a valid prefix")]
fn a_prefix_with_a_slash_at_its_end_is_refused() {
    let _ = Router::new().nest("/a/", Router::new());
}

/// A map of all that fits into a body held the thread for tens of milliseconds when it was dropped.
#[test]
fn a_form_has_so_many_fields_and_no_more() {
    let site = Site::start(|_| {
        Router::new().post("/", |Form(all): Form<BTreeMap<String, u8>>| {
            all.len().to_string()
        })
    });
    for (count, status) in [(10_000, 200), (10_001, 413), (200_000, 413)] {
        let fields: Vec<_> = (0..count).map(|number| format!("{number}=1")).collect();
        let kind = "application/x-www-form-urlencoded";
        let answer = site.peer().post("/", kind, &fields.join("&"));
        assert_eq!(answer.status, status, "{count}");
    }
}
