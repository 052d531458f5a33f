//! Bounds-checked views of a frame.
//!
//! Every access names a constant size, and an offset that the verifier can bound: a whole header is checked
//! at once and then read in words as they stand in the packet (network byte order in memory).

pub mod arp;
pub mod checksum;
pub mod datagram;
pub mod ecn;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod neighbour;
pub mod quic;
pub mod quote;
pub mod transport;

use core::mem::size_of;

use aya_ebpf::bindings::xdp_md;

/// Where the payload of an IP packet is, all of it inside the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its offset in the frame.
    pub offset: usize,
    /// Its length in bytes, by the IP header.
    pub length: usize,
}

/// Which piece of a datagram a packet is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    Whole,
    /// The first fragment of several.
    First,
    /// A later fragment, which bears no transport header.
    Later,
}

/// A frame in memory, from its first byte to the one after its last.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    start: usize,
    end: usize,
    length: usize,
}

impl Frame {
    /// The frame between two addresses.
    ///
    /// `length` is the same as `end - start`, but has to come from loads of its own that the compiler cannot
    /// see through: from a comparison with the length it would conclude that a later comparison with `end` is
    /// not needed, and the verifier would refuse what only the compiler can follow.
    ///
    /// # Safety
    /// The bytes from `start` to `end` are readable and writable, by nobody else while the frame lives: what
    /// the kernel promises for an XDP context's `data` and `data_end`, until a helper moves them.
    #[inline(always)]
    pub const unsafe fn new(start: usize, end: usize, length: usize) -> Self {
        Self { start, end, length }
    }

    /// The linear part of a context's frame, its three words loaded anew.
    ///
    /// # Safety
    /// The context is the one that the kernel gave to the program; no helper moves the frame while this one
    /// is used.
    #[inline(always)]
    pub unsafe fn of_context(context: *mut xdp_md) -> Self {
        // SAFETY: the caller's. Volatile, so that `length` is a load of its own: see `new`.
        unsafe {
            let end = core::ptr::addr_of!((*context).data_end).read_volatile() as usize;
            let start = core::ptr::addr_of!((*context).data).read_volatile() as usize;
            let data = core::ptr::addr_of!((*context).data).read_volatile() as usize;
            let data_end = core::ptr::addr_of!((*context).data_end).read_volatile() as usize;
            Self::new(data, data_end, end.wrapping_sub(start))
        }
    }

    /// The number of bytes.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no bytes.
    #[inline(always)]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A view of the `T` at `offset`, if the frame has all its bytes.
    #[inline(always)]
    pub fn at<T: Plain>(&self, offset: usize) -> Option<View<T>> {
        let start = self.start + offset;
        if start + size_of::<T>() > self.end {
            return None;
        }
        Some(View {
            start,
            _type: core::marker::PhantomData,
        })
    }
}

impl<T: Plain> View<T> {
    /// The first bytes of a context's frame, its words loaded anew.
    ///
    /// # Safety
    /// As [`Frame::of_context`].
    #[inline(always)]
    pub unsafe fn of_context(context: *mut xdp_md) -> Option<Self> {
        // SAFETY: the caller's.
        let (start, end) = unsafe {
            (
                core::ptr::addr_of!((*context).data).read_volatile() as usize,
                core::ptr::addr_of!((*context).data_end).read_volatile() as usize,
            )
        };
        if start + size_of::<T>() > end {
            return None;
        }
        Some(Self {
            start,
            _type: core::marker::PhantomData,
        })
    }

    /// The view of a `W` behind this one's bytes, if the context's frame has all of its bytes.
    ///
    /// # Safety
    /// As [`Frame::of_context`]; this view is of the same context.
    #[inline(always)]
    pub unsafe fn then<W: Plain>(&self, context: *mut xdp_md) -> Option<View<W>> {
        let start = self.start + size_of::<T>();
        // SAFETY: the caller's.
        let end = unsafe { core::ptr::addr_of!((*context).data_end).read_volatile() as usize };
        if start + size_of::<W>() > end {
            return None;
        }
        Some(View {
            start,
            _type: core::marker::PhantomData,
        })
    }
}

