//! The program as the kernel runs it: after the verifier has taken out what can't be reached.

use std::collections::BTreeSet;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use aya::maps::MapData;

use super::load::{DataPlane, Error};

/// The program as the kernel runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The number of its instructions.
    pub instructions: usize,
    /// The names of the maps that it refers to, as far as the kernel keeps them (15 bytes).
    pub maps: BTreeSet<String>,
}

/// The beginning of the kernel's `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_length: u32,
    translated_length: u32,
    jited: u64,
    translated: u64,
}

/// The kernel's `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct Query {
    fd: u32,
    info_length: u32,
    info: u64,
}

const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// `BPF_LD | BPF_IMM | BPF_DW`: the first of the two instructions that load a 64-bit constant.
const LOAD_CONSTANT: u8 = 0x18;
/// The constant is a map, or a place in its element; the map is named by its id (BPF_PSEUDO_MAP_FD and
/// BPF_PSEUDO_MAP_VALUE).
const MAP: [u8; 2] = [1, 2];

fn query(program: BorrowedFd<'_>, info: &mut ProgramInfo) -> io::Result<()> {
    let query = Query {
        fd: program.as_raw_fd() as u32,
        info_length: size_of::<ProgramInfo>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: the kernel reads `query`, and writes at most `info_length` bytes to `info` and
    // `translated_length` bytes to `translated`, both of which are the caller's and that long.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            &raw const query,
            size_of::<Query>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

impl DataPlane {
    /// The program as the kernel runs it.
    ///
    /// # Errors
    /// Where the kernel doesn't show it.
    pub fn translation(&mut self) -> Result<Translation, Error> {
        let program = self.program()?.fd()?;
        let mut info = ProgramInfo::default();
        query(program.as_fd(), &mut info)?;
        let mut code = vec![[0u8; 8]; info.translated_length as usize / 8];
        let mut info = ProgramInfo {
            translated_length: info.translated_length,
            translated: code.as_mut_ptr() as u64,
            ..ProgramInfo::default()
        };
        query(program.as_fd(), &mut info)?;
        let mut maps = BTreeSet::new();
        for [operation, registers, _, _, constant @ ..] in &code {
            if *operation == LOAD_CONSTANT && MAP.contains(&(registers >> 4)) {
                let map = MapData::from_id(u32::from_ne_bytes(*constant)).map_err(io::Error::other)?;
                let info = map.info().map_err(io::Error::other)?;
                maps.insert(info.name_as_str().unwrap_or_default().to_owned());
            }
        }
        Ok(Translation {
            instructions: code.len(),
            maps,
        })
    }
}
