//! The task that follows the key: gets it, watches it from there, and begins anew where that ends: with the next
//! member, and after a pause once all have failed. What it learns it leaves for the daemon, which need not listen.

use std::convert::Infallible;
use std::future::Future;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::Kept;
use super::session::{Change, Session};
use crate::config::Etcd;
use crate::config::etcd::Endpoint;

/// Between two rounds in which no member could be followed.
const PAUSES: RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(5);
/// So long a member may take for each of its answers.
const ANSWER: Duration = Duration::from_secs(2);

/// What etcd says of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It has this value.
    Value(Kept),
    /// There is no such key.
    Missing,
}

/// How it stands with etcd.
#[derive(Clone, Debug, Default)]
pub(super) struct Contact {
    /// The member that is followed; none where there is none.
    pub(super) endpoint: Option<String>,
    /// What was wrong with the one that was tried last, while there is none.
    pub(super) trouble: Option<String>,
}

/// The running task, and what it says; ends when dropped.
pub(super) struct Watcher {
    pub(super) news: watch::Receiver<Option<News>>,
    pub(super) contact: watch::Receiver<Contact>,
    task: AbortHandle,
}

impl Watcher {
    pub(super) fn start(etcd: Etcd) -> Self {
        let (news, heard) = watch::channel(None);
        let (contact, seen) = watch::channel(Contact::default());
        let task = tokio::spawn(run(etcd, news, contact));
        Self {
            news: heard,
            contact: seen,
            task: task.abort_handle(),
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(etcd: Etcd, news: watch::Sender<Option<News>>, contact: watch::Sender<Contact>) {
    let members = etcd.endpoints.len();
    // Not all of a fleet at the same one.
    let mut place = rand::random_range(0..members);
    let mut rounds = Rounds::new(members);
    loop {
        let endpoint = &etcd.endpoints[place];
        let begin = Instant::now();
        let Err(error) = follow(&etcd, endpoint, &news, &contact).await;
        let trouble = format!("{endpoint}: {error:#}");
        let is_new = contact.borrow().trouble.as_ref() != Some(&trouble);
        if is_new {
            tracing::warn!("etcd can't be followed; nothing changes: {trouble}");
        }
        contact.send_replace(Contact {
            endpoint: None,
            trouble: Some(trouble),
        });
        place = (place + 1) % members;
        if let Some(pause) = rounds.failed(begin.elapsed()) {
            sleep(pause).await;
        }
    }
}

/// Gets the key from a member and watches it, until that fails.
async fn follow(
    etcd: &Etcd,
    endpoint: &Endpoint,
    news: &watch::Sender<Option<News>>,
    contact: &watch::Sender<Contact>,
) -> Result<Infallible> {
    let session = in_time(Session::open(endpoint, etcd)).await?;
    let (revision, kept) = in_time(session.get(&etcd.key)).await.context("get")?;
    tell(news, kept.map_or(News::Missing, News::Value));
    let mut changes = in_time(session.watch(&etcd.key, revision + 1))
        .await
        .context("watch")?;
    tracing::info!(%endpoint, key = etcd.key, revision, "etcd is followed");
    contact.send_replace(Contact {
        endpoint: Some(endpoint.to_string()),
        trouble: None,
    });
    loop {
        match changes.next().await? {
            Change::Put(kept) => tell(news, News::Value(kept)),
            Change::Deleted => tell(news, News::Missing),
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(ANSWER, answer)
        .await
        .with_context(|| format!("no answer within {} s", ANSWER.as_secs()))?
}

/// The daemon hears of what is not what it heard last.
fn tell(news: &watch::Sender<Option<News>>, is: News) {
    news.send_if_modified(|was| {
        let is_new = was.as_ref() != Some(&is);
        if is_new {
            *was = Some(is);
        }
        is_new
    });
}

/// How long to wait before the next member is tried.
#[derive(Debug)]
struct Rounds {
    members: usize,
    failed: usize,
    pause: Duration,
}

impl Rounds {
    fn new(members: usize) -> Self {
        Self {
            members,
            failed: 0,
            pause: *PAUSES.start(),
        }
    }

    /// A member was followed for so long, and is not any more: how long to wait. One that was followed for longer than
    /// the longest pause begins a new count.
    fn failed(&mut self, after: Duration) -> Option<Duration> {
        if after > *PAUSES.end() {
            *self = Self::new(self.members);
        }
        self.failed += 1;
        if self.failed < self.members {
            return None;
        }
        self.failed = 0;
        let pause = self.pause;
        self.pause = (pause * 2).min(*PAUSES.end());
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_and_are_short_again_after_a_good_time() {
        let mut rounds = Rounds::new(2);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(
                rounds.failed(Duration::ZERO),
                None,
                "the other member is tried at once"
            );
            pauses.push(rounds.failed(Duration::ZERO).expect("a pause").as_millis());
        }
        assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(rounds.failed(Duration::from_secs(60)), None);
        assert_eq!(rounds.failed(Duration::ZERO), Some(Duration::from_millis(200)));
    }

    #[test]
    fn the_daemon_hears_of_news_only() {
        let value = |revision| {
            News::Value(Kept {
                revision,
                text: "[[vip]]".to_owned(),
            })
        };
        let (news, mut heard) = watch::channel(None);
        let mut hears = |is: News| {
            tell(&news, is);
            let changed = heard.has_changed().expect("the sender is there");
            heard.mark_unchanged();
            changed
        };
        assert!(hears(value(1)));
        assert!(!hears(value(1)));
        assert!(hears(value(2)));
        assert!(hears(News::Missing));
        assert!(!hears(News::Missing));
    }
}
