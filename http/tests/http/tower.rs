//! An axum router inside one of Entwined's.

use std::{net::Ipv4Addr, process::Command};

use axum::{Json, extract::Path, routing};
use entwined::transport::tcp;
use entwined_http::{self as http, Router, tower};

#[test]
fn an_axum_router_serves_on_this_thread() {
    crate::run::run(|handle| async move {
        let axum = axum::Router::new()
            .route(
                "/hello/{name}",
                routing::get(|Path(name): Path<String>| async move { format!("hello, {name}") }),
            )
            .route(
                "/sum",
                routing::post(
                    |Json(all): Json<Vec<i64>>| async move { Json(all.iter().sum::<i64>()) },
                ),
            );
        let router = Router::new()
            .get("/", || "ours")
            .mount("/axum", tower(axum));
        let server = http::serve(
            tcp::listen(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port"),
            router,
        );
        let address = server.local_address().to_string();
        let asking = handle.defer_to_thread(move |_| {
            let curl = |arguments: &[&str], path: &str| {
                let url = format!("http://{address}{path}");
                let output = Command::new("curl")
                    .args(["-s", "-w", " %{http_code}"])
                    .args(arguments)
                    .arg(url)
                    .output();
                String::from_utf8_lossy(&output.expect("apt-get install curl").stdout).into_owned()
            };
            Ok::<_, String>([
                curl(&[], "/"),
                curl(&[], "/axum/hello/Ada?x=1"),
                curl(&["--http2-prior-knowledge"], "/axum/hello/Ada"),
                curl(&["--json", "[1, 2, 3]"], "/axum/sum"),
                curl(&[], "/axum/none"),
            ])
        });
        let answers = asking.await.expect("answers");
        assert_eq!(
            answers,
            [
                "ours 200",
                "hello, Ada 200",
                "hello, Ada 200",
                "6 200",
                " 404"
            ]
        );
    });
}
