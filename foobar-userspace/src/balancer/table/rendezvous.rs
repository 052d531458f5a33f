//! Weighted rendezvous: every slot goes to the member with the best score for it, `-ln(u) / w` the lowest.
//!
//! `u` is a hash of slot and member, uniform in (0, 1), so a score is exponential with rate `w`, and the lowest
//! is a member's with a probability proportional to its weight. Scores know nothing of each other: a member
//! that goes moves its own slots only. Within one weight the greatest hash wins, so the logarithm, the costly
//! part, is taken once a weight and slot. It is computed here because the C library's may differ in its last
//! bit from host to host, and two balancers must agree.

use super::{Named, mix};

/// Fills a table from members in a canonical order, which decides between equal scores.
pub(super) fn fill(slots: usize, members: &[Named]) -> Vec<u16> {
    let mut by_weight: Vec<&Named> = members.iter().collect();
    by_weight.sort_by_key(|m| m.weight);
    let groups: Vec<&[&Named]> = by_weight.chunk_by(|a, b| a.weight == b.weight).collect();
    (0..slots as u64).map(|slot| owner(mix(slot), &groups)).collect()
}

fn owner(slot: u64, groups: &[&[&Named]]) -> u16 {
    let mut best = (f64::INFINITY, 0);
    for group in groups {
        let (mut greatest, mut first) = (0, group[0]);
        for &member in *group {
            let hash = mix(slot ^ member.keys[0]);
            if hash > greatest {
                (greatest, first) = (hash, member);
            }
        }
        let score = minus_ln(greatest) / f64::from(first.weight);
        if score < best.0 {
            best = (score, first.id);
        }
    }
    best.1
}

/// `-ln(u)` of `u = (hash's top 53 bits + 1/2) / 2^53`, by additions, multiplications and divisions only.
fn minus_ln(hash: u64) -> f64 {
    let odd = (hash >> 11 << 1) | 1; // u * 2^54, in 1..2^54
    let exponent = odd.ilog2();
    // odd = m * 2^exponent with m in [1, 2); ln m = 2 artanh((m - 1) / (m + 1)), whose argument is under 1/3.
    let m = odd as f64 / (1u64 << exponent) as f64;
    let z = (m - 1.0) / (m + 1.0);
    let square = z * z;
    let series = (0..17)
        .rev()
        .fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    f64::from(54 - exponent) * std::f64::consts::LN_2 - 2.0 * z * series
}

#[cfg(test)]
mod tests {
    use super::minus_ln;

    #[test]
    fn the_logarithm_agrees_with_the_libraries() {
        for hash in (0..200_000u64)
            .map(super::mix)
            .chain([0, 1 << 11, u64::MAX, u64::MAX / 2, 1 << 63])
        {
            let u = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            let (ours, theirs) = (minus_ln(hash), -u.ln());
            assert!(
                (ours - theirs).abs() <= 1e-13 * theirs.abs().max(1.0),
                "{hash:#x}: {ours} and {theirs}"
            );
        }
    }
}
