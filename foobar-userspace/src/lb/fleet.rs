//! The part of the configuration that a fleet shares, from etcd: what is in force, what was refused and why, and the
//! copy on disk. Without `[etcd]` in the file it is the file and nothing else.
//!
//! A value goes the way of a file: validated together with the file, put in force by the daemon, and only then kept as
//! the copy. etcd that is away, a bad value and a deleted key change nothing.

mod copy;
mod keeper;
mod session;
mod watcher;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use self::keeper::Keeper;
use self::watcher::{News, Watcher};
use crate::admin::EtcdStatus;
use crate::config::etcd::{self, Shared};
use crate::config::{self, Config, Etcd, Report};

/// At the start so long is waited for etcd, where there is a copy to serve from.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// And where there is none.
const PATIENCE_WITHOUT: Duration = Duration::from_secs(10);

/// A value of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The revision of the store in which the key got it.
    pub(crate) revision: i64,
    /// TOML, if it is good.
    pub(crate) text: String,
}

/// Where a value was got from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Etcd,
    Copy,
}

/// A value that may be put in force.
#[derive(Clone, Debug)]
struct Candidate {
    kept: Kept,
    source: Source,
}

impl Candidate {
    /// The configuration that it makes with the file.
    fn with(&self, file: &Path, etcd: &Etcd) -> Result<Config, Report> {
        let name = match self.source {
            Source::Etcd => format!("etcd key {}", etcd.key),
            Source::Copy => copy::name(etcd),
        };
        let text = &self.kept.text;
        etcd::load_with(file, Some(Shared { name: &name, text }))
    }
}

/// The newest value, which is not in force, and why.
#[derive(Clone, Debug)]
struct Refused {
    candidate: Candidate,
    why: String,
}

/// A fleet's part, where the file says that there is one.
pub(super) struct Fleet(Option<Following>);

struct Following {
    etcd: Etcd,
    watcher: Watcher,
    keeper: Keeper,
    /// What [`Fleet::load`] or [`Fleet::take`] gave the daemon last.
    given: Option<Candidate>,
    in_force: Option<(Candidate, Instant)>,
    refused: Option<Refused>,
    is_missing: bool,
}

impl Fleet {
    /// Reads the file and, where it says so, the fleet's part: from etcd, else from the copy.
    ///
    /// # Errors
    /// Where the file is not valid, or needs the fleet's part and there is no good one.
    pub(super) async fn start(file: &Path) -> Result<(Self, Config)> {
        let settings = etcd::settings(file).map_err(invalid)?;
        let Some(etcd) = settings else {
            return Ok((Self(None), config::load(file).map_err(invalid)?));
        };
        let copy = copy::read(&etcd).unwrap_or_else(|error| {
            tracing::error!("the copy can't be used: {error:#}");
            None
        });
        let mut following = Following {
            watcher: Watcher::start(etcd.clone()),
            keeper: Keeper::start(etcd.clone()),
            etcd,
            given: None,
            in_force: None,
            refused: None,
            is_missing: false,
        };
        let patience = if copy.is_some() {
            PATIENCE
        } else {
            PATIENCE_WITHOUT
        };
        let news = following.watcher.news.wait_for(Option::is_some);
        // In vain: etcd is away.
        drop(tokio::time::timeout(patience, news).await);
        let mut config = following.take(file);
        if config.is_none()
            && let Some(kept) = copy
        {
            config = following.serve_copy(file, kept);
        }
        match config {
            Some(config) => Ok((Self(Some(following)), config)),
            None => following.without(file),
        }
    }

    /// Ends when there is something to [`take`](Self::take).
    pub(super) async fn news(&mut self) {
        if let Some(following) = &mut self.0
            && following.watcher.news.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// What etcd says now, as a configuration to put in force; `None` where nothing is to change.
    pub(super) fn take(&mut self, file: &Path) -> Option<Config> {
        self.0.as_mut()?.take(file)
    }

    /// Reads the file again: with the newest value that was refused, if it is good now, else with the one in force.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn load(&mut self, file: &Path) -> Result<Config, String> {
        let settings = etcd::settings(file).map_err(|report| report.to_string())?;
        if settings.as_ref() != self.0.as_ref().map(|following| &following.etcd) {
            return Err("[etcd] is not what it was: that needs a restart".to_owned());
        }
        match &mut self.0 {
            None => config::load(file).map_err(|report| report.to_string()),
            Some(following) => following.load(file),
        }
    }

    /// What was given last is in force.
    pub(super) fn put_in_force(&mut self) {
        if let Some(following) = &mut self.0 {
            following.put_in_force();
        }
    }

    /// What was given last could not be put in force.
    pub(super) fn not_put_in_force(&mut self, why: &str) {
        if let Some(following) = &mut self.0
            && let Some(candidate) = following.given.take()
        {
            following.refuse(candidate, why.to_owned());
        }
    }

    /// How it stands with etcd; `None` without it.
    pub(super) fn status(&self) -> Option<EtcdStatus> {
        let following = self.0.as_ref()?;
        let contact = following.watcher.contact.borrow().clone();
        let in_force = following.in_force.as_ref();
        Some(EtcdStatus {
            key: following.etcd.key.clone(),
            endpoint: contact.endpoint,
            trouble: contact.trouble,
            revision: in_force.map(|(candidate, _)| candidate.kept.revision),
            from_copy: in_force.is_some_and(|(candidate, _)| candidate.source == Source::Copy),
            since_s: in_force.map(|(_, since)| since.elapsed().as_secs()),
            missing: following.is_missing,
            refused_revision: following
                .refused
                .as_ref()
                .map(|refused| refused.candidate.kept.revision),
            refused: following.refused.as_ref().map(|refused| refused.why.clone()),
            copy: following.etcd.copy.display().to_string(),
            copy_trouble: following.keeper.trouble(),
        })
    }
}

