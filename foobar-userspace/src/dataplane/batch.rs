//! Reading a hash map as a whole, many elements by each system call (BPF_MAP_LOOKUP_BATCH): an iterator takes two of
//! them an element.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Pod;
use aya::maps::MapData;

/// `enum bpf_cmd` of linux/bpf.h.
const LOOKUP_BATCH: libc::c_long = 24;
/// Elements of a call: more than a bucket ever has, and small enough for the processor's cache.
const ELEMENTS: usize = 4_096;

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

/// Shows every element of a hash map. One that is there all the while is shown at least once.
///
/// # Errors
/// Where the map can't be read.
pub(super) fn each<K: Pod, V: Pod>(map: &MapData, mut show: impl FnMut(K, V)) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    if (info.key_size() as usize, info.value_size() as usize) != (size_of::<K>(), size_of::<V>()) {
        return Err(io::Error::other("the map's elements are of another layout"));
    }
    let mut keys: Vec<K> = Vec::with_capacity(ELEMENTS);
    let mut values: Vec<V> = Vec::with_capacity(ELEMENTS);
    // Of a hash map, the number of the next bucket.
    let (mut place, mut next) = (0u32, 0u32);
    let mut is_first = true;
    loop {
        let mut attributes = Attributes {
            in_batch: if is_first { 0 } else { (&raw mut place) as u64 },
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: ELEMENTS as u32,
            map_fd: map.fd().as_fd().as_raw_fd() as u32,
            ..Attributes::default()
        };
        // SAFETY: the kernel writes `ELEMENTS` keys and values of these sizes at most, for which there is room, and a
        // word each to `next` and to `count`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LOOKUP_BATCH,
                &raw mut attributes,
                size_of::<Attributes>(),
            )
        };
        let is_last = result != 0;
        if is_last {
            let error = io::Error::last_os_error();
            // There is nothing behind the elements that it has written.
            if error.raw_os_error() != Some(libc::ENOENT) {
                return Err(error);
            }
        }
        let count = (attributes.count as usize).min(ELEMENTS);
        // SAFETY: so many of each were written.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
        }
        for (&key, &value) in keys.iter().zip(&values) {
            show(key, value);
        }
        if is_last {
            return Ok(());
        }
        (place, is_first) = (next, false);
    }
}
