//! The Internet checksum (RFC 1071), whole and incremental (RFC 1624). Sums of words as they stand in the
//! packet: the one's complement sum doesn't care about byte order.

/// Folds a sum of 16-bit words into 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of a 32-bit word's two halves.
#[inline(always)]
pub const fn add(sum: u64, word: u32) -> u64 {
    sum + word as u64
}

/// Whether the sum of everything that a checksum covers, the checksum included, is right: its words make 0xffff, which
/// is 0 in one's complement. So the sum is a multiple of 65535, though not 0.
///
/// Of all words, exactly the multiples of an odd number, times its inverse modulo 2^64, are at most the largest
/// quotient. A multiplication and a comparison take the place of folding.
#[inline(always)]
pub const fn is_right(sum: u64) -> bool {
    const ONES: u64 = 0xffff;
    // (2^16 - 1) (2^48 + 2^32 + 2^16 + 1) = 2^64 - 1.
    const INVERSE: u64 = (1 << 48 | 1 << 32 | 1 << 16 | 1u64).wrapping_neg();
    const _: () = assert!(ONES.wrapping_mul(INVERSE) == 1);
    sum != 0 && sum.wrapping_mul(INVERSE) <= u64::MAX / ONES
}

/// The sum of a 64-bit word's four parts.
#[inline(always)]
pub const fn add_wide(sum: u64, word: u64) -> u64 {
    sum + (word & 0xffff_ffff) + (word >> 32)
}

/// A checksum after one of the words that it covers has changed (RFC 1624, equation 3).
#[inline(always)]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(!checksum as u64 + !old as u64 + new as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(words: &[u16]) -> u16 {
        !fold(words.iter().map(|&word| u64::from(word)).sum())
    }

    #[test]
    fn a_sum_is_right_if_it_folds_to_ones() {
        let near = (0..=64).flat_map(|shift| {
            let word = 1u64.checked_shl(shift).unwrap_or(0);
            [word.wrapping_sub(1), word, word.wrapping_add(1)]
        });
        let multiples = (1..100_000).map(|times: u64| times.wrapping_mul(0xffff));
        // Of ten words of 32 bits a sum has no more than 36 bits.
        for sum in near
            .chain(multiples)
            .chain(0..200_000)
            .map(|sum| sum & 0xf_ffff_ffff)
        {
            assert_eq!(is_right(sum), fold(sum) == 0xffff, "{sum:x}");
        }
    }

    #[test]
    fn an_update_is_the_same_as_a_new_sum() {
        let mut words = [
            0x4500u16, 0x003c, 0x1c46, 0x4000, 0x4006, 0xac10, 0x0a63, 0xac10, 0x0a0c,
        ];
        let before = whole(&words);
        for (place, new) in [(4, 0x3f06), (0, 0xffff), (8, 0x0000), (2, 0x1c45)] {
            let old = core::mem::replace(&mut words[place], new);
            let updated = update(before, old, new);
            assert_eq!(updated, whole(&words), "word {place}");
            words[place] = old;
        }
    }

    #[test]
    fn a_known_header_has_its_known_checksum() {
        let words = [
            0x4500, 0x0073, 0x0000, 0x4000, 0x4011, 0xc0a8, 0x0001, 0xc0a8, 0x00c7,
        ];
        assert_eq!(whole(&words), 0xb861);
    }
}
