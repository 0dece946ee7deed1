//! A service at a Unix socket.

use std::{error::Error, time::Duration};

use entwined::{
    Standalone, endpoint,
    protocol::{self, Echo},
    service::{ServerService, Service},
};

#[test]
fn a_server_listens_from_its_start_to_its_stop() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("entwined-service-{}", std::process::id()));
    let path = folder.to_str().expect("UTF-8").to_owned();
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let endpoint = endpoint::server(&format!("unix:{path}"))?;
    let service = ServerService::new("echo", endpoint, |listener| {
        protocol::serve(listener, |_| Some(Echo))
    });
    let task = handle.clone().spawn(async move {
        for _ in 0..2 {
            service.start(&handle).await.expect("it listens");
            assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
            service.stop().await;
            // The listener's task ends in the next turn.
            handle.sleep(Duration::ZERO).await;
            assert!(std::os::unix::net::UnixStream::connect(&path).is_err());
        }
        std::fs::write(&path, "in the way").expect("written");
        let refused = service.start(&handle).await.expect_err("the file is there");
        std::fs::remove_file(&path).expect("it is there");
        handle.stop();
        refused.to_string()
    });
    reactor.run()?;
    let refused = task.take().expect("its end")?;
    assert!(refused.contains("not a socket"), "{refused}");
    Ok(())
}
