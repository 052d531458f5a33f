//! Many elements of a map by each system call, where aya takes one or two an element: a hash map read as a whole
//! (BPF_MAP_LOOKUP_BATCH), elements written (BPF_MAP_UPDATE_BATCH).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Pod;
use aya::maps::MapData;

/// Of `enum bpf_cmd`, linux/bpf.h.
#[derive(Clone, Copy)]
enum Command {
    Lookup = 24,
    Update = 26,
}

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

impl Attributes {
    /// Of so many elements of a map.
    fn new(map: &MapData, keys: u64, values: u64, count: usize) -> Self {
        Self {
            keys,
            values,
            count: count as u32,
            map_fd: map.fd().as_fd().as_raw_fd() as u32,
            ..Self::default()
        }
    }

    /// Calls the kernel, which sets `count` to the number of elements that it took or gave.
    ///
    /// # Safety
    /// Behind `keys` and `values` are `count` of each, of the map's sizes; initialised ones for [`Command::Update`],
    /// writable ones for [`Command::Lookup`], and then behind `in_batch`, unless that is 0, and `out_batch` a word.
    unsafe fn call(&mut self, command: Command) -> io::Result<()> {
        // SAFETY: the caller's.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command as libc::c_long,
                std::ptr::from_mut(self),
                size_of::<Self>(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Writes elements; `keys` and `values` are equally many.
///
/// # Errors
/// Where the map has no room for them.
pub(super) fn write<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> io::Result<()> {
    are_of::<K, V>(map)?;
    let count = keys.len().min(values.len());
    let mut attributes = Attributes::new(map, keys.as_ptr() as u64, values.as_ptr() as u64, count);
    // SAFETY: so many keys and values of the map's sizes are in the slices.
    unsafe { attributes.call(Command::Update) }
}

/// Whether a map has keys and values of these sizes.
fn are_of<K, V>(map: &MapData) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    if (info.key_size() as usize, info.value_size() as usize) != (size_of::<K>(), size_of::<V>()) {
        return Err(io::Error::other("the map's elements are of another layout"));
    }
    Ok(())
}

/// Shows every element of a hash map. One that is there all the while is shown at least once.
///
/// # Errors
/// Where the map can't be read.
pub(super) fn each<K: Pod, V: Pod>(map: &MapData, mut show: impl FnMut(K, V)) -> io::Result<()> {
    are_of::<K, V>(map)?;
    let mut keys: Vec<K> = Vec::with_capacity(ELEMENTS);
    let mut values: Vec<V> = Vec::with_capacity(ELEMENTS);
    // Of a hash map, the number of the next bucket.
    let (mut place, mut next) = (0u32, 0u32);
    let mut is_first = true;
    loop {
        let mut attributes = Attributes {
            in_batch: if is_first { 0 } else { (&raw mut place) as u64 },
            out_batch: (&raw mut next) as u64,
            ..Attributes::new(
                map,
                keys.as_mut_ptr() as u64,
                values.as_mut_ptr() as u64,
                ELEMENTS,
            )
        };
        // SAFETY: there is room for `ELEMENTS` keys and values of the map's sizes, and `place` and `next` are words.
        let result = unsafe { attributes.call(Command::Lookup) };
        let is_last = result.is_err();
        if let Err(error) = result
            // There is nothing behind the elements that it has written.
            && error.raw_os_error() != Some(libc::ENOENT)
        {
            return Err(error);
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
