//! Peers by the thousand for the window of `cargo xtask bench soak`: they come and go, behave and
//! misbehave. Once a second the window's process is looked at.
//!
//! Each minute has a load and then a rest. What is there at the end of the first minute's rest must
//! be what is there at the end of the last one's.
//!
//! Everything is bounded: the number of peers at a time, the time of each, and the run. All
//! addresses are on the loopback interface.

mod behaved;
mod dice;
mod hostile;
mod samples;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    error::Error,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use dice::Dice;
use entwined::{
    Handle, Standalone,
    tls::{Connector, Roots, rustls::pki_types::CertificateDer},
};
use entwined_http::client::ClientError;
use samples::{Sample, Sampler, Samples};
use soak::Addresses;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A minute: the load, then the rest in which everything must go.
const LOAD: Duration = Duration::from_secs(45);
const REST: Duration = Duration::from_secs(15);
/// How much longer the rest may take, in seconds: on a busy machine peers of the load may still
/// wait in a backlog.
const MORE_REST: u32 = 60;

/// Peers come in groups, several in a second, and now and then in a crowd.
const PAUSE: Duration = Duration::from_millis(100);
const GROUP: u32 = 30;
const CROWD: u32 = 1_000;
/// Every so many groups there is a crowd.
const BETWEEN_CROWDS: u32 = 100;

/// At most this many peers at a time.
const MOST_PEERS: u32 = 2_000;

/// After this time a peer that behaves well has not been served.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak-load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<bool> {
    soak::raise_descriptors();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [process, addresses, minutes] = &arguments[..] else {
        return Err("the window's process, its addresses and the minutes are needed".into());
    };
    let (process, minutes): (u32, u32) = (process.parse()?, minutes.parse()?);
    let addresses: Addresses = serde_json::from_str(addresses)?;
    let reactor = Standalone::new()?;
    let handle = reactor.handle();
    let load = Rc::new(Load::new(&handle, addresses)?);
    reactor.block_on(async move { load.soak(process, minutes).await })
}

/// Whether the client's own limits ended it: it was not served in time either.
fn is_late(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::TimedOut(_)))
}

/// What the peers need, and what is known about them.
struct Load {
    handle: Handle,
    addresses: Addresses,
    connector: Connector,
    roots: Roots,
    dice: Dice,
    peers: Cell<u32>,
    most_peers: Cell<u32>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    /// Peers that behaved well and were not served.
    failures: RefCell<Vec<String>>,
    /// Peers that behaved well and were not served in time.
    late: Cell<u64>,
}

impl Load {
    fn new(handle: &Handle, addresses: Addresses) -> Outcome<Self> {
        let certificates: Vec<_> = addresses
            .certificates
            .iter()
            .map(|certificate| CertificateDer::from(certificate.clone()))
            .collect();
        let roots = Roots::only(&certificates);
        Ok(Load {
            handle: handle.clone(),
            connector: Connector::builder().roots(roots.clone()).build()?,
            roots,
            addresses,
            dice: Dice::new(),
            peers: Cell::new(0),
            most_peers: Cell::new(0),
            counts: RefCell::default(),
            failures: RefCell::default(),
            late: Cell::new(0),
        })
    }

    async fn soak(self: Rc<Self>, process: u32, minutes: u32) -> Outcome<bool> {
        let sampler = Rc::new(Sampler::new(&self.handle, process, self.addresses.http));
        let samples = Rc::new(RefCell::new(Samples::default()));
        let sampling = self.handle.spawn({
            let (load, sampler, samples) = (self.clone(), sampler.clone(), samples.clone());
            async move {
                loop {
                    match sampler.sample().await {
                        Ok(sample) => samples.borrow_mut().add(sample),
                        Err(error) => load.failed("the sample", &*error),
                    }
                    load.handle.sleep(Duration::from_secs(1)).await;
                }
            }
        });
        for minute in 1..=minutes {
            let end = Instant::now() + LOAD;
            self.load(end).await;
            let rest = self.rest(&sampler).await?;
            println!("minute {minute}: {rest}");
            samples.borrow_mut().rested(rest);
        }
        sampling.cancel();
        self.report(&samples.borrow());
        let complaints = self.complaints(&samples.borrow());
        for complaint in &complaints {
            println!("FAILED: {complaint}");
        }
        if !complaints.is_empty() {
            println!("\nWhat is there:\n{}", sampler.census().await?);
        }
        sampler.end().await?;
        Ok(complaints.is_empty())
    }

    /// Waits until everything has gone, or could have.
    async fn rest(&self, sampler: &Sampler) -> Outcome<Sample> {
        self.handle.sleep(REST).await;
        let mut sample = sampler.sample().await?;
        for _ in 0..MORE_REST {
            if sample.is_at_rest() {
                break;
            }
            self.handle.sleep(Duration::from_secs(1)).await;
            sample = sampler.sample().await?;
        }
        Ok(sample)
    }

    /// Lets peers come until `end`. Then all of them have gone.
    async fn load(self: &Rc<Self>, end: Instant) {
        for group in 1_u32.. {
            if Instant::now() >= end {
                break;
            }
            let crowd = group.is_multiple_of(BETWEEN_CROWDS);
            for _ in 0..if crowd { CROWD } else { GROUP } {
                if self.peers.get() < MOST_PEERS {
                    self.start_peer(end);
                }
            }
            self.handle.sleep(PAUSE).await;
        }
    }

    fn start_peer(self: &Rc<Self>, end: Instant) {
        let load = self.clone();
        self.peers.set(self.peers.get() + 1);
        self.most_peers
            .set(self.most_peers.get().max(self.peers.get()));
        self.handle.spawn(async move {
            let handle = load.handle.clone();
            // Whatever it does then, it vanishes.
            let _ = handle.timeout_at(end, load.peer()).await;
            load.peers.set(load.peers.get() - 1);
        });
    }

    async fn peer(&self) {
        if self.dice.chance(2) {
            let (name, talk) = hostile::peer(self);
            self.count(name);
            let _ = talk.await;
            return;
        }
        let (name, talk) = behaved::peer(self);
        self.count(name);
        match self.handle.timeout(PATIENCE, talk).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if !is_late(&*error) => self.failed(name, &*error),
            _ => self.late.set(self.late.get() + 1),
        }
    }

    fn count(&self, name: &'static str) {
        *self.counts.borrow_mut().entry(name).or_default() += 1;
    }

    fn failed(&self, name: &str, error: &dyn Error) {
        let mut text = format!("{name}: {error}");
        let mut source = error.source();
        while let Some(error) = source {
            text += &format!(": {error}");
            source = error.source();
        }
        self.failures.borrow_mut().push(text);
    }

    fn report(&self, samples: &Samples) {
        let counts = self.counts.borrow();
        println!(
            "\n{} peers, at most {} at a time",
            counts.values().sum::<u64>(),
            self.most_peers.get()
        );
        for (name, count) in &*counts {
            println!("  {count:>8} {name}");
        }
        samples.print();
    }

    fn complaints(&self, samples: &Samples) -> Vec<String> {
        let mut complaints = samples.complaints(self.late.get());
        let failures = self.failures.borrow();
        if !failures.is_empty() {
            let some = failures.iter().take(10).cloned().collect::<Vec<_>>();
            complaints.push(format!(
                "{} peers that behaved well were not served, such as\n  {}",
                failures.len(),
                some.join("\n  ")
            ));
        }
        complaints
    }
}
