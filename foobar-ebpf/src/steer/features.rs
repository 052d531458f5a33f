//! What the program was loaded with. Nothing of a feature that it lacks is in the running program: its branches
//! are dead to the verifier, which removes them.

use foobar_common::admission::{FEATURES_ALL, Features};

/// Set when the program is loaded; a constant from then on.
#[unsafe(no_mangle)]
static FEATURES: Features = FEATURES_ALL;

/// Whether the program was loaded with any feature.
#[inline(always)]
pub fn any() -> bool {
    has(FEATURES_ALL)
}

/// Whether the program is one that was compiled to have faults, and was loaded with this one of `PLANTED_*`.
#[inline(always)]
pub fn planted(fault: Features) -> bool {
    cfg!(feature = "planted-fault") && has(fault)
}

/// Whether the program was loaded with a feature, or one of several.
///
/// To be asked first where a condition has other parts: what they look at is not looked at then.
#[inline(always)]
pub fn has(feature: Features) -> bool {
    // SAFETY: a reference to a static. Volatile, so that the compiler doesn't take the value for the one above.
    unsafe { (&raw const FEATURES).read_volatile() & feature != 0 }
}
