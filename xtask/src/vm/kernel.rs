//! The kernel to boot: Debian's for cloud machines, which has all that is needed and boots sooner than the one
//! for every machine, or an image that is there.
//!
//! A package is downloaded and unpacked below the target directory, never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::exec;
use crate::setup::Apt;

/// The package of a release: between these two words.
const PACKAGE: (&str, &str) = ("linux-image-", "-cloud-amd64");

/// A kernel that can be booted.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    /// The directory of its modules, where there is one.
    pub(super) modules: Option<PathBuf>,
}

/// The kernel that is wanted: of a version, or by the path to its image. `cache` keeps the unpacked packages.
pub(super) fn find(wanted: &str, cache: &Path) -> Result<Kernel> {
    if wanted.contains('/') {
        return of_image(Path::new(wanted));
    }
    let version = numbers(wanted);
    ensure!(
        version.len() >= 2,
        "{wanted:?} is neither a version, for instance 6.1, nor a path to an image"
    );
    let package = match newest(unpacked(cache), &version) {
        Some(package) => package,
        None => fetch(&version, cache)?,
    };
    of_package(&cache.join(package))
}

/// The packages that are unpacked already.
fn unpacked(cache: &Path) -> Vec<String> {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Downloads and unpacks the newest package of a version.
fn fetch(version: &[u64], cache: &Path) -> Result<String> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        ensure!(
            exec::find_program(program).is_some(),
            "there is no {program} here to get Debian's kernel with: give the path to an image (--kernel PATH)"
        );
    }
    let mut apt = Apt::default();
    // The lists may be none, or old: a package that they name may be gone.
    match known(version).and_then(|package| unpack(&package, cache)) {
        Ok(package) => Ok(package),
        Err(_) => {
            apt.update()?;
            known(version).and_then(|package| unpack(&package, cache))
        }
    }
}

/// The newest package of a version that apt knows.
fn known(version: &[u64]) -> Result<String> {
    let names = exec::output(Command::new("apt-cache").args(["pkgnames", PACKAGE.0]))?;
    let names: Vec<_> = names.lines().map(str::to_owned).collect();
    newest(names.clone(), version).with_context(|| {
        let mut others: Vec<_> = names.iter().filter_map(|name| release(name)).collect();
        others.sort_by_key(|release| numbers(release));
        format!(
            "apt knows no package {}{}*{}, only those of {}: choose one of them (--kernel), or give the path to an image",
            PACKAGE.0,
            version.iter().map(u64::to_string).collect::<Vec<_>>().join("."),
            PACKAGE.1,
            if others.is_empty() { "no kernel at all".to_owned() } else { others.join(", ") }
        )
    })
}

fn unpack(package: &str, cache: &Path) -> Result<String> {
    eprintln!("vm-test: downloading {package}");
    let staging = cache.join(format!("staging-{}", std::process::id()));
    fs::create_dir_all(&staging).with_context(|| format!("cannot make {}", staging.display()))?;
    let done = unpack_into(package, &staging, &cache.join(package));
    // What is left of it is of no use.
    drop(fs::remove_dir_all(&staging));
    done.with_context(|| format!("{package} can't be had"))?;
    Ok(package.to_owned())
}

fn unpack_into(package: &str, staging: &Path, place: &Path) -> Result<()> {
    exec::output(
        Command::new("apt-get")
            .args(["-q", "download", package])
            .current_dir(staging),
    )?;
    let archive = fs::read_dir(staging)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get has left no package")?;
    let tree = staging.join("tree");
    exec::output(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(&tree))?;
    fs::rename(&tree, place).with_context(|| format!("cannot make {}", place.display()))
}

fn of_package(tree: &Path) -> Result<Kernel> {
    let image = fs::read_dir(tree.join("boot"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        })
        .with_context(|| format!("there is no kernel in {}: remove it", tree.display()))?;
    of_image(&image)
}

/// An image, with the modules that belong to it as distributions lay them: `lib/modules` beside `boot`.
fn of_image(image: &Path) -> Result<Kernel> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let release = release_of(&bytes)
        .with_context(|| format!("{} is not an x86 boot image (bzImage)", image.display()))?;
    let image = image.canonicalize()?;
    let root = image.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let modules = ["lib/modules", "usr/lib/modules"]
        .map(|directory| root.join(directory).join(&release))
        .into_iter()
        .find(|directory| directory.is_dir());
    Ok(Kernel { image, modules })
}

/// The newest of these packages whose version begins with these numbers.
fn newest(names: Vec<String>, version: &[u64]) -> Option<String> {
    names
        .into_iter()
        .filter_map(|name| Some((numbers(release(&name)?), name)))
        .filter(|(numbers, _)| numbers.starts_with(version))
        .max()
        .map(|(_, name)| name)
}

/// The release that a package is of. Packages that only lead to others name fewer than three numbers.
fn release(package: &str) -> Option<&str> {
    let release = package.strip_prefix(PACKAGE.0)?.strip_suffix(PACKAGE.1)?;
    (numbers(release).len() >= 3).then_some(release)
}

fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The release that a boot image says it is (the kernel's Documentation/arch/x86/boot.rst, `kernel_version`).
fn release_of(image: &[u8]) -> Result<String> {
    const HEADER: usize = 0x202;
    const VERSION: usize = 0x20e;
    const SETUP: usize = 0x200;
    ensure!(
        image.get(HEADER..HEADER + 4) == Some(b"HdrS"),
        "it has no boot header"
    );
    let offset = image
        .get(VERSION..VERSION + 2)
        .map(|offset| usize::from(u16::from_le_bytes([offset[0], offset[1]])))
        .unwrap_or_default();
    let text = image.get(SETUP + offset..).unwrap_or_default();
    let end = text.iter().position(|&byte| byte == b' ' || byte == 0);
    match end {
        Some(end) if offset > 0 => Ok(String::from_utf8_lossy(&text[..end]).into_owned()),
        _ => bail!("it does not say its version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], version: &[u64]) -> Option<String> {
        newest(names.iter().copied().map(str::to_owned).collect(), version)
    }

    #[test]
    fn the_newest_package_of_a_version_is_chosen_by_number() {
        let names = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-50-cloud-amd64",
            "linux-image-6.1.0-60-cloud-amd64-dbg",
            "linux-image-6.1.0-60-cloud-amd64-unsigned",
            "linux-image-6.1.0-60-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.12.111+deb12-cloud-amd64",
            "linux-image-6.16.3+deb13-cloud-amd64",
            "linux-image-cloud-amd64",
        ];
        let (old, new) = (names[1].to_owned(), names[6].to_owned());
        assert_eq!(of(&names, &[6, 1]), Some(old.clone()));
        assert_eq!(of(&names, &[6, 1, 0, 50]), Some(old));
        assert_eq!(of(&names, &[6, 12]), Some(new));
        assert_eq!(of(&names, &[5, 10]), None);
    }

    #[test]
    fn an_image_says_its_release() {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        image[0x300..0x313].copy_from_slice(b"6.1.0-50-x (debian)");
        assert_eq!(release_of(&image).unwrap(), "6.1.0-50-x");
        assert!(release_of(&image[..0x300]).is_err());
        assert!(release_of(b"\x7fELF").is_err());
    }
}
