//! What encrypts and decrypts. For a handshake it goes to a thread, which may need milliseconds.

use std::{
    io::{self, IoSlice, Write},
    mem,
    pin::Pin,
    process,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
    thread::available_parallelism,
};

use rustls::{Connection, IoState};

use super::{ProtocolError, records::Records};
use crate::{
    panic::catch,
    scratch::Scratch,
    share::{self, spend},
    thread::{Config, Loan, ThreadPool},
    transport::ByteStream,
};

/// How many records are decrypted in one step, and what a step takes from a task's share if records
/// had to wait for it. A record can be an update of keys, which has 27 bytes and takes some
/// microseconds, so 64 KiB of them would hold the thread for long.
const STEP: usize = 64;
pub(super) const STEP_COST: u32 = 16;

/// The threads of all handshakes of the process that has this number.
static THREADS: Mutex<Option<(u32, ThreadPool)>> = Mutex::new(None);

/// One thread fewer than there are processors, but one at least, so that a flood of handshakes
/// leaves a processor to the loop.
fn threads() -> ThreadPool {
    let process = process::id();
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((of, pool)) = &*threads {
        if *of == process {
            return pool.clone();
        }
    }
    let config = Config {
        max_threads: available_parallelism().map_or(1, |all| usize::from(all).max(2) - 1),
        ..Config::default()
    };
    let pool = ThreadPool::new("tls", config);
    // A fork of a process has none of its threads. One of them may hold a lock for ever here.
    mem::forget(threads.replace((process, pool.clone())));
    pool
}

/// rustls, and what it has not taken yet.
pub(super) struct Engine {
    pub session: Connection,
    /// Records that have arrived but do not fit into rustls's buffers, because decrypted bytes have
    /// not been read yet.
    input: Vec<u8>,
    failed: Option<ProtocolError>,
    /// Whether rustls takes no more of the handshake.
    is_stuck: bool,
    records: Records,
}

impl Engine {
    pub fn check(&mut self, below: &mut dyn ByteStream, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(error) = self.failed.clone() else {
            return Ok(());
        };
        // Sends the alert, as far as that is possible without waiting.
        let _ = self.send(below, cx);
        Err(error.into())
    }

    /// Sends queued records as far as the stream below takes them. Readers call this too, to send
    /// the answers to key updates and what writers have left behind.
    pub fn send(
        &mut self,
        stream: &mut dyn ByteStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Below { stream, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receives up to `room` bytes of records and decrypts them. Returns zero at the end of input.
    pub fn receive(
        &mut self,
        below: &mut dyn ByteStream,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        // The buffer is shared by all connections of the thread. None holds one while it waits.
        let mut buffer = Scratch::take();
        let received =
            Pin::new(&mut *below).poll_read(cx, &mut buffer[..room.clamp(RECORD, INPUT)]);
        let count = ready!(received)?;
        if count == 0 {
            return Poll::Ready(self.session.read_tls(&mut io::empty()));
        }
        match self.decrypt(&buffer[..count]) {
            Ok(taken) => self.input.extend_from_slice(&buffer[taken..count]),
            Err(_) => self.check(below, cx)?,
        }
        Poll::Ready(Ok(count))
    }

    /// Receives what comes next of the handshake, or takes what waits. Returns zero at the end of
    /// input.
    pub fn receive_flight(
        &mut self,
        below: &mut dyn ByteStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            let mut buffer = Scratch::take();
            let count = ready!(Pin::new(below).poll_read(cx, &mut buffer[..RECORD]))?;
            self.input.extend_from_slice(&buffer[..count]);
        } else if self.is_stuck {
            return Poll::Ready(Err(too_long()));
        }
        Poll::Ready(Ok(self.input.len()))
    }

    /// Decrypts records until all are taken or their content fills rustls's buffer, but not more
    /// than [`STEP`] of them. After the handshake, one that is not for the program is the last: it
    /// may have hundreds of tickets for later sessions. The task gives way then. Returns how many
    /// bytes were taken.
    fn decrypt(&mut self, records: &[u8]) -> Result<usize, ProtocolError> {
        let (mut left, mut step) = (records, STEP);
        let mut decrypted = self.session.process_new_packets().map_or(0, plain);
        while !left.is_empty() && step > 0 {
            let now = &left[..self.records.clone().pass(left, &mut step.clone())];
            let mut rest = now;
            // This fails if decrypted bytes must be read first. After a close_notify it takes
            // nothing.
            match self.session.read_tls(&mut rest) {
                Ok(0) => return Ok(records.len()),
                Ok(_) => {}
                Err(_) => break,
            }
            let taken = now.len() - rest.len();
            let before = step;
            self.records.pass(&now[..taken], &mut step);
            left = &left[taken..];
            let in_handshake = self.session.is_handshaking();
            let all = match self.session.process_new_packets() {
                Ok(state) => plain(state),
                Err(source) => {
                    let error = ProtocolError {
                        in_handshake,
                        source,
                    };
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            };
            if step < before && all == decrypted && !in_handshake {
                spend(STEP_COST * 4);
                break;
            }
            decrypted = all;
        }
        Ok(records.len() - left.len())
    }

    /// Decrypts the records that had to wait. Returns false if there were none, or there is no room
    /// yet, or that failed.
    pub fn decrypt_input(&mut self) -> bool {
        if !self.has_input() {
            return false;
        }
        let mut input = mem::take(&mut self.input);
        let Ok(taken) = self.decrypt(&input) else {
            return false;
        };
        if taken < input.len() {
            input.drain(..taken);
            self.input = input;
        }
        taken > 0
    }

    /// Whether there are records to decrypt.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty() && self.failed.is_none()
    }

    /// Goes on with the handshake as far as the input goes.
    fn shake_hands(&mut self) {
        while self.session.is_handshaking() && self.decrypt_input() {}
        self.is_stuck = self.session.is_handshaking() && self.has_input();
    }
}

/// The stream below, as a writer for rustls.
struct Below<'a, 'b> {
    stream: &'a mut dyn ByteStream,
    cx: &'a mut Context<'b>,
}

impl Write for Below<'_, '_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write(self.cx, buffer))
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        now(Pin::new(&mut *self.stream).poll_write_vectored(self.cx, buffers))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn now<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// How many bytes have been decrypted for the program, and not read.
fn plain(state: IoState) -> usize {
    state.plaintext_bytes_to_read()
}

