//! BIRD's private directory: its configuration, which has the passwords in it, its control socket and its pid file.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// For its owner alone.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The paths in it.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) config: PathBuf,
    pub(super) control: PathBuf,
    pub(super) pid: PathBuf,
}

impl Files {
    /// Makes the directory, or makes one that is there private.
    ///
    /// # Errors
    /// Where the file system refuses it.
    pub(super) fn in_directory(directory: &Path) -> io::Result<Self> {
        if let Some(parent) = directory.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => (),
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(DIRECTORY_MODE))?;
        Ok(Self {
            config: directory.join("bird.conf"),
            control: directory.join("bird.ctl"),
            pid: directory.join("bird.pid"),
        })
    }

    /// Writes the configuration, as a whole: it is never there by half, nor for others to read.
    ///
    /// # Errors
    /// Where the file system refuses it.
    pub(super) fn write(&self, text: &str) -> io::Result<()> {
        let fresh = self.config.with_extension("new");
        // One that was left may have another mode.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let mut file = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&fresh)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&fresh, &self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_read_what_is_in_it() {
        let directory = std::env::temp_dir().join(format!("foobar-bgp-files-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let files = Files::in_directory(&directory).unwrap();
        fs::write(files.config.with_extension("new"), "left by somebody").unwrap();
        for text in ["one", "other"] {
            files.write(text).unwrap();
            assert_eq!(fs::read_to_string(&files.config).unwrap(), text);
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&files.config)), (0o700, 0o600));
        fs::remove_dir_all(&directory).unwrap();
    }
}
