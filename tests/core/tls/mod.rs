//! TLS: what it negotiates, how it ends, and what it refuses.

mod chain;
#[cfg(target_os = "linux")]
mod openssl;
mod support;
mod threads;

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
    time::Duration,
};

use entwined::{
    protocol::{self, Lost},
    simulation::Simulation,
    tls::{
        self, Acceptor, ClientCertificates, Connector, Error, Identity, ProtocolError, Roots,
        rustls,
    },
    transport::{
        ByteStream,
        memory::{self, Link},
    },
};

use support::{
    Log, Noting, both, close, converse, established, identity, pattern, raw, read, read_to_end,
    streams, write_all,
};

fn link(fragment: usize) -> Link {
    Link {
        fragment,
        ..Link::default()
    }
}

fn reason(error: &io::Error) -> String {
    error.to_string()
}

#[test]
fn megabytes_go_both_ways_at_once() {
    let (acceptor, connector) = both();
    for fragment in [usize::MAX, 1_000] {
        let simulation = Simulation::new();
        let (client, mut server) =
            streams(&simulation.handle(), &acceptor, &connector, link(fragment));
        let bytes = pattern(5_000_000);
        let handle = simulation.handle();
        let echo = async move {
            loop {
                let bytes = read(&mut server).await?;
                if bytes.is_empty() {
                    return close(&mut server).await;
                }
                write_all(&mut server, &bytes).await?;
            }
        };
        let sent = bytes.clone();
        let client = std::rc::Rc::new(std::cell::RefCell::new(client));
        let reader = client.clone();
        let talk = async move {
            // Two tasks use one stream: neither may lose its wake-up to the other.
            let writing = handle.spawn(async move {
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let count = std::future::poll_fn(|cx| {
                        futures_io::AsyncWrite::poll_write(
                            std::pin::Pin::new(&mut *client.borrow_mut()),
                            cx,
                            rest,
                        )
                    });
                    rest = &rest[count.await.expect("written")..];
                }
                std::future::poll_fn(|cx| {
                    futures_io::AsyncWrite::poll_close(
                        std::pin::Pin::new(&mut *client.borrow_mut()),
                        cx,
                    )
                })
                .await
                .expect("closed");
            });
            let (mut all, mut buffer) = (Vec::new(), vec![0; 30_000]);
            loop {
                let count = std::future::poll_fn(|cx| {
                    futures_io::AsyncRead::poll_read(
                        std::pin::Pin::new(&mut *reader.borrow_mut()),
                        cx,
                        &mut buffer,
                    )
                });
                match count.await.expect("read") {
                    0 => break,
                    count => all.extend_from_slice(&buffer[..count]),
                }
            }
            writing.await.expect("written");
            all
        };
        let (all, echoed) = converse(&simulation, talk, echo);
        echoed.expect("no error");
        assert!(all == bytes, "{} bytes came back, or others", all.len());
    }
}

#[test]
fn a_byte_at_a_time_is_enough() {
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    let (mut client, mut server) = streams(&simulation.handle(), &acceptor, &connector, link(1));
    let talk = async move {
        write_all(&mut client, b"hello").await?;
        close(&mut client).await?;
        read_to_end(&mut client).await
    };
    let echo = async move {
        let bytes = read_to_end(&mut server).await?;
        write_all(&mut server, &bytes).await?;
        close(&mut server).await
    };
    let (came, echoed) = converse(&simulation, talk, echo);
    echoed.expect("no error");
    assert_eq!(came.expect("no error"), b"hello");
}

/// So that more records come at once than are decrypted in a step.
#[test]
fn hundreds_of_small_records_at_once_are_taken_in_their_order() {
    let identity = identity(&["localhost"]);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in identity.certificates() {
        roots.add(certificate.clone()).expect("a certificate");
    }
    let provider = rustls::crypto::ring::default_provider();
    let mut config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.max_fragment_size = Some(32);
    config.alpn_protocols = (0..200)
        .map(|number| format!("a protocol with the number {number}").into_bytes())
        .collect();
    let connector = Connector::from_config(config.into());
    let acceptor = Acceptor::builder(identity)
        .protocols(["a protocol with the number 199"])
        .build()
        .expect("an acceptor");
    let simulation = Simulation::new();
    let (mut client, mut server) =
        streams(&simulation.handle(), &acceptor, &connector, Link::default());
    let bytes = pattern(50_000);
    let sent = bytes.clone();
    let talk = async move {
        established(&mut client).await?;
        write_all(&mut client, &sent).await?;
        close(&mut client).await?;
        read_to_end(&mut client).await
    };
    let hear = async move {
        let all = read_to_end(&mut server).await?;
        close(&mut server).await?;
        Ok::<_, io::Error>(all)
    };
    let (ended, came) = converse(&simulation, talk, hear);
    ended.expect("no error");
    let came = came.expect("no error");
    assert!(came == bytes, "{} bytes came, or others", came.len());
}

