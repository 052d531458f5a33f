//! VIPs that routers are told of: which addresses are announced and which reasons keep others from it. Telling them is
//! `cluster::bgp`'s, in a thread and by a program of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;

use super::election::Attached;
use super::steering::{Steering, Vip};
use crate::admin::{BgpSessionStatus, BgpStatus, RouteStatus};
use crate::cluster::bgp::{Password, Session, Supervisor, Teller, Told, Wanted};
use crate::cluster::vrrp::Reason;
use crate::config::{Announcement, Attributes, Bgp, Config, Ownership};
use crate::files;
use crate::network::OperationalState;

/// A VIP's address that routers may be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) address: IpAddr,
    /// What routers are told of it besides.
    pub(super) attributes: Attributes,
    /// Why it is not as it should be.
    pub(super) reasons: BTreeSet<Reason>,
    /// Whether it is announced all the same.
    pub(super) announced: bool,
}

impl Steering {
    /// The addresses of a configuration that is in force.
    pub(super) fn routes(&self, bgp: &Bgp, attached: Attached, link: OperationalState) -> Vec<Route> {
        // All services of an address are in the same group.
        let mut members: BTreeMap<IpAddr, (Option<&str>, Vec<&Vip>)> = BTreeMap::new();
        for vip in &self.vips {
            if let Ownership::Bgp(group) = &vip.config.ownership {
                let (named, services) = members.entry(vip.config.address).or_default();
                *named = group.as_deref();
                services.push(vip);
            }
        }
        let route = |(address, (group, services)): (IpAddr, (Option<&str>, Vec<&Vip>))| {
            let mut reasons = self.reasons(&services, attached);
            if link != OperationalState::Up {
                reasons.insert(Reason::LinkDown);
            }
            Route {
                address,
                attributes: bgp.attributes_of(group).clone(),
                announced: is_announced(bgp, &reasons),
                reasons,
            }
        };
        members.into_iter().map(route).collect()
    }
}

/// Whether an address is announced in spite of all reasons.
fn is_announced(bgp: &Bgp, reasons: &BTreeSet<Reason>) -> bool {
    reasons.iter().all(|reason| match reason {
        Reason::NoBackend => bgp.track.no_backend == Announcement::Kept,
        Reason::Detached => bgp.track.detached == Announcement::Kept,
        Reason::Canary => bgp.track.canary == Announcement::Kept,
        Reason::Differing => bgp.track.differing == Announcement::Kept,
        Reason::LinkDown
        | Reason::NoAddress
        | Reason::NoSocket
        | Reason::Unchecked
        | Reason::Joining
        | Reason::Drained => false,
    })
}

/// A supervisor that ends in a task of its own.
#[derive(Debug)]
struct Leaving {
    task: JoinHandle<()>,
    teller: Teller,
}

/// The announcements, and who makes them.
#[derive(Debug)]
pub(super) struct Announcements {
    /// BIRD's directory.
    directory: PathBuf,
    supervisor: Option<Supervisor>,
    /// One that was told to end, and whose BIRD still takes leave.
    leaving: Option<Leaving>,
    /// What was wanted last.
    wanted: Option<Wanted>,
    routes: Vec<Route>,
    /// What keeps announcements from being made, as it was logged.
    trouble: Option<String>,
}

impl Announcements {
    /// Nothing is announced. BIRD's directory is to be beside the admin socket, named as it is.
    pub(super) fn new(admin_socket: &Path) -> Self {
        Self {
            directory: admin_socket.with_extension("bgp"),
            supervisor: None,
            leaving: None,
            wanted: None,
            routes: Vec::new(),
            trouble: None,
        }
    }

    /// Has the passwords be read again at the next change.
    pub(super) fn forget(&mut self) {
        self.wanted = None;
    }

    /// Has routers be told of what is here, without waiting until they are.
    ///
    /// # Errors
    /// A password can't be read, or there is no BIRD: what was announced before still is.
    pub(super) fn set(&mut self, config: &Config, routes: Vec<Route>) -> Result<()> {
        let Some(bgp) = &config.bgp else {
            self.leave();
            return Ok(());
        };
        self.leaving.take_if(|leaving| leaving.task.is_finished());
        if self.leaving.is_some() {
            // Two can't have the same ports and files. Whoever sets again finds it gone.
            self.routes = Vec::new();
            return Ok(());
        }
        let ended = self.supervisor.take_if(|supervisor| supervisor.has_ended());
        let passwords = match &self.wanted {
            Some(wanted) if wanted.config == *bgp => wanted.passwords.clone(),
            _ => passwords(bgp)?,
        };
        let wanted = Wanted {
            config: bgp.clone(),
            passwords,
            vips: routes
                .iter()
                .map(|route| (route.address, route.attributes.clone()))
                .collect(),
            announced: announced(&routes),
        };
        self.routes = routes;
        if ended.is_none() && self.supervisor.is_some() && self.wanted.as_ref() == Some(&wanted) {
            return Ok(());
        }
        match &self.supervisor {
            Some(supervisor) => supervisor.set(wanted.clone()),
            None => self.supervisor = Some(Supervisor::start(&self.directory, wanted.clone())?),
        }
        self.wanted = Some(wanted);
        Ok(())
    }

    /// As [`Self::set`], where an error is no reason to end: it is logged once.
    pub(super) fn set_again(&mut self, config: &Config, routes: Vec<Route>) {
        let trouble = self.set(config, routes).err();
        let trouble = trouble.map(|error| format!("{error:#}"));
        if let Some(trouble) = &trouble
            && self.trouble.as_ref() != Some(trouble)
        {
            tracing::error!("BGP: announcements are not as they should be: {trouble}");
        }
        self.trouble = trouble;
    }

