//! The daemon takes another configuration, or the cluster's directory anew.

use anyhow::{Result, bail};

use super::Daemon;
use crate::config::{self, Config};
use crate::dataplane::monotonic_ns;

impl Daemon {
    /// Reads the configuration again; where it is bad, everything stays as it is.
    pub(super) async fn reload(&mut self) {
        match self.fleet.load(&self.path) {
            Ok(new) => self.put_in_force(new).await,
            Err(report) => {
                tracing::error!("the configuration is not valid; the old one stays in force\n{report}");
                self.last_reload_error = Some(report);
            }
        }
    }

    /// etcd says something else of the fleet's part.
    pub(super) async fn on_fleet(&mut self) {
        if let Some(new) = self.fleet.take(&self.path) {
            self.put_in_force(new).await;
        }
    }

    /// What was validated is in force afterwards, or what was before still is.
    async fn put_in_force(&mut self, new: Config) {
        let difference = config::difference(&self.config, &new);
        for change in &difference.fixed {
            tracing::warn!(
                setting = change.setting,
                old = change.old,
                new = change.new,
                "can't change at run time: the old value stays until a restart; for limits, slots and hash, until `foobar lb detach` and a start"
            );
        }
        let new = config::keep_fixed(&self.config, &new);
        self.steering.plane.set_macs(self.interface.mac, &new.peer_macs);
        self.steering.set_configuration(&new.vips, monotonic_ns());
        self.post();
        if let Err(error) = self.steering.apply(&new, monotonic_ns()) {
            tracing::error!(%error, "the configuration can't be put in force; the old one stays");
            self.last_reload_error = Some(error.to_string());
            self.fleet.not_put_in_force(&error.to_string());
            self.steering.set_configuration(&self.config.vips, monotonic_ns());
            return;
        }
        self.fleet.put_in_force();
        let left_out = &self.steering.left_out;
        if left_out.is_empty() {
            self.last_reload_error = None;
            tracing::info!(
                vips_added = difference.added.len(),
                vips_removed = difference.removed.len(),
                vips_changed = difference.changed.len(),
                "configuration reloaded"
            );
        } else {
            self.last_reload_error = Some(format!("left out: {}", left_out.join("; ")));
        }
        self.config = new;
        if self.cluster.is_some()
            && let Err(error) = self.reload_cluster().await
        {
            tracing::error!("the cluster stays as it was: {error:#}");
            self.last_reload_error = Some(format!("cluster: {error:#}"));
        }
        self.follow().await;
        self.announce();
        self.announcements.forget();
        self.elect_again().await;
    }

    /// Reads the cluster's directory again.
    pub(super) async fn reload_cluster(&mut self) -> Result<()> {
        let Some(cluster) = &mut self.cluster else {
            bail!(
                "this balancer is in no cluster: `cluster = \"DIRECTORY\"` in its configuration, and a restart, let it be"
            );
        };
        let nodes = cluster.reload().await?;
        tracing::info!(peers = nodes.join(", "), "the cluster's directory was read again");
        self.steering.set_peers(nodes, monotonic_ns());
        Ok(())
    }
}