#[test]
fn the_name_that_is_asked_for_chooses_the_certificate() {
    let simulation = Simulation::new();
    let names = ["localhost", "a.example", "x.example", "b.x.example"];
    let identities: Vec<Identity> = names.iter().map(|name| identity(&[name])).collect();
    let any = identity(&["c.x.example", "other.x.example"]);
    let all: Vec<_> = identities
        .iter()
        .chain([&any])
        .flat_map(|identity| identity.certificates().to_vec())
        .collect();
    let connector = Connector::builder()
        .roots(Roots::only(&all))
        .build()
        .expect("roots");
    let mut builder = Acceptor::builder(identities[0].clone());
    for (name, identity) in names.iter().zip(&identities).skip(1) {
        // An absolute name is the same one: RFC 1034, section 3.1.
        let absolute = format!("{}.", name.to_uppercase());
        builder = builder.name(&absolute, identity.clone());
    }
    let acceptor = builder
        .name("*.x.example.", any.clone())
        .build()
        .expect("identities");
    let expected = identities
        .iter()
        .zip(names)
        .chain([(&any, "c.x.example"), (&any, "other.x.example")]);
    for (identity, name) in expected {
        let (near, far) = memory::pair(&simulation.handle());
        let mut client = connector.connect(near, name).expect("a name");
        let mut server = acceptor.accept(far);
        let asked = async move {
            established(&mut server).await.expect("established");
            server.server_name().map(str::to_owned)
        };
        let shown = async move {
            established(&mut client).await.expect("established");
            client.peer_certificates().expect("certificates")[0].clone()
        };
        let (shown, asked) = converse(&simulation, shown, asked);
        assert_eq!(
            (&shown, asked.as_deref()),
            (&identity.certificates()[0], Some(name))
        );
    }
}

#[test]
fn a_protocol_is_agreed_on_or_the_connection_refused() {
    let identity = identity(&["localhost"]);
    let roots = Roots::only(identity.certificates());
    let acceptor = Acceptor::builder(identity)
        .protocols(["h2", "http/1.1"])
        .build()
        .expect("an identity");
    let cases: [(&[&str], Option<&[u8]>); 4] = [
        (&["http/1.1"], Some(b"http/1.1")),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&[], None),
        (&["smtp"], None),
    ];
    for (offered, agreed) in cases {
        let simulation = Simulation::new();
        let connector = Connector::builder()
            .roots(roots.clone())
            .protocols(offered)
            .build()
            .expect("roots");
        let (mut client, mut server) =
            streams(&simulation.handle(), &acceptor, &connector, Link::default());
        let client = async move {
            (
                established(&mut client)
                    .await
                    .map_err(|error| reason(&error)),
                client,
            )
        };
        let server = async move {
            (
                established(&mut server)
                    .await
                    .map_err(|error| reason(&error)),
                server,
            )
        };
        let ((ours, client), (theirs, server)) = converse(&simulation, client, server);
        if offered == ["smtp"] {
            assert!(ours.expect_err("refused").contains("NoApplicationProtocol"));
            assert!(theirs.is_err());
        } else {
            assert_eq!((ours, theirs), (Ok(()), Ok(())));
            assert_eq!((client.protocol(), server.protocol()), (agreed, agreed));
        }
    }
}

#[test]
fn without_any_authority_nothing_is_built() {
    let server = Acceptor::builder(identity(&["localhost"]))
        .client_certificates(ClientCertificates::Required(Roots::only(&[])))
        .build()
        .expect_err("nobody could connect");
    let client = Connector::builder()
        .roots(Roots::only(&[]))
        .build()
        .expect_err("nothing could be connected to");
    for error in [server, client] {
        assert!(matches!(error, Error::NoRoots), "{error}");
    }
}

