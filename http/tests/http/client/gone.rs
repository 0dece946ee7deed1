//! Servers that are gone before they have answered.

use std::{io, pin::Pin, time::Duration};

use entwined::{
    simulation::Simulation,
    transport::{
        ByteStream,
        memory::{self, Link},
    },
};
use entwined_http::client::{Client, ClientError};
use futures_io::AsyncWrite;

/// The servers say nothing, greet, or ask with a PING whether the client is there (RFC 9113, 6.7),
/// which it cannot answer.
#[test]
fn a_server_that_is_gone_is_an_error_in_each_version() {
    const GREETING: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const PING: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\0abcdefgh";
    for (two, said) in [
        (false, b"".as_slice()),
        (true, b""),
        (true, GREETING),
        (true, PING),
    ] {
        for fragment in [1, 3, 10, 1_000] {
            let simulation = Simulation::new();
            let handle = simulation.handle();
            let begun = handle.now();
            let mut builder = Client::builder(&handle).connector({
                let handle = handle.clone();
                move |_| {
                    let link = Link {
                        fragment,
                        ..Link::default()
                    };
                    let (mut near, far) = memory::pair_over(&handle, link);
                    async move {
                        let saying =
                            std::future::poll_fn(|cx| Pin::new(&mut near).poll_write(cx, said));
                        assert_eq!(saying.await?, said.len());
                        Ok::<_, io::Error>(Box::new(far) as Box<dyn ByteStream>)
                    }
                }
            });
            if two {
                builder = builder.http2_prior_knowledge();
            }
            let client = builder.build();
            let asking = handle.spawn(async move { client.get("http://server/").send().await });
            let answer = simulation.run_until(asking).expect("no panic");
            let error = answer.expect_err("nobody is there");
            assert!(matches!(error, ClientError::Http(_)), "{error}");
            let after = handle.now() - begun;
            assert!(
                after <= Duration::from_secs(2),
                "{two} {fragment}: {after:?}"
            );
        }
    }
}
