//! Installing Debian packages without a question, and without a service being started or enabled.
//!
//! Packages are installed under a policy-rc.d of our own that forbids every start; the machine's own one
//! is put back by a shell trap, so also after a failure or an interruption, and, should the machine die in
//! between, by the next set-up. What the packages enabled for the next boot is disabled again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::exec;

const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Where systemd finds what it has to start, in directories named `*.wants`.
const UNITS: &str = "/etc/systemd/system";
const LOCK: &str = "/run/foobar-setup.lock";
/// In the policy file that is ours, so that it is never taken for the machine's own.
const MARK: &str = "foobar: no service is started while cargo xtask setup installs packages";

/// apt-get, with the package lists brought up to date once and only if something is installed. What it says goes
/// to standard error: what a command prints may be for programs.
#[derive(Debug, Default)]
pub(crate) struct Apt {
    updated: bool,
}

impl Apt {
    /// Installs packages, or says which ones somebody must install where there is no apt.
    pub(super) fn install(&mut self, packages: &[&str]) -> Result<()> {
        if packages.is_empty() {
            return Ok(());
        }
        let list = packages.join(" ");
        if exec::find_program("apt-get").is_none() {
            bail!("there is no apt-get here; please install what these Debian packages hold: {list}");
        }
        if !exec::is_root() {
            bail!("installing packages needs root; run `cargo xtask setup` as root, or install: {list}");
        }
        eprintln!("setup: installing {list}");
        let lock = File::create(LOCK).with_context(|| format!("cannot make {LOCK}"))?;
        lock.lock().with_context(|| format!("cannot lock {LOCK}"))?;
        self.update()?;
        let mut words = vec!["apt-get", "-q", "-y", "install", "--no-install-recommends", "--"];
        words.extend(packages);
        let units = Path::new(UNITS);
        let enabled = enabled(units);
        let installed = exec::run(without_services(Path::new(POLICY), &words)?.stdout(io::stderr()));
        disable_others(units, &enabled)?;
        installed
    }

    /// Whether the lists know a package of that name.
    pub(super) fn knows(&mut self, package: &str) -> bool {
        exec::find_program("apt-cache").is_some()
            && self.update().is_ok()
            && exec::output(Command::new("apt-cache").args(["show", package])).is_ok()
    }

    /// Brings the package lists up to date, where this process may.
    pub(crate) fn update(&mut self) -> Result<()> {
        if !self.updated && exec::is_root() {
            exec::run(
                Command::new("apt-get")
                    .args(["-q", "update"])
                    .stdout(io::stderr()),
            )?;
            self.updated = true;
        }
        Ok(())
    }
}

/// The links by which units are enabled.
fn enabled(units: &Path) -> BTreeSet<PathBuf> {
    let entries = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    entries(units)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wants"))
        .flat_map(|directory| entries(&directory).map(|entry| entry.path()).collect::<Vec<_>>())
        .collect()
}

/// Disables what is enabled and was not before.
fn disable_others(units: &Path, before: &BTreeSet<PathBuf>) -> Result<()> {
    for link in enabled(units).difference(before) {
        fs::remove_file(link).with_context(|| format!("cannot remove {}", link.display()))?;
    }
    Ok(())
}

/// A command run under a policy file at `policy` that forbids starting services.
fn without_services(policy: &Path, words: &[&str]) -> Result<Command> {
    let saved = saved_policy(policy);
    restore_after_a_crash(policy, &saved)?;
    let script = format!(
        r#"policy=$1 saved=$2; shift 2
        restore() {{ if [ -e "$saved" ] || [ -L "$saved" ]; then mv -f "$saved" "$policy"; else rm -f "$policy"; fi; }}
        if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$saved" || exit 1; fi
        trap restore EXIT
        trap 'exit 130' INT; trap 'exit 143' TERM; trap 'exit 129' HUP
        printf '#!/bin/sh\n# {MARK}\nexit 101\n' > "$policy" && chmod 755 "$policy" || exit 1
        "$@""#
    );
    let mut command = Command::new("sh");
    command
        .args(["-c", &script, "sh"])
        .args([policy, &saved])
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("NEEDRESTART_MODE", "l");
    Ok(command)
}

fn saved_policy(policy: &Path) -> PathBuf {
    policy.with_extension("d.saved-by-foobar")
}

/// A policy file of ours that outlived its set-up is replaced by the one that was there before.
fn restore_after_a_crash(policy: &Path, saved: &Path) -> Result<()> {
    let ours = fs::read_to_string(policy).is_ok_and(|text| text.contains(MARK));
    if ours {
        fs::remove_file(policy).with_context(|| format!("cannot remove {}", policy.display()))?;
    }
    if saved.exists() && !policy.exists() {
        fs::rename(saved, policy).with_context(|| format!("cannot restore {}", policy.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("foobar-xtask-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn policy(&self) -> PathBuf {
            self.0.join("policy-rc.d")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_command_runs_under_a_policy_that_forbids_and_is_gone_afterwards() {
        let scratch = Scratch::new("policy");
        let policy = scratch.policy();
        let seen = scratch.0.join("seen");
        let copy = format!("sh {}; echo $? > {}", policy.display(), seen.display());
        exec::run(&mut without_services(&policy, &["sh", "-c", &copy]).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(seen).unwrap(), "101\n");
        assert!(!policy.exists());
    }

    #[test]
    fn what_packages_enable_is_disabled_again_and_nothing_else() {
        let scratch = Scratch::new("units");
        let wants = scratch.0.join("multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        fs::write(wants.join("mine.service"), "").unwrap();
        let before = enabled(&scratch.0);
        fs::write(wants.join("theirs.service"), "").unwrap();
        disable_others(&scratch.0, &before).unwrap();
        assert_eq!(enabled(&scratch.0), before);
        assert_eq!(before, BTreeSet::from([wants.join("mine.service")]));
    }

    #[test]
    fn the_users_own_policy_is_back_after_a_failure() {
        let scratch = Scratch::new("own-policy");
        fs::write(scratch.policy(), "the user's").unwrap();
        exec::run(&mut without_services(&scratch.policy(), &["false"]).unwrap()).unwrap_err();
        assert_eq!(fs::read_to_string(scratch.policy()).unwrap(), "the user's");
        assert!(!saved_policy(&scratch.policy()).exists());
    }

    #[test]
    fn a_policy_left_by_a_crash_is_not_taken_for_the_users() {
        let scratch = Scratch::new("crash-policy");
        fs::write(saved_policy(&scratch.policy()), "the user's").unwrap();
        fs::write(scratch.policy(), format!("#!/bin/sh\n# {MARK}\nexit 101\n")).unwrap();
        exec::run(&mut without_services(&scratch.policy(), &["true"]).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(scratch.policy()).unwrap(), "the user's");
    }
}
