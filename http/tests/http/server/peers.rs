//! Clients by others: curl, wget, Node's fetch, Python's httpx.

use std::{
    fs,
    process::{Command, Stdio},
};

use entwined_http::{Error, Files, Json, Multipart, Request, Router, layers};
use serde_json::{Value, json};

use crate::server::support::Site;
use tempfile::TempDir;

fn content() -> Vec<u8> {
    (0..3_000_000_u32)
        .map(|number| (number % 249) as u8)
        .collect()
}

/// A site that serves a file, and accepts files and bodies.
fn site(folder: &TempDir) -> Site {
    fs::write(folder.path().join("file.bin"), content()).expect("a file");
    let path = folder.path().to_owned();
    Site::start(move |_| {
        Router::new()
            .mount("/files", Files::new(path))
            .get("/text", || "all the same ".repeat(1_000))
            .post("/json", |Json(value): Json<Value>| {
                Json(json!({ "got": value }))
            })
            .any("/length", |mut request: Request| async move {
                let mut length = 0;
                while let Some(chunk) = request.chunk().await? {
                    length += chunk.len();
                }
                Ok::<_, Error>(format!(
                    "{:?} {} {length}",
                    request.version(),
                    request.method()
                ))
            })
            .post("/form", |mut form: Multipart| async move {
                let mut said = Vec::new();
                while let Some(mut part) = form.next().await? {
                    let name = part
                        .file_name()
                        .or(part.name())
                        .unwrap_or("none")
                        .to_owned();
                    said.push(format!("{name} {}", part.bytes(10_000_000).await?.len()));
                }
                Ok::<_, Error>(said.join(", "))
            })
            .layer(layers::compression())
    })
}

/// Runs a program in this folder and returns its output.
fn run(folder: &TempDir, program: &str, package: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: apt-get install {package}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        output.status
    );
    String::from_utf8(output.stdout).expect("a text")
}

#[test]
fn curl_takes_parts_resumes_and_sends_in_each_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = site(&folder);
    let url = |path: &str| format!("http://{}{path}", site.address);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let curl = |arguments: &[&str]| {
            run(
                &folder,
                "curl",
                "curl",
                &[&["-sS", "-m", "20", version], arguments].concat(),
            )
        };
        curl(&["-r", "1000-1999", "-o", "part", &url("/files/file.bin")]);
        assert!(fs::read(folder.path().join("part")).expect("a file") == content()[1000..2000]);
        fs::write(folder.path().join("half"), &content()[..1_000_000]).expect("a file");
        curl(&["-C", "-", "-o", "half", &url("/files/file.bin")]);
        assert!(fs::read(folder.path().join("half")).expect("a file") == content());
        let status = curl(&[
            "-z",
            "file.bin",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url("/files/file.bin"),
        ]);
        assert_eq!(status, "304", "it has not changed since");
        let said = curl(&["-T", "file.bin", &url("/length")]);
        assert!(said.ends_with("PUT 3000000"), "{said}");
        let said = curl(&[
            "-T",
            "file.bin",
            "-H",
            "expect: 100-continue",
            &url("/length"),
        ]);
        assert!(said.ends_with("PUT 3000000"), "{said}");
        let said = curl(&[
            "-F",
            "file=@file.bin;filename=a b.bin",
            "-F",
            "field=text",
            &url("/form"),
        ]);
        assert_eq!(said, "a b.bin 3000000, field 4");
        let said = curl(&["--compressed", "-w", "%{size_download}", &url("/text")]);
        let (text, size) = said.split_at(13_000);
        assert!(
            text.starts_with("all the same") && size.parse::<u32>().expect("a size") < 1_000,
            "{size}"
        );
        let said = curl(&["--json", "{\"a\": 1}", &url("/json")]);
        assert_eq!(said, "{\"got\":{\"a\":1}}");
    }
}

#[test]
fn wget_resumes() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = site(&folder);
    fs::create_dir(folder.path().join("out")).expect("a folder");
    fs::write(folder.path().join("out/file.bin"), &content()[..1_234_567]).expect("a file");
    run(
        &folder,
        "wget",
        "wget",
        &[
            "-q",
            "-c",
            "-T",
            "20",
            "-P",
            "out",
            &format!("http://{}/files/file.bin", site.address),
        ],
    );
    assert!(fs::read(folder.path().join("out/file.bin")).expect("a file") == content());
}

const NODE: &str = r#"
const base = process.argv[1];
const main = async () => {
    const [file, text, json, form, stream] = await Promise.all([
        fetch(base + '/files/file.bin').then((answer) => answer.arrayBuffer()),
        fetch(base + '/text').then((answer) => answer.text()),
        fetch(base + '/json', {
            method: 'POST', body: '{"b": [2]}', headers: { 'content-type': 'application/json' },
        }).then((answer) => answer.json()),
        (() => {
            const form = new FormData();
            form.append('file', new Blob(['x'.repeat(100000)]), 'x.txt');
            return fetch(base + '/form', { method: 'POST', body: form })
                .then((answer) => answer.text());
        })(),
        fetch(base + '/length', { method: 'POST', duplex: 'half', body: new ReadableStream({
            start(controller) {
                for (let i = 0; i < 10; i++) controller.enqueue(new Uint8Array(1000));
                controller.close();
            },
        }) }).then((answer) => answer.text()),
    ]);
    console.log([file.byteLength, text.length, JSON.stringify(json), form, stream].join('\n'));
};
main().catch((error) => { console.error(error); process.exit(1); });
"#;

#[test]
fn nodes_fetch_gets_and_sends() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = site(&folder);
    let said = run(
        &folder,
        "node",
        "nodejs",
        &["-e", NODE, &format!("http://{}", site.address)],
    );
    let expected = "3000000\n13000\n{\"got\":{\"b\":[2]}}\nx.txt 100000\nHTTP/1.1 POST 10000\n";
    assert_eq!(said, expected);
}

const HTTPX: &str = "
import httpx, sys
base = sys.argv[1]
for two in [False, True]:
    with httpx.Client(http1=not two, http2=two, timeout=20) as client:
        file, text = client.get(base + '/files/file.bin'), client.get(base + '/text')
        print(len(file.content), len(text.text))
        print(client.post(base + '/json', json={'c': 3}).text)
        print(client.post(base + '/form', files={'file': ('y.txt', b'y' * 1000)}).text)
        print(client.post(base + '/length', content=(b'z' * 1000 for _ in range(10))).text)
        part = client.get(base + '/files/file.bin', headers={'range': 'bytes=-5'})
        print(client.get(base + '/none').status_code, part.status_code)
";

#[test]
fn pythons_httpx_speaks_each_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let site = site(&folder);
    let said = run(
        &folder,
        "/usr/bin/python3",
        "python3-httpx python3-h2",
        &["-c", HTTPX, &format!("http://{}", site.address)],
    );
    let one = |version: &str| {
        format!(
            "3000000 13000\n{{\"got\":{{\"c\":3}}}}\ny.txt 1000\n{version} POST 10000\n404 206\n"
        )
    };
    assert_eq!(said, one("HTTP/1.1") + &one("HTTP/2.0"));
}
