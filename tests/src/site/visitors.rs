//! Visitors of the site: short connections by HTTPS, on each of which a page and, a moment later, what the database has
//! are asked for. Every answer has to be the first one's equal.
//!
//! Each visitor is a thread that asks, waits for as long as chance says, and asks again; nothing is asked twice.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, ensure};

use super::{ARTICLES, PORT, START};
use crate::lab::https::{Answer, Connection, Trust};
use crate::lab::wait;
use crate::pattern::Random;
use crate::streams::report::Cause;
use crate::world::{Family, World};

/// Visitors of each family.
const VISITORS: u64 = 8;
/// Between two visits of one of them.
const PAUSE: (Duration, Duration) = (Duration::from_millis(800), Duration::from_millis(2_400));
/// Between the page and what it asks for.
const MOMENT: Duration = Duration::from_millis(500);
/// A pause is cut short by the end.
const STEP: Duration = Duration::from_millis(100);
/// What a visit asks for: a file of the web tier's, and what comes from the database.
const PATHS: [&str; 2] = ["/", ARTICLES];

/// A visit that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// When its SYN went out, since the origin.
    pub at: Duration,
    /// From then to the last answer, or to the failure.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failed: Option<Cause>,
    /// The client's end, if there was a connection.
    pub local: Option<SocketAddr>,
}

/// Visitors of one family that are at it.
#[derive(Debug)]
pub struct Visitors {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Visit>>>,
}

impl Visitors {
    /// Starts them, when the site has answered by way of the VIP; times count from `origin`.
    ///
    /// # Errors
    /// Where the site does not answer.
    pub fn start(world: &World, trust: &Trust, family: Family, seed: u64, origin: Instant) -> Result<Self> {
        let to = SocketAddr::new(family.vip(), PORT);
        // By way of the VIP, as soon as it has backends.
        let (first, _) = wait(START, || {
            world.client().run(|| visit(trust, to, Duration::ZERO, &mut None))
        })?;
        let first = Arc::new(first);
        ensure!(
            first[1].body.contains("Read by all"),
            "not what was written: {:?}",
            first[1]
        );
        let ended = Arc::new(AtomicBool::new(false));
        let start = |number: u64| {
            let (trust, first, ended) = (trust.clone(), Arc::clone(&first), Arc::clone(&ended));
            let random = Random::new(seed, VISIT << 32 | number);
            world.client().run(|| {
                // The namespace is inherited by the thread.
                let thread = std::thread::Builder::new().name("visitor".into());
                Ok(thread.spawn(move || visits(&trust, to, &first, origin, random, &ended))?)
            })
        };
        let threads = (0..VISITORS).map(start).collect::<Result<_>>()?;
        Ok(Self { ended, threads })
    }

    /// Ends them, each after its visit: every visit.
    ///
    /// # Errors
    /// Where one has panicked.
    pub fn stop(mut self) -> Result<Vec<Visit>> {
        self.ended.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads.drain(..) {
            all.extend(thread.join().map_err(|_| anyhow!("a visitor panicked"))?);
        }
        Ok(all)
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// What the visitors' random numbers are for.
const VISIT: u64 = 0x7669_7369;

fn visits(
    trust: &Trust,
    to: SocketAddr,
    first: &[Answer; 2],
    origin: Instant,
    mut random: Random,
    ended: &AtomicBool,
) -> Vec<Visit> {
    let mut visits = Vec::new();
    loop {
        let mut pause = random.duration(PAUSE.0, PAUSE.1);
        while !pause.is_zero() {
            if ended.load(Ordering::Relaxed) {
                return visits;
            }
            let step = pause.min(STEP);
            std::thread::sleep(step);
            pause -= step;
        }
        let (start, mut local) = (Instant::now(), None);
        let failed = match visit(trust, to, random.duration(Duration::ZERO, MOMENT), &mut local) {
            Ok(answers) => (answers != *first).then_some(Cause::Corrupt),
            Err(error) => Some(cause_of(&error)),
        };
        visits.push(Visit {
            at: start.saturating_duration_since(origin),
            took: start.elapsed(),
            failed,
            local,
        });
    }
}

fn visit(
    trust: &Trust,
    to: SocketAddr,
    moment: Duration,
    local: &mut Option<SocketAddr>,
) -> Result<[Answer; 2]> {
    let mut connection = Connection::open(trust, to)?;
    *local = Some(connection.local());
    let mut ask = |path| {
        let answer = connection.get(path)?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        Ok(answer)
    };
    let page = ask(PATHS[0])?;
    std::thread::sleep(moment);
    Ok([page, ask(PATHS[1])?])
}

/// Why a visit failed; a status other than 200 is [`Cause::Other`].
fn cause_of(error: &Error) -> Cause {
    let kind = error
        .chain()
        .find_map(|error| error.downcast_ref::<io::Error>().map(io::Error::kind));
    match kind {
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted) => {
            Cause::Reset
        }
        Some(ErrorKind::ConnectionRefused) => Cause::Refused,
        Some(ErrorKind::UnexpectedEof) => Cause::Closed,
        Some(ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::HostUnreachable) => Cause::Silent,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_is_the_sockets_whatever_is_said_around_it() {
        let reset: Result<()> = Err(io::Error::from(ErrorKind::ConnectionReset)).context("read the head");
        assert_eq!(reset.map_err(|error| cause_of(&error)), Err(Cause::Reset));
        assert_eq!(cause_of(&anyhow!("/: 502")), Cause::Other);
    }
}