#[test]
fn clients_show_certificates_if_they_are_asked() {
    let server_identity = identity(&["localhost"]);
    let (known, unknown) = (identity(&["a client"]), identity(&["a stranger"]));
    let roots = Roots::only(known.certificates());
    for required in [false, true] {
        let demand = if required {
            ClientCertificates::Required
        } else {
            ClientCertificates::Optional
        };
        let builder =
            Acceptor::builder(server_identity.clone()).client_certificates(demand(roots.clone()));
        let acceptor = builder.build().expect("roots");
        for shown in [None, Some(&known), Some(&unknown)] {
            let simulation = Simulation::new();
            let mut builder =
                Connector::builder().roots(Roots::only(server_identity.certificates()));
            if let Some(identity) = shown {
                builder = builder.identity(identity.clone());
            }
            let connector = builder.build().expect("roots");
            let (mut client, mut server) =
                streams(&simulation.handle(), &acceptor, &connector, Link::default());
            // In TLS 1.3, a client learns only afterwards that its certificate was refused.
            let client = async move {
                read_to_end(&mut client)
                    .await
                    .map_err(|error| reason(&error))
            };
            let server = async move {
                established(&mut server)
                    .await
                    .map_err(|error| reason(&error))?;
                let certificate = server.peer_certificates().map(|chain| chain[0].clone());
                close(&mut server).await.map_err(|error| reason(&error))?;
                Ok::<_, String>(certificate)
            };
            let (heard, seen) = converse(&simulation, client, server);
            match shown {
                Some(identity) if std::ptr::eq(identity, &known) => {
                    assert_eq!(
                        (heard, seen),
                        (Ok(Vec::new()), Ok(Some(known.certificates()[0].clone())))
                    );
                }
                None if !required => assert_eq!((heard, seen), (Ok(Vec::new()), Ok(None))),
                None => {
                    assert!(heard.expect_err("an alert").contains("CertificateRequired"));
                    assert!(
                        seen.expect_err("refused")
                            .contains("peer sent no certificates")
                    );
                }
                Some(_) => {
                    // All authorities made here have the same name.
                    assert!(heard.expect_err("an alert").contains("DecryptError"));
                    assert!(seen.expect_err("refused").contains("BadSignature"));
                }
            }
        }
    }
}

#[test]
fn a_session_is_resumed() {
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    for round in 0..3 {
        let (mut client, mut server) =
            streams(&simulation.handle(), &acceptor, &connector, Link::default());
        let client = async move {
            // The tickets come after the handshake.
            read_to_end(&mut client).await.expect("no error");
            client.is_resumed()
        };
        let server = async move {
            established(&mut server).await.expect("established");
            close(&mut server).await.expect("closed");
            server.is_resumed()
        };
        assert_eq!(
            converse(&simulation, client, server),
            (round > 0, round > 0),
            "round {round}"
        );
    }
}

#[test]
fn certificates_are_replaced_while_the_server_runs() {
    let simulation = Simulation::new();
    let (old, new) = (identity(&["localhost"]), identity(&["localhost"]));
    let acceptor = Acceptor::builder(old.clone()).build().expect("an identity");
    let used = acceptor.clone();
    for identity in [&old, &new] {
        let connector = Connector::builder()
            .roots(Roots::only(identity.certificates()))
            .build()
            .expect("roots");
        let (mut client, mut server) =
            streams(&simulation.handle(), &used, &connector, Link::default());
        let client = async move { established(&mut client).await.is_ok() };
        assert_eq!(
            converse(&simulation, client, async move {
                established(&mut server).await.is_ok()
            }),
            (true, true)
        );
        acceptor.replace(&Acceptor::builder(new.clone()).build().expect("an identity"));
    }
}

#[test]
fn after_a_half_close_the_other_direction_goes_on() {
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    let (mut client, mut server) =
        streams(&simulation.handle(), &acceptor, &connector, Link::default());
    let talk = async move {
        write_all(&mut client, b"all of it").await.expect("written");
        close(&mut client).await.expect("closed");
        let refused = write_all(&mut client, b"more").await.expect_err("closed");
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
        read_to_end(&mut client).await.expect("no error")
    };
    let answer = async move {
        assert_eq!(
            read_to_end(&mut server).await.expect("no error"),
            b"all of it"
        );
        write_all(&mut server, &pattern(1_000_000))
            .await
            .expect("written");
        close(&mut server).await.expect("closed");
    };
    let (all, ()) = converse(&simulation, talk, answer);
    assert!(all == pattern(1_000_000));
}