/// Where the engine is.
pub(super) enum Place {
    Here(Box<Engine>),
    /// On a thread, for a part of the handshake.
    Away(Loan<Box<Engine>>),
    /// It did not come back.
    Lost(String),
}

impl Place {
    pub fn new(session: Connection) -> Self {
        Place::Here(Box::new(Engine {
            session,
            input: Vec::new(),
            failed: None,
            is_stuck: false,
            records: Records::default(),
        }))
    }

    /// The engine, unless it is away.
    pub fn here(&self) -> Option<&Engine> {
        match self {
            Place::Here(engine) => Some(engine),
            Place::Away(_) | Place::Lost(_) => None,
        }
    }

    /// Waits until the engine is here.
    ///
    /// # Errors
    /// If it is lost: the program's own code, such as a verifier of certificates, panicked.
    pub fn poll_here(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Engine>> {
        if let Place::Away(loan) = self {
            *self = match loan.poll(cx) {
                Poll::Ready(Ok(engine)) => Place::Here(engine),
                Poll::Ready(Err(why)) => Place::Lost(why),
                Poll::Pending => return Poll::Pending,
            };
        }
        Poll::Ready(match self {
            Place::Here(engine) => Ok(engine),
            Place::Lost(why) => Err(io::Error::other(format!("the TLS handshake: {why}"))),
            Place::Away(_) => unreachable!("it came back"),
        })
    }

    /// Goes on with the handshake, on a thread: a signature can take longer than a frame can wait.
    /// If there is no thread, or time is simulated, that is done here.
    pub fn shake_hands(&mut self) {
        let Place::Here(engine) = mem::replace(self, Place::Lost(String::new())) else {
            unreachable!("only an engine that is here has input");
        };
        let lent = if share::counts_time() {
            threads().lend(engine, |engine| engine.shake_hands())
        } else {
            Err(engine)
        };
        *self = match lent {
            Ok(loan) => Place::Away(loan),
            Err(mut engine) => match catch(|| engine.shake_hands()) {
                Ok(()) => Place::Here(engine),
                Err(why) => Place::Lost(why),
            },
        };
    }
}

pub(super) fn too_long() -> io::Error {
    let message = "the peer sent a TLS message that is too long";
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// How many bytes may be queued for sending.
pub(super) const OUTPUT: usize = 64 * 1024;

/// How many bytes are received at a time, and how many may wait to be decrypted.
const INPUT: usize = Scratch::SIZE;

/// The largest record with its overhead: RFC 8446, section 5.2; RFC 5246, section 6.2.3.
const RECORD: usize = 5 + 16 * 1024 + 2048;
