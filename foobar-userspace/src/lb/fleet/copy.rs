//! The last good value, on disk: the value's own text under a line that says of which key and revision it is.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::Kept;
use crate::config::Etcd;
use crate::files;

/// For its owner alone.
const MODE: u32 = 0o600;
const BEGIN: &str = "# The last good value, written by foobar; etcd key ";
const REVISION: &str = ", revision ";

/// The value that was kept; `None` where there is no file.
///
/// # Errors
/// Where it can't be read, or is another key's.
pub(super) fn read(etcd: &Etcd) -> Result<Option<Kept>> {
    let text = match fs::read_to_string(&etcd.copy) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| at(&etcd.copy)),
    };
    let kept = parse(&text, &etcd.key).with_context(|| at(&etcd.copy))?;
    Ok(Some(kept))
}

/// Writes it as a whole: whenever the machine dies, the old one is there or the new one.
///
/// # Errors
/// Where the file system refuses it.
pub(super) fn write(etcd: &Etcd, kept: &Kept) -> Result<()> {
    let write = || {
        if let Some(directory) = etcd.copy.parent() {
            fs::create_dir_all(directory)?;
        }
        files::replace(&etcd.copy, &render(kept, &etcd.key), MODE)
    };
    write().with_context(|| at(&etcd.copy))
}

/// What reports call the value in it; lines are counted from the value's first.
pub(super) fn name(etcd: &Etcd) -> String {
    format!("etcd key {} (the copy in {})", etcd.key, etcd.copy.display())
}

fn at(path: &Path) -> String {
    format!("etcd.copy {}", path.display())
}

fn render(kept: &Kept, key: &str) -> String {
    format!("{BEGIN}{key}{REVISION}{}\n{}", kept.revision, kept.text)
}

fn parse(text: &str, key: &str) -> Result<Kept> {
    let (head, value) = text.split_once('\n').unwrap_or((text, ""));
    let of = head
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.rsplit_once(REVISION));
    let Some((of, revision)) = of else {
        bail!("its first line does not say of which key it is: it was not written by foobar");
    };
    if of != key {
        bail!("it is of the key {of}, not of {key}");
    }
    Ok(Kept {
        revision: revision.parse().context("its revision")?,
        text: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn etcd(name: &str) -> Etcd {
        let directory = std::env::temp_dir().join(format!("foobar-copy-{}-{name}", std::process::id()));
        Etcd {
            endpoints: Vec::new(),
            key: "/foobar/lb".to_owned(),
            copy: directory.join("deeper/lb.etcd.toml"),
            ca: None,
            identity: None,
            login: None,
        }
    }

    fn remove(etcd: &Etcd) {
        let directory = etcd.copy.parent().and_then(Path::parent).expect("the test's own");
        fs::remove_dir_all(directory).expect("it can be removed");
    }

    #[test]
    fn what_is_written_is_read_and_nobody_else_can_read_it() {
        let etcd = etcd("whole");
        assert_eq!(read(&etcd).expect("no file is no error"), None);
        for (revision, text) in [(7, "# ours\n[[vip]]\n"), (8, ""), (9, "no newline")] {
            let kept = Kept {
                revision,
                text: text.to_owned(),
            };
            write(&etcd, &kept).expect("written");
            assert_eq!(read(&etcd).expect("readable"), Some(kept));
        }
        let mode = fs::metadata(&etcd.copy).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let directory = etcd.copy.parent().expect("the test's own");
        let files = fs::read_dir(directory).expect("there").count();
        assert_eq!(files, 1, "something else was left there");
        remove(&etcd);
    }

    #[test]
    fn one_of_another_key_is_no_copy() {
        let mut etcd = etcd("other");
        let kept = Kept {
            revision: 7,
            text: "[[vip]]\n".to_owned(),
        };
        write(&etcd, &kept).expect("written");
        etcd.key = "/foobar/lb2".to_owned();
        let said = format!("{:#}", read(&etcd).expect_err("refused"));
        assert!(said.contains("/foobar/lb, not of /foobar/lb2"), "{said}");
        fs::write(&etcd.copy, "[[vip]]\n").expect("written");
        let said = format!("{:#}", read(&etcd).expect_err("refused"));
        assert!(said.contains("not written by foobar"), "{said}");
        remove(&etcd);
    }
}