#[test]
fn an_end_without_close_notify_is_an_error_after_the_data() {
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    let (mut client, mut server) =
        streams(&simulation.handle(), &acceptor, &connector, Link::default());
    let talk = async move {
        write_all(&mut client, b"cut sho").await.expect("written");
        drop(client);
    };
    let listen = async move {
        let data = read(&mut server).await.expect("data");
        (data, read(&mut server).await.expect_err("cut").kind())
    };
    let ((), heard) = converse(&simulation, talk, listen);
    assert_eq!(heard, (b"cut sho".to_vec(), io::ErrorKind::UnexpectedEof));
}

#[test]
fn a_protocol_hears_that_it_was_cut_short() {
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    let (log, handle) = (Log::default(), simulation.handle());
    let (mut client, server) = streams(&handle, &acceptor, &connector, Link::default());
    protocol::start(
        &handle,
        server,
        Noting {
            log: log.clone(),
            acceptor: None,
        },
    );
    let talk = async move {
        write_all(&mut client, b"hello").await.expect("written");
        assert_eq!(read(&mut client).await.expect("an echo"), b"hello");
    };
    converse(&simulation, talk, async {});
    simulation.drive();
    let log = log.take();
    assert_eq!(log[..2], ["made Some(Some(\"localhost\"))", "hello"]);
    assert!(
        log[2].contains("peer closed connection without sending TLS close_notify"),
        "{}",
        log[2]
    );
}

#[test]
fn who_does_not_speak_tls_is_told_and_named() {
    let simulation = Simulation::new();
    let (acceptor, _) = both();
    for said in [
        &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0x16, 3, 1, 0xff, 0xff, 0],
        &[0; 100],
    ] {
        let (mut client, mut server) = raw(&simulation.handle(), &acceptor);
        let talk = async move {
            write_all(&mut client, said).await.expect("written");
            read_to_end(&mut client).await.expect("an end")
        };
        let listen = async move { established(&mut server).await.expect_err("no TLS") };
        let (told, error) = converse(&simulation, talk, listen);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = error
            .get_ref()
            .and_then(|error| error.downcast_ref::<ProtocolError>())
            .expect("a ProtocolError");
        assert!(error.in_handshake);
        if said[0] == b'G' {
            assert_eq!(error.to_string(), "the peer does not speak TLS");
        }
        // An alert record: type 21, a version, a length, and two bytes.
        assert_eq!((told[0], told.len()), (21, 7), "{told:?}");
    }
}

#[test]
fn a_peer_that_goes_away_or_falls_silent_in_the_handshake_holds_nothing() {
    let (simulation, (acceptor, _)) = (Simulation::new(), both());
    let (log, handle) = (Log::default(), simulation.handle());
    let (client, mut server) = raw(&handle, &acceptor);
    drop(client);
    let (error, ()) = converse(
        &simulation,
        async move { established(&mut server).await.expect_err("an end") },
        async {},
    );
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

    let (mut client, server) = raw(&handle, &acceptor);
    let connection = protocol::start(
        &handle,
        server,
        Noting {
            log: log.clone(),
            acceptor: None,
        },
    );
    let hello = async move {
        write_all(&mut client, &[0x16, 3, 1])
            .await
            .expect("written");
        client
    };
    let (_client, ()) = converse(&simulation, hello, async {});
    simulation.advance(Duration::from_secs(9));
    assert!(!connection.is_closing());
    simulation.advance(Duration::from_secs(1));
    assert!(connection.is_closing());
    let told = log.take();
    assert!(
        told.len() == 1 && told[0].starts_with("failed: ") && told[0].ends_with("in time"),
        "{told:?}"
    );
}

#[test]
fn a_peer_that_does_not_read_costs_no_more_than_the_buffers() {
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    let (mut client, mut server) =
        streams(&simulation.handle(), &acceptor, &connector, Link::default());
    let silent = async move {
        established(&mut client).await.expect("established");
        client
    };
    let write = async move {
        established(&mut server).await.expect("established");
        let mut taken = 0;
        let bytes = [0; 10_000];
        std::future::poll_fn(move |cx| {
            use std::task::Poll;
            while let Poll::Ready(count) =
                futures_io::AsyncWrite::poll_write(std::pin::Pin::new(&mut server), cx, &bytes)
            {
                taken += count.expect("written");
                assert!(taken < 1_000_000, "it takes without end");
            }
            Poll::Ready(taken)
        })
        .await
    };
    let (_client, taken) = converse(&simulation, silent, write);
    // The link's 64 KiB, and the stream's own buffer.
    assert!((64 * 1024..=128 * 1024).contains(&taken), "{taken}");
}

