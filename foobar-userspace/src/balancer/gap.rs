//! Room in a row of numbered places of which some are taken.

use std::ops::Range;

/// The first place of `room` from which on `length` places are free; none where no gap is so long. What is taken may
/// overlap, be empty, and lie outside of the room.
pub fn first_gap(room: Range<u32>, taken: impl IntoIterator<Item = Range<u32>>, length: u32) -> Option<u32> {
    let mut taken: Vec<Range<u32>> = taken.into_iter().filter(|range| !range.is_empty()).collect();
    taken.sort_unstable_by_key(|range| range.start);
    let mut first = room.start;
    for range in taken {
        if range.start >= first + length {
            break;
        }
        first = first.max(range.end);
    }
    (first + length <= room.end).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gap_that_is_long_enough_is_found() {
        let taken = [14..16, 3..8, 10..12, 9..11, 0..0];
        let gap = |length| first_gap(4..24, taken.clone(), length);
        assert_eq!([1, 2, 3, 8].map(gap), [Some(8), Some(12), Some(16), Some(16)]);
        assert_eq!(gap(9), None);
        assert_eq!(first_gap(4..24, [], 20), Some(4));
    }
}
