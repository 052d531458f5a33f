//! The stream client: holds streams open, and opens and closes others all the time.
//!
//! It runs in one thread inside the client's namespace. A held stream that fails is counted and opened anew,
//! so that the load stays; a run ends when it is told to, or at its limit.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::block::{MAX_BODY, NO_BACKEND, Receiver, Side};
use super::record::{Of, Record, Step};
use super::report::{Cause, Report};
use crate::pattern::{Direction, Random};
use crate::world::{Backend, World};

/// One gap in so many is a long one.
const LONG_GAP_EVERY: u64 = 12;
/// A stream that failed is opened anew after this, so that a refusing world is not flooded.
const REOPEN_AFTER: Duration = Duration::from_millis(250);
/// The bit of a stream's id that says that it is a short one.
const SHORT: u64 = 1 << 63;
/// How many failures a report tells one by one.
const EXAMPLES: usize = 8;

/// What a client does.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub target: SocketAddr,
    /// Streams held open.
    pub held: usize,
    /// How long a held stream lives, shortest and longest, before it is closed and another opened in its place;
    /// to the end of the run if none.
    pub life: Option<(Duration, Duration)>,
    /// Streams opened and closed besides, per second.
    pub short_rate: u32,
    /// A held stream's usual shortest and longest time between two blocks.
    pub gap: (Duration, Duration),
    /// The longest of the long gaps that come now and then.
    pub longest_gap: Duration,
    /// How long an answer, or an opening, may take.
    pub patience: Duration,
    /// The run ends by itself after this.
    pub limit: Duration,
    /// Gaps and sizes are drawn from it.
    pub seed: u64,
    /// What keeps every exchange's time, if anything does.
    pub record: Option<Arc<Record>>,
}

impl Load {
    /// 1,000 streams with gaps of 0.2 to 2 s, 50 short ones a second, for at most five minutes.
    pub fn new(target: impl Into<SocketAddr>, seed: u64) -> Self {
        Self {
            target: target.into(),
            held: 1000,
            life: None,
            short_rate: 50,
            gap: (Duration::from_millis(200), Duration::from_millis(2000)),
            longest_gap: Duration::from_millis(2000),
            patience: Duration::from_secs(10),
            limit: Duration::from_secs(300),
            seed,
            record: None,
        }
    }
}

/// A stream that is held at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The client's end.
    pub local: SocketAddr,
    /// The backend that serves it.
    pub backend: Backend,
}

#[derive(Debug, Default)]
struct Tally {
    report: Report,
    held: HashMap<u64, Held>,
}