#[test]
fn a_server_that_is_not_who_it_should_be_is_refused() {
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    let stranger = Connector::builder().roots(Roots::only(identity(&["localhost"]).certificates()));
    let stranger = stranger.build().expect("roots");
    for (connector, name, expected) in [
        (&connector, "example.org", "NotValidForName"),
        (&stranger, "localhost", "BadSignature"),
    ] {
        let (near, far) = memory::pair(&simulation.handle());
        let mut client = connector.connect(near, name).expect("a name");
        let mut server = acceptor.accept(far);
        let client = async move { established(&mut client).await.expect_err("refused") };
        let server = async move { read(&mut server).await.expect_err("refused") };
        let (ours, theirs) = converse(&simulation, client, server);
        let error = ours
            .get_ref()
            .and_then(|error| error.downcast_ref::<ProtocolError>())
            .expect("a ProtocolError");
        assert!(
            format!("{:?}", error.source).contains(expected),
            "{:?}",
            error.source
        );
        assert!(
            theirs.to_string().contains("received fatal alert"),
            "{theirs}"
        );
    }
}

#[test]
fn starttls_puts_tls_into_a_running_connection() {
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    let (log, handle) = (Log::default(), simulation.handle());
    let (mut near, far) = memory::pair(&handle);
    protocol::start(
        &handle,
        far,
        Noting {
            log: log.clone(),
            acceptor: Some(acceptor),
        },
    );
    let talk = async move {
        write_all(&mut near, b"STARTTLS\r\n")
            .await
            .expect("written");
        assert_eq!(read(&mut near).await.expect("an answer"), b"go\r\n");
        let mut client = connector.connect(near, "localhost").expect("a name");
        write_all(&mut client, b"secret").await.expect("written");
        assert_eq!(read(&mut client).await.expect("an echo"), b"secret");
        close(&mut client).await.expect("closed");
        assert_eq!(read(&mut client).await.expect("an end"), b"");
    };
    converse(&simulation, talk, async {});
    simulation.drive();
    let expected = [
        "made None",
        "STARTTLS\r\n",
        "upgraded to Some(TLSv1_3)",
        "secret",
        "the connection was closed",
    ];
    assert_eq!(log.take(), expected);
}

#[test]
fn a_panic_in_a_protocol_over_tls_ends_it_alone() {
    struct Fragile;
    impl protocol::Protocol for Fragile {
        fn data_received(&mut self, _: &protocol::Connection, _: &[u8]) {
            panic!("in a protocol over TLS");
        }

        fn connection_lost(&mut self, why: &Lost) {
            assert!(matches!(why, Lost::Panicked));
        }
    }
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    let (mut client, server) =
        streams(&simulation.handle(), &acceptor, &connector, Link::default());
    protocol::start(&simulation.handle(), server, Fragile);
    let talk = async move {
        write_all(&mut client, b"!").await.expect("written");
        read(&mut client).await.expect_err("aborted").kind()
    };
    assert_eq!(
        converse(&simulation, talk, async {}).0,
        io::ErrorKind::ConnectionReset
    );
}

#[test]
fn what_this_side_does_wrong_is_said_before_there_is_a_connection() {
    let (one, other) = (pem(&["localhost"]), pem(&["localhost"]));
    assert!(Identity::from_pem(one.0.as_bytes(), one.1.as_bytes()).is_ok());
    let mixed =
        Identity::from_pem(one.0.as_bytes(), other.1.as_bytes()).expect_err("another's key");
    assert!(matches!(mixed, Error::KeyMismatch(_)), "{mixed}");
    assert!(matches!(
        Identity::from_pem(one.1.as_bytes(), one.1.as_bytes()),
        Err(Error::NoCertificate)
    ));
    assert!(matches!(
        Identity::from_pem(one.0.as_bytes(), one.0.as_bytes()),
        Err(Error::NoKey)
    ));
    let missing =
        Identity::from_pem_files("/nowhere/a.pem", "/nowhere/b.pem").expect_err("no file");
    let why = std::fs::read("/nowhere/a.pem").expect_err("no file");
    assert_eq!(
        missing.to_string(),
        format!("/nowhere/a.pem: cannot read the file: {why}")
    );
    let (_, connector) = both();
    let simulation = Simulation::new();
    let (near, _far) = memory::pair(&simulation.handle());
    assert!(matches!(
        connector.connect(near, "not a name"),
        Err(tls::Error::Name(_))
    ));
}

