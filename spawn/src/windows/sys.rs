//! System calls.

use std::{
    io, mem,
    os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle},
    ptr,
};

use windows_sys::Win32::{
    Foundation::{INVALID_HANDLE_VALUE, WAIT_OBJECT_0},
    System::{
        Console::GetConsoleCP,
        Diagnostics::ToolHelp::{
            CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
        },
        JobObjects::{
            AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT,
            JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK,
            JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
            SetInformationJobObject, TerminateJobObject,
        },
        Threading::{
            CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_SUSPENDED, INFINITE, OpenThread,
            ResumeThread, THREAD_SUSPEND_RESUME, WaitForSingleObject,
        },
    },
};

pub(super) const NEW_PROCESS_GROUP: u32 = CREATE_NEW_PROCESS_GROUP;
pub(super) const NO_WINDOW: u32 = CREATE_NO_WINDOW;
pub(super) const SUSPENDED: u32 = CREATE_SUSPENDED;

/// A job object: processes that can be ended together. What they start is in it too.
#[derive(Debug)]
pub struct Job(OwnedHandle);

impl Job {
    /// Creates a job. If it `kills_when_closed`, its processes end with its last handle. What they
    /// start is in it too if it `keeps_descendants`.
    pub(super) fn new(kills_when_closed: bool, keeps_descendants: bool) -> io::Result<Self> {
        // SAFETY: Neither a name nor attributes are given, so it is not inherited.
        let handle = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: The handle is new, and nothing else owns it.
        let job = Job(unsafe { OwnedHandle::from_raw_handle(handle) });
        let limits = [
            (kills_when_closed, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE),
            (!keeps_descendants, JOB_OBJECT_LIMIT_SILENT_BREAKAWAY_OK),
        ];
        job.limit(
            limits
                .iter()
                .filter(|limit| limit.0)
                .map(|limit| limit.1)
                .sum(),
        )?;
        Ok(job)
    }

    fn limit(&self, flags: JOB_OBJECT_LIMIT) -> io::Result<()> {
        // SAFETY: All zeros are a value of it: no limits.
        let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = unsafe { mem::zeroed() };
        limits.BasicLimitInformation.LimitFlags = flags;
        let size = size_of_val(&limits) as u32;
        // SAFETY: The structure is the one of this class, and of this size.
        ok(unsafe {
            SetInformationJobObject(
                self.0.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size,
            )
        })
    }

    pub(super) fn add(&self, process: &impl AsHandle) -> io::Result<()> {
        let process = process.as_handle().as_raw_handle();
        // SAFETY: Both handles are open, of a job and of a process.
        ok(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process) })
    }

    /// Ends all processes in the job, with exit code 1 as [`std::process::Child::kill`] does.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn kill(&self) -> io::Result<()> {
        // SAFETY: The handle is open, and of a job.
        ok(unsafe { TerminateJobObject(self.0.as_raw_handle(), 1) })
    }

    /// Lets the processes in the job outlive it.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn release(&self) -> io::Result<()> {
        self.limit(0)
    }
}

/// Blocks this thread until the process has exited.
///
/// # Errors
/// The operating system's error.
pub fn wait(process: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: The handle is open.
    match unsafe { WaitForSingleObject(process.as_raw_handle(), INFINITE) } {
        WAIT_OBJECT_0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether this program has a console.
pub(super) fn has_console() -> bool {
    // SAFETY: It has no arguments. It returns 0 if there is no console.
    unsafe { GetConsoleCP() != 0 }
}

/// Resumes a process that was started as suspended. std does not hand out its thread, so it is
/// looked for.
pub(super) fn resume(process: u32) -> io::Result<()> {
    // SAFETY: The call takes two numbers.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The handle is new, and nothing else owns it.
    let snapshot = unsafe { OwnedHandle::from_raw_handle(snapshot) };
    let mut thread = THREADENTRY32 {
        dwSize: size_of::<THREADENTRY32>() as u32,
        ..Default::default()
    };
    // SAFETY: The handle is that of a snapshot, and the structure knows its size.
    let mut more = unsafe { Thread32First(snapshot.as_raw_handle(), &mut thread) };
    let mut resumed = false;
    while more != 0 {
        if thread.th32OwnerProcessID == process {
            resume_thread(thread.th32ThreadID)?;
            resumed = true;
        }
        // SAFETY: As above.
        more = unsafe { Thread32Next(snapshot.as_raw_handle(), &mut thread) };
    }
    match resumed {
        true => Ok(()),
        false => Err(io::Error::other("the child's thread was not found")),
    }
}

fn resume_thread(id: u32) -> io::Result<()> {
    // SAFETY: The call takes numbers.
    let thread = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, id) };
    if thread.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: The handle is new, and nothing else owns it.
    let thread = unsafe { OwnedHandle::from_raw_handle(thread) };
    // SAFETY: The handle is that of a thread.
    match unsafe { ResumeThread(thread.as_raw_handle()) } {
        u32::MAX => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn ok(result: i32) -> io::Result<()> {
    match result {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
