//! Reproducible randomness: numbers drawn from a seed, and the bytes that a stream carries at a position.
//!
//! Both are SplitMix64 (Steele, Lea, Flood 2014): a generator of its own, so that a printed seed replays a
//! run whatever happens to a library's generators.

use std::sync::OnceLock;
use std::time::Duration;

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The environment variable that replays a run.
pub const SEED_VARIABLE: &str = "FOOBAR_SEED";

/// The run's seed, the same for all tests of a process: the environment's, or a new one. It is printed for
/// the replay.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    let seed = *SEED.get_or_init(|| {
        let replayed = std::env::var(SEED_VARIABLE)
            .ok()
            .and_then(|seed| seed.parse().ok());
        replayed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            mix(now.unwrap_or_default().as_nanos() as u64 ^ u64::from(std::process::id())) >> 32
        })
    });
    println!("seed: {SEED_VARIABLE}={seed}");
    seed
}

const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A generator of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator; equal seeds and purposes draw equal numbers.
    pub const fn new(seed: u64, purpose: u64) -> Self {
        Self(mix(seed ^ mix(purpose.wrapping_add(GAMMA))))
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number of `low..=high`.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.bits() % (high - low + 1)
    }

    /// A duration between two, to the microsecond.
    pub fn duration(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_micros(self.between(low.as_micros() as u64, high.as_micros() as u64))
    }

    /// One of a list; none of an empty one.
    pub fn choose<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        let last = list.len().checked_sub(1)?;
        list.get(self.between(0, last as u64) as usize)
    }
}

/// The direction of a stream's bytes: the two carry different patterns, so that an echo is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Request = 1,
    /// From the server.
    Answer = 2,
}

/// The bytes of a stream in one direction: each depends on the stream's id and its position.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    key: u64,
}

impl Pattern {
    /// The pattern of a stream's direction.
    pub const fn new(stream: u64, direction: Direction) -> Self {
        Self {
            key: mix(stream ^ mix(direction as u64)),
        }
    }

    const fn byte(self, position: u64) -> u8 {
        let word = mix(self.key.wrapping_add((position / 8).wrapping_mul(GAMMA)));
        (word >> (position % 8 * 8)) as u8
    }

    /// Fills a block that begins at a position of the stream.
    pub fn fill(self, position: u64, block: &mut [u8]) {
        for (byte, at) in block.iter_mut().zip(position..) {
            *byte = self.byte(at);
        }
    }

    /// How many bytes of a block that begins at a position are not the stream's.
    pub fn wrong(self, position: u64, block: &[u8]) -> u64 {
        block
            .iter()
            .zip(position..)
            .filter(|&(&byte, at)| byte != self.byte(at))
            .count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_does_not_depend_on_how_it_is_cut_into_blocks() {
        let pattern = Pattern::new(7, Direction::Request);
        let (mut whole, mut parts) = ([0; 100], [0; 100]);
        pattern.fill(5, &mut whole);
        pattern.fill(5, &mut parts[..33]);
        pattern.fill(38, &mut parts[33..]);
        assert_eq!(whole, parts);
        assert_eq!(pattern.wrong(5, &whole), 0);
    }

    #[test]
    fn another_position_stream_or_direction_is_wrong() {
        let mut block = [0; 256];
        Pattern::new(7, Direction::Request).fill(0, &mut block);
        assert!(Pattern::new(7, Direction::Request).wrong(8, &block) > 240);
        assert!(Pattern::new(8, Direction::Request).wrong(0, &block) > 240);
        assert!(Pattern::new(7, Direction::Answer).wrong(0, &block) > 240);
        block[9] ^= 1;
        assert_eq!(Pattern::new(7, Direction::Request).wrong(0, &block), 1);
    }

    #[test]
    fn a_seed_and_a_purpose_replay() {
        let draw = |seed, purpose| Random::new(seed, purpose).bits();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }
}
