//! The daemon answers the admin API.

use std::time::Duration;

use tokio::time::timeout;

use super::Daemon;
use crate::admin::Request;
use crate::cluster::vrrp::Told;
use crate::dataplane::monotonic_ns;
use crate::lb::view::Context;
use crate::network::{self, XdpMode};

/// An operator's drain waits no longer for routers: a BIRD that hangs is killed by then.
const ROUTERS_KNOW: Duration = Duration::from_secs(5);
impl Daemon {
    /// Does what is asked, and says so.
    pub(super) async fn answer(&mut self, request: Request) {
        match request {
            Request::Status(reply) => {
                let nic = network::nic_counters(&self.config.interface)
                    .await
                    .unwrap_or_default();
                let mode = match network::xdp_mode(&self.config.interface).await {
                    Ok(XdpMode::Native) => "native",
                    Ok(XdpMode::Generic) => "generic",
                    Ok(XdpMode::Multiple) => "multiple",
                    Ok(XdpMode::None) | Err(_) => "detached",
                };
                let election = match &self.speaker {
                    Some(speaker) => speaker.tell().await,
                    None => Told::default(),
                };
                let bgp = self.announcements.status();
                let checks = self.scheduler.snapshot();
                let status = self.steering.status(&Context {
                    interface: &self.config.interface,
                    mode,
                    nic,
                    checks: &checks,
                    uptime_s: self.started.elapsed().as_secs(),
                    last_reload_error: self.last_reload_error.clone(),
                    sweeps: self.sweeps,
                    election,
                    cluster: self
                        .cluster
                        .as_ref()
                        .and_then(|cluster| cluster.status(&self.steering)),
                    bgp,
                    etcd: self.fleet.status(),
                    now_ns: monotonic_ns(),
                });
                // Who asked may be gone.
                drop(reply.send(status.map_err(|error| error.to_string())));
            }
            Request::DrainBalancer { drained, reply } => {
                tracing::warn!(drained, "an operator drains this balancer, or ends that");
                self.steering.plane.set_drained(drained);
                self.elect_again().await;
                // Whoever asked goes on when routers know; nobody else waits for that.
                let known = timeout(ROUTERS_KNOW, self.announcements.known());
                tokio::spawn(async move {
                    if known.await.is_err() {
                        tracing::warn!("an operator is not told that routers know: BIRD does not answer");
                    }
                    // Who asked may be gone.
                    _ = reply.send(());
                });
            }
            Request::ReloadCluster(reply) => {
                let done = self.reload_cluster().await;
                drop(reply.send(done.map_err(|error| format!("{error:#}"))));
            }
            Request::Drain {
                vip,
                backend,
                drained,
                reply,
            } => {
                let done = self.steering.drain(&vip, backend, drained, monotonic_ns());
                self.check();
                drop(reply.send(done.map_err(|refusal| refusal.to_string())));
            }
        }
    }
}
