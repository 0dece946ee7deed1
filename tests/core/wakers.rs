//! The wakers of other executors may do anything, at any time.

use std::{
    cell::RefCell,
    future::Future,
    net::{Ipv4Addr, UdpSocket},
    pin::pin,
    ptr,
    sync::Arc,
    task::{Context, RawWaker, RawWakerVTable, Wake, Waker},
    time::Duration,
};

use entwined::{
    Handle, Standalone,
    broadcast::{Broadcast, Received},
    simulation::Simulation,
    transport::udp,
};

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("in a waker");
    }
}

fn panics() -> Waker {
    Arc::new(Panics).into()
}

#[test]
fn a_timer_whose_waker_panics_ends_no_run() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let mut sleep = pin!(handle.sleep(Duration::from_millis(1)));
    let polled = sleep.as_mut().poll(&mut Context::from_waker(&panics()));
    assert!(polled.is_pending());
    handle.call_later_with(Duration::from_millis(5), Handle::stop);
    reactor.run().expect("a run");
}

/// What was left of the run stayed, and no other could start.
#[test]
fn a_run_ends_though_a_waker_panics_when_it_is_dropped() {
    struct Fragile;

    impl Wake for Fragile {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("in the destructor of a waker");
        }
    }

    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let mut sleep = pin!(handle.sleep(Duration::from_secs(60)));
    let fragile = Waker::from(Arc::new(Fragile));
    let polled = sleep.as_mut().poll(&mut Context::from_waker(&fragile));
    assert!(polled.is_pending());
    // The timer's is the last one.
    let last = handle.spawn(async move { drop(fragile) });
    for _ in 0..2 {
        handle.call_soon_with(Handle::stop);
        reactor.run().expect("a run");
    }
    assert!(last.is_ready());
}

/// The events behind it were lost, and those sockets were never heard of again.
#[test]
fn sockets_are_heard_of_though_the_waker_of_another_panics() {
    let reactor = Standalone::new().expect("a reactor");
    let handle = reactor.handle();
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let sockets: Vec<_> = (0..8)
        .map(|_| udp::bind(&handle, (Ipv4Addr::LOCALHOST, 0)).expect("a free port"))
        .collect();
    let ports: Vec<_> = sockets
        .iter()
        .map(|socket| socket.local_address().udp().expect("UDP"))
        .collect();
    let tasks: Vec<_> = (0..)
        .zip(sockets)
        .map(|(number, socket)| {
            if number % 2 == 0 {
                let waker = panics();
                let mut cx = Context::from_waker(&waker);
                assert!(socket.poll_receive(&mut cx, &mut [0]).is_pending());
            }
            handle.spawn(async move {
                if number % 2 == 1 {
                    socket.receive(&mut [0]).await.expect("a byte");
                    return None;
                }
                Some(socket)
            })
        })
        .collect();
    let own = handle.clone();
    handle.spawn(async move {
        // They wait by then.
        own.sleep(Duration::from_millis(1)).await;
        for port in ports {
            client.send_to(b"!", port).expect("sent");
        }
        for task in tasks {
            task.await.expect("its end");
        }
        own.stop();
    });
    reactor.run().expect("a run");
}

#[test]
fn readers_are_woken_though_the_waker_of_another_panics() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    let channel = Broadcast::new(1);
    let mut strange = channel.subscribe();
    let mut next = Box::pin(strange.next());
    let polled = next.as_mut().poll(&mut Context::from_waker(&panics()));
    assert!(polled.is_pending());
    let mut reader = channel.subscribe();
    let reading = handle.spawn(async move { reader.next().await });
    simulation.drive();
    handle.call_soon(move || {
        channel.send(7);
    });
    simulation.drive();
    let read = reading.take().expect("it was woken").expect("no panic");
    assert!(matches!(read, Some(Received::Message { id: 1, .. })));
}

thread_local! {
    static HANDLE: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// A waker that uses the reactor when it is cloned.
fn busy() -> Waker {
    fn clone(_: *const ()) -> RawWaker {
        HANDLE.with_borrow(|handle| {
            let handle = handle.as_ref().expect("it was set");
            handle.call_later(Duration::ZERO, || ());
        });
        RawWaker::new(ptr::null(), &TABLE)
    }
    fn nothing(_: *const ()) {}
    static TABLE: RawWakerVTable = RawWakerVTable::new(clone, nothing, nothing, nothing);
    // SAFETY: The functions do not use the pointer.
    unsafe { Waker::new(ptr::null(), &TABLE) }
}

#[test]
fn a_waker_may_use_the_reactor_when_it_is_cloned() {
    let simulation = Simulation::new();
    let handle = simulation.handle();
    HANDLE.set(Some(handle.clone()));
    let mut sleep = pin!(handle.sleep(Duration::from_secs(1)));
    for waker in [Waker::noop(), &busy(), Waker::noop(), &busy()] {
        let polled = sleep.as_mut().poll(&mut Context::from_waker(waker));
        assert!(polled.is_pending());
    }
    HANDLE.take();
}
