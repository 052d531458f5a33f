//! Writing a cpio archive as the kernel unpacks one for its first file system ("newc"; the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::io::{self, Write};

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";
const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive that is being written. Directories come into it by themselves, before what is in them.
#[derive(Debug)]
pub(super) struct Archive<W> {
    out: W,
    inode: u32,
    names: BTreeSet<String>,
}

#[derive(Clone, Copy, Default)]
struct Header {
    mode: u32,
    device: (u32, u32),
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            inode: 0,
            names: BTreeSet::new(),
        }
    }

    /// Whether a path is in it.
    pub(super) fn has(&self, path: &str) -> bool {
        self.names.contains(path.trim_start_matches('/'))
    }

    /// Adds a regular file with these permissions; one that is in it already stays as it is.
    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        let mode = FILE | permissions;
        self.add(
            path,
            Header {
                mode,
                ..Header::default()
            },
            content,
        )
    }

    /// Adds a character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        let header = Header {
            mode: CHARACTER_DEVICE,
            device: (major, minor),
        };
        self.add(path, header, &[])
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, Header::default(), &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn add(&mut self, path: &str, header: Header, content: &[u8]) -> io::Result<()> {
        let path = path.trim_start_matches('/');
        let ends = path.match_indices('/').map(|(end, _)| end);
        for directory in ends.map(|end| &path[..end]) {
            if self.names.insert(directory.to_owned()) {
                let mode = DIRECTORY;
                self.entry(
                    directory,
                    Header {
                        mode,
                        ..Header::default()
                    },
                    &[],
                )?;
            }
        }
        if self.names.insert(path.to_owned()) {
            self.entry(path, header, content)?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, header: Header, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(io::Error::other)?;
        self.inode += 1;
        let (user, group, links, time) = (0, 0, 1, 0);
        let (on_major, on_minor, checksum) = (0, 0, 0);
        let fields = [
            self.inode,
            header.mode,
            user,
            group,
            links,
            time,
            length,
            on_major,
            on_minor,
            header.device.0,
            header.device.1,
            name.len() as u32 + 1,
            checksum,
        ];
        let mut head = String::from(MAGIC);
        head.extend(fields.map(|field| format!("{field:08x}")));
        head.push_str(name);
        head.push('\0');
        self.padded(head.as_bytes())?;
        self.padded(content)
    }

    /// Writes bytes, and zeros up to a multiple of four. Every part of an archive begins at one.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out
            .write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.file("/etc/a/hello", 0o644, b"hello").unwrap();
        archive.file("/etc/a/hello", 0o644, b"again").unwrap();
        archive.device("/dev/console", 5, 1).unwrap();
        archive.finish().unwrap()
    }

    /// Names, modes and contents, read as the kernel does.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], MAGIC.as_bytes());
            let field = |n: usize| {
                let digits = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (mode, length, named) = (field(1), field(6), field(11));
            let name = String::from_utf8(bytes[110..110 + named - 1].to_vec()).unwrap();
            let begin = (110 + named).next_multiple_of(4);
            let content = bytes[begin..begin + length].to_vec();
            bytes = &bytes[(begin + length).next_multiple_of(4)..];
            if name == TRAILER {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push((name, mode as u32, content));
        }
    }

    #[test]
    fn directories_come_before_what_is_in_them_and_nothing_comes_twice() {
        let entries = read(&sample());
        let names: Vec<_> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["etc", "etc/a", "etc/a/hello", "dev", "dev/console"]);
        assert_eq!(entries[0].1, DIRECTORY);
        assert_eq!(
            (entries[2].1, entries[2].2.as_slice()),
            (0o100_644, &b"hello"[..])
        );
        assert_eq!(entries[4].1, CHARACTER_DEVICE);
    }

    #[test]
    fn a_device_has_its_numbers() {
        let bytes = sample();
        let name = b"dev/console\0";
        let place = bytes.windows(name.len()).position(|part| part == name).unwrap();
        let header = &bytes[place - 110..place];
        assert_eq!(&header[6 + 8 * 9..6 + 8 * 11], b"0000000500000001");
    }
}
