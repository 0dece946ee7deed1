//! A kernel: a process that runs cells. It ends with this program, however that ends, and so does
//! everything that its cells have started.

use std::{collections::BTreeMap, os::fd::RawFd, process::ExitStatus};

use entwined::{
    Handle,
    framing::{Frames, Lines},
    process::{
        self, Command, ExitError, Io, Process, ProcessProtocol, ProcessTransport, SpawnError,
    },
    signal::Signal,
};

use crate::order::{Event, Item, Order};

/// A line of a kernel's events, of which pictures are the longest.
const MAX_EVENT: usize = 16 * 1024 * 1024;

/// How each kind of kernel is started: a program with its arguments.
#[derive(Clone, Debug)]
pub struct Kinds(BTreeMap<String, Vec<String>>);

impl Default for Kinds {
    fn default() -> Self {
        let of = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let python = [
            "/usr/bin/python3",
            "-c",
            include_str!("../kernels/python.py"),
        ];
        let shell = ["bash", "--norc", "-c", include_str!("../kernels/shell.sh")];
        Kinds(BTreeMap::from([
            ("python".into(), of(&python)),
            ("shell".into(), of(&shell)),
        ]))
    }
}

impl Kinds {
    /// Adds a kind, or replaces one: `NAME=PROGRAM ARGUMENT ...`.
    pub fn add(&mut self, line: &str) -> Result<(), String> {
        let wrong = || format!("{line:?} is not NAME=PROGRAM ARGUMENT ...");
        let (name, command) = line.split_once('=').ok_or_else(wrong)?;
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if name.is_empty() || words.is_empty() {
            return Err(wrong());
        }
        self.0.insert(name.to_owned(), words);
        Ok(())
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// What happens to a kernel.
pub enum Happened {
    Output(String),
    Event(Event),
    /// It has ended. Why, for people.
    Ended(String),
}

/// A running kernel. It is killed when this is dropped.
pub struct Kernel {
    process: ProcessTransport,
    /// Kills what the cells have started if this program is killed.
    _guard: Process,
}

impl Kernel {
    /// Starts a kernel. `tell` hears what happens to it, in order.
    pub fn start(
        handle: &Handle,
        kinds: &Kinds,
        kind: &str,
        tell: impl Fn(Happened) + 'static,
    ) -> Result<Kernel, SpawnError> {
        let mut secret = [0; 8];
        getrandom::fill(&mut secret).expect("the system has random bytes");
        let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let mark = format!("\x1e{secret}\x1e");
        let words = kinds.0.get(kind).map(Vec::as_slice);
        let (program, arguments) = words
            .and_then(<[String]>::split_first)
            .expect("the kind was checked");
        let process = Command::new(program)
            .args(arguments)
            .env("MARK", &mark)
            .stdin(Io::Stream)
            .stdout(Io::Stream)
            .fd(3, Io::PipeOut)
            .process_group()
            .kill_on_drop(true)
            .die_with_parent(true)
            .spawn(handle)?;
        // Reads until the other end of its input is closed, which it is when this program ends.
        let guard = Command::new("sh")
            .args([
                "-c",
                "cat; kill -s KILL -- \"-$0\"",
                &process.id().to_string(),
            ])
            .stdin(Io::Stream)
            .process_group()
            .kill_on_drop(true)
            .spawn(handle)?;
        let protocol = Pipes {
            order: Order::new(&mark),
            events: Frames::new(Lines::new(MAX_EVENT)),
            tell: Box::new(tell),
        };
        Ok(Kernel {
            process: process::start(process, protocol),
            _guard: guard,
        })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Runs a cell. The kernel has said that it is ready, and that the last cell is done.
    pub fn run(&self, count: u32, source: &str) {
        let mut message = format!("{count} {}\n", source.len()).into_bytes();
        message.extend_from_slice(source.as_bytes());
        self.process.write(0, &message);
    }

    /// Interrupts the cell and what it has started.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        let sent = self.process.ask(|process| process.signal_group(signal));
        if let Some(Err(error)) = sent {
            tracing::debug!(%error, "a kernel has gone");
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

struct Pipes {
    order: Order,
    events: Frames<Lines>,
    tell: Box<dyn Fn(Happened)>,
}

impl Pipes {
    fn tell(&mut self) {
        while let Some(item) = self.order.next() {
            (self.tell)(match item {
                Item::Output(text) => Happened::Output(text),
                Item::Event(event) => Happened::Event(event),
            });
        }
    }
}

impl ProcessProtocol for Pipes {
    fn data_received(&mut self, process: &ProcessTransport, fd: RawFd, mut data: &[u8]) {
        if fd == 1 {
            self.order.output(data);
            return self.tell();
        }
        loop {
            let event = match self.events.next(&mut data) {
                Ok(Some(line)) => serde_json::from_slice(line).map_err(|error| error.to_string()),
                Ok(None) => break,
                Err(error) => Err(error.to_string()),
            };
            let event = event.and_then(|event| Ok(self.order.event(event)?));
            match event {
                Ok(()) => {}
                Err(why) => {
                    (self.tell)(Happened::Output(format!("The kernel is wrong: {why}\n")));
                    let _ = process.kill();
                    break;
                }
            }
        }
        self.tell();
    }

    fn exited(&mut self, process: &ProcessTransport, status: Result<ExitStatus, ExitError>) {
        // What its cells have started would keep its pipes open.
        let _ = process.ask(|process| process.signal_group(Signal::KILL));
        let why = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        (self.tell)(Happened::Output(self.order.rest()));
        (self.tell)(Happened::Ended(why));
    }
}
