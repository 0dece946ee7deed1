//! The border to the other language, `network.h`.

use std::{
    ffi::{CString, c_char, c_void},
    io,
    panic::catch_unwind,
};

use entwined::Handle;

/// What requests do to the window. It belongs to the GUI's thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Window {
    window: *mut c_void,
    set_label: unsafe extern "C" fn(*mut c_void, *const c_char),
    open_dialog: unsafe extern "C" fn(*mut c_void, *const c_char),
    quit: unsafe extern "C" fn(*mut c_void),
}

impl Window {
    pub(crate) fn set_label(&self, text: &str) {
        let text = text_of(text);
        // SAFETY: the caller of `start` promises that the window lives until the application quits,
        // and requests are served no longer. A window is not `Send`, so this is the GUI's thread.
        // The text is copied.
        unsafe { (self.set_label)(self.window, text.as_ptr()) }
    }

    /// Returns when the dialog is closed.
    pub(crate) fn open_dialog(&self, text: &str) {
        let text = text_of(text);
        // SAFETY: as in `set_label`; the text lives until the call returns.
        unsafe { (self.open_dialog)(self.window, text.as_ptr()) }
    }

    pub(crate) fn quit(&self) {
        // SAFETY: as in `set_label`.
        unsafe { (self.quit)(self.window) }
    }
}

/// As C has it: up to the first zero.
fn text_of(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).expect("it has no zero")
}

/// Attaches a reactor to the application by `attach`, and serves requests that change the window.
/// Returns whether that succeeded, and never unwinds. This is `network_start` of `network.h`.
///
/// # Safety
/// `window` points to a window that lives until the application quits.
pub unsafe fn start(window: *const Window, attach: fn() -> io::Result<Handle>) -> bool {
    // SAFETY: the caller promises it.
    let window = unsafe { *window };
    match catch_unwind(|| crate::serve(window, attach).map_err(|error| error.to_string())) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            eprintln!("there is no network: {error}");
            false
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        io::{BufRead, BufReader, Write},
        net::{SocketAddr, TcpStream},
        ptr,
        sync::mpsc::{self, Sender},
        thread,
        time::Duration,
    };

    use entwined::{
        Standalone,
        deferred::{Deferred, Interrupted, Resolver},
        reactor::Remote,
        transport::tcp,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    struct Fake {
        handle: Handle,
        opened: Sender<()>,
        open: RefCell<Vec<Resolver<(), Interrupted>>>,
    }

    /// A loop inside the call, as modal dialogs have it.
    unsafe extern "C" fn open(fake: *mut c_void, _: *const c_char) {
        // SAFETY: the test keeps it.
        let fake = unsafe { &*fake.cast::<Fake>() };
        let (close, closed) = Deferred::new();
        fake.open.borrow_mut().push(close);
        fake.opened.send(()).expect("somebody waits");
        let _ = fake.handle.wait(closed);
    }

    unsafe extern "C" fn set_label(fake: *mut c_void, _: *const c_char) {
        // SAFETY: as in `open`.
        let fake = unsafe { &*fake.cast::<Fake>() };
        let close = fake.open.borrow_mut().pop();
        close.expect("a dialog").resolve(());
    }

    unsafe extern "C" fn quit(fake: *mut c_void) {
        // SAFETY: as in `open`.
        let fake = unsafe { &*fake.cast::<Fake>() };
        fake.handle.stop();
    }

    fn ask(address: SocketAddr, what: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("an option");
        let head = format!("{what} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it takes it");
        BufReader::new(stream)
    }

    fn status(mut stream: BufReader<TcpStream>) -> String {
        let mut line = String::new();
        stream.read_line(&mut line).expect("an answer");
        line.split(' ').nth(1).expect("a status").to_owned()
    }

    /// Ends the run also if the peer has panicked.
    struct End(Remote);

    impl Drop for End {
        fn drop(&mut self) {
            let _ = self.0.post(Handle::stop);
        }
    }

    /// Each is a loop on the stack. With sixteen of them the network rests.
    #[test]
    fn requests_open_one_dialog_at_a_time() {
        let reactor = Standalone::new().expect("a reactor");
        let (opened, is_open) = mpsc::channel();
        let fake = Fake {
            handle: reactor.handle(),
            opened,
            open: RefCell::default(),
        };
        let window = Window {
            window: ptr::from_ref(&fake).cast_mut().cast(),
            set_label,
            open_dialog: open,
            quit,
        };
        let listener = tcp::listen(&fake.handle, "127.0.0.1:0").expect("a port");
        let server = entwined_http::serve(listener, crate::router(window));
        let address = server.local_address().tcp().expect("it listens on TCP");
        server.keep();
        let end = End(fake.handle.remote());
        let peer = thread::spawn(move || {
            let _end = end;
            for _ in 0..2 {
                let first = ask(address, "POST /dialog");
                is_open.recv_timeout(LIMIT).expect("it opens");
                assert_eq!(status(ask(address, "POST /dialog")), "409");
                // Which closes it here.
                assert_eq!(status(ask(address, "PUT /label")), "200");
                assert_eq!(status(first), "200");
            }
            assert_eq!(status(ask(address, "POST /quit")), "200");
        });
        reactor.run().expect("it runs");
        peer.join().expect("no panic");
    }
}
