//! The agent's loop: one task owns the data plane; the resolver, signals and the admin API send it events.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use foobar_common::address::Address;
use foobar_common::agent::{AgentCounter, AgentSettings, NextHop, Prefix};
use foobar_common::settings::mac_word;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::hops::Hops;
use super::status::{Backend, Status};
use crate::admin;
use crate::config::agent::{self as config, AgentConfig};
use crate::dataplane::{AgentPlane, Attachment, Claim, Error, Mode, Pins};
use crate::lb::preflight;
use crate::network::{self, Interface, MacAddress, Resolver, ResolverHandle, XdpMode};

/// How often the data plane is asked for backends that packets were to go to.
const TICK: Duration = Duration::from_millis(100);

/// Who wants the status, and where it goes.
type Request = oneshot::Sender<Result<Status, String>>;

struct Daemon {
    path: PathBuf,
    config: AgentConfig,
    plane: AgentPlane,
    interface: Interface,
    hops: Hops,
    resolver: ResolverHandle,
    started: Instant,
    last_reload_error: Option<String>,
    pins: Pins,
    _claim: Claim,
}

/// Runs the agent until it is told to stop. What it put into the kernel stays and goes on decapsulating.
pub(super) async fn run(path: PathBuf) -> Result<()> {
    let stop = crate::signals::stop()?;
    let mut hangup = signal(SignalKind::hangup())?;
    preflight::check()?;
    let config = read(&path)?;
    let interface = network::lookup(&config.interface).await?;
    let pins = Pins::new(&config.pin_dir, &config.interface);
    // Before anything is pinned. One that comes between this and the attaching, the kernel refuses to replace.
    if !pins.link().exists() && network::xdp_mode(&config.interface).await? != XdpMode::None {
        return Err(Error::Foreign {
            interface: config.interface,
        }
        .into());
    }
    pins.create()?;
    let claim = pins.claim()?;
    let plane = AgentPlane::open(Some(pins.clone()))?;
    let mut hops = Hops::default();
    // An agent that was here before knew them.
    hops.want(plane.neighbours()?, Instant::now());
    let (resolver, mut events) = Resolver::start(Default::default())?;
    let mut daemon = Daemon {
        path,
        config,
        plane,
        interface,
        hops,
        resolver,
        started: Instant::now(),
        last_reload_error: None,
        pins,
        _claim: claim,
    };
    let config = daemon.config.clone();
    daemon.apply(&config)?;
    daemon.attach()?;

    let (requests, mut admin) = mpsc::channel(64);
    let router = Router::new()
        .route("/v1/status", get(status))
        .with_state(requests);
    let server = admin::serve_router(&daemon.config.admin_socket, router)?;
    tracing::info!(
        interface = daemon.config.interface,
        vips = daemon.config.vips.len(),
        socket = %daemon.config.admin_socket.display(),
        "ready"
    );
    let mut interfaces = network::watch(&daemon.config.interface).await?;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = hangup.recv() => daemon.reload(),
            Some(event) = events.recv() => {
                daemon.hops.resolved(event.address, event.state);
                daemon.follow();
            }
            Some(request) = admin.recv() => daemon.answer(request).await,
            Ok(()) = interfaces.changed() => {
                let interface = interfaces.borrow_and_update().clone();
                daemon.on_interface(interface);
            }
            _ = tick.tick() => daemon.tick(),
        }
    }
    drop(server);
    tracing::info!("stopped; the data plane goes on decapsulating (`foobar agent detach` removes it)");
    Ok(())
}

fn read(path: &Path) -> Result<AgentConfig> {
    config::load(path).map_err(|report| anyhow!("the configuration is not valid\n{report}"))
}

impl Daemon {
    fn attach(&mut self) -> Result<()> {
        let how = match self.plane.attach(&self.config.interface, self.interface.index)? {
            Attachment::New(Mode::Native) => "native",
            Attachment::New(Mode::Generic) => "generic",
            Attachment::Replaced => "in the place of the program that was there",
        };
        tracing::info!(interface = self.config.interface, how, "XDP program attached");
        Ok(())
    }

    /// Puts a configuration in force.
    fn apply(&mut self, config: &AgentConfig) -> Result<()> {
        self.plane
            .set_settings(&settings(config, self.interface.mac))
            .context("the settings")?;
        self.plane.set_vips(&config.vips).context("the VIPs")?;
        self.hops.set_peers(config.peers.clone());
        self.follow();
        Ok(())
    }

    /// Lets resolver and data plane follow what is known of other backends.
    fn follow(&mut self) {
        self.resolver.set(self.hops.addresses());
        for change in self.hops.changes() {
            let written = match change.hop {
                Some(hop) => {
                    tracing::info!(backend = %change.address, next_hop = ?hop, "way to another backend");
                    self.open_way(change.address, hop)
                }
                None => {
                    tracing::warn!(backend = %change.address, "no way to another backend: it is this host's own address, or there is no route");
                    self.plane.clear_next_hop(change.address)
                }
            };
            if let Err(error) = written {
                tracing::error!(%error, backend = %change.address, "the way to another backend can't be written");
            }
        }
    }

