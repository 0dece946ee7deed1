//! Takes the stack of another thread by sending it a signal: the only unsafe code of this crate.
//!
//! One stack is taken at a time. The caller writes the thread's number into `WANTED`, sends the
//! signal, and waits. The handler, on the target thread, writes addresses into `ADDRESSES` and then
//! their number into `COUNT`. The handler does nothing else: it takes no lock and allocates
//! nothing. (signal-safety(7) does not list stack walking. Since 2.35, glibc finds the unwind
//! tables without a lock, through `_dl_find_object`. Before that, it uses the dynamic linker's
//! lock, which the thread that holds it may take again.)

use std::{
    ffi::{c_int, c_void},
    fmt::Write,
    fs, io, mem, ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The maximum number of functions recorded.
const DEPTH: usize = 96;

/// How long the thread may take to enter its handler.
const PATIENCE: Duration = Duration::from_secs(1);

static WANTED: AtomicI32 = AtomicI32::new(0);
static ADDRESSES: [AtomicUsize; DEPTH] = [const { AtomicUsize::new(0) }; DEPTH];
/// `usize::MAX` until the handler has written everything.
static COUNT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Held while a stack is taken; true once the handler is installed.
static TAKING: Mutex<bool> = Mutex::new(false);

/// A thread whose stack can be taken.
pub(crate) struct Target {
    thread: libc::pid_t,
}

impl Target {
    pub(crate) fn this_thread() -> io::Result<Self> {
        let mut installed = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
        if !*installed {
            install()?;
            *installed = true;
        }
        // The first walk loads the unwind tables; that must not happen in the handler.
        backtrace::trace(|_| false);
        // SAFETY: gettid(2) has no arguments and cannot fail.
        let thread = unsafe { libc::gettid() };
        Ok(Target { thread })
    }

    pub(crate) fn stack(&self) -> Result<String, &'static str> {
        let one = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
        COUNT.store(usize::MAX, Ordering::Relaxed);
        WANTED.store(self.thread, Ordering::Release);
        // SAFETY: tgkill(2) takes three numbers. If the thread has ended, the call fails. If
        // another thread of this process now has its number, that thread runs the handler, which is
        // ours as well.
        let sent =
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.thread, signal()) };
        if sent != 0 {
            let error = io::Error::last_os_error();
            WANTED.store(0, Ordering::Release);
            return Err(match error.raw_os_error() {
                // RLIMIT_SIGPENDING, which is for all processes of the user.
                Some(libc::EAGAIN) => "too many signals of this user are pending to ask for it",
                _ => "it has ended",
            });
        }
        let start = Instant::now();
        let count = loop {
            match COUNT.load(Ordering::Acquire) {
                usize::MAX if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(1)),
                usize::MAX => {
                    // If the handler has not begun by now, it will find that no stack is wanted.
                    match WANTED.compare_exchange(
                        self.thread,
                        0,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    ) {
                        Ok(_) if self.blocks_signal() => {
                            return Err(
                                "it blocks the signal SIGRTMAX-2, which asks for its stack",
                            );
                        }
                        Ok(_) => {
                            return Err("it takes no signals: it is blocked in the kernel, \
                                 on a disk or a driver");
                        }
                        // The handler has begun; the walk is short.
                        Err(_) => thread::yield_now(),
                    }
                }
                count => break count,
            }
        };
        let addresses: Vec<_> = ADDRESSES[..count]
            .iter()
            .map(|address| address.load(Ordering::Relaxed))
            .collect();
        // Looking up names takes long, so release the lock first.
        drop(one);
        Ok(names(&addresses))
    }

    /// Returns whether the thread's mask has the signal.
    fn blocks_signal(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/self/task/{}/status", self.thread));
        let status = status.unwrap_or_default();
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("SigBlk:"))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        // The first signal is 1.
        mask.is_some_and(|mask| mask >> (signal() - 1) & 1 == 1)
    }
}

fn signal() -> c_int {
    libc::SIGRTMAX() - 2
}

fn install() -> io::Result<()> {
    let ours = handler as *const () as usize;
    // SAFETY: the structure is plain data for which zeroes are valid, and this only reads what the
    // signal does now.
    let (before, read) = unsafe {
        let mut before: libc::sigaction = mem::zeroed();
        let read = libc::sigaction(signal(), ptr::null(), &mut before);
        (before.sa_sigaction, read)
    };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    if ![libc::SIG_DFL, libc::SIG_IGN, ours].contains(&before) {
        let message = "another part of the program handles the signal SIGRTMAX-2, which the \
                       watchdog needs";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    // SAFETY: the structure is plain data for which zeroes are valid. The handler has the type that
    // SA_SIGINFO requires, and does only what the module's documentation says.
    let result = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = ours;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(signal(), &action, ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Leaves the program's signals to its other threads.
pub(crate) fn take_no_signals() {
    // SAFETY: the set is plain data that sigfillset(3) fills, and the mask is this thread's own.
    unsafe {
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, ptr::null_mut());
    }
}

extern "C" fn handler(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: gettid(2) cannot fail.
    let thread = unsafe { libc::gettid() };
    if WANTED
        .compare_exchange(thread, 0, Ordering::AcqRel, Ordering::Acquire)
        .is_err()
    {
        return;
    }
    // SAFETY: errno belongs to this thread; the interrupted code may be about to read it.
    let errno = unsafe { *libc::__errno_location() };
    let mut count = 0;
    // SAFETY: nothing else walks with this crate's lock-free variant: the handler runs on one
    // thread at a time, because it took `WANTED`.
    unsafe {
        backtrace::trace_unsynchronized(|frame| {
            ADDRESSES[count].store(frame.ip() as usize, Ordering::Relaxed);
            count += 1;
            count < DEPTH
        });
    }
    COUNT.store(count, Ordering::Release);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Returns one line per function, without those of the handler itself.
fn names(addresses: &[usize]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for &address in addresses {
        let mut own = false;
        let before = lines.len();
        // An address is the call's return address; one byte before it is still inside the call.
        backtrace::resolve((address.saturating_sub(1)) as *mut c_void, |symbol| {
            let name = symbol.name().map_or_else(
                || "a function without a name".to_owned(),
                |name| format!("{name:#}"),
            );
            own |= name.contains("entwined_watchdog::sys::handler");
            let mut line = format!("  {name}");
            if let (Some(file), Some(number)) = (symbol.filename(), symbol.lineno()) {
                let _ = write!(line, "\n      at {}:{number}", file.display());
            }
            lines.push(line);
        });
        if lines.len() == before {
            lines.push(format!("  {address:#x}"));
        }
        if own {
            lines.clear();
        }
    }
    // The first is where the kernel returns to from the handler.
    if lines.len() > 1
        && (lines[0].contains("restore_rt")
            || lines[0].starts_with("  0x")
            || lines[0].contains("without a name"))
    {
        lines.remove(0);
    }
    lines.join("\n")
}
