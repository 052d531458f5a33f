//! Maps of one element that a program reaches by their place in memory ([`foobar_common::direct`]).
//!
//! The program names such a map by a file descriptor, in the instruction itself. Maps are made when the object has
//! been read, and aya knows no such relocation: so file descriptors are reserved first, their numbers written into the
//! object in the place of the marks, and the maps put behind them before the kernel gets to see the program.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::Map;
use foobar_common::direct::ALL;
use nix::fcntl::OFlag;
use nix::unistd::dup3;

use super::load::Error;

/// Bytes of an instruction that loads a 64-bit constant: two slots of 8 bytes.
const LENGTH: usize = 16;
/// Its opcode: BPF_LD | BPF_DW | BPF_IMM.
const LOAD: u8 = 0x18;
/// Its source register's number, where the constant is a place in a map's element (linux/bpf.h).
const BPF_PSEUDO_MAP_VALUE: u8 = 2;

/// File descriptors that an object names its maps by. They are needed until its program is loaded.
#[derive(Debug)]
pub struct DirectMaps(Vec<OwnedFd>);

impl DirectMaps {
    /// Reserves them, and writes their numbers into the balancer's object.
    ///
    /// # Errors
    /// Where there is no file descriptor left, or the object has none of the marks.
    pub fn reserve(object: &mut [u8]) -> Result<Self, Error> {
        let mut reserved = Vec::new();
        for (map, mark) in ALL {
            let fd = OwnedFd::from(File::open("/dev/null")?);
            if write(object, mark, fd.as_raw_fd()) == 0 {
                return Err(Error::Missing(map));
            }
            reserved.push(fd);
        }
        Ok(Self(reserved))
    }

    /// Puts the object's maps behind them.
    ///
    /// # Errors
    /// Where the object lacks one.
    pub fn settle(&mut self, object: &Ebpf) -> Result<(), Error> {
        for ((name, _), fd) in ALL.into_iter().zip(&mut self.0) {
            let Some(Map::Array(map)) = object.map(name) else {
                return Err(Error::Missing(name));
            };
            dup3(map.fd().as_fd(), fd, OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        }
        Ok(())
    }
}

/// Makes every instruction of an object that loads the mark one that loads the place of the first byte of the only
/// element of the map `fd`; returns how many there were.
fn write(object: &mut [u8], mark: u64, fd: i32) -> usize {
    let (low, high) = (mark as u32, (mark >> 32) as u32);
    let mut written = 0;
    // Sections of code are aligned to an instruction's 8 bytes.
    for place in (0..object.len().saturating_sub(LENGTH - 1)).step_by(8) {
        let instruction = &mut object[place..place + LENGTH];
        // Opcode, registers, offset, lower half; nothing but the upper half.
        let is_mark = instruction[0] == LOAD
            && instruction[1] >> 4 == 0
            && instruction[2..4] == [0; 2]
            && instruction[4..8] == low.to_le_bytes()
            && instruction[8..12] == [0; 4]
            && instruction[12..16] == high.to_le_bytes();
        if is_mark {
            instruction[1] |= BPF_PSEUDO_MAP_VALUE << 4;
            instruction[4..8].copy_from_slice(&fd.to_le_bytes());
            instruction[12..16].fill(0);
            written += 1;
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_places_in_a_map() {
        let mark = 0x1122_3344_5566_7788;
        let mut object = [0u8; 48];
        object[8] = LOAD;
        object[9] = 3;
        object[12..16].copy_from_slice(&0x5566_7788u32.to_le_bytes());
        object[20..24].copy_from_slice(&0x1122_3344u32.to_le_bytes());
        let before = object;
        assert_eq!(write(&mut object, mark + 1, 7), 0);
        assert_eq!(object, before);
        assert_eq!(write(&mut object, mark, 7), 1);
        assert_eq!(
            object[8..24],
            [LOAD, 0x23, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(write(&mut object, mark, 7), 0, "it is no mark any more");
    }
}
