//! Random numbers that are the same for the same seed, on every machine and in every later version.

/// SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(super) struct Dice {
    state: u64,
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    /// The numbers of an episode of a run.
    pub(super) fn new(seed: u64, episode: u64) -> Self {
        let mut seeds = Self { state: seed };
        let mixed = seeds.word();
        let mut dice = Self {
            state: mixed ^ episode.wrapping_mul(GAMMA).rotate_left(31),
        };
        dice.state = dice.word();
        dice
    }

    /// Any word.
    pub(super) fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        let mut z = self.state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.word()) * bound as u128) >> 64) as usize
    }

    /// Whether something happens that does so in so many of a hundred cases.
    pub(super) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of some.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Any byte.
    pub(super) fn byte(&mut self) -> u8 {
        self.word() as u8
    }

    /// So many bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// Any 16 bits, preferably those at which something ends.
    pub(super) fn half(&mut self) -> u16 {
        if self.percent(50) {
            self.pick(&[
                0, 1, 2, 7, 8, 9, 19, 20, 21, 39, 40, 41, 59, 60, 61, 0x7f, 0x80, 0xff, 0x100, 0x1fff,
                0x2000, 0x7fff, 0x8000, 0xfffe, 0xffff,
            ])
        } else {
            self.word() as u16
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_has_the_same_numbers_every_time_and_none_of_anothers() {
        let words = |seed, episode| {
            let mut dice = Dice::new(seed, episode);
            [dice.word(), dice.word(), dice.word()]
        };
        assert_eq!(words(7, 3), words(7, 3));
        assert_ne!(words(7, 3), words(7, 4));
        assert_ne!(words(7, 3), words(8, 3));
    }
}