    /// The addresses that routers are told of.
    pub(super) fn announced(&self) -> BTreeSet<IpAddr> {
        announced(&self.routes)
    }

    /// Ends when BIRD knows what was set last, or is gone; without BIRD, at once.
    pub(super) fn known(&self) -> impl Future<Output = ()> + Send + use<> {
        let known = self.supervisor.as_ref().map(Supervisor::known);
        async move {
            if let Some(known) = known {
                known.await;
            }
        }
    }

    /// The status as the admin API gives it; `None` where nothing is to be announced.
    pub(super) fn status(&self) -> Option<BgpStatus> {
        let leaving = self
            .leaving
            .as_ref()
            .filter(|leaving| !leaving.task.is_finished());
        let told = match (&self.supervisor, leaving) {
            (Some(supervisor), _) => supervisor.teller().told(),
            (None, Some(leaving)) => leaving.teller.told(),
            (None, None) if self.trouble.is_some() => Told::default(),
            (None, None) => return None,
        };
        let now_s = UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs());
        Some(BgpStatus {
            process: told.process,
            version: told.version,
            restarts: told.restarts,
            trouble: self.trouble.clone().or(told.trouble),
            routes: self.routes.iter().map(route_status).collect(),
            sessions: told
                .sessions
                .into_iter()
                .map(|session| session_status(session, now_s))
                .collect(),
        })
    }

    /// Has everything be withdrawn, and BIRD end.
    fn leave(&mut self) {
        self.routes.clear();
        self.wanted = None;
        if let Some(supervisor) = self.supervisor.take() {
            tracing::info!("BGP: VIPs are withdrawn");
            self.leaving = Some(Leaving {
                teller: supervisor.teller(),
                task: tokio::spawn(supervisor.stop()),
            });
        }
    }

    /// Withdraws everything, and waits until BIRD has ended.
    pub(super) async fn stop(&mut self) {
        self.leave();
        if let Some(leaving) = self.leaving.take()
            && let Err(error) = leaving.task.await
        {
            tracing::error!(%error, "BGP: it did not end as it should");
        }
    }
}

fn route_status(route: &Route) -> RouteStatus {
    RouteStatus {
        address: route.address,
        announced: route.announced,
        reasons: route
            .reasons
            .iter()
            .map(|reason| reason.name().to_owned())
            .collect(),
    }
}

fn session_status(session: Session, now_s: u64) -> BgpSessionStatus {
    BgpSessionStatus {
        neighbor: session.neighbor,
        remote_as: session.remote_as,
        state: session.state,
        since_s: session.since.map(|since| now_s.saturating_sub(since)),
        bfd: session.bfd,
        exported: session.exported,
        last_error: session.last_error,
    }
}

fn announced(routes: &[Route]) -> BTreeSet<IpAddr> {
    let announced = routes.iter().filter(|route| route.announced);
    announced.map(|route| route.address).collect()
}

fn passwords(bgp: &Bgp) -> Result<Vec<Option<Password>>> {
    let files = bgp
        .neighbors
        .iter()
        .map(|neighbor| neighbor.password_file.as_deref());
    files.map(|file| file.map(password).transpose()).collect()
}

fn password(file: &Path) -> Result<Password> {
    let read = || -> Result<Password> {
        files::check_secret(file)?;
        Ok(Password::new(&std::fs::read_to_string(file)?)?)
    };
    read().with_context(|| format!("bgp.neighbor.password_file {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config;

    fn bgp(track: &str) -> Bgp {
        let text = format!(
            "interface = \"eth0\"\n[bgp]\nrouter_id = \"192.0.2.11\"\nas = 64512\n{track}\n[[bgp.neighbor]]\n\
             address = \"192.0.2.1\"\nas = 64500\n"
        );
        config::parse("lb.toml", &text).unwrap().bgp.unwrap()
    }

    #[test]
    fn every_reason_withdraws_but_those_that_the_operator_lets_be() {
        let all = [
            Reason::LinkDown,
            Reason::Detached,
            Reason::NoBackend,
            Reason::Canary,
            Reason::Unchecked,
            Reason::Drained,
        ];
        let strict = bgp("");
        assert!(is_announced(&strict, &BTreeSet::new()));
        for reason in all {
            assert!(!is_announced(&strict, &[reason].into()), "{reason:?}");
        }
        assert!(is_announced(&strict, &[Reason::Differing].into()));
        assert!(!is_announced(
            &bgp("track = { differing = \"withdraw\" }"),
            &[Reason::Differing].into()
        ));
        let lenient =
            bgp("track = { no_backend = \"announce\", detached = \"announce\", canary = \"announce\" }");
        let kept: Vec<Reason> = all
            .into_iter()
            .filter(|reason| is_announced(&lenient, &[*reason].into()))
            .collect();
        assert_eq!(kept, [Reason::Detached, Reason::NoBackend, Reason::Canary]);
        assert!(!is_announced(
            &lenient,
            &[Reason::NoBackend, Reason::Drained].into()
        ));
    }

    #[test]
    fn a_password_that_others_can_read_is_refused_and_never_quoted() {
        let file = std::env::temp_dir().join(format!("foobar-bgp-password-{}", std::process::id()));
        let said = |mode, text: &str| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            password(&file).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(said(0o600, "s3cret\n"), Ok(Password::new("s3cret").unwrap()));
        let refused = said(0o644, "s3cret\n").unwrap_err();
        assert!(
            refused.contains("others can read") && !refused.contains("s3cret"),
            "{refused}"
        );
        let refused = said(0o600, "s3c\"ret\n").unwrap_err();
        assert!(
            refused.contains("printable") && !refused.contains("s3c"),
            "{refused}"
        );
        std::fs::remove_file(&file).unwrap();
        assert!(password(&file).unwrap_err().to_string().contains("password_file"));
    }
}
