//! What a peer may send to an RPC server: the server must answer or close the connection, and leave
//! nothing behind.
#![no_main]

use arbitrary::Arbitrary;
use entwined::{
    rpc::{self, Failure, Items, Methods},
    simulation::Simulation,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Case<'a> {
    fragment: u8,
    messages: Vec<Message<'a>>,
    /// Raw bytes after the messages, without a length.
    rest: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Message<'a> {
    kind: u8,
    call: u8,
    method: Option<Method>,
    rest: &'a [u8],
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Method {
    Echo,
    Count,
    Never,
}

impl Case<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"entwrpc\x01".to_vec();
        for message in &self.messages {
            let mut frame = vec![message.kind % 10, message.call % 128];
            let name: &[u8] = match message.method {
                None => b"",
                Some(Method::Echo) => b"\xa4echo",
                Some(Method::Count) => b"\x05\xa5count",
                Some(Method::Never) => b"\xa5never",
            };
            frame.extend_from_slice(name);
            frame.extend_from_slice(message.rest);
            bytes.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&frame);
        }
        bytes.extend_from_slice(self.rest);
        bytes
    }
}

fuzz_target!(|case: Case<'_>| {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let (near, far) = fuzz::connection(&handle, case.fragment);
    let mut methods = Methods::new();
    methods.add(
        "echo",
        |_, text: String| async move { Ok::<_, Failure>(text) },
    );
    methods.add("never", |_, (): ()| {
        std::future::pending::<Result<(), Failure>>()
    });
    methods.add_stream("count", |_, to: u64, items: Items<u64>| async move {
        for number in 0..to {
            items.send(&number).await?;
        }
        Ok(())
    });
    let peer = rpc::start(&handle, far, methods);
    fuzz::say(&simulation, near, case.bytes());
    assert!(peer.is_closing());
    assert_eq!((peer.answering(), peer.waiting()), (0, 0));
});
