//! Many elements of a map written by each system call (BPF_MAP_UPDATE_BATCH), where aya takes one an element.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Pod;
use aya::maps::MapData;

/// BPF_MAP_UPDATE_BATCH of `enum bpf_cmd`, linux/bpf.h.
const UPDATE_BATCH: libc::c_long = 26;

/// The `batch` member of `union bpf_attr`, linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Writes elements; `keys` and `values` are equally many.
///
/// # Errors
/// Where the map has no room for them.
pub(super) fn write<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> io::Result<()> {
    are_of::<K, V>(map)?;
    let count = keys.len().min(values.len());
    let mut attributes = Attributes {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: count as u32,
        map_fd: map.fd().as_fd().as_raw_fd() as u32,
        ..Attributes::default()
    };
    // SAFETY: so many keys and values of the map's sizes are in the slices.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            UPDATE_BATCH,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether a map has keys and values of these sizes.
fn are_of<K, V>(map: &MapData) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    if (info.key_size() as usize, info.value_size() as usize) != (size_of::<K>(), size_of::<V>()) {
        return Err(io::Error::other("the map's elements are of another layout"));
    }
    Ok(())
}
