//! `cargo xtask exec HOST -- CMD...`: a command on a lab host, with the lab's names and authority in place.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use super::state::State;
use super::topology::{Host, Run};
use super::{certificates, database, lb_status, network};
use crate::{exec, workspace};

/// Becomes the command; returns only if that fails. Its exit code is this program's.
pub(crate) fn enter(run: &Run, host: Host, words: &[OsString]) -> Result<()> {
    ensure!(exec::is_root(), "entering a namespace needs root");
    let state =
        State::load(run)?.with_context(|| format!("there is no lab {run}; `cargo xtask up` starts it"))?;
    if !state.shape.hosts().contains(&host) {
        let names: Vec<_> = state.shape.hosts().iter().map(ToString::to_string).collect();
        bail!("the lab {run} has no {host}; it has {}", names.join(", "));
    }
    let authority = certificates::authority(run);
    let path = env::var_os("PATH").unwrap_or_default();
    let own: Option<PathBuf> = workspace::foobar_binary().parent().map(Into::into);
    let mut command = network::in_namespace(&run.namespace(host));
    command
        .args(words)
        .env("SSL_CERT_FILE", &authority)
        .env("CURL_CA_BUNDLE", &authority)
        .env("FOOBAR_SOCKET", lb_status::socket(run, host))
        .env("MARIADB_HOME", database::client_home(run))
        .env(
            "PATH",
            env::join_paths(own.into_iter().chain(env::split_paths(&path)))?,
        );
    for proxy in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(proxy);
    }
    Err(command.exec()).context("cannot run ip")
}