/// Types any bytes are a value of, with no padding.
///
/// # Safety
/// The implementor is `repr(C)` or an integer, has no padding, and every bit pattern is valid.
pub unsafe trait Plain: Copy {}

// SAFETY: integers have no padding and no invalid values; so have arrays of them.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Bytes of a frame that are known to be there, and their meaning.
#[derive(Clone, Copy, Debug)]
pub struct View<T> {
    start: usize,
    _type: core::marker::PhantomData<T>,
}

impl<T: Plain> View<T> {
    /// The word `W` that begins `offset` bytes into the view.
    ///
    /// `OFFSET` is checked against the view's size when the program is compiled.
    #[inline(always)]
    pub fn get<W: Plain, const OFFSET: usize>(&self) -> W {
        const { assert!(OFFSET + size_of::<W>() <= size_of::<T>(), "outside of the view") };
        // SAFETY: `Frame::at` found all of `T` inside the frame, and the assertion `W` inside of `T`.
        unsafe { load((self.start + OFFSET) as *const W) }
    }

    /// The address of its first byte, for a helper that reads all of it.
    #[inline(always)]
    pub const fn as_mut_ptr(&self) -> *mut T {
        self.start as *mut T
    }

    /// Writes the word `W` that begins `OFFSET` bytes into the view.
    #[inline(always)]
    pub fn set<W: Plain, const OFFSET: usize>(&self, word: W) {
        const { assert!(OFFSET + size_of::<W>() <= size_of::<T>(), "outside of the view") };
        // SAFETY: as in `get`; the frame is ours to write.
        unsafe { store((self.start + OFFSET) as *mut W, word) }
    }
}

/// Loads a word that need not be aligned.
///
/// On the BPF target an unaligned load would be taken apart into bytes; the machines that we run on load it
/// whole, and the verifier refuses it on those that don't.
#[inline(always)]
unsafe fn load<W: Plain>(pointer: *const W) -> W {
    if cfg!(target_arch = "bpf") {
        // SAFETY: the caller's; alignment as explained above.
        unsafe { pointer.read() }
    } else {
        // SAFETY: the caller's.
        unsafe { pointer.read_unaligned() }
    }
}

/// Stores a word that need not be aligned; see [`load`].
#[inline(always)]
unsafe fn store<W: Plain>(pointer: *mut W, word: W) {
    if cfg!(target_arch = "bpf") {
        // SAFETY: the caller's; alignment as explained above.
        unsafe { pointer.write(word) }
    } else {
        // SAFETY: the caller's.
        unsafe { pointer.write_unaligned(word) }
    }
}

#[cfg(test)]
pub(crate) fn frame_of(bytes: &mut [u8]) -> Frame {
    let start = bytes.as_mut_ptr() as usize;
    // SAFETY: the slice is borrowed mutably by the caller for as long as it uses the frame.
    unsafe { Frame::new(start, start + bytes.len(), bytes.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_ends_where_the_frame_ends() {
        let mut bytes = [1u8, 2, 3, 4, 5, 6];
        let frame = frame_of(&mut bytes);
        assert!(frame.at::<u32>(2).is_some());
        assert!(frame.at::<u32>(3).is_none());
        assert!(frame.at::<[u8; 7]>(0).is_none());
        assert_eq!(frame.len(), 6);
    }

    #[test]
    fn words_are_read_and_written_where_they_stand() {
        let mut bytes = [1u8, 2, 3, 4, 5, 6];
        let view = frame_of(&mut bytes).at::<[u8; 5]>(1).expect("inside");
        assert_eq!(view.get::<u16, 1>(), u16::from_ne_bytes([3, 4]));
        view.set::<u16, 3>(u16::from_ne_bytes([8, 9]));
        assert_eq!(bytes, [1, 2, 3, 4, 8, 9]);
    }
}
