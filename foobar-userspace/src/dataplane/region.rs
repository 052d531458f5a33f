//! The memory of an array map, mapped into the process: writes that a program on another CPU sees at once,
//! each word whole, without a system call.

use std::io;
use std::marker::PhantomData;
use std::mem::{align_of, size_of};
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use aya::maps::MapData;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// All elements of an array map whose values are `T`, or arrays of `T`.
#[derive(Debug)]
pub(super) struct Region<T> {
    base: NonNull<u8>,
    bytes: NonZeroUsize,
    elements: u32,
    _values: PhantomData<T>,
}

// SAFETY: the mapping belongs to nobody in particular; every access to it is atomic.
unsafe impl<T> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Region<T> {}

impl<T: Copy> Region<T> {
    /// Maps a map made with BPF_F_MMAPABLE.
    pub(super) fn of(map: &MapData) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() >= 2) };
        let info = map.info().map_err(io::Error::other)?;
        let whole = info.value_size() as usize * info.max_entries() as usize;
        if !(info.value_size() as usize).is_multiple_of(size_of::<T>()) {
            return Err(io::Error::other(format!(
                "a map's values have {} bytes instead of {}",
                info.value_size(),
                size_of::<T>()
            )));
        }
        let elements = (whole / size_of::<T>()) as u32;
        let bytes = NonZeroUsize::new(whole).ok_or_else(|| io::Error::other("a map without elements"))?;
        // SAFETY: a new mapping at an address of the kernel's choice; the map outlives it, because the
        // mapping holds a reference to the map.
        let base = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                map.fd().as_fd(),
                0,
            )
        }?;
        Ok(Self {
            base: base.cast(),
            bytes,
            elements,
            _values: PhantomData,
        })
    }

    /// Memory that is no map's, all of it 0.
    #[cfg(test)]
    pub(super) fn anonymous(elements: u32) -> Self {
        let bytes = NonZeroUsize::new(size_of::<T>() * elements as usize).unwrap();
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { nix::sys::mman::mmap_anonymous(None, bytes, protection, flags) }.unwrap();
        Self {
            base: base.cast(),
            bytes,
            elements,
            _values: PhantomData,
        }
    }

    /// The number of elements.
    pub(super) const fn len(&self) -> u32 {
        self.elements
    }

    fn word<W>(&self, element: u32, offset: usize) -> &W {
        assert!(element < self.elements, "element {element} of {}", self.elements);
        assert!(offset.is_multiple_of(size_of::<W>()) && offset + size_of::<W>() <= size_of::<T>());
        // SAFETY: inside of the mapping and aligned, by the assertions and the page's alignment; `W` is an
        // atomic integer in every caller.
        unsafe {
            self.base
                .add(element as usize * size_of::<T>() + offset)
                .cast::<W>()
                .as_ref()
        }
    }

    /// The aligned word `offset` bytes into an element.
    pub(super) fn u64(&self, element: u32, offset: usize) -> &AtomicU64 {
        self.word(element, offset)
    }

    /// The aligned word `offset` bytes into an element.
    pub(super) fn u32(&self, element: u32, offset: usize) -> &AtomicU32 {
        self.word(element, offset)
    }

    /// The aligned word `offset` bytes into an element.
    pub(super) fn u16(&self, element: u32, offset: usize) -> &AtomicU16 {
        self.word(element, offset)
    }

    /// A copy of an element, word by word.
    pub(super) fn get(&self, element: u32) -> T {
        let mut value = std::mem::MaybeUninit::<T>::uninit();
        let words = value.as_mut_ptr().cast::<u64>();
        for word in 0..size_of::<T>() / 8 {
            let bits = self.u64(element, word * 8).load(Ordering::Acquire);
            // SAFETY: inside of `value`; written unaligned because T may have less alignment than a u64.
            unsafe { words.add(word).write_unaligned(bits) }
        }
        // SAFETY: every byte is set, and map values have no invalid bit patterns.
        unsafe { value.assume_init() }
    }

    /// Overwrites an element word by word: for elements that no program looks at meanwhile.
    pub(super) fn set(&self, element: u32, value: T) {
        let words = (&raw const value).cast::<u64>();
        for word in 0..size_of::<T>() / 8 {
            // SAFETY: inside of `value`; map values have no padding.
            let bits = unsafe { words.add(word).read_unaligned() };
            self.u64(element, word * 8).store(bits, Ordering::Release);
        }
    }
}

impl<T> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with these numbers, and nobody refers to it any more.
        if let Err(error) = unsafe { munmap(self.base.cast(), self.bytes.get()) } {
            tracing::warn!(%error, "a map's memory could not be unmapped");
        }
    }
}
