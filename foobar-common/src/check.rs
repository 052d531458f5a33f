//! The marks by which a health check's socket names its target to the tc egress program, and by which the canary's
//! packets are known.

use crate::slot::Member;

/// The upper 16 bits of a check's mark (SO_MARK).
pub const CHECK_MARK: u32 = 0xf00b_0000;

/// The bits of a mark that tell a check.
pub const CHECK_MARK_MASK: u32 = 0xffff_0000;

/// The mark of the canary's packets.
pub const CANARY_MARK: u32 = 0xf00c_0000;

/// The mark of the checks of a target.
pub const fn mark_of(member: Member) -> u32 {
    CHECK_MARK | member as u32
}

/// The target that a mark names, if it is a check's.
#[inline(always)]
pub const fn member_of(mark: u32) -> Option<Member> {
    if mark & CHECK_MARK_MASK == CHECK_MARK {
        Some(mark as u16)
    } else {
        None
    }
}