/// A client that runs.
#[derive(Debug)]
pub struct Client {
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Client {
    /// Starts a load.
    pub fn start(world: &World, load: Load) -> Result<Self> {
        allow_files(2 * load.held as u64 + 4096)?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stop, stopped) = watch::channel(false);
        let client = Arc::new(Shared {
            load,
            tally: Arc::clone(&tally),
            stopped,
        });
        let thread = world.client().run(|| {
            // The namespace is inherited by the thread.
            Ok(std::thread::Builder::new().name("client".into()).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(run(client));
                Ok(())
            })?)
        })?;
        Ok(Self {
            tally,
            stop,
            thread: Some(thread),
        })
    }

    /// What happened so far.
    pub fn report(&self) -> Report {
        lock(&self.tally).report.clone()
    }

    /// The streams that are held now.
    pub fn held(&self) -> Vec<Held> {
        lock(&self.tally).held.values().copied().collect()
    }

    /// Waits until so many streams are held.
    pub fn wait_held(&self, streams: usize, deadline: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let held = lock(&self.tally).held.len();
            if held >= streams {
                return Ok(());
            }
            ensure!(
                start.elapsed() < deadline,
                "{held} of {streams} streams are open after {deadline:?}\n{}",
                self.report()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Closes all streams, each after its exchange, and returns what happened.
    pub fn stop(mut self) -> Result<Report> {
        self.join()?;
        Ok(self.report())
    }

    fn join(&mut self) -> Result<()> {
        self.stop.send_replace(true);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(anyhow!("the stream client panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Its panic was printed already.
        let _ = self.join();
    }
}

struct Shared {
    load: Load,
    tally: Arc<Mutex<Tally>>,
    stopped: watch::Receiver<bool>,
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(client: Arc<Shared>) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..client.load.held {
        tasks.spawn(hold(Arc::clone(&client), number as u64));
    }
    tasks.spawn(open_and_close(Arc::clone(&client)));
    let mut stopped = client.stopped.clone();
    // Its sender is gone only when the test is.
    let _ = timeout(client.load.limit, stopped.wait_for(|stop| *stop)).await;
    if !*client.stopped.borrow() {
        tasks.abort_all();
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Keeps one stream open until the run stops; as one ends, another begins.
async fn hold(client: Arc<Shared>, number: u64) {
    let mut random = Random::new(client.load.seed, number);
    let mut stopped = client.stopped.clone();
    let mut life = 0;
    // All openings at once would be a burst that no user makes.
    client
        .pause(
            &mut stopped,
            random.duration(Duration::ZERO, Duration::from_millis(1500)),
        )
        .await;
    while !*stopped.borrow() {
        let id = life << 32 | number;
        life += 1;
        let mut stream = None;
        let result = client.held_life(id, &mut stream, &mut random, &mut stopped).await;
        lock(&client.tally).held.remove(&id);
        if let Err(failure) = result {
            client.fail(id, stream.as_ref(), failure);
            client.pause(&mut stopped, REOPEN_AFTER).await;
        }
    }
}

/// Opens short streams at the load's rate.
async fn open_and_close(client: Arc<Shared>) {
    if client.load.short_rate == 0 {
        return;
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / client.load.short_rate);
    let mut stopped = client.stopped.clone();
    let mut tasks = tokio::task::JoinSet::new();
    let mut number = SHORT;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => break,
        }
        number += 1;
        tasks.spawn(short(Arc::clone(&client), number));
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
}

async fn short(client: Arc<Shared>, id: u64) {
    let mut random = Random::new(client.load.seed, id);
    let mut stream = None;
    if let Err(failure) = client.short_life(id, &mut stream, &mut random).await {
        client.fail(id, stream.as_ref(), failure);
    }
}

/// A failure: its cause, and what the socket said.
struct Failure(Cause, Option<io::Error>);

impl Failure {
    fn of(error: io::Error) -> Self {
        let cause = match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Cause::Reset,
            ErrorKind::ConnectionRefused => Cause::Refused,
            ErrorKind::UnexpectedEof => Cause::Closed,
            ErrorKind::TimedOut | ErrorKind::HostUnreachable => Cause::Silent,
            _ => Cause::Other,
        };
        Self(cause, Some(error))
    }
}

struct Stream {
    id: u64,
    socket: TcpStream,
    local: SocketAddr,
    requests: Side,
    answers: Receiver,
    backend: Backend,
    /// When the last answer came, or the stream was opened.
    used: Instant,
}

impl Shared {
    /// Waits, or until the run stops.
    async fn pause(&self, stopped: &mut watch::Receiver<bool>, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }

    fn fail(&self, id: u64, stream: Option<&Stream>, Failure(cause, error): Failure) {
        let backend = stream
            .map(|stream| stream.backend)
            .filter(|&backend| backend != NO_BACKEND);
        if let Some(record) = &self.load.record {
            let local = stream.map(|stream| stream.local);
            record.broken(place_of(record, id), cause, backend, local);
        }
        let report = &mut lock(&self.tally).report;
        *report.failures.entry((cause, backend)).or_default() += 1;
        if cause == Cause::Refused {
            report.last_refusal = Some(Instant::now());
        }
        if report.examples.len() < EXAMPLES {
            let local = stream.map(|stream| stream.local.to_string());
            report.examples.push(format!(
                "{cause:?}: stream {id:#x} from {} to b{}: {}",
                local.as_deref().unwrap_or("?"),
                backend.unwrap_or(NO_BACKEND),
                error.map_or_else(|| "no error".into(), |error| error.to_string()),
            ));
        }
    }

    async fn held_life(
        &self,
        id: u64,
        place: &mut Option<Stream>,
        random: &mut Random,
        stopped: &mut watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        let stream = place.insert(self.open(id).await?);
        self.exchange(stream, random).await?;
        let held = Held {
            local: stream.local,
            backend: stream.backend,
        };
        lock(&self.tally).held.insert(id, held);
        let end = self
            .load
            .life
            .map(|(shortest, longest)| Instant::now() + random.duration(shortest, longest));
        loop {
            let (shortest, usual) = self.load.gap;
            let gap = if random.between(1, LONG_GAP_EVERY) == 1 {
                random.duration(usual.min(self.load.longest_gap), self.load.longest_gap)
            } else {
                random.duration(shortest, usual)
            };
            self.pause(stopped, gap).await;
            if *stopped.borrow() || end.is_some_and(|end| Instant::now() >= end) {
                return self.close(stream).await;
            }
            self.exchange(stream, random).await?;
        }
    }

    async fn short_life(
        &self,
        id: u64,
        place: &mut Option<Stream>,
        random: &mut Random,
    ) -> Result<(), Failure> {
        let stream = place.insert(self.open(id).await?);
        for _ in 0..random.between(1, 4) {
            self.exchange(stream, random).await?;
            sleep(random.duration(Duration::ZERO, Duration::from_millis(100))).await;
        }
        self.close(stream).await
    }

    async fn open(&self, id: u64) -> Result<Stream, Failure> {
        let start = Instant::now();
        let connecting = TcpStream::connect(self.load.target);
        let socket = match timeout(self.load.patience, connecting).await {
            Ok(socket) => socket.map_err(Failure::of)?,
            Err(_) => return Err(Failure(Cause::Unanswered, None)),
        };
        let used = Instant::now();
        self.record(id, Step::Opening, start, used - start);
        socket.set_nodelay(true).map_err(Failure::of)?;
        let local = socket.local_addr().map_err(Failure::of)?;
        Ok(Stream {
            id,
            socket,
            local,
            requests: Side::new(id, Direction::Request),
            answers: Receiver::of(id, Direction::Answer),
            backend: NO_BACKEND,
            used,
        })
    }

    async fn exchange(&self, stream: &mut Stream, random: &mut Random) -> Result<(), Failure> {
        let length = random.between(1, MAX_BODY as u64) as usize;
        let start = Instant::now();
        let gap = start - stream.used;
        let exchange = async {
            stream
                .requests
                .send(&mut stream.socket, NO_BACKEND, length)
                .await?;
            stream.answers.next(&mut stream.socket).await
        };
        let block = match timeout(self.load.patience, exchange).await {
            Ok(Ok(Some(block))) => block,
            Ok(Ok(None)) => return Err(Failure(Cause::Closed, None)),
            Ok(Err(error)) => return Err(Failure::of(error)),
            Err(_) => return Err(Failure(Cause::Silent, None)),
        };
        stream.used = Instant::now();
        let stall = stream.used - start;
        self.record(stream.id, Step::Exchange, start, stall);
        let report = &mut lock(&self.tally).report;
        let first = stream.backend == NO_BACKEND;
        if first {
            stream.backend = block.backend;
            report.opened += 1;
            *report.spread.entry(block.backend).or_default() += 1;
        }
        report.exchanges += 1;
        report.bytes += block.length as u64;
        report.longest_gap = report.longest_gap.max(gap);
        report.longest_stall = report.longest_stall.max(stall);
        report.stalls += u64::from(stall > Duration::from_secs(1));
        if block.wrong > 0 || block.length != length || block.backend != stream.backend {
            report.corrupt_bytes += block.wrong.max(1);
            return Err(Failure(Cause::Corrupt, None));
        }
        Ok(())
    }

    fn record(&self, id: u64, step: Step, start: Instant, took: Duration) {
        if let Some(record) = &self.load.record {
            record.timed(place_of(record, id), step, start, took);
        }
    }

    /// Closes as an orderly client does: FIN, then the server's.
    async fn close(&self, stream: &mut Stream) -> Result<(), Failure> {
        let closing = async {
            stream.socket.shutdown().await?;
            stream.answers.next(&mut stream.socket).await
        };
        match timeout(self.load.patience, closing).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(_))) => Err(Failure(Cause::Corrupt, None)),
            Ok(Err(error)) => Err(Failure::of(error)),
            Err(_) => Err(Failure(Cause::Silent, None)),
        }
    }
}

/// Which stream an id is of.
const fn place_of(record: &Record, id: u64) -> Of {
    if id & SHORT == 0 {
        record.held(id as u32)
    } else {
        Of::Short
    }
}

/// Raises the limit of open files, as far as it has to be.
fn allow_files(files: u64) -> Result<()> {
    let (allowed, most) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    if allowed < files {
        setrlimit(Resource::RLIMIT_NOFILE, files, most.max(files))
            .context("raise the limit of open files")?;
    }
    Ok(())
}
