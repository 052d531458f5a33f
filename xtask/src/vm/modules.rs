//! The kernel modules that the machine is given: some, and what those depend on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// What the tests' networks are made of, and what the health checks' program hangs on.
const WANTED: [&str; 4] = ["veth", "bridge", "sch_ingress", "cls_bpf"];

/// A module, ready to be given to the kernel.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) image: Vec<u8>,
}

/// The modules in a kernel's directory that are wanted, each after those that it depends on. One that is not
/// there is taken to be built in.
pub(super) fn collect(directory: &Path) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    find(directory, &mut files)?;
    let mut modules = Vec::new();
    for name in WANTED {
        add(name, &files, &mut modules)?;
    }
    Ok(modules)
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, modules: &mut Vec<Module>) -> Result<()> {
    let Some(file) = files.get(name) else {
        return Ok(());
    };
    if modules.iter().any(|module| module.name == name) {
        return Ok(());
    }
    let image = read(file)?;
    for dependency in dependencies(&image) {
        add(&dependency, files, modules)?;
    }
    modules.push(Module {
        name: name.to_owned(),
        image,
    });
    Ok(())
}

fn find(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), files)?;
        } else if let Some(name) = name_of(&entry.file_name().to_string_lossy()) {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

/// The module that a file holds, as the kernel calls it.
fn name_of(file: &str) -> Option<String> {
    let (stem, _) = file.split_once(".ko")?;
    Some(stem.replace('-', "_"))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{} is packed in a way that is not known here", file.display()),
    };
    let output = Command::new(program)
        .arg("-dc")
        .arg(file)
        .output()
        .with_context(|| format!("{} can't be unpacked: there is no {program}", file.display()))?;
    if !output.status.success() {
        bail!("{program} can't unpack {}", file.display());
    }
    Ok(output.stdout)
}

/// The modules that one depends on: the entry `depends=` of its section .modinfo, between zero bytes.
fn dependencies(image: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(place) = image.windows(KEY.len()).position(|part| part == KEY) else {
        return Vec::new();
    };
    let value = &image[place + KEY.len()..];
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_depends_on() {
        assert_eq!(
            dependencies(b"ELF..\0alias=x\0depends=stp,llc\0retpoline=Y\0"),
            ["stp", "llc"]
        );
        assert!(dependencies(b"ELF..\0depends=\0name=veth\0").is_empty());
        assert!(dependencies(b"ELF").is_empty());
    }

    #[test]
    fn modules_are_known_by_the_kernels_names() {
        assert_eq!(name_of("nf-log-syslog.ko.xz").as_deref(), Some("nf_log_syslog"));
        assert_eq!(name_of("modules.builtin"), None);
    }
}