    fn open_way(&mut self, backend: IpAddr, hop: network::NextHop) -> std::io::Result<()> {
        let ifindex = if hop.ifindex == self.interface.index {
            0
        } else {
            self.plane.add_tx_port(hop.ifindex)?;
            hop.ifindex
        };
        self.plane.set_next_hop(
            backend,
            NextHop {
                destination_mac: hop.destination_mac,
                source_mac: hop.source_mac,
                ifindex,
            },
        )
    }

    fn tick(&mut self) {
        match self.plane.take_wanted() {
            Ok(wanted) if wanted.is_empty() => (),
            Ok(wanted) => {
                self.hops.want(wanted, Instant::now());
                self.follow();
            }
            Err(error) => tracing::error!(%error, "the wanted backends can't be read"),
        }
    }

    /// The interface has changed: another MAC address, gone, or back as another one.
    fn on_interface(&mut self, interface: Option<Interface>) {
        let Some(interface) = interface else {
            tracing::error!(
                interface = self.config.interface,
                "the interface is gone: nothing is decapsulated"
            );
            return;
        };
        let replaced = interface.index != self.interface.index;
        let changed = interface.mac != self.interface.mac;
        self.interface = interface;
        if (changed || replaced)
            && let Err(error) = self
                .plane
                .set_settings(&settings(&self.config, self.interface.mac))
        {
            tracing::error!(%error, "the interface's new MAC address can't be written");
        }
        if replaced && let Err(error) = self.attach() {
            tracing::error!(%error, "the interface is back as another one, and can't be attached to");
        }
    }

    /// Reads the configuration again; where it is bad, everything stays as it is.
    fn reload(&mut self) {
        let mut new = match config::load(&self.path) {
            Ok(new) => new,
            Err(report) => {
                tracing::error!("the configuration is not valid; the old one stays in force\n{report}");
                self.last_reload_error = Some(report.to_string());
                return;
            }
        };
        for (setting, differs) in [
            ("interface", new.interface != self.config.interface),
            ("pin_dir", new.pin_dir != self.config.pin_dir),
            ("admin_socket", new.admin_socket != self.config.admin_socket),
        ] {
            if differs {
                tracing::warn!(
                    setting,
                    "can't change at run time: the old value stays until a restart"
                );
            }
        }
        new.interface.clone_from(&self.config.interface);
        new.pin_dir.clone_from(&self.config.pin_dir);
        new.admin_socket.clone_from(&self.config.admin_socket);
        match self.apply(&new) {
            Ok(()) => {
                tracing::info!(vips = new.vips.len(), "configuration reloaded");
                self.last_reload_error = None;
                self.config = new;
            }
            Err(error) => {
                tracing::error!("the configuration can't be put in force: {error:#}");
                self.last_reload_error = Some(format!("{error:#}"));
            }
        }
    }

    async fn answer(&self, request: Request) {
        let mode = match network::xdp_mode(&self.config.interface).await {
            Ok(XdpMode::Native) => "native",
            Ok(XdpMode::Generic) => "generic",
            Ok(XdpMode::Multiple) => "multiple",
            Ok(XdpMode::None) | Err(_) => "detached",
        };
        let status = self.plane.counters().map(|counters| Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interface: self.config.interface.clone(),
            mode: mode.to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            pins: self.pins.directory().display().to_string(),
            last_reload_error: self.last_reload_error.clone(),
            vips: self.config.vips.iter().copied().collect(),
            backends: self
                .hops
                .told()
                .map(|(address, hop)| Backend {
                    address,
                    mac: hop.map(|hop| hop.destination_mac.map(|byte| format!("{byte:02x}")).join(":")),
                })
                .collect(),
            counters: AgentCounter::ALL
                .iter()
                .map(|&counter| (counter.name().to_owned(), counters.get(counter)))
                .collect(),
        });
        // Who asked may be gone.
        drop(request.send(status.map_err(|error| error.to_string())));
    }
}

/// What the data plane is told.
fn settings(config: &AgentConfig, mac: MacAddress) -> AgentSettings {
    let mut settings = AgentSettings {
        own_mac: mac_word(mac),
        trusted_count: config.trusted.len() as u32,
        address_count: config.addresses.len() as u32,
        gue_port_be: config.gue_port.to_be(),
        ..AgentSettings::default()
    };
    for (place, prefix) in settings.trusted.iter_mut().zip(&config.trusted) {
        let mapped = if prefix.addr().is_ipv4() { 96 } else { 0 };
        *place = Prefix::new(prefix.addr().into(), mapped + u32::from(prefix.prefix_len()));
    }
    for (place, &address) in settings.addresses.iter_mut().zip(&config.addresses) {
        *place = Address::from(address).words();
    }
    settings
}

async fn status(State(requests): State<mpsc::Sender<Request>>) -> Response {
    let (reply, answer) = oneshot::channel();
    let stopping = || {
        let error = serde_json::json!({ "error": "the agent is stopping" });
        (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
    };
    if requests.send(reply).await.is_err() {
        return stopping();
    }
    match answer.await {
        Ok(Ok(status)) => Json(status).into_response(),
        Ok(Err(error)) => {
            let error = serde_json::json!({ "error": error });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(error)).into_response()
        }
        Err(_) => stopping(),
    }
}
