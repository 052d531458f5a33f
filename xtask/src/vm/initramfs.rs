//! The machine's only file system: its first process, the objects, the tests with the libraries that they need,
//! and the few programs that the tests call.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::cpio::Archive;
use super::modules::Module;
use super::suites::{self, Suite};
use crate::exec;

/// What the tests call to make their networks.
const TOOLS: [&str; 5] = ["ip", "ethtool", "mount", "umount", "setpriv"];

/// What goes into the machine.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    /// The first process.
    pub(super) guest: &'a Path,
    /// The directory of the eBPF objects.
    pub(super) objects: &'a Path,
    pub(super) modules: &'a [Module],
    /// Whether every program is loaded with every combination of features.
    pub(super) loads: bool,
    pub(super) suites: &'a [Suite],
    /// Programs of the project, by their places in the machine.
    pub(super) programs: &'a [(String, PathBuf)],
}

/// What the first process is to do.
#[derive(Serialize)]
struct Plan<'a> {
    modules: Vec<String>,
    objects: &'a str,
    loads: bool,
    suites: &'a [Suite],
}

/// Writes the file system as an archive.
pub(super) fn write(contents: &Contents<'_>, place: &Path) -> Result<()> {
    let file = File::create(place).with_context(|| format!("cannot write {}", place.display()))?;
    let mut archive = Archive::new(BufWriter::new(file));
    archive.device("/dev/console", 5, 1)?;
    program(&mut archive, "/init", contents.guest)?;
    let plan = Plan {
        modules: contents.modules.iter().map(place_of).collect(),
        objects: suites::OBJECTS,
        loads: contents.loads,
        suites: contents.suites,
    };
    archive.file("/plan.json", 0o644, &serde_json::to_vec(&plan)?)?;
    for module in contents.modules {
        archive.file(&place_of(module), 0o644, &module.image)?;
    }
    for entry in fs::read_dir(contents.objects)? {
        let path = entry?.path();
        if path.is_file() {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            archive.file(&format!("{}/{name}", suites::OBJECTS), 0o644, &fs::read(&path)?)?;
        }
    }
    for (inside, path) in contents.programs {
        program(&mut archive, inside, path)?;
    }
    for tool in TOOLS {
        let path = exec::find_program(tool).with_context(|| format!("there is no program {tool}"))?;
        program(&mut archive, &format!("/usr/bin/{tool}"), &path)?;
    }
    archive.finish()?;
    Ok(())
}

fn place_of(module: &Module) -> String {
    format!("/modules/{}.ko", module.name)
}

/// Adds a program, and the libraries that it needs where it looks for them.
fn program(archive: &mut Archive<impl std::io::Write>, inside: &str, path: &Path) -> Result<()> {
    let content = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    archive.file(inside, 0o755, &content)?;
    // A program without libraries is no failure, though ldd says so by its exit code.
    let output = Command::new("ldd").arg(path).output().context("cannot run ldd")?;
    for library in libraries(&String::from_utf8_lossy(&output.stdout))
        .with_context(|| format!("{} can't run here", path.display()))?
    {
        let inside = library.to_string_lossy();
        if !archive.has(&inside) {
            let content = fs::read(&library).with_context(|| format!("cannot read {}", library.display()))?;
            archive.file(&inside, 0o755, &content)?;
        }
    }
    Ok(())
}

/// The files that ldd names: `libc.so.6 => /lib/libc.so.6 (0x1)`, or `/lib64/ld-linux-x86-64.so.2 (0x1)`.
fn libraries(ldd: &str) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for line in ldd.lines() {
        ensure!(
            !line.contains("not found"),
            "a library is missing: {}",
            line.trim()
        );
        let path = line.rsplit("=> ").next().unwrap_or(line).trim();
        if path.starts_with('/') {
            files.extend(path.split_whitespace().next().map(PathBuf::from));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_what_the_kernel_brings_is_not() {
        let ldd = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        let files: Vec<_> = libraries(ldd).unwrap().into_iter().collect();
        assert_eq!(
            files,
            [Path::new("/lib/x/libc.so.6"), Path::new("/lib64/ld.so.2")]
        );
        assert!(libraries("\tstatically linked\n").unwrap().is_empty());
        assert!(libraries("\tlibx.so => not found\n").is_err());
    }
}