/// A certificate and its key, in PEM.
fn pem(names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("names");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn the_version_and_the_suite_can_be_asked_for() {
    let (simulation, (acceptor, connector)) = (Simulation::new(), both());
    let (mut client, mut server) =
        streams(&simulation.handle(), &acceptor, &connector, Link::default());
    assert!(
        client.version().is_none()
            && client.cipher_suite().is_none()
            && client.peer_certificates().is_none()
    );
    let client = async move {
        established(&mut client).await.expect("established");
        assert!(client.below().is_some());
        (
            client.version(),
            client.cipher_suite().map(|suite| suite.suite()),
        )
    };
    let server = async move {
        established(&mut server).await.expect("established");
        (
            server.version(),
            server.cipher_suite().map(|suite| suite.suite()),
        )
    };
    let (ours, theirs) = converse(&simulation, client, server);
    assert_eq!(ours, theirs);
    assert_eq!(ours.0, Some(rustls::ProtocolVersion::TLSv1_3));
}

/// Such a server could not be connected to: RFC 4007, section 11; RFC 6066, section 3.
#[test]
fn a_zone_or_a_final_dot_is_no_part_of_a_servers_name() {
    let identity = identity(&["localhost", "::1"]);
    let connector = Connector::builder()
        .roots(Roots::only(identity.certificates()))
        .build()
        .expect("roots");
    let acceptor = Acceptor::builder(identity).build().expect("an identity");
    for name in ["::1", "::1%lo", "::1%1", "localhost."] {
        let simulation = Simulation::new();
        let (near, far) = memory::pair(&simulation.handle());
        let mut client = connector.connect(near, name).expect(name);
        let mut server = acceptor.accept(far);
        let (one, other) = converse(
            &simulation,
            async move {
                established(&mut client)
                    .await
                    .map_err(|error| error.to_string())
            },
            async move {
                established(&mut server)
                    .await
                    .map_err(|error| error.to_string())
            },
        );
        assert_eq!((one, other), (Ok(()), Ok(())), "{name}");
    }
    let simulation = Simulation::new();
    for name in ["1.2.3.4%lo", "localhost%lo", "::1%"] {
        let (near, _far) = memory::pair(&simulation.handle());
        assert!(connector.connect(near, name).is_err(), "{name}");
    }
}

/// A client that sends the beginning before the handshake, if it may: RFC 8446, section 2.3.
async fn talk_early(config: Arc<rustls::ClientConfig>, mut near: memory::MemoryStream) {
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let mut session = rustls::ClientConnection::new(config, name).expect("a session");
    if let Some(mut early) = session.early_data() {
        early.write_all(b"early ").expect("room");
    }
    let mut written = false;
    loop {
        if !session.is_handshaking() && !written {
            written = true;
            if !session.is_early_data_accepted() {
                session.writer().write_all(b"early ").expect("room");
            }
            session.writer().write_all(b"late").expect("room");
        }
        let mut records = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut records).expect("written");
        }
        write_all(&mut near, &records).await.expect("written");
        if written && session.reader().fill_buf().is_ok() {
            return;
        }
        let records = read(&mut near).await.expect("an answer");
        session.read_tls(&mut &records[..]).expect("room");
        session.process_new_packets().expect("TLS");
    }
}

/// rustls keeps them apart from the rest of what the client sends.
#[test]
fn bytes_that_come_before_the_end_of_the_handshake_are_not_lost() {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("names");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issued.cert.der().clone()).expect("a certificate");
    let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_early_data = true;
    let client = Arc::new(client);
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key.into())
        .expect("a certificate");
    server.max_early_data_size = 1_000;
    let acceptor = Acceptor::from_config(Arc::new(server)).expect("a configuration");
    for _ in 0..2 {
        let simulation = Simulation::new();
        let (near, far) = memory::pair(&simulation.handle());
        let mut server = acceptor.accept(far);
        let hear = async move {
            let mut heard = Vec::new();
            while !heard.ends_with(b"late") {
                heard.extend(read(&mut server).await.expect("a client"));
            }
            write_all(&mut server, b"heard").await.expect("a client");
            heard
        };
        let ((), heard) = converse(&simulation, talk_early(client.clone(), near), hear);
        assert_eq!(String::from_utf8_lossy(&heard), "early late");
    }
}
