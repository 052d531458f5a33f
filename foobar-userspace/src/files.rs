//! Files that have to be there as a whole, and secrets that others must not read.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Result, ensure};

/// Anybody but its owner and group must not read a secret.
const OTHERS: u32 = 0o007;

/// Writes a file, with these permission bits: whenever the machine dies, the old one is there or the new one.
///
/// # Errors
/// Where the file system refuses it.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut fresh = OsString::from(path);
    fresh.push(".new");
    // One that an interrupted call has left may have another mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let mut options = fs::File::options();
    let mut file = options.write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    fs::File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Refuses a secret's file that others than its owner and group can read or write.
///
/// # Errors
/// It is one, or there is none.
pub(crate) fn check_secret(file: &Path) -> Result<()> {
    let mode = fs::metadata(file)?.permissions().mode();
    ensure!(
        mode & OTHERS == 0,
        "others can read or write it: `chmod o= {}`",
        file.display()
    );
    Ok(())
}