impl Following {
    fn take(&mut self, file: &Path) -> Option<Config> {
        let news = self.watcher.news.borrow_and_update().clone();
        self.is_missing = news == Some(News::Missing);
        let kept = match news? {
            News::Value(kept) => kept,
            News::Missing => {
                tracing::warn!(key = self.etcd.key, "etcd has no such key: nothing changes");
                return None;
            }
        };
        let candidate = Candidate {
            kept,
            source: Source::Etcd,
        };
        if let Some((in_force, _)) = &mut self.in_force
            && in_force.kept.text == candidate.kept.text
        {
            *in_force = candidate;
            self.keeper.keep(&in_force.kept);
            self.refused = None;
            return None;
        }
        match candidate.with(file, &self.etcd) {
            Ok(config) => {
                self.refused = None;
                self.given = Some(candidate);
                Some(config)
            }
            Err(report) => {
                self.refuse(candidate, report.to_string());
                None
            }
        }
    }

    fn refuse(&mut self, candidate: Candidate, why: String) {
        tracing::error!(
            key = self.etcd.key,
            revision = candidate.kept.revision,
            "the value can't be put in force; nothing changes\n{why}"
        );
        self.refused = Some(Refused { candidate, why });
    }

    fn serve_copy(&mut self, file: &Path, kept: Kept) -> Option<Config> {
        let revision = kept.revision;
        let candidate = Candidate {
            kept,
            source: Source::Copy,
        };
        match candidate.with(file, &self.etcd) {
            Ok(config) => {
                tracing::warn!(
                    copy = %self.etcd.copy.display(),
                    revision,
                    "no good value from etcd: the copy is served"
                );
                self.given = Some(candidate);
                Some(config)
            }
            Err(report) => {
                tracing::error!("the copy can't be used\n{report}");
                None
            }
        }
    }

    /// There is neither value nor copy. A file that has VIPs of its own is enough; otherwise the daemon would take
    /// away the VIPs that the data plane has, so it does not run.
    fn without(self, file: &Path) -> Result<(Fleet, Config)> {
        let why = match &self.refused {
            Some(refused) => refused.why.clone(),
            None if self.is_missing => format!("etcd has no key {}", self.etcd.key),
            None => {
                let trouble = self.watcher.contact.borrow().trouble.clone();
                trouble.unwrap_or_else(|| "etcd has not answered".to_owned())
            }
        };
        match config::load(file) {
            Ok(config) if !config.vips.is_empty() => {
                tracing::warn!("the file's own VIPs are served alone: {why}");
                Ok((Fleet(Some(self)), config))
            }
            _ => bail!(
                "nothing to serve: {} has no VIPs of its own, there is no good value of the etcd key {} and no copy of \
                 one in {}. What the data plane has goes on forwarding\n{why}",
                file.display(),
                self.etcd.key,
                self.etcd.copy.display()
            ),
        }
    }

    fn load(&mut self, file: &Path) -> Result<Config, String> {
        if let Some(refused) = &self.refused
            && let Ok(config) = refused.candidate.with(file, &self.etcd)
        {
            self.given = Some(refused.candidate.clone());
            return Ok(config);
        }
        let in_force = self.in_force.as_ref().map(|(candidate, _)| candidate);
        let loaded = match in_force {
            Some(candidate) => candidate.with(file, &self.etcd),
            None => config::load(file),
        };
        self.given = in_force.cloned();
        loaded.map_err(|report| report.to_string())
    }

    fn put_in_force(&mut self) {
        let Some(given) = self.given.take() else {
            return;
        };
        if given.source == Source::Etcd {
            self.keeper.keep(&given.kept);
        }
        match &mut self.in_force {
            Some((in_force, _)) if in_force.kept == given.kept => (),
            in_force => {
                tracing::info!(
                    key = self.etcd.key,
                    revision = given.kept.revision,
                    "the fleet's part is in force"
                );
                *in_force = Some((given.clone(), Instant::now()));
            }
        }
        if self
            .refused
            .as_ref()
            .is_some_and(|refused| refused.candidate.kept == given.kept)
        {
            self.refused = None;
        }
    }
}

/// Reads a file and, where it says that there is one, the fleet's part: from this file, else from the copy. Also gives
/// the file that the part is from.
///
/// # Errors
/// Where the file has no use for a part that is given, or the part can't be read. What is not valid is inside.
pub(crate) fn load_without_etcd(
    file: &Path,
    value: Option<&Path>,
) -> Result<(Result<Config, Report>, Option<PathBuf>)> {
    let etcd = match etcd::settings(file) {
        Ok(etcd) => etcd,
        Err(report) => return Ok((Err(report), None)),
    };
    let Some(etcd) = etcd else {
        ensure!(
            value.is_none(),
            "{} has no [etcd]: it takes no value",
            file.display()
        );
        return Ok((config::load(file), None));
    };
    let (name, text, path) = match value {
        Some(path) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
            (name, text, path)
        }
        None => match copy::read(&etcd)? {
            Some(kept) => (copy::name(&etcd), kept.text, etcd.copy.as_path()),
            None => return Ok((config::load(file), None)),
        },
    };
    let shared = Shared {
        name: &name,
        text: &text,
    };
    Ok((etcd::load_with(file, Some(shared)), Some(path.to_owned())))
}

pub(super) fn invalid(report: Report) -> anyhow::Error {
    anyhow::anyhow!("the configuration is not valid\n{report}")
}
